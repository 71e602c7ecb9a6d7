package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
)

// offsetRun is one change of offsets.
type offsetRun struct {
	*operation
	req   activities.OffsetRequest
	plan  activities.OffsetPlan
	plans int // made so far
}

func resetOffsets(ctx workflow.Context, kind string, req activities.OffsetRequest) (report activities.OffsetReport, err error) {
	ctx, o, err := begin(ctx, kind, "plan", "snapshot", "apply", "verify", "report")
	if err != nil {
		return report, err
	}
	defer func() { err = o.ended(ctx, err) }()
	o.about(req.Requested, "")
	r := &offsetRun{operation: o, req: req}
	if err := o.phase(ctx, "plan", activities.Amount{}); err != nil {
		return report, err
	}
	decision, err := o.approved(ctx, req.Requested, func(ctx workflow.Context, _ int) (activities.Proposal, error) {
		if err := r.makePlan(ctx); err != nil {
			return activities.Proposal{}, err
		}
		return r.plan.Proposal, temporalservice.Upsert(ctx, temporalservice.Attributes{Cluster: r.plan.ClusterID})
	})
	if err != nil {
		o.notDone("no offset was changed")
		return report, err
	}
	for _, w := range r.plan.Warnings {
		o.note("%s", w)
	}
	snapshot, err := r.carryOut(ctx)
	if err != nil {
		return report, err
	}
	err = o.phase(ctx, "report", activities.Amount{})
	if err == nil {
		var a *activities.Offsets
		err = o.step(ctx, "put the report together", &report, a.ReportOffsets, req, r.plan, snapshot.ID)
	}
	if err != nil {
		o.did("the offsets are set, were read back, and stay")
		o.notDone("there is no report")
		return report, err
	}
	report.Approval, report.StartedAt, report.FinishedAt = decision, o.StartedAt, workflow.Now(ctx)
	return report, nil
}

// makePlan makes the plan; groups with active members are waited for, if so
// wished, and then planned for anew.
func (r *offsetRun) makePlan(ctx workflow.Context) error {
	var a *activities.Offsets
	until := workflow.Now(ctx).Add(r.req.WaitInactive)
	for {
		waiting := workflow.Now(ctx).Before(until)
		r.plan = activities.OffsetPlan{}
		if err := r.step(ctx, "plan the reset", &r.plan, a.PlanOffsets, r.req, r.plans, !waiting); err != nil {
			return err
		}
		r.plans++
		if r.plan.Active == "" || !waiting {
			return nil
		}
		if err := r.awaitInactive(ctx, until); err != nil {
			return err
		}
	}
}

// awaitInactive waits until the plan's groups have no active members, or until
// the time is over. The pauses grow with the time waited, so that a wait of a
// day looks some hundred times.
func (r *offsetRun) awaitInactive(ctx workflow.Context, until time.Time) error {
	var a *activities.Offsets
	began := workflow.Now(ctx)
	r.note("waiting for groups to become inactive, until %s: %s", until.UTC().Format(time.RFC3339), r.plan.Active)
	r.show(ctx)
	for {
		now := workflow.Now(ctx)
		if !now.Before(until) {
			return nil
		}
		wait := min(max(now.Sub(began)/8, 2*time.Second), 5*time.Minute, max(until.Sub(now), time.Second))
		if err := r.rest(ctx, wait, "groups with active members"); err != nil {
			return err
		}
		var active string
		if err := r.step(ctx, "look for active members", &active, a.ActiveGroups, r.req, r.plan); err != nil {
			return err
		}
		if active == "" {
			return nil
		}
		if r.Notes[len(r.Notes)-1] != active {
			r.note("%s", active)
			r.show(ctx)
		}
	}
}

// carryOut takes the snapshot, sets the offsets and reads them back. Whatever
// goes wrong once the first was set is undone.
func (r *offsetRun) carryOut(ctx workflow.Context) (snapshot activities.SnapshotReport, err error) {
	var a *activities.Offsets
	total := activities.Amount{Partitions: r.plan.Totals.Changes()}
	if total.Partitions == 0 {
		r.note("nothing is to be changed")
		return snapshot, nil
	}
	if err := r.phase(ctx, "snapshot", activities.Amount{}); err != nil {
		return snapshot, err
	}
	if err := r.step(ctx, "snapshot the groups' offsets, and see that they are as planned", &snapshot, a.SnapshotPlanned, r.req, r.plan, r.StartedAt); err != nil {
		r.notDone("no offset was changed")
		return snapshot, err
	}
	if snapshot.ID != "" {
		r.note("the state before is %s", snapshot.ID)
	}
	if err := r.phase(ctx, "apply", total); err != nil {
		r.notDone("no offset was changed")
		return snapshot, err
	}
	err = r.apply(ctx)
	if err == nil {
		if err = r.phase(ctx, "verify", total); err == nil {
			err = r.verify(ctx)
		}
	}
	if err != nil {
		return snapshot, r.putBack(ctx, snapshot, err)
	}
	return snapshot, nil
}

// Offsets are set in parts of whole shards of the plan. Within a part all that
// may be in flight is, across its shards; a part of a few shards, some 200,000
// committed offsets, is done in a second on an idle cluster.
const (
	partShards   = 10
	offsetWindow = 4 // parts in work at the same time, by as many workers as there are
)

func (r *offsetRun) parts() int { return (r.plan.Shards + partShards - 1) / partShards }

// part is which shards a part is, from 0; all parts are about as large.
func (r *offsetRun) part(n int) activities.Shards {
	return activities.Shards{From: n * r.plan.Shards / r.parts(), To: (n + 1) * r.plan.Shards / r.parts()}
}

// window is how many parts are in work: what is in flight in all of them
// together is what was asked for.
func (r *offsetRun) window() int { return max(1, min(offsetWindow, r.parts())) }

// request is the request with the share of requests in flight that each part
// in work has.
func (r *offsetRun) request() activities.OffsetRequest {
	req := r.req
	if req.MaxConcurrent <= 0 {
		req.MaxConcurrent = 100
	}
	req.MaxConcurrent = max(1, req.MaxConcurrent/r.window())
	return req
}

// rounds is in how many rounds a partition is tried, each of which tries it
// [activities.Tries] times.
func (r *offsetRun) rounds() int {
	retries := 20
	if r.req.MaxRetries != nil {
		retries = *r.req.MaxRetries
	}
	return max(1, (retries+activities.Tries)/activities.Tries)
}

// pauseBefore is how long to wait before a round, from 1.
func pauseBefore(round int) time.Duration {
	return min(5*time.Second<<min(round-1, 4), time.Minute)
}

// apply sets the offsets, part by part.
func (r *offsetRun) apply(ctx workflow.Context) error {
	return r.eachPart(ctx, r.parts(), r.window(), func(ctx workflow.Context, part int) workflow.Future {
		return r.applyPart(ctx, part, activities.Forward, r.rounds(), !r.req.Offsets.BestEffort)
	})
}

// applyPart makes the changes of one part: once, and then in further rounds those
// whose error was transient. strict: a change that cannot be made is an error.
func (r *offsetRun) applyPart(ctx workflow.Context, part int, to activities.Direction, rounds int, strict bool) workflow.Future {
	f, set := workflow.NewFuture(ctx)
	workflow.Go(ctx, func(ctx workflow.Context) {
		var a *activities.Offsets
		var did activities.Amount
		for round := 0; ; round++ {
			var got activities.OffsetsApplied
			summary := fmt.Sprintf("set offsets, part %d of %d", part+1, r.parts())
			if to == activities.Back {
				summary = fmt.Sprintf("put offsets back, part %d of %d", part+1, r.parts())
			}
			if round > 0 {
				summary += fmt.Sprintf(", round %d", round+1)
			}
			if err := workflow.ExecuteActivity(steps(ctx, summary), a.ApplyOffsets, r.request(), r.plan, r.part(part), round, to).Get(ctx, &got); err != nil {
				set.SetError(err)
				return
			}
			did.Partitions += got.Changed
			last := got.Open == 0 || round+1 >= rounds
			if bad := got.Failed + got.Open; strict && (got.Failed > 0 || last && bad > 0) {
				set.SetError(temporal.NewNonRetryableApplicationError(fmt.Sprintf("%d committed offsets could not be set: %s", bad, got.First), activities.NotSet, nil))
				return
			}
			if last {
				set.SetValue(did)
				return
			}
			pause := workflow.NewTimerWithOptions(ctx, pauseBefore(round+1), workflow.TimerOptions{Summary: fmt.Sprintf("try %d partitions again", got.Open)})
			if err := pause.Get(ctx, nil); err != nil {
				set.SetError(err)
				return
			}
		}
	})
	return f
}

// verify reads all offsets back that were set.
func (r *offsetRun) verify(ctx workflow.Context) error {
	return r.eachPart(ctx, r.parts(), r.window(), func(ctx workflow.Context, part int) workflow.Future {
		return r.verifyPart(ctx, part, activities.Forward, !r.req.Offsets.BestEffort)
	})
}

func (r *offsetRun) verifyPart(ctx workflow.Context, part int, to activities.Direction, strict bool) workflow.Future {
	f, set := workflow.NewFuture(ctx)
	workflow.Go(ctx, func(ctx workflow.Context) {
		var a *activities.Offsets
		var got activities.OffsetsVerified
		summary := fmt.Sprintf("read offsets back, part %d of %d", part+1, r.parts())
		err := workflow.ExecuteActivity(steps(ctx, summary), a.VerifyOffsets, r.req, r.plan, r.part(part), to).Get(ctx, &got)
		if err == nil && strict && got.Wrong > 0 {
			err = temporal.NewNonRetryableApplicationError(fmt.Sprintf("%d committed offsets read back differently: %s", got.Wrong, got.First), activities.NotSet, nil)
		}
		set.Set(activities.Amount{Partitions: got.Checked}, err)
	})
	return f
}

// undoRounds is how often what cannot be put back just now is tried again: for
// half an hour.
const undoRounds = 30

// putBack puts all offsets back to what they were before, and reads them back.
// Nothing stops it half way. The error is why, and what became of it.
func (r *offsetRun) putBack(ctx workflow.Context, snapshot activities.SnapshotReport, why error) error {
	cancelled := stoppedByUs(ctx.Err() != nil, why)
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	r.enter(ctx, Undoing)
	var bad []string
	for part := range r.parts() {
		if err := r.applyPart(ctx, part, activities.Back, undoRounds, false).Get(ctx, nil); err != nil {
			bad = append(bad, message(err))
			continue
		}
		if err := r.verifyPart(ctx, part, activities.Back, true).Get(ctx, nil); err != nil {
			bad = append(bad, message(err))
		}
	}
	r.enter(ctx, Running)
	state := "the state before"
	if snapshot.ID != "" {
		state = snapshot.ID
	}
	if len(bad) > 0 {
		r.notDone("offsets could not be put back to %s: %s", state, bad[0])
		text := fmt.Sprintf("%s; and putting %s back failed too: %s", message(why), state, bad[0])
		if snapshot.ID != "" {
			text += fmt.Sprintf(". Stop all consumers of the groups, then run `kafka-backup offset-rollback rollback --snapshot-id %s`", snapshot.ID)
		}
		return temporal.NewNonRetryableApplicationError(text, activities.UndoFailed, nil)
	}
	r.undid("all committed offsets are as they were (%s), and were read back", state)
	r.notDone("none of %d committed offsets is changed", r.plan.Totals.Changes())
	if cancelled {
		return why
	}
	return temporal.NewNonRetryableApplicationError(fmt.Sprintf("%s. All offsets were put back to %s and read back", message(why), state), activities.NotSet, nil)
}
