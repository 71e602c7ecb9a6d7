package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
)

// Backup makes one backup.
//
// Promise. When it completes, the manifest exists and the backup holds every
// committed record of the selected topics up to the last stable offsets seen
// when it was planned. Until then the backup does not exist for anybody.
//
// On a crash of a worker another one takes its parts over and goes on after
// the last segment it finds in the repository. On cancel no manifest is
// written; what was copied stays until prune removes it, and the same backup
// id, started again, goes on from there. On pause the parts stop after what
// they have in hand; a pause may last as long as one likes, but records that
// retention removes from the source meanwhile are missing, and the index says
// so.
//
// Where approval is required it waits after the plan, before anything is copied;
// a plan that is not approved leaves the backup id free.
//
// Signals: pause, resume, cancel, approve, reject. Updates: approve, reject.
// Query: progress.
func Backup(ctx workflow.Context, req activities.BackupRequest) (report activities.BackupReport, err error) {
	ctx, o, err := begin(ctx, "backup", "plan", "copy", "complete")
	if err != nil {
		return report, err
	}
	defer func() { err = o.ended(ctx, err) }()
	o.about(req.Requested, req.BackupID)
	var a *activities.Backup
	if err := o.phase(ctx, "plan", activities.Amount{}); err != nil {
		return report, err
	}
	plan, decision, err := o.planned(ctx, req, req.Requested)
	if err != nil {
		o.notDone("nothing was copied")
		return report, err
	}

	if err := o.copyParts(ctx, req, plan); err != nil {
		o.did("%s of at most %s records are copied; backup %s, started again, goes on after them", render.Count(o.Done.Records), render.Count(o.Total.Records), req.BackupID)
		o.notDone("the backup has no manifest, so it does not exist yet")
		return report, err
	}

	if err := o.phase(ctx, "complete", activities.Amount{}); err != nil {
		return report, err
	}
	if err := o.step(ctx, "capture the consumer groups and write the manifest", &report, a.CompleteBackup, req, plan); err != nil {
		o.did("all records are copied; backup %s, started again, is completed", req.BackupID)
		o.notDone("the backup has no manifest, so it does not exist yet")
		return report, err
	}
	report.Approval = decision
	for _, w := range report.Warnings {
		o.note("%s", w)
	}
	o.Done = report.New // until here offsets were counted, some of which hold no record
	return report, nil
}

// planned plans a backup and begins it, once it was approved where gate asks
// for that: until then its plan stands in nobody's way. Where no approval is
// required both are one step.
func (o *operation) planned(ctx workflow.Context, req activities.BackupRequest, gate activities.Requested) (plan activities.BackupPlan, decision *activities.Decision, err error) {
	var a *activities.Backup
	decision, err = o.approved(ctx, gate, func(ctx workflow.Context, round int) (activities.Proposal, error) {
		var err error
		if gate.Approval.Required {
			err = o.step(ctx, "propose a plan for the backup", &plan, a.ProposeBackup, req, round)
		} else {
			err = o.step(ctx, "plan the backup", &plan, a.PlanBackup, req)
		}
		if err != nil {
			return activities.Proposal{}, err
		}
		return plan.Proposal(req), temporalservice.Upsert(ctx, temporalservice.Attributes{Cluster: plan.ClusterID})
	})
	if err == nil && gate.Approval.Required {
		err = o.step(ctx, "begin the backup", &plan, a.BeginBackup, req, plan)
	}
	return plan, decision, err
}

// copyParts copies what the plan names.
func (o *operation) copyParts(ctx workflow.Context, req activities.BackupRequest, plan activities.BackupPlan) error {
	var a *activities.Backup
	if err := o.phase(ctx, "copy", plan.Total); err != nil {
		return err
	}
	return o.eachPart(ctx, plan.Parts, req.Options.MaxConcurrentParts, func(ctx workflow.Context, part int) workflow.Future {
		return workflow.ExecuteActivity(transfers(ctx, "copy", part, plan.Parts), a.CopyPart, req, plan, part)
	})
}
