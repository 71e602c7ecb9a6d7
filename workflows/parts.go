package workflows

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/kafka-backup/kafka-backup/activities"
)

// eachPart runs one activity for each of n parts, at most window at a time
// and in any order, until all are done. While the operation is paused, parts
// in work are stopped at a safe point and started again afterwards; what they
// had done counts. The first part that fails for good stops the others.
func (o *operation) eachPart(ctx workflow.Context, n, window int, start func(ctx workflow.Context, part int) workflow.Future) error {
	o.Parts, o.stopped = n, make([]activities.Amount, n)
	todo := make([]int, n)
	for i := range todo {
		todo[i] = i
	}
	polls := newPolls(ctx, o)
	defer polls.stop()
	for {
		if err := o.gate(ctx); err != nil {
			return err
		}
		again, err := o.drainParts(ctx, todo, window, polls, start)
		if err != nil {
			return err
		}
		if todo = again; len(todo) == 0 {
			return nil
		}
	}
}

// drainParts works on todo until it is empty or a pause stops it, and returns
// what is left.
func (o *operation) drainParts(ctx workflow.Context, todo []int, window int, polls *polls, start func(workflow.Context, int) workflow.Future) (left []int, err error) {
	work, stop := workflow.WithCancel(ctx)
	defer stop()
	events := workflow.NewNamedSelector(ctx, "parts")
	events.AddReceive(o.changed, func(c workflow.ReceiveChannel, _ bool) {
		c.Receive(ctx, nil)
		if o.pauseWanted() {
			stop()
		}
	})
	polls.listen(events)
	o.PartsRunning = 0
	stopping := func() bool { return work.Err() != nil }
	for len(todo) > 0 && !stopping() || o.PartsRunning > 0 {
		for len(todo) > 0 && o.PartsRunning < window && !stopping() {
			part := todo[0]
			todo = todo[1:]
			o.PartsRunning++
			events.AddFuture(start(work, part), func(f workflow.Future) {
				o.PartsRunning--
				var did activities.Amount
				ferr := f.Get(ctx, &did)
				switch {
				case ferr == nil:
					o.PartsDone++
					o.DoneParts = o.DoneParts.Add(did)
					o.stopped[part] = activities.Amount{}
				case err == nil && ctx.Err() == nil && stoppedByUs(stopping(), ferr):
					left = append(left, part)
					o.stoppedAt(part, ferr)
				default:
					o.stoppedAt(part, ferr)
					if err == nil || stoppedByUs(ctx.Err() != nil, err) {
						err = fmt.Errorf("part %d: %w", part+1, ferr)
					}
					stop()
				}
			})
		}
		events.Select(ctx)
	}
	o.Done = o.DoneParts
	for _, did := range o.stopped {
		o.Done = o.Done.Add(did)
	}
	if err != nil {
		return nil, err
	}
	return append(left, todo...), ctx.Err()
}

// stoppedAt notes what a part that was stopped, or failed, had done by its own
// account. A part never has less than it had before.
func (o *operation) stoppedAt(part int, err error) {
	var did activities.Amount
	if partly(err, &did) && did.Records >= o.stopped[part].Records {
		o.stopped[part] = did
	}
}

// partly reads what an activity that was stopped, or failed, says that it has
// done.
func partly(err error, into ...any) bool {
	var of *temporal.ActivityError
	var account interface {
		error
		HasDetails() bool
		Details(...any) error
	}
	return errors.As(err, &of) && errors.As(of.Unwrap(), &account) && account.HasDetails() && account.Details(into...) == nil
}

// polls reads the progress of running parts from time to time. The pauses
// grow with the operation's age, so that a day-long operation is polled some
// hundred times, not ten thousand.
type polls struct {
	o     *operation
	ctx   workflow.Context
	stop  workflow.CancelFunc
	begun time.Time
}

const (
	firstPoll = 2 * time.Second
	lastPoll  = time.Hour
)

func newPolls(ctx workflow.Context, o *operation) *polls {
	ctx, stop := workflow.WithCancel(ctx)
	return &polls{o: o, ctx: ctx, stop: stop, begun: workflow.Now(ctx)}
}

// listen adds the next poll to a selector.
func (p *polls) listen(events workflow.Selector) {
	age := workflow.Now(p.ctx).Sub(p.begun)
	wait := min(max(firstPoll, age/8), lastPoll)
	timer := workflow.NewTimerWithOptions(p.ctx, wait, workflow.TimerOptions{Summary: "read progress"})
	events.AddFuture(timer, func(f workflow.Future) {
		if f.Get(p.ctx, nil) != nil {
			return // stopped
		}
		read := workflow.WithLocalActivityOptions(p.ctx, workflow.LocalActivityOptions{
			StartToCloseTimeout: 5 * time.Second,
			RetryPolicy:         &temporal.RetryPolicy{MaximumAttempts: 1},
			Summary:             "read progress",
		})
		var a *activities.Monitor
		events.AddFuture(workflow.ExecuteLocalActivity(read, a.RunningParts), func(f workflow.Future) {
			var seen activities.RunningParts
			if f.Get(p.ctx, &seen) == nil {
				o := p.o
				o.Done = o.DoneParts.Add(seen.Done)
				o.Lagging, o.UpdatedAt = seen.Lagging, workflow.Now(p.ctx)
				o.show(p.ctx)
			}
			if p.ctx.Err() == nil {
				p.listen(events)
			}
		})
	})
}

// transfers are long activities that move data: they run until their part is
// done, on the task queue for transfers, and are taken over when their worker
// falls silent.
func transfers(ctx workflow.Context, what string, part, parts int) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:           activities.TransferQueue(workflow.GetInfo(ctx).TaskQueueName),
		StartToCloseTimeout: 90 * 24 * time.Hour,
		HeartbeatTimeout:    heartbeatTimeout,
		WaitForCancellation: true,
		Summary:             fmt.Sprintf("%s part %d of %d", what, part+1, parts),
		RetryPolicy:         retries,
	})
}
