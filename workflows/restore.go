package workflows

import (
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/kafka-backup/kafka-backup/activities"
)

// Restore restores a backup into a cluster in three phases: collect (what is
// in the backup, what is in the target, the plan), restore (the records), and
// reset (the consumer groups' committed offsets).
//
// Promise. When it completes, every record that the plan names is in the
// target exactly once, in order, and every group that was asked for reads on
// where it would have on the source. What is missing is in the report, never
// passed over.
//
// On a crash of a worker another one goes on at the record the target's log
// ends with. On pause nothing is sent any more; a pause may be longer than a
// broker remembers a producer id. On cancel sending stops at a record
// boundary; records that were sent stay, and topics this run created are
// deleted only if restore.delete_created_topics_on_failure says so. Topic
// configurations that are held off while loading (retention, compaction, time
// limits) are put back however the run ends. Offsets are all new or, after a
// failure or cancel in the reset phase, all as they were before: they are
// snapshot first. The same restore, started again, goes on where it ended.
//
// Signals: pause, resume. Query: progress.
func Restore(ctx workflow.Context, req activities.RestoreRequest) (activities.RestoreReport, error) {
	var report activities.RestoreReport
	o, err := begin(ctx, "restore", "collect", "restore", "reset")
	if err != nil {
		return report, err
	}
	var a *activities.Restore

	// Phase 1: collect.
	if err := o.phase(ctx, "collect", activities.Amount{}); err != nil {
		return report, err
	}
	var plan activities.RestorePlan
	if err := workflow.ExecuteActivity(steps(ctx, "plan the restore"), a.PlanRestore, req).Get(ctx, &plan); err != nil {
		return report, err
	}
	report = plan.Report(req)
	report.StartedAt = o.StartedAt
	if req.Options.DryRun {
		report.DryRun, report.FinishedAt = true, workflow.Now(ctx)
		return report, nil
	}
	for _, w := range plan.Warnings {
		o.note("%s", w)
	}

	// Phase 2: restore.
	if err := o.phase(ctx, "restore", plan.Total); err != nil {
		return report, err
	}
	data, err := o.restoreRecords(ctx, req, plan)
	if err != nil {
		return report, err
	}
	report.Created, report.Total, report.Mapping = data.Created, data.Total, data.Mapping
	report.Warnings = append(report.Warnings, data.Warnings...)

	// Phase 3: reset.
	if plan.Groups > 0 {
		if err := o.phase(ctx, "reset", activities.Amount{}); err != nil {
			return report, err
		}
		reset, err := o.resetOffsets(ctx, req, plan)
		if err != nil {
			return report, err
		}
		report.Groups, report.GroupOffsets, report.Failed = reset.Groups, reset.Offsets, reset.Failed
		report.Warnings = append(report.Warnings, reset.Warnings...)
	}
	report.FinishedAt = workflow.Now(ctx)
	o.State, o.Done = Finished, plan.Total
	o.show(ctx)
	return report, nil
}

// restoreRecords makes the target topics ready, fills them, and puts their
// configuration back.
func (o *operation) restoreRecords(ctx workflow.Context, req activities.RestoreRequest, plan activities.RestorePlan) (data activities.RestoredRecords, err error) {
	var a *activities.Restore
	var targets activities.RestoreTargets
	defer func() {
		// However it ends, and also when it was cancelled: nothing stays held off.
		ctx, _ := workflow.NewDisconnectedContext(ctx)
		if err != nil {
			o.State = Undoing
			o.show(ctx)
		}
		var released activities.ReleasedTargets
		rerr := workflow.ExecuteActivity(steps(ctx, "put the topic configurations back"), a.ReleaseTargets, req, plan, err != nil).Get(ctx, &released)
		if err == nil {
			err = rerr
		}
		data.Warnings = append(data.Warnings, released.Warnings...)
	}()
	if err := workflow.ExecuteActivity(steps(ctx, "create topics, hold retention off, fix begin offsets"), a.PrepareTargets, req, plan).Get(ctx, &targets); err != nil {
		return data, err
	}
	err = o.eachPart(ctx, plan.Parts, req.Options.MaxConcurrentParts, func(ctx workflow.Context, part int) workflow.Future {
		return workflow.ExecuteActivity(transfers(ctx, "restore", part, plan.Parts), a.RestorePart, req, plan, part)
	})
	if err != nil {
		return data, err
	}
	err = workflow.ExecuteActivity(steps(ctx, "check the targets and write the offset mapping"), a.MapOffsets, req, plan).Get(ctx, &data)
	data.Created = targets.Created
	return data, err
}

// resetOffsets sets the groups' committed offsets: snapshot, apply, verify.
// A failure or a cancel puts the snapshot back.
func (o *operation) resetOffsets(ctx workflow.Context, req activities.RestoreRequest, plan activities.RestorePlan) (activities.ResetOffsets, error) {
	var a *activities.Restore
	var snapshot activities.OffsetSnapshot
	var reset activities.ResetOffsets
	if err := workflow.ExecuteActivity(steps(ctx, "snapshot the groups' offsets on the target"), a.SnapshotOffsets, req, plan).Get(ctx, &snapshot); err != nil {
		return reset, err
	}
	err := workflow.ExecuteActivity(steps(ctx, "set the groups' offsets and read them back"), a.ResetOffsets, req, plan, snapshot).Get(ctx, &reset)
	if err == nil {
		return reset, nil
	}
	o.State = Undoing
	undo, _ := workflow.NewDisconnectedContext(ctx)
	o.show(undo)
	if uerr := workflow.ExecuteActivity(steps(undo, "put the groups' offsets back"), a.RestoreOffsets, req, plan, snapshot).Get(undo, nil); uerr != nil {
		return reset, temporal.NewApplicationErrorWithOptions(
			"the offsets could not be set, and putting the snapshot "+snapshot.Key+" back failed too: "+uerr.Error(), "UndoFailed",
			temporal.ApplicationErrorOptions{NonRetryable: true, Cause: err})
	}
	return reset, err
}
