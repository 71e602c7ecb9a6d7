package workflows

import (
	"cmp"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
)

// offsetRun is one change of offsets: an operation of its own, or a phase of
// another.
type offsetRun struct {
	*operation
	req   activities.OffsetRequest
	plan  activities.OffsetPlan
	plans int // made so far
	// within is the phase of the other operation; empty: it has phases of its own.
	within string
}

// enter enters a phase.
func (r *offsetRun) enter(ctx workflow.Context, phase string, total activities.Amount) error {
	if r.within != "" {
		phase = r.within
	}
	return r.phase(ctx, phase, total)
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
	r.plan.Proposal = activities.Proposal{} // what activities are given is in the history, once for each part
	report, err = r.carryOut(ctx)
	report.Approval, report.StartedAt, report.FinishedAt = decision, o.StartedAt, workflow.Now(ctx)
	return report, err
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
	waiting := func(active string) {
		r.note("waiting until %s for groups to have no active members: %s", until.UTC().Format(time.RFC3339), active)
		r.show(ctx)
	}
	last := r.plan.Active
	waiting(last)
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
		if active != last {
			last = active
			waiting(active)
		}
	}
}

// carryOut takes the snapshot, sets the offsets, reads them back, and reports.
// Whatever goes wrong once the first was set is undone.
func (r *offsetRun) carryOut(ctx workflow.Context) (report activities.OffsetReport, err error) {
	var a *activities.Offsets
	var seen activities.OffsetsSeen
	total := activities.Amount{Partitions: r.plan.Totals.Changes()}
	if r.req.Description == "" {
		r.req.Description = "Before " + workflow.GetInfo(ctx).WorkflowExecution.ID
	}
	if total.Partitions == 0 {
		r.note("nothing is to be changed")
	} else {
		if err := r.enter(ctx, "snapshot", activities.Amount{}); err != nil {
			return report, err
		}
		if err := r.step(ctx, "snapshot the groups' offsets, and see that they are as planned", &seen, a.SnapshotPlanned, r.req, r.plan, workflow.Now(ctx)); err != nil {
			r.notDone("no offset was changed")
			return report, err
		}
		r.plan.SeenAt, r.plan.LeftOut = seen.At, seen.LeftOut
		if seen.Snapshot != "" {
			r.note("the state before is %s", seen.Snapshot)
		}
		if err := r.enter(ctx, "apply", total); err != nil {
			r.notDone("no offset was changed")
			return report, err
		}
		err = r.apply(ctx)
		if err == nil {
			if err = r.enter(ctx, "verify", total); err == nil {
				err = r.verify(ctx)
			}
		}
		if err != nil {
			return report, r.putBack(ctx, seen.Snapshot, err)
		}
	}
	if err = r.enter(ctx, "report", activities.Amount{}); err == nil {
		err = r.step(ctx, "put the report together", &report, a.ReportOffsets, r.req, r.plan, seen.Snapshot)
	}
	if err != nil {
		r.did("the offsets are set, were read back, and stay")
		r.notDone("there is no report")
	}
	return report, err
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
func (r *offsetRun) window() int { return max(1, min(offsetWindow, r.parts(), r.inFlight())) }

func (r *offsetRun) inFlight() int {
	if r.req.MaxConcurrent <= 0 {
		return 100
	}
	return r.req.MaxConcurrent
}

// request is the request with the share of requests in flight that each part
// in work has.
func (r *offsetRun) request() activities.OffsetRequest {
	req := r.req
	req.MaxConcurrent = r.inFlight() / r.window()
	return req
}

// rounds is in how many rounds a partition is tried, each of which tries it
// [activities.Tries] times.
func (r *offsetRun) rounds() int { return (r.req.Attempts() + activities.Tries - 1) / activities.Tries }

// pauseBefore is how long to wait before a round, from 1.
func pauseBefore(round int) time.Duration {
	return min(5*time.Second<<min(round-1, 4), time.Minute)
}

// apply sets the offsets, part by part.
func (r *offsetRun) apply(ctx workflow.Context) error {
	return r.eachPart(ctx, r.parts(), r.window(), func(ctx workflow.Context, part int) workflow.Future {
		return r.inRounds(ctx, "could not be set", func(ctx workflow.Context, round int, last bool) (did activities.Amount, open, bad int64, first string, err error) {
			var a *activities.Offsets
			var got activities.OffsetsApplied
			err = workflow.ExecuteActivity(steps(ctx, r.inPart("set offsets", part, round)), a.ApplyOffsets, r.request(), r.plan, r.part(part), round).Get(ctx, &got)
			return activities.Amount{Partitions: got.Changed}, got.Open, got.Failed, got.First, err
		})
	})
}

// verify reads all offsets back that were set.
func (r *offsetRun) verify(ctx workflow.Context) error {
	return r.eachPart(ctx, r.parts(), r.window(), func(ctx workflow.Context, part int) workflow.Future {
		return r.inRounds(ctx, "read back differently", func(ctx workflow.Context, round int, last bool) (did activities.Amount, open, bad int64, first string, err error) {
			var a *activities.Offsets
			var got activities.OffsetsVerified
			err = workflow.ExecuteActivity(steps(ctx, r.inPart("read offsets back", part, round)), a.VerifyOffsets, r.req, r.plan, r.part(part), last).Get(ctx, &got)
			if got.Open == 0 {
				did.Partitions = got.Checked
			}
			return did, got.Open, got.Wrong, got.First, err
		})
	})
}

func (r *offsetRun) inPart(what string, part, round int) string {
	text := fmt.Sprintf("%s, part %d of %d", what, part+1, r.parts())
	if round > 0 {
		text += fmt.Sprintf(", round %d", round+1)
	}
	return text
}

// inRounds does a part: once, and then in further rounds what is open, after
// ever longer durable pauses. Unless best effort is wished, what is bad, or open
// after the last round, is an error, which says what happened to it.
func (r *offsetRun) inRounds(ctx workflow.Context, happened string, try func(ctx workflow.Context, round int, last bool) (did activities.Amount, open, bad int64, first string, err error)) workflow.Future {
	f, set := workflow.NewFuture(ctx)
	workflow.Go(ctx, func(ctx workflow.Context) {
		var sum activities.Amount
		for round := 0; ; round++ {
			last := round+1 >= r.rounds()
			did, open, bad, first, err := try(ctx, round, last)
			sum = sum.Add(did)
			if last {
				open, bad = 0, bad+open
			}
			if err == nil && bad > 0 && !r.req.Offsets.BestEffort {
				err = temporal.NewNonRetryableApplicationError(fmt.Sprintf("%d committed offsets %s: %s", bad, happened, first), activities.NotSet, nil)
			}
			if err == nil && open > 0 {
				err = again(ctx, round, open)
				if err == nil {
					continue
				}
			}
			set.Set(sum, err)
			return
		}
	})
	return f
}

// again waits before the next round.
func again(ctx workflow.Context, round int, open int64) error {
	return workflow.NewTimerWithOptions(ctx, pauseBefore(round+1), workflow.TimerOptions{Summary: fmt.Sprintf("try %d partitions again", open)}).Get(ctx, nil)
}

// undoRounds is in how many rounds what cannot be put back just now is tried:
// for half an hour.
const undoRounds = 30

// putBack puts what was set back to what it was before, and reads it back. It
// leaves alone what was not set, and what somebody else has committed since.
// Nothing stops it half way. The error is why, and what became of it.
func (r *offsetRun) putBack(ctx workflow.Context, snapshot string, why error) error {
	cancelled := stoppedByUs(ctx.Err() != nil, why)
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	r.operation.enter(ctx, Undoing)
	did, failed := r.undoParts(ctx)
	report := r.reportUndone(ctx, snapshot)
	r.operation.enter(ctx, Running)

	state := "what it was"
	if snapshot != "" {
		state = snapshot
	}
	if failed != "" {
		r.notDone("offsets could not be put back to %s: %s", state, failed)
		text := fmt.Sprintf("%s; and putting %s back failed too: %s", message(why), state, failed)
		if snapshot != "" {
			text += fmt.Sprintf(". Stop all consumers of the groups, then run `kafka-backup offset-rollback rollback --snapshot-id %s` with the same --path and --bootstrap-servers", snapshot)
		}
		return temporal.NewNonRetryableApplicationError(text+report, activities.UndoFailed, nil)
	}
	but := ""
	if did.Left > 0 {
		but = fmt.Sprintf(", but for %d that somebody else has committed since, which stay: %s", did.Left, did.FirstLeft)
	}
	r.undid("all committed offsets are as they were (%s), and were read back%s", state, but)
	r.notDone("none of %d committed offsets is changed", r.plan.Totals.Changes())
	if cancelled {
		return why
	}
	return temporal.NewNonRetryableApplicationError(
		fmt.Sprintf("%s. All offsets were put back to %s and read back%s%s", message(why), state, but, report), activities.NotSet, nil)
}

// undoParts puts all parts back, in rounds, and says what could not be.
func (r *offsetRun) undoParts(ctx workflow.Context) (did activities.OffsetsUndone, failed string) {
	var a *activities.Offsets
	left := make([]activities.OffsetsUndone, r.parts())
	open := make([]int, r.parts())
	for part := range open {
		open[part] = part
	}
	for round := 0; len(open) > 0; round++ {
		var still []int
		var count int64
		for _, part := range open {
			var got activities.OffsetsUndone
			err := workflow.ExecuteActivity(steps(ctx, r.inPart("put offsets back", part, round)), a.PutOffsetsBack, r.request(), r.plan, r.part(part), round).Get(ctx, &got)
			if err != nil {
				got = activities.OffsetsUndone{Failed: 1, First: message(err)}
			}
			left[part] = got
			if got.Open > 0 && got.Failed == 0 {
				still, count = append(still, part), count+got.Open
			}
		}
		if open = still; len(open) == 0 || round+1 >= undoRounds || again(ctx, round, count) != nil {
			break
		}
	}
	for _, l := range left {
		did.PutBack, did.Left, did.Failed, did.Open = did.PutBack+l.PutBack, did.Left+l.Left, did.Failed+l.Failed, did.Open+l.Open
		did.First, did.FirstLeft = cmp.Or(did.First, l.First), cmp.Or(did.FirstLeft, l.FirstLeft)
	}
	if bad := did.Failed + did.Open; bad > 0 {
		failed = fmt.Sprintf("%d committed offsets: %s", bad, did.First)
	}
	return did, failed
}

// reportUndone writes the report of a change that was undone, and says where it
// is. That it cannot be written hides nothing of what happened.
func (r *offsetRun) reportUndone(ctx workflow.Context, snapshot string) string {
	var a *activities.Offsets
	var report activities.OffsetReport
	ctx = workflow.WithScheduleToCloseTimeout(steps(ctx, "put the report together"), 10*time.Minute)
	if err := workflow.ExecuteActivity(ctx, a.ReportOffsets, r.req, r.plan, snapshot).Get(ctx, &report); err != nil {
		r.note("the report could not be written: %s", message(err))
		return ""
	}
	r.note("the whole report is %s", report.Key)
	return ". The whole report is " + report.Key
}
