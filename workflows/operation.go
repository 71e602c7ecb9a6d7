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

// QueryProgress is the query that every operation answers with its [Progress],
// also when it has ended.
const QueryProgress = "progress"

// State is what an operation is doing.
type State string

// The states of an operation.
const (
	Running   State = "running"
	Waiting   State = "waiting" // for approval
	Pausing   State = "pausing" // pause was asked for; work under way is stopping
	Paused    State = "paused"
	Finishing State = "finishing" // what was done for the time being is ended; nothing stops that half way
	Undoing   State = "undoing"   // compensation is running; nothing stops it half way
	Finished  State = "finished"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// final tells whether an operation in this state has ended.
func (s State) final() bool { return s == Finished || s == Failed || s == Cancelled }

// Progress is an operation seen from outside.
type Progress struct {
	Kind      string    `json:"kind"`
	Phase     string    `json:"phase"`
	Phases    []string  `json:"phases"`
	State     State     `json:"state"`
	Control   *Control  `json:"control,omitempty"`  // who paused it and why; nil when it is not to pause
	Cancel    *Control  `json:"cancel,omitempty"`   // who cancelled it by signal, and why
	Approval  *Question `json:"approval,omitempty"` // the last plan that was put to approvers; nil: none was
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
	// RecoveryPoint is that of a continuous backup; nil before its first backup.
	RecoveryPoint *activities.RecoveryPoint `json:"recovery_point,omitempty"`
	Notes         []string                  `json:"notes,omitempty"`
	// Left is what an operation that was cancelled or failed leaves behind.
	Left Left `json:"left,omitzero"`
}

// operation is what all workflows share: phases, pause, resume and cancel, the
// approval gate, and what they show.
type operation struct {
	Progress
	requested activities.Requested
	backupID  string              // that it makes or uses; empty: none in particular
	changed   workflow.Channel    // a pause or resume arrived
	heard     workflow.Channel    // see takeSignals
	idle      bool                // nothing is in work, and nothing begins before a resume
	cancelled bool                // by signal
	indexed   State               // what the search attribute of the state says
	stopped   []activities.Amount // of each part that is not done, what it had done when it was stopped last
}

// begin makes a workflow an operation: it answers the query progress and
// understands the signals and updates that all operations do. The workflow
// goes on with the context returned, which ends at a cancel by signal too, and
// returns through [operation.ended]:
//
//	ctx, o, err := begin(ctx, "backup", "plan", "copy")
//	if err != nil {
//		return report, err
//	}
//	defer func() { err = o.ended(ctx, err) }()
func begin(ctx workflow.Context, kind string, phases ...string) (workflow.Context, *operation, error) {
	o := &operation{changed: workflow.NewBufferedChannel(ctx, 16), heard: workflow.NewNamedChannel(ctx, "signals taken in")}
	o.Kind, o.Phases, o.State = kind, phases, Running
	o.StartedAt = workflow.GetInfo(ctx).WorkflowStartTime
	if err := workflow.SetQueryHandlerWithOptions(ctx, QueryProgress, func() (Progress, error) { return o.Progress, nil },
		workflow.QueryHandlerOptions{Description: "What the operation is doing and how far it is."}); err != nil {
		return ctx, nil, err
	}
	if err := o.handleAnswers(ctx); err != nil {
		return ctx, nil, err
	}
	ctx, cancel := workflow.WithCancel(ctx)
	o.listen(ctx, cancel)
	return ctx, o, nil
}

// phase enters a phase, after waiting out a pause.
func (o *operation) phase(ctx workflow.Context, name string, total activities.Amount) error {
	if err := o.gate(ctx); err != nil {
		return err
	}
	o.Phase, o.PhaseAt = name, workflow.Now(ctx)
	o.Parts, o.PartsDone, o.PartsRunning = 0, 0, 0
	o.Total, o.Done, o.DoneParts, o.Lagging = total, activities.Amount{}, activities.Amount{}, nil
	o.index(ctx, temporalservice.Attributes{Phase: name})
	o.show(ctx)
	return nil
}

// index sets search attributes, and with them that of the state when it has
// changed.
func (o *operation) index(ctx workflow.Context, a temporalservice.Attributes) {
	if o.State != o.indexed {
		a.State, o.indexed = string(o.State), o.State
	}
	if err := temporalservice.Upsert(ctx, a); err != nil {
		panic(err) // an attribute that cannot be set is a mistake in this program
	}
}

// enter says what the operation is doing.
func (o *operation) enter(ctx workflow.Context, s State) {
	o.State = s
	o.index(ctx, temporalservice.Attributes{})
	o.show(ctx)
}

// ended turns what a workflow ends with into what it returns. A cancelled one
// returns a CanceledError whose details are a [Left].
func (o *operation) ended(ctx workflow.Context, err error) error {
	o.takeSignals(ctx)
	if err != nil && len(o.Left.NotDone) == 0 {
		o.notDone("it ended in phase %s, before its end", o.Phase)
	}
	state := Failed
	switch {
	case err == nil:
		state = Finished
	case stoppedByUs(ctx.Err() != nil, err):
		state = Cancelled
		o.Left.Phase, o.Left.Done, o.Left.Total, o.Left.By = o.Phase, o.Done, o.Total, o.Cancel
		err = temporal.NewCanceledError(o.Left)
	default:
		o.Left.Phase, o.Left.Done, o.Left.Total = o.Phase, o.Done, o.Total
	}
	o.Control = nil
	if o.Approval.waiting() {
		o.index(ctx, temporalservice.Attributes{Approval: "withdrawn"})
	}
	o.enter(ctx, state)
	o.tellEnd(ctx, err)
	return err
}

// maxNotes is how many notes are kept, the newest.
const maxNotes = 20

func (o *operation) note(format string, args ...any) {
	o.Notes = append(o.Notes, fmt.Sprintf(format, args...))
	o.Notes = o.Notes[max(0, len(o.Notes)-maxNotes):]
}

// show writes the current details that the Web UI displays.
func (o *operation) show(ctx workflow.Context) {
	workflow.SetCurrentDetails(ctx, o.details())
}

// details is the operation as Markdown.
func (o *Progress) details() string {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**, phase **%s** (%s)\n\n", o.Kind, o.Phase, o.State)
	if c := o.Control; c != nil && (o.State == Pausing || o.State == Paused) && (c.By != "" || c.Reason != "") {
		fmt.Fprintf(&b, "Paused by %s: %s\n\n", orSomebody(c.By), c.Reason)
	}
	if o.RecoveryPoint != nil {
		b.WriteString(recoveryPointText(o.RecoveryPoint) + "\n\n")
	}
	if o.Approval != nil {
		o.Approval.write(&b)
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
	o.Left.write(&b)
	return b.String()
}

// heartbeatTimeout is how long a worker may be silent before its work is
// given to another.
const heartbeatTimeout = 10 * time.Second

// steps are activities that mostly end within minutes, and a failure that a new
// try may cure is tried again. Some read much (the offsets of a re-keyed topic
// are found by reading all of it), and a new try begins anew: so the time is
// ample, and the heartbeat tells of a worker that died.
func steps(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 7 * 24 * time.Hour,
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

// canceled tells whether an error is a cancellation, and not a failure that
// has one as its cause.
func canceled(err error) bool {
	var c *temporal.CanceledError
	var failure *temporal.ApplicationError
	return errors.As(err, &c) && !errors.As(err, &failure)
}

// message is what an error says, without the SDK's wrapping.
func message(err error) string {
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		return app.Message()
	}
	return err.Error()
}
