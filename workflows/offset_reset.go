package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/kafka-backup/kafka-backup/activities"
)

// OffsetReset sets the committed offsets of consumer groups: plan, snapshot,
// apply, verify.
//
// Promise. It is all or nothing. When it completes, every committed offset that
// the plan changes was set and read back. When one cannot be set, or reads back
// differently, or the run is cancelled after it has begun to set them, all are
// put back to what they were, read back, and it fails with what happened and
// what was put back. What could not be put back is named. Before the first
// change nothing is changed by any failure: a target out of range, a group with
// active members (unless it waits for them), a cluster that has moved since the
// plan was made.
//
// On a crash of a worker another one goes on: setting the same offsets again
// does no harm. On pause nothing is set any more; what was set stays set until
// resume. Partitions whose error is transient are tried again alone, with
// growing pauses that are durable timers.
//
// Signals: pause, resume, cancel, approve, reject. Updates: approve, reject.
// Query: progress.
func OffsetReset(ctx workflow.Context, req activities.OffsetRequest) (report activities.OffsetReport, err error) {
	return resetOffsets(ctx, "offset-reset", req)
}

// OffsetRollback puts the committed offsets of consumer groups back to a
// snapshot. It is an OffsetReset whose targets are the snapshot's: a snapshot
// of the state before is taken first, so that it can be rolled back itself, and
// partitions that had no committed offset have none afterwards.
func OffsetRollback(ctx workflow.Context, req activities.OffsetRequest) (report activities.OffsetReport, err error) {
	return resetOffsets(ctx, "offset-rollback", req)
}

// BulkOffsetReset sets the committed offsets of many consumer groups, as far
// as it can.
//
// Promise. One bad partition or group never stops the rest: what could not be
// set is in the report with its error, everything else was set and read back.
// When it is cancelled, all is put back to what it was, as in OffsetReset.
func BulkOffsetReset(ctx workflow.Context, req activities.OffsetRequest) (report activities.OffsetReport, err error) {
	req.Offsets.BestEffort = true
	return resetOffsets(ctx, "offset-reset-bulk", req)
}
