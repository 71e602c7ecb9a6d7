package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/kafka-backup/kafka-backup/activities"
)

// OffsetSnapshot takes a snapshot of the committed offsets of consumer groups.
//
// Promise. When it completes, the snapshot is whole and has an id of its own,
// also when several are taken in the same second. Until then there is none.
//
// Query: progress.
func OffsetSnapshot(ctx workflow.Context, req activities.SnapshotRequest) (report activities.SnapshotReport, err error) {
	ctx, o, err := begin(ctx, "offset-snapshot", "snapshot")
	if err != nil {
		return report, err
	}
	defer func() { err = o.ended(ctx, err) }()
	o.about(req.Requested, "")
	if err := o.phase(ctx, "snapshot", activities.Amount{}); err != nil {
		return report, err
	}
	var a *activities.Offsets
	err = o.step(ctx, "capture the groups' committed offsets", &report, a.TakeSnapshot, req, o.StartedAt)
	return report, err
}

// DeleteOffsetSnapshot deletes a snapshot.
func DeleteOffsetSnapshot(ctx workflow.Context, req activities.DeleteSnapshotRequest) (report activities.SnapshotReport, err error) {
	ctx, o, err := begin(ctx, "offset-snapshot-delete", "delete")
	if err != nil {
		return report, err
	}
	defer func() { err = o.ended(ctx, err) }()
	o.about(req.Requested, "")
	if err := o.phase(ctx, "delete", activities.Amount{}); err != nil {
		return report, err
	}
	var a *activities.Offsets
	err = o.step(ctx, "delete the snapshot", &report, a.DeleteSnapshot, req)
	return report, err
}
