package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/prune"
	"github.com/kafka-backup/kafka-backup/internal/render"
)

// Prune removes the backups that a retention policy does not keep, and what no
// backup needs.
//
// Promise. Nothing that a remaining backup needs is removed, at any time,
// whatever runs beside it: the newest backup of each cluster, a backup that
// somebody holds, uses, restores or adds to stays. The manifests go first,
// then the objects that no manifest names.
//
// On a crash of a worker another one goes on. On pause and on cancel it stops
// after what it has in hand; backups that were dropped by then are gone, and
// what is left of them is removed by the next prune, and the others are as they
// were. What the store's object lock keeps is reported, and left.
//
// Where approval is required it waits after the plan, before anything is removed.
//
// Signals: pause, resume, cancel, approve, reject. Updates: approve, reject.
// Query: progress.
func Prune(ctx workflow.Context, req activities.PruneRequest) (report activities.PruneReport, err error) {
	ctx, o, err := begin(ctx, "prune", "plan", "drop", "sweep")
	if err != nil {
		return report, err
	}
	defer func() { err = o.ended(ctx, err) }()
	o.about(req.Requested, "")
	var a *activities.Prune
	report.StartedAt = o.StartedAt

	if err := o.phase(ctx, "plan", activities.Amount{}); err != nil {
		return report, err
	}
	var plan activities.PrunePlan
	report.Approval, err = o.approved(ctx, req.Requested, func(ctx workflow.Context, round int) (activities.Proposal, error) {
		err := o.step(ctx, "plan what to remove", &plan, a.PlanPrune, req, round)
		return plan.Proposal, err
	})
	if err != nil {
		o.notDone("nothing was removed")
		return report, err
	}
	report.Plan, report.Warnings = plan.Key, plan.Warnings
	for _, w := range plan.Warnings {
		o.note("%s", w)
	}

	if err := o.phase(ctx, "drop", activities.Amount{}); err != nil {
		return report, err
	}
	if err := o.step(ctx, "drop the backups that are not kept", &report.PruneDropped, a.DropBackups, req, plan); err != nil {
		if uerr := o.undo(ctx, "take the marks off the backups that stay", nil, a.ReleaseBackups, req); uerr != nil {
			o.notDone("the marks of backups that stay could not be taken off: %s; for some hours they cannot be held, and no other prune drops them", message(uerr))
		}
		o.did("%d of %d backups are dropped", report.Dropped, plan.Drop)
		o.notDone("not all backups were dropped, and the objects of those that were are still there; the next prune goes on")
		return report, err
	}
	for _, e := range report.Kept {
		o.note("%s stays: %s", e.BackupID, e.Keep[0])
	}
	report.Keep = plan.Keep + plan.Drop - report.Dropped
	if report.Dropped > 0 {
		// An operation that began on one of them while it was dropped is seen by then.
		if err := o.rest(ctx, visible, "until operations that just began are seen"); err != nil {
			o.did("%d backups are dropped", report.Dropped)
			o.notDone("the objects of the backups that were dropped are still there; the next prune removes them")
			return report, err
		}
	}

	if err := o.phase(ctx, "sweep", activities.Amount{Bytes: plan.Freed.Bytes}); err != nil {
		o.did("%d backups are dropped", report.Dropped)
		o.notDone("the objects of the backups that were dropped are still there; the next prune removes them")
		return report, err
	}
	err = o.eachPart(ctx, 1, 1, func(ctx workflow.Context, _ int) workflow.Future {
		future, set := workflow.NewFuture(ctx)
		sweep := workflow.ExecuteActivity(transfers(ctx, "sweep", 0, 1), a.Sweep, req, report.Swept.Freed)
		workflow.Go(ctx, func(ctx workflow.Context) {
			var swept prune.Swept
			err := sweep.Get(ctx, &swept)
			if err == nil || partly(err, new(activities.Amount), &swept) {
				report.Swept = swept
			}
			set.Set(activities.Amount{Bytes: swept.Freed.Bytes}, err)
		})
		return future
	})
	if err != nil {
		o.did("%d backups are dropped; %s in %s were removed", report.Dropped, render.Bytes(report.Freed.Bytes), render.Number(report.Freed.Objects, "object"))
		o.notDone("not all objects of the backups that were dropped are removed; the next prune goes on")
		return report, err
	}
	if report.Secret != "" {
		w := fmt.Sprintf("operation %s is running and does not say which backup it uses, so no objects were removed; the next prune does", report.Secret)
		report.Warnings = append(report.Warnings, w)
		o.note("%s", w)
	}
	report.FinishedAt = workflow.Now(ctx)
	return report, nil
}

// visible is after how long an operation that has begun shows in the Temporal
// service's visibility store.
const visible = 15 * time.Second
