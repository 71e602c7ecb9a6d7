package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/kafka-backup/kafka-backup/activities"
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
// Signals: pause, resume. Query: progress.
func Backup(ctx workflow.Context, req activities.BackupRequest) (activities.BackupReport, error) {
	var report activities.BackupReport
	o, err := begin(ctx, "backup", "plan", "copy", "complete")
	if err != nil {
		return report, err
	}
	var a *activities.Backup

	if err := o.phase(ctx, "plan", activities.Amount{}); err != nil {
		return report, err
	}
	var plan activities.BackupPlan
	if err := workflow.ExecuteActivity(steps(ctx, "plan the backup"), a.PlanBackup, req).Get(ctx, &plan); err != nil {
		return report, err
	}

	if err := o.phase(ctx, "copy", plan.Total); err != nil {
		return report, err
	}
	err = o.eachPart(ctx, plan.Parts, req.Options.MaxConcurrentParts, func(ctx workflow.Context, part int) workflow.Future {
		return workflow.ExecuteActivity(transfers(ctx, "copy", part, plan.Parts), a.CopyPart, req, plan, part)
	})
	if err != nil {
		return report, err
	}

	if err := o.phase(ctx, "complete", activities.Amount{}); err != nil {
		return report, err
	}
	err = workflow.ExecuteActivity(steps(ctx, "capture the consumer groups and write the manifest"), a.CompleteBackup, req, plan).Get(ctx, &report)
	if err != nil {
		return report, err
	}
	for _, w := range report.Warnings {
		o.note("%s", w)
	}
	o.State, o.Done = Finished, plan.Total
	o.show(ctx)
	return report, nil
}
