package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
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
// Where approval is required it waits after the plan, before anything is
// changed; a target that changed meanwhile is planned for and asked for anew.
//
// Signals: pause, resume, cancel, approve, reject. Updates: approve, reject.
// Query: progress.
func Restore(ctx workflow.Context, req activities.RestoreRequest) (report activities.RestoreReport, err error) {
	ctx, o, err := begin(ctx, "restore", "collect", "restore", "reset")
	if err != nil {
		return report, err
	}
	defer func() { err = o.ended(ctx, err) }()
	o.about(req.Requested, req.BackupID)
	var a *activities.Restore

	// Phase 1: collect.
	if err := o.phase(ctx, "collect", activities.Amount{}); err != nil {
		return report, err
	}
	if req.Options.DryRun {
		req.Approval.Required = false
	}
	var plan activities.RestorePlan
	decision, err := o.approved(ctx, req.Requested, func(ctx workflow.Context, round int) (activities.Proposal, error) {
		if err := o.step(ctx, "plan the restore", &plan, a.PlanRestore, req, round); err != nil {
			return activities.Proposal{}, err
		}
		return plan.Proposal, temporalservice.Upsert(ctx, temporalservice.Attributes{Cluster: plan.ClusterID, Topics: plan.TopicNames, Groups: plan.GroupNames})
	})
	if err != nil {
		o.notDone("nothing was changed")
		return report, err
	}
	report = plan.Report(req)
	report.StartedAt, report.Approval = o.StartedAt, decision
	if req.Options.DryRun {
		report.DryRun, report.FinishedAt = true, workflow.Now(ctx)
		return report, nil
	}
	for _, w := range plan.Warnings {
		o.note("%s", w)
	}
	// What activities are given is in the history, once for each part: they read
	// the plan itself.
	plan.Proposal, plan.Warnings, plan.TopicNames, plan.GroupNames = activities.Proposal{}, nil, nil, nil
	req = req.Planned()

	// Phase 2: restore.
	if err := o.phase(ctx, "restore", plan.Total); err != nil {
		o.notDone("nothing was changed")
		return report, err
	}
	data, err := o.restoreRecords(ctx, req, plan)
	if err != nil {
		o.notDone("the offsets of %d consumer groups were not set", plan.Groups)
		return report, err
	}
	report.Created, report.Total, report.Mapping = data.Created, data.Total, data.Mapping
	report.Warnings = append(report.Warnings, data.Warnings...)

	// Phase 3: reset.
	if plan.Groups > 0 {
		reset, err := o.resetGroups(ctx, req, plan)
		if err != nil {
			o.did("all %s records are restored and stay", render.Count(data.Total.Records))
			return report, err
		}
		report.Reset(&reset)
	}
	report.FinishedAt = workflow.Now(ctx)
	o.Done = data.Total
	return report, nil
}

// restoreRecords makes the target topics ready, fills them, and puts their
// configuration back.
func (o *operation) restoreRecords(ctx workflow.Context, req activities.RestoreRequest, plan activities.RestorePlan) (data activities.RestoredRecords, err error) {
	var a *activities.Restore
	var targets activities.RestoreTargets
	sent := false // records, but not all
	defer func() {
		// However it ends, and also when it was cancelled: nothing stays held off.
		var released activities.ReleasedTargets
		putBack := o.finish
		if err != nil {
			putBack = o.undo
		}
		rerr := putBack(ctx, "put the topic configurations back", &released, a.ReleaseTargets, req, plan, err != nil)
		if err == nil && rerr != nil {
			err = rerr
			o.did("all %s records are restored and stay", render.Count(data.Total.Records))
		}
		data.Warnings = append(data.Warnings, released.Warnings...)
		if err == nil {
			return
		}
		if released.Created > 0 {
			o.did("%d topics were created", released.Created)
		}
		if released.Deleted > 0 {
			o.undid("the %d topics that this restore had created are deleted, with what was in them", released.Deleted)
		}
		for _, k := range released.Kept {
			o.did("%s", k)
		}
		if sent && (released.Deleted == 0 || released.Deleted < plan.Topics) {
			o.did("%s of at most %s records are restored; the same restore, started again, goes on after them", render.Count(o.Done.Records), render.Count(o.Total.Records))
		}
		if rerr == nil {
			o.undid("the topic configurations are as they were")
		} else {
			o.notDone("topic configurations could not be put back: %s", message(rerr))
		}
		for _, w := range released.Warnings {
			o.undid("%s", w)
		}
	}()
	if err := o.step(ctx, "create topics, hold retention off, fix begin offsets", &targets, a.PrepareTargets, req, plan); err != nil {
		o.notDone("no record was restored")
		return data, err
	}
	err = o.eachPart(ctx, plan.Parts, req.Options.MaxConcurrentParts, func(ctx workflow.Context, part int) workflow.Future {
		return workflow.ExecuteActivity(transfers(ctx, "restore", part, plan.Parts), a.RestorePart, req, plan, part)
	})
	if err != nil {
		sent = true
		return data, err
	}
	if err = o.step(ctx, "check the targets and write the offset mapping", &data, a.MapOffsets, req, plan); err != nil {
		o.did("all records are restored and stay")
		o.notDone("the offset mapping was not written")
	}
	data.Created = targets.Created
	return data, err
}

// resetGroups sets the groups' committed offsets as a bulk reset does: snapshot,
// apply, verify. A failure of the whole or a cancel puts the snapshot back; what
// cannot be set of a group is in the report.
func (o *operation) resetGroups(ctx workflow.Context, req activities.RestoreRequest, plan activities.RestorePlan) (activities.OffsetReport, error) {
	var a *activities.Restore
	run := &offsetRun{operation: o, req: req.OffsetReset(), within: "reset"}
	err := o.phase(ctx, "reset", activities.Amount{})
	if err == nil {
		err = o.step(ctx, "plan the groups' offsets", &run.plan, a.PlanGroupOffsets, req, plan)
	}
	if err != nil {
		o.notDone("the offsets of %d consumer groups are not set", plan.Groups)
		return activities.OffsetReport{}, err
	}
	run.req.Description = "Before the reset of " + workflow.GetInfo(ctx).WorkflowExecution.ID
	return run.carryOut(ctx)
}
