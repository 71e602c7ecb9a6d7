package workflows

import (
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
)

// Validate checks that a backup is whole: every object is there and is what
// was written, and, when asked for, every block and record too.
//
// Promise. When it completes, nothing is wrong with what it looked at. When
// anything is, it fails with an error of type Corrupt whose details are the
// report; the backup is not changed.
//
// On a crash of a worker another one goes on, and so it does after a pause: after
// the last part of the index of which everything was looked at. On cancel it
// says how much was looked at, and what was wrong with it; a check that is
// started again begins anew.
//
// Signals: pause, resume, cancel. Query: progress.
func Validate(ctx workflow.Context, req activities.ValidateRequest) (report activities.ValidateReport, err error) {
	ctx, o, err := begin(ctx, "validate", "validate")
	if err != nil {
		return report, err
	}
	defer func() { err = o.ended(ctx, err) }()
	o.about(req.Requested, req.BackupID)
	if err := o.phase(ctx, "validate", activities.Amount{}); err != nil {
		return report, err
	}
	var a *activities.Validate
	if req.BackupID == "" {
		if err := o.step(ctx, "find the newest backup", &req.BackupID, a.NewestBackup, req.Storage); err != nil {
			return report, err
		}
		// So that prune leaves it alone, and does not wait for it.
		if err := temporalservice.Upsert(ctx, temporalservice.Attributes{BackupID: req.BackupID}); err != nil {
			return report, err
		}
		o.about(req.Requested, req.BackupID)
	}
	var reached repository.Checked
	err = o.eachPart(ctx, 1, 1, func(ctx workflow.Context, part int) workflow.Future {
		future, set := workflow.NewFuture(ctx)
		check := workflow.ExecuteActivity(transfers(ctx, "check", part, 1), a.ValidateBackup, req, reached)
		workflow.Go(ctx, func(ctx workflow.Context) {
			err := check.Get(ctx, &report)
			if err != nil {
				partly(err, new(activities.Amount), &reached)
			}
			set.Set(activities.Amount{Records: report.Records, Bytes: report.Bytes, Partitions: report.Partitions}, err)
		})
		return future
	})
	if err != nil {
		found := &reached.Report
		o.did("%s objects and %s records were checked to the end of a part, with %s problems", render.Count(int64(found.Objects)), render.Count(found.Records), render.Count(int64(found.ProblemCount)))
		o.notDone("the backup was not checked to its end")
		return report, err
	}
	o.Done = activities.Amount{Records: report.Records, Bytes: report.Bytes, Partitions: report.Partitions}
	if !report.OK() {
		o.note("%s", report.Problem())
		return report, temporal.NewApplicationErrorWithOptions(report.Problem(), activities.Corrupt,
			temporal.ApplicationErrorOptions{NonRetryable: true, Details: []any{report}})
	}
	return report, nil
}
