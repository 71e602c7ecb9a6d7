package workflows

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
)

// Names of what every operation understands. They can be sent with the
// command line, from the Web UI, or by `temporal workflow signal` and `query`.
const (
	// SignalPause stops new work within seconds and keeps the position.
	// Payload: a [Control], or nothing.
	SignalPause = "pause"
	// SignalResume goes on. Payload: a [Control], or nothing.
	SignalResume = "resume"
	// QueryProgress returns a [Progress].
	QueryProgress = "progress"
)

// Control is the payload of the signals pause and resume.
type Control struct {
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// State is what an operation is doing.
type State string

// The states of an operation.
const (
	Running  State = "running"
	Pausing  State = "pausing" // pause was asked for; work under way is stopping
	Paused   State = "paused"
	Undoing  State = "undoing" // compensation is running
	Finished State = "finished"
)

// Progress is an operation seen from outside.
type Progress struct {
	Kind      string    `json:"kind"`
	Phase     string    `json:"phase"`
	Phases    []string  `json:"phases"`
	State     State     `json:"state"`
	Control   *Control  `json:"control,omitempty"` // who paused it and why
	StartedAt time.Time `json:"started_at"`
	PhaseAt   time.Time `json:"phase_at"`
	// Parts of the running phase: all, finished, in work.
	Parts        int `json:"parts"`
	PartsDone    int `json:"parts_done"`
	PartsRunning int `json:"parts_running"`
	// Total is what the phase has to do, Done what it has done; Done was
	// current at UpdatedAt.
	Total activities.Amount `json:"total"`
	Done  activities.Amount `json:"done"`
	// DoneParts is the share in Done of parts that are finished. Together with
	// what the running parts report ([activities.ReadRunningParts]) it is what
	// is done at this moment.
	DoneParts activities.Amount `json:"done_parts"`
	UpdatedAt time.Time         `json:"updated_at"`
	// Lagging names the partitions furthest behind, worst first, a few only.
	Lagging []activities.Lag `json:"lagging,omitempty"`
	Notes   []string         `json:"notes,omitempty"`
}

// operation is what all workflows share: phases, pause and resume, and what
// they show.
type operation struct {
	Progress
	changed workflow.Channel // a pause or resume arrived
}

func begin(ctx workflow.Context, kind string, phases ...string) (*operation, error) {
	o := &operation{changed: workflow.NewBufferedChannel(ctx, 16)}
	o.Kind, o.Phases, o.State = kind, phases, Running
	o.StartedAt = workflow.GetInfo(ctx).WorkflowStartTime
	if err := workflow.SetQueryHandlerWithOptions(ctx, QueryProgress, func() (Progress, error) { return o.Progress, nil },
		workflow.QueryHandlerOptions{Description: "What the operation is doing and how far it is."}); err != nil {
		return nil, err
	}
	pause := workflow.GetSignalChannelWithOptions(ctx, SignalPause, workflow.SignalChannelOptions{
		Description: `Stop new work and keep the position. Payload: {"by": "...", "reason": "..."} or nothing.`})
	resume := workflow.GetSignalChannelWithOptions(ctx, SignalResume, workflow.SignalChannelOptions{
		Description: `Go on after a pause. Payload: {"by": "...", "reason": "..."} or nothing.`})
	workflow.Go(ctx, func(ctx workflow.Context) {
		listen := workflow.NewNamedSelector(ctx, "pause and resume")
		listen.AddReceive(pause, func(c workflow.ReceiveChannel, _ bool) {
			var by Control
			c.Receive(ctx, &by)
			if o.State == Running {
				o.State, o.Control = Pausing, &by
				o.changed.SendAsync(true)
			}
		})
		listen.AddReceive(resume, func(c workflow.ReceiveChannel, _ bool) {
			c.Receive(ctx, nil)
			if o.State == Pausing || o.State == Paused {
				o.State, o.Control = Running, nil
				o.changed.SendAsync(true)
			}
		})
		for {
			listen.Select(ctx)
		}
	})
	return o, nil
}

// phase enters a phase, after waiting out a pause.
func (o *operation) phase(ctx workflow.Context, name string, total activities.Amount) error {
	if err := o.gate(ctx); err != nil {
		return err
	}
	o.Phase, o.PhaseAt = name, workflow.Now(ctx)
	o.Parts, o.PartsDone, o.PartsRunning = 0, 0, 0
	o.Total, o.Done, o.DoneParts, o.Lagging = total, activities.Amount{}, activities.Amount{}, nil
	o.show(ctx)
	return temporalservice.Upsert(ctx, temporalservice.Attributes{Phase: name})
}

// gate waits while the operation is paused.
func (o *operation) gate(ctx workflow.Context) error {
	if o.pauseWanted() {
		o.State = Paused
		o.show(ctx)
	}
	return workflow.Await(ctx, func() bool { return !o.pauseWanted() })
}

func (o *operation) pauseWanted() bool { return o.State == Pausing || o.State == Paused }

func (o *operation) note(format string, args ...any) {
	o.Notes = append(o.Notes, fmt.Sprintf(format, args...))
}

// show writes the current details that the Web UI displays.
func (o *operation) show(ctx workflow.Context) {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**, phase **%s** (%s)\n\n", o.Kind, o.Phase, o.State)
	if o.Control != nil && (o.Control.By != "" || o.Control.Reason != "") {
		fmt.Fprintf(&b, "Paused by %s: %s\n\n", o.Control.By, o.Control.Reason)
	}
	if o.Parts > 0 {
		b.WriteString("| | done | of | \n|---|---:|---:|\n")
		fmt.Fprintf(&b, "| parts | %d (%d in work) | %d |\n", o.PartsDone, o.PartsRunning, o.Parts)
		fmt.Fprintf(&b, "| records | %d | %d |\n", o.Done.Records, o.Total.Records)
		fmt.Fprintf(&b, "| bytes | %d | %d |\n", o.Done.Bytes, o.Total.Bytes)
		fmt.Fprintf(&b, "| partitions | %d | %d |\n", o.Done.Partitions, o.Total.Partitions)
	}
	for _, n := range o.Notes {
		fmt.Fprintf(&b, "\n- %s", n)
	}
	workflow.SetCurrentDetails(ctx, b.String())
}

// heartbeatTimeout is how long a worker may be silent before its work is
// given to another.
const heartbeatTimeout = 10 * time.Second

// steps are short activities: each ends within minutes, and a failure that a
// new try may cure is tried again.
func steps(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Hour,
		HeartbeatTimeout:    heartbeatTimeout,
		WaitForCancellation: true,
		Summary:             summary,
		RetryPolicy:         retries,
	})
}

// retries tries for ever what may be cured by trying: errors that it does not
// cure are not retryable by their own type.
var retries = &temporal.RetryPolicy{
	InitialInterval:    time.Second,
	BackoffCoefficient: 2,
	MaximumInterval:    30 * time.Second,
}

// canceled tells whether an error is the workflow's own cancellation.
func canceled(err error) bool {
	var c *temporal.CanceledError
	return errors.As(err, &c)
}
