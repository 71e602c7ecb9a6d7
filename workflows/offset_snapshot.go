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
// On a crash of a worker another one takes it anew. A pause stops it, and it is
// taken anew after the resume; it is of that time then. On cancel there is none;
// what was written of it is in nobody's way.
//
// Signals: pause, resume, cancel. Query: progress.
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
	if err = o.step(ctx, "capture the groups' committed offsets", &report, a.TakeSnapshot, req, o.StartedAt); err != nil {
		o.notDone("no snapshot was taken")
	}
	return report, err
}

// DeleteOffsetSnapshot deletes a snapshot.
//
// Promise. When it completes, the snapshot is gone. Where approval is required it
// waits after it has looked at the snapshot, before anything is deleted.
//
// Its document goes first, and with it the snapshot. On a crash of a worker
// another one goes on. On pause and on cancel it stops where it is. Parts that
// any of these leaves behind belong to no snapshot and are in nobody's way.
//
// Signals: pause, resume, cancel, approve, reject. Updates: approve, reject.
// Query: progress.
func DeleteOffsetSnapshot(ctx workflow.Context, req activities.DeleteSnapshotRequest) (report activities.SnapshotReport, err error) {
	ctx, o, err := begin(ctx, "offset-snapshot-delete", "plan", "delete")
	if err != nil {
		return report, err
	}
	defer func() { err = o.ended(ctx, err) }()
	o.about(req.Requested, "")
	var a *activities.Offsets
	if err := o.phase(ctx, "plan", activities.Amount{}); err != nil {
		return report, err
	}
	decision, err := o.approved(ctx, req.Requested, func(ctx workflow.Context, _ int) (plan activities.Proposal, err error) {
		err = o.step(ctx, "look at the snapshot", &plan, a.PlanDeletion, req)
		return plan, err
	})
	if err != nil {
		o.notDone("the snapshot is still there")
		return report, err
	}
	if err := o.phase(ctx, "delete", activities.Amount{}); err != nil {
		o.notDone("the snapshot is still there")
		return report, err
	}
	if err = o.step(ctx, "delete the snapshot", &report, a.DeleteSnapshot, req); err != nil {
		o.notDone("something of the snapshot may still be there; the same operation, started again, deletes it")
	}
	report.Approval = decision
	return report, err
}
