package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/temporal"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/workflows"
)

// How often an operation is looked at, how long one look may take, and for how
// long a poll of a worker shows that it lives (workers poll for a minute at a
// time).
const (
	lookEvery    = time.Second
	lookTimeout  = 3 * time.Second
	workersEvery = 5 * time.Second
	pollLife     = 75 * time.Second
	silence      = 10 * time.Second // without an answer, this is worth a word
)

// follower watches one operation and shows what it sees.
type follower struct {
	conn    *connection
	id      string // workflow id
	queue   string // its task queue
	display display

	progress  workflows.Progress
	answered  time.Time // when the workflow last answered; zero: never
	unheard   error     // why it did not answer the last time
	asked     time.Time // when the task queues were last looked at
	noWorkers string    // what they showed
	rates     rates
	announced int               // the round of the last plan that was shown
	phase     string            // of most
	most      activities.Amount // seen done in the phase
}

// follow shows the operation until wait returns, which gives its result. At
// the end of ctx it returns ctx's error; the operation goes on.
func (f *follower) follow(ctx context.Context, wait func(context.Context) (outcome, error)) (outcome, error) {
	type ending struct {
		outcome outcome
		err     error
	}
	ended := make(chan ending, 1)
	go func() {
		for {
			o, err := wait(ctx)
			if !away(err) || ctx.Err() != nil {
				ended <- ending{o, err}
				return
			}
			select { // the service is away, the operation is not
			case <-ctx.Done():
			case <-time.After(lookEvery):
			}
		}
	}()
	looking, stop := context.WithCancel(ctx)
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		began := time.Now()
		for looking.Err() == nil {
			v := f.look(looking, began)
			if looking.Err() == nil {
				f.display.show(v)
				f.announce()
			}
			select {
			case <-looking.Done():
			case <-time.After(lookEvery):
			}
		}
	}()
	defer func() { stop(); <-looked }()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case e := <-ended:
		stop()
		<-looked
		if e.err == nil {
			f.last(ctx)
		}
		return e.outcome, e.err
	}
}

// away tells whether an error says that the Temporal service does not answer
// just now: it restarts, or the network is broken. What it carries goes on.
func away(err error) bool {
	var unavailable *serviceerror.Unavailable
	var deadline *serviceerror.DeadlineExceeded
	var exhausted *serviceerror.ResourceExhausted
	var workflow *temporal.WorkflowExecutionError
	return !errors.As(err, &workflow) && (errors.As(err, &unavailable) || errors.As(err, &deadline) || errors.As(err, &exhausted))
}

// last shows how the operation ended, if its workers still say so.
func (f *follower) last(ctx context.Context) {
	ctx, stop := context.WithTimeout(ctx, lookTimeout)
	defer stop()
	if f.ask(ctx) == nil {
		f.display.show(f.view(activities.RunningParts{}))
	}
}

// look asks everybody who can say how far the operation is. That somebody does
// not answer is part of the view, not an error.
func (f *follower) look(ctx context.Context, began time.Time) *view {
	asking, stop := context.WithTimeout(ctx, lookTimeout)
	defer stop()
	f.unheard = f.ask(asking)
	var running activities.RunningParts
	if parts, err := activities.ReadRunningParts(asking, f.conn.Client, f.id, ""); err == nil {
		running = parts
	}
	v := f.view(running)
	v.Waiting = f.waiting(ctx, began)
	return v
}

// ask queries the workflow.
func (f *follower) ask(ctx context.Context) error {
	value, err := f.conn.QueryWorkflow(ctx, f.id, "", workflows.QueryProgress)
	if err != nil {
		return err
	}
	var p workflows.Progress
	if err := value.Get(&p); err != nil {
		return err
	}
	f.progress, f.answered = p, time.Now()
	return nil
}

// view puts together what the workflow said last and what its running parts
// have done since.
func (f *follower) view(running activities.RunningParts) *view {
	p := f.progress
	v := &view{Time: time.Now(), Kind: p.Kind, Phase: p.Phase, Phases: p.Phases, State: p.State, Control: p.Control, Approval: p.Approval,
		Parts: p.Parts, Finished: p.PartsDone, Running: p.PartsRunning, Done: p.Done, Total: p.Total,
		Lagging: running.Lagging, Retrying: running.Retrying, Notes: p.Notes, RecoveryPoint: p.RecoveryPoint}
	if p.RecoveryPoint != nil { // it follows what comes, which has no total
		v.Total = activities.Amount{}
	}
	if f.phase != p.Phase {
		f.phase, f.most = p.Phase, activities.Amount{}
	}
	if now := p.DoneParts.Add(running.Done); now.Records >= v.Done.Records && p.State != workflows.Finished {
		v.Done = now
	}
	if v.Done.Records < f.most.Records { // a part is between two attempts
		v.Done = f.most
	}
	f.most = v.Done
	f.rates.measure(v)
	return v
}

// waiting says why the operation does not move, if that can be told.
func (f *follower) waiting(ctx context.Context, began time.Time) string {
	now := time.Now()
	if now.Sub(f.asked) >= workersEvery {
		f.asked = now
		f.noWorkers = f.lookForWorkers(ctx)
	}
	heard := f.answered
	if heard.IsZero() {
		heard = began
	}
	switch {
	case f.unheard == nil && f.noWorkers == "":
		return ""
	case f.noWorkers != "":
		return f.noWorkers
	case now.Sub(heard) < silence:
		return ""
	case away(f.unheard):
		return fmt.Sprintf("no answer from Temporal at %s for %s; the operation goes on when it is back (%v)",
			f.conn.profile, now.Sub(heard).Round(time.Second), f.unheard)
	default:
		return fmt.Sprintf("no answer from a worker for %s (%v)", now.Sub(heard).Round(time.Second), explain(f.unheard))
	}
}

// lookForWorkers says which task queue has no worker, or nothing.
func (f *follower) lookForWorkers(ctx context.Context) string {
	if f.queue == "" {
		return ""
	}
	for _, q := range []struct {
		name string
		kind enumspb.TaskQueueType
	}{
		{f.queue, enumspb.TASK_QUEUE_TYPE_WORKFLOW},
		{activities.TransferQueue(f.queue), enumspb.TASK_QUEUE_TYPE_ACTIVITY},
	} {
		asking, stop := context.WithTimeout(ctx, lookTimeout)
		d, err := f.conn.DescribeTaskQueue(asking, q.name, q.kind)
		stop()
		if err != nil {
			return "" // the query's error says it
		}
		alive := false
		for _, p := range d.GetPollers() {
			alive = alive || time.Since(p.GetLastAccessTime().AsTime()) < pollLife
		}
		if !alive {
			return fmt.Sprintf("no worker polls task queue %s; start one with `kafka-backup worker --task-queue %s`", q.name, offsets.Quote(f.queue))
		}
	}
	return ""
}
