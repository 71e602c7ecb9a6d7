package workflows

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/kafka-backup/kafka-backup/activities"
)

// Signals that every operation understands. They can be sent with the command
// line, from the Web UI, or by `temporal workflow signal`. Payload: a
// [Control], or nothing.
const (
	// SignalPause stops new work within seconds and keeps the position.
	SignalPause = "pause"
	// SignalResume goes on.
	SignalResume = "resume"
	// SignalCancel ends the operation in order, as the service's own cancel
	// request does, and says who wanted it and why.
	SignalCancel = "cancel"
)

// Control is the payload of the signals pause, resume and cancel.
type Control struct {
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Left is what an operation that was cancelled or failed leaves behind.
type Left struct {
	Phase string   `json:"phase"`        // that it was in
	By    *Control `json:"by,omitempty"` // who cancelled it, if by signal
	// Done and Total are of the phase. Done is exact when the parts in work
	// stopped by themselves, and a lower bound when a worker died meanwhile.
	Done  activities.Amount `json:"done"`
	Total activities.Amount `json:"total"`
	// Did is what was done and stays, Undid what was put back, NotDone what
	// was not begun or not finished. In plain words.
	Did     []string `json:"did,omitempty"`
	Undid   []string `json:"undid,omitempty"`
	NotDone []string `json:"not_done,omitempty"`
}

func (o *operation) did(format string, args ...any) {
	o.Left.Did = append(o.Left.Did, fmt.Sprintf(format, args...))
}

func (o *operation) undid(format string, args ...any) {
	o.Left.Undid = append(o.Left.Undid, fmt.Sprintf(format, args...))
}

func (o *operation) notDone(format string, args ...any) {
	o.Left.NotDone = append(o.Left.NotDone, fmt.Sprintf(format, args...))
}

func (l *Left) write(b *strings.Builder) {
	for _, part := range []struct {
		name  string
		lines []string
	}{{"Done, and stays", l.Did}, {"Put back", l.Undid}, {"Not done", l.NotDone}} {
		for _, line := range part.lines {
			fmt.Fprintf(b, "\n- %s: %s", part.name, line)
		}
	}
}

// listen takes in signals until the workflow ends.
func (o *operation) listen(ctx workflow.Context, cancel workflow.CancelFunc) {
	workflow.Go(ctx, func(ctx workflow.Context) {
		events := o.signals(ctx, cancel)
		// The last of them, so that it is received when no signal is left.
		events.AddReceive(o.heard, func(c workflow.ReceiveChannel, _ bool) { c.Receive(ctx, nil) })
		for {
			events.Select(ctx)
		}
	})
}

// takeSignals returns when every signal that has arrived was taken in. What
// arrives together (the worker was down) is seen by the operation before it is
// seen by what listens: a timer that fired, say, before the answer that came in
// time. So this comes before what is decided for good: that time is over, that
// the run ends or is continued as new.
func (o *operation) takeSignals(ctx workflow.Context) { o.heard.Send(ctx, nil) }

// signals is what each signal does.
func (o *operation) signals(ctx workflow.Context, cancel workflow.CancelFunc) workflow.Selector {
	events := workflow.NewNamedSelector(ctx, "signals")
	on := func(name, text string, do func(ctx workflow.Context, payload converter.RawValue)) {
		c := workflow.GetSignalChannelWithOptions(ctx, name, workflow.SignalChannelOptions{Description: text})
		events.AddReceive(c, func(c workflow.ReceiveChannel, _ bool) {
			// Raw, because a payload that cannot be decoded would be passed over in silence.
			var raw converter.RawValue
			c.Receive(ctx, &raw)
			do(ctx, raw)
		})
	}
	control := func(name, text string, do func(ctx workflow.Context, by Control)) {
		on(name, text+` Payload: {"by": "...", "reason": "..."} or nothing.`, func(ctx workflow.Context, raw converter.RawValue) {
			var by Control
			if err := decode(raw, &by); err != nil {
				o.note("the payload of a signal %s was not understood (%v); it counts all the same", name, err)
			}
			do(ctx, by)
		})
	}
	control(SignalPause, "Stop new work and keep the position.", func(ctx workflow.Context, by Control) {
		if o.Control == nil && !o.State.final() {
			o.Control = &by
			o.changed.SendAsync(true)
			o.settle(ctx)
		}
	})
	control(SignalResume, "Go on after a pause.", func(ctx workflow.Context, by Control) {
		if o.Control != nil {
			o.Control = nil
			o.changed.SendAsync(true)
			o.settle(ctx)
		}
	})
	control(SignalCancel, "End the operation in order.", func(ctx workflow.Context, by Control) {
		if !o.cancelled && !o.State.final() {
			o.cancelled, o.Cancel = true, &by
			cancel()
		}
	})
	for _, k := range answers {
		on(k.name, k.text, func(ctx workflow.Context, raw converter.RawValue) {
			var a Answer
			err := decode(raw, &a)
			if err != nil {
				err = fmt.Errorf(`the payload was not understood (%w); write {"by": "who", "plan": "digest", "reason": "why"}`, err)
			} else {
				_, err = o.answer(ctx, k.outcome, a, "signal")
			}
			if err != nil {
				o.refused(ctx, k.name, a, err)
			}
		})
	}
	return events
}

// decode reads the JSON payload of a signal; none is an empty object.
func decode(raw converter.RawValue, into any) error {
	p := raw.Payload()
	if p == nil || len(p.GetData()) == 0 {
		return nil
	}
	return json.Unmarshal(p.GetData(), into)
}

// settle works out the state, after something has changed that it depends on.
func (o *operation) settle(ctx workflow.Context) {
	state := Running
	switch {
	case o.State == Undoing, o.State == Finishing, o.State.final():
		state = o.State
	case o.Control != nil && (o.idle || o.Approval.waiting()):
		state = Paused
	case o.Control != nil:
		state = Pausing
	case o.Approval.waiting():
		state = Waiting
	}
	o.enter(ctx, state)
}

// gate waits while the operation is paused, and lets no cancelled one pass.
// Nothing may be in work.
func (o *operation) gate(ctx workflow.Context) error {
	if o.pauseWanted() {
		o.idle = true
		o.settle(ctx)
		defer func() { o.idle = false }()
	}
	if err := workflow.Await(ctx, func() bool { return !o.pauseWanted() }); err != nil {
		return err
	}
	return ctx.Err()
}

// rest lets time pass in which nothing is in work.
func (o *operation) rest(ctx workflow.Context, d time.Duration, summary string) error {
	o.idle = true
	defer func() { o.idle = false }()
	return workflow.NewTimerWithOptions(ctx, d, workflow.TimerOptions{Summary: summary}).Get(ctx, nil)
}

func (o *operation) pauseWanted() bool { return o.Control != nil }

// step runs a short activity and reads its result into out (nil: none); see
// [operation.run].
func (o *operation) step(ctx workflow.Context, summary string, out any, activity any, args ...any) error {
	return o.run(ctx, steps(ctx, summary), out, activity, args...)
}

// run runs an activity with the options of a context made from ctx, and reads
// its result into out (nil: none). A pause stops it at a safe point; afterwards
// it is started again and, as after the death of its worker, finds what it had
// done. Where it says what it had done when it was stopped, that is read into out.
func (o *operation) run(ctx, options workflow.Context, out any, activity any, args ...any) error {
	for {
		if err := o.gate(ctx); err != nil {
			return err
		}
		work, stop := workflow.WithCancel(options)
		f := workflow.ExecuteActivity(work, activity, args...)
		told := false // to stop, by a pause that may be over when it has stopped
		if err := workflow.Await(ctx, func() bool { return f.IsReady() || o.pauseWanted() }); err == nil && !f.IsReady() {
			told = true
			stop()
		}
		err := f.Get(ctx, out)
		stop()
		if out != nil {
			partly(err, out)
		}
		if ctx.Err() != nil || !stoppedByUs(told, err) {
			return err
		}
	}
}

// undo runs a short activity that puts back what a run that failed or was
// cancelled has changed. Neither a pause nor a cancel, be it the second one,
// stops it half way.
func (o *operation) undo(ctx workflow.Context, summary string, out any, activity any, args ...any) error {
	return o.throughout(ctx, Undoing, summary, out, activity, args...)
}

// finish runs a short activity that ends what was done for the time being, in
// a run in which all went well. Neither a pause nor a cancel stops it half way;
// they count afterwards.
func (o *operation) finish(ctx workflow.Context, summary string, out any, activity any, args ...any) error {
	return o.throughout(ctx, Finishing, summary, out, activity, args...)
}

// throughout runs a short activity to its end, in a state of its own.
func (o *operation) throughout(ctx workflow.Context, state State, summary string, out any, activity any, args ...any) error {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	before := o.State
	o.enter(ctx, state)
	err := workflow.ExecuteActivity(steps(ctx, summary), activity, args...).Get(ctx, out)
	o.State = before
	o.settle(ctx)
	return err
}

// stoppedByUs tells whether an activity with this error was stopped, and has
// neither ended by itself (no error) nor failed. told: it was told to stop, by
// a pause or a cancel. From then on the service tries nothing again. So beside
// an activity that says it was stopped, this is one whose worker died or was
// shut down meanwhile, and one with an error that trying again may cure.
func stoppedByUs(told bool, err error) bool {
	if !told {
		return false
	}
	for ; err != nil; err = errors.Unwrap(err) {
		switch e := err.(type) { // the outermost says it; what is below is its cause
		case *temporal.ApplicationError:
			return !e.NonRetryable()
		case *temporal.CanceledError, *temporal.TimeoutError:
			return true
		}
	}
	return false
}

func orSomebody(name string) string {
	if name == "" {
		return "somebody"
	}
	return name
}
