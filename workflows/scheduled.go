package workflows

import (
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/notify"
	"github.com/kafka-backup/kafka-backup/internal/schedule"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
)

// ScheduledRequest is one run of a schedule: what the schedule is, and what it
// starts. It is kept with the schedule, so no secret is in it: those of the
// configuration are references.
type ScheduledRequest struct {
	// Schedule is the schedule's id.
	Schedule string        `json:"schedule"`
	When     schedule.When `json:"when"`
	// Place is where the repository is, for people, and PlaceID the part of
	// the operations' workflow ids that stands for it.
	Place   string `json:"place"`
	PlaceID string `json:"place_id"`
	// Exactly one of these is set; it says what is started. The backup id of a
	// backup may have placeholders, those of the run's time.
	Backup   *activities.BackupRequest   `json:"backup,omitempty"`
	Validate *activities.ValidateRequest `json:"validate,omitempty"`
	Prune    *activities.PruneRequest    `json:"prune,omitempty"`
	Snapshot *activities.SnapshotRequest `json:"offset_snapshot,omitempty"`
}

// Kind is the kind of operation that is started.
func (r *ScheduledRequest) Kind() string {
	switch {
	case r.Backup != nil:
		return "backup"
	case r.Validate != nil:
		return "validate"
	case r.Prune != nil:
		return "prune"
	case r.Snapshot != nil:
		return "offset-snapshot"
	}
	return ""
}

// Requested is what is said with the operation's own request.
func (r *ScheduledRequest) Requested() activities.Requested {
	switch {
	case r.Backup != nil:
		return r.Backup.Requested
	case r.Validate != nil:
		return r.Validate.Requested
	case r.Prune != nil:
		return r.Prune.Requested
	case r.Snapshot != nil:
		return r.Snapshot.Requested
	}
	return activities.Requested{}
}

// ScheduledReport is what a run of a schedule started, and when it should have.
type ScheduledReport struct {
	At         time.Time `json:"at"` // the time that the schedule names
	WorkflowID string    `json:"workflow_id"`
	RunID      string    `json:"run_id"`
	BackupID   string    `json:"backup_id,omitempty"`
	// Skipped says why nothing was started; empty where something was.
	Skipped string `json:"skipped,omitempty"`
}

// Requester is who is shown to have asked for the operations that a schedule
// starts: the schedule, and the person who made it or changed it last. Where
// four eyes are required, it is that person who may not approve them.
func Requester(scheduleID, person string) string {
	if person == "" {
		return "schedule " + scheduleID
	}
	return "schedule " + scheduleID + " (" + person + ")"
}

// MemoOperation is the memo of a run of a schedule that names the workflow id
// of the operation it started.
const MemoOperation = "operation"

// MemoKind is the memo of a run of a schedule that says what kind of operation
// it starts.
const MemoKind = "kind"

// ScheduledType is the workflow type of [Scheduled], which every schedule of
// the product starts.
const ScheduledType = "Scheduled"

// scheduledAt is when the schedule says that a run begins; set by the service.
var scheduledAt = temporal.NewSearchAttributeKeyTime("TemporalScheduledStartTime")

// Scheduled is what a schedule runs: it starts the operation, as an ordinary
// one with an ordinary workflow id, and ends as the operation ends, so that
// the schedule's own means (overlap policy, pause on failure) work on it.
//
// Promise. Each run of a schedule for backups makes a backup of its own: the
// id comes from the template and the time that the schedule names; when it is
// taken, by a finished backup or by what is left of one, the next free of
// id-2, id-3 ... is used.
//
// A prune that finds another one running on its repository does nothing, and
// ends well.
//
// On a crash of a worker another one goes on; the operation does not notice. A
// cancel cancels the operation and waits until it has stopped in order. A pause
// pauses the operation.
//
// Signals: pause, resume, cancel, approve, reject, which all go on to the
// operation; those that come before it has begun, when it has. Query: progress.
// Updates are for the operation itself.
func Scheduled(ctx workflow.Context, req ScheduledRequest) (report ScheduledReport, err error) {
	report.At = workflow.GetInfo(ctx).WorkflowStartTime
	if at, ok := workflow.GetTypedSearchAttributes(ctx).GetTime(scheduledAt); ok {
		report.At = at
	}
	s := &scheduled{ScheduledRequest: req, ScheduledReport: report}
	if err := workflow.SetQueryHandler(ctx, QueryProgress, func() (Progress, error) { return s.progress(ctx), nil }); err != nil {
		return report, err
	}
	ctx, cancel := workflow.WithCancel(ctx)
	workflow.Go(ctx, func(ctx workflow.Context) {
		events := s.signals(ctx, cancel)
		for {
			events.Select(ctx)
		}
	})
	err = s.end(ctx, s.run(ctx))
	return s.ScheduledReport, err
}

// signals passes each signal on to the operation.
func (s *scheduled) signals(ctx workflow.Context, cancel workflow.CancelFunc) workflow.Selector {
	events := workflow.NewNamedSelector(ctx, "signals")
	for _, name := range []string{SignalPause, SignalResume, SignalCancel, Reject, Approve} {
		c := workflow.GetSignalChannelWithOptions(ctx, name, workflow.SignalChannelOptions{Description: "Passed on to the operation that the run has started."})
		events.AddReceive(c, func(c workflow.ReceiveChannel, _ bool) {
			var raw converter.RawValue // passed on as it is
			c.Receive(ctx, &raw)
			switch pass := func(ctx workflow.Context) { s.pass(ctx, name, raw) }; {
			case s.operation != nil:
				pass(ctx)
			case name == SignalCancel:
				cancel()
			default:
				s.pending = append(s.pending, pass)
			}
		})
	}
	return events
}

// pass sends the operation a signal. One that has just ended does not hear it.
func (s *scheduled) pass(ctx workflow.Context, name string, raw converter.RawValue) {
	var arg any
	if p := raw.Payload(); p != nil {
		arg = raw
	}
	if err := s.operation.SignalChildWorkflow(ctx, name, arg).Get(ctx, nil); err != nil {
		workflow.GetLogger(ctx).Warn("A signal was not passed on", "signal", name, "workflow_id", s.WorkflowID, "error", err)
	}
}

// progress says which operation to look at.
func (s *scheduled) progress(ctx workflow.Context) Progress {
	p := Progress{Kind: ScheduledType, Phase: "start", Phases: []string{"start", "run"}, State: Running, StartedAt: workflow.GetInfo(ctx).WorkflowStartTime}
	if s.started {
		p.Phase, p.Notes = "run", []string{"The operation is " + s.WorkflowID + "."}
	}
	return p
}

// scheduled is a run of a schedule.
type scheduled struct {
	ScheduledRequest
	ScheduledReport
	started   bool                         // an operation was begun
	operation workflow.ChildWorkflowFuture // that runs now; nil: none does
	pending   []func(workflow.Context)     // signals that came before there was one
}

// maxNames is how many names are tried for an operation. More than that many
// at once is no accident.
const maxNames = 100

func (s *scheduled) run(ctx workflow.Context) error {
	base, err := s.name(ctx)
	if err != nil {
		return err
	}
	for n := 1; n <= maxNames; n++ {
		name := base
		if s.Backup != nil {
			var a *activities.Backup
			if err := workflow.ExecuteActivity(steps(ctx, "find a free backup id"), a.FreeBackupID, s.Backup.Storage, base, n).Get(ctx, &name); err != nil {
				return err
			}
		} else if n > 1 {
			name = activities.NumberedID(base, n)
		}
		err := s.operate(ctx, name)
		if !taken(err) {
			return err
		}
		if s.Prune != nil {
			s.Skipped = "a prune of " + s.Place + " is running already"
			workflow.SetCurrentDetails(ctx, s.Skipped+", so this run did nothing.")
			return nil
		}
	}
	return temporal.NewNonRetryableApplicationError(
		fmt.Sprintf("no free name like %s was found in %d tries", base, maxNames), activities.Exists, nil)
}

// name is what the operation of this run is called, unless that is taken.
func (s *scheduled) name(ctx workflow.Context) (string, error) {
	template := "{{date}}T{{time}}"
	if s.Backup != nil {
		template = s.Backup.BackupID
	}
	var answer struct{ Name, Error string }
	// The rules of time zones change: what was worked out once stays.
	err := workflow.SideEffect(ctx, func(workflow.Context) any {
		loc, err := s.When.Location()
		if err == nil {
			answer.Name, err = config.ExpandBackupID(template, s.At.In(loc), s.Schedule)
		}
		if err != nil {
			answer.Error = err.Error()
		}
		return answer
	}).Get(&answer)
	if err == nil && answer.Error != "" {
		err = temporal.NewNonRetryableApplicationError(answer.Error, activities.Configuration, nil)
	}
	return answer.Name, err
}

// operate starts the operation under a name and waits for its end.
func (s *scheduled) operate(ctx workflow.Context, name string) error {
	id := s.Kind() + "/" + name + "/" + s.PlaceID
	attributes := temporalservice.Attributes{Kind: s.Kind(), Repository: s.Place, Requester: s.requester()}
	summary := fmt.Sprintf("%s by schedule %s in %s", s.Kind(), s.Schedule, s.Place)
	var operation, request any
	switch {
	case s.Backup != nil:
		r := *s.Backup
		r.Notifications = r.Notifications.Only(config.OnWaiting) // its end is told here
		r.BackupID, attributes.BackupID, attributes.Topics = name, name, r.Source.Topics.Include
		operation, request = Backup, r
		summary = fmt.Sprintf("Back up to %s as %s, by schedule %s", s.Place, name, s.Schedule)
	case s.Validate != nil:
		id = s.Kind() + "/" + s.Schedule + "/" + name + "/" + s.PlaceID
		attributes.BackupID = s.Validate.BackupID
		r := *s.Validate
		r.Notifications = r.Notifications.Only(config.OnWaiting)
		operation, request = Validate, r
	case s.Prune != nil:
		id = s.Kind() + "/" + s.PlaceID // one at a time, like those started by hand
		r := *s.Prune
		r.Notifications = r.Notifications.Only(config.OnWaiting)
		operation, request = Prune, r
	case s.Snapshot != nil:
		id = s.Kind() + "/" + s.Schedule + "/" + name + "/" + s.PlaceID
		attributes.Groups = s.Snapshot.Groups.Names
		r := *s.Snapshot
		r.Notifications = r.Notifications.Only(config.OnWaiting)
		operation, request = OffsetSnapshot, r
	default:
		return temporal.NewNonRetryableApplicationError("the schedule does not say what to start", activities.Configuration, nil)
	}
	options := workflow.ChildWorkflowOptions{
		WorkflowID:            id,
		WaitForCancellation:   true,
		ParentClosePolicy:     enumspb.PARENT_CLOSE_POLICY_REQUEST_CANCEL,
		WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		StaticSummary:         summary,
	}
	if s.attributes(ctx) {
		options.TypedSearchAttributes = temporal.NewSearchAttributes(attributes.Updates()...)
	}
	child := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, options), operation, request)
	var execution workflow.Execution
	if err := child.GetChildWorkflowExecution().Get(ctx, &execution); err != nil {
		return err
	}
	s.started, s.WorkflowID, s.RunID = true, execution.ID, execution.RunID
	if s.Backup != nil {
		s.BackupID = name
	}
	if err := workflow.UpsertMemo(ctx, map[string]any{MemoOperation: id, MemoKind: s.Kind()}); err != nil {
		return err
	}
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("Schedule **%s**, run of %s: workflow `%s`", s.Schedule, s.At.UTC().Format(time.RFC3339), id))
	s.operation = child
	for ; len(s.pending) > 0; s.pending = s.pending[1:] {
		s.pending[0](ctx)
	}
	err := child.Get(ctx, nil)
	s.operation = nil
	return err
}

// requester is who is shown to have asked for the operation.
func (s *scheduled) requester() string {
	return Requester(s.Schedule, s.ScheduledRequest.Requested().Requester)
}

// attributes tells whether the namespace has the product's search attributes.
func (s *scheduled) attributes(ctx workflow.Context) bool {
	return workflow.GetTypedSearchAttributes(ctx).ContainsKey(temporalservice.KeyRequester)
}

// end counts the end of the run and tells of it, and makes sure that one which
// failed can be found among the operations: by its operation, or, when that
// could not even be started, by itself.
func (s *scheduled) end(ctx workflow.Context, err error) error {
	var child *temporal.ChildWorkflowExecutionError
	if errors.As(err, &child) {
		err = child.Unwrap() // say what happened and not that it happened below
	}
	result := resultOf(err)
	workflow.GetMetricsHandler(ctx).WithTags(map[string]string{"schedule": s.Schedule, "kind": s.Kind(), "result": result}).Counter(countedRuns).Inc(1)
	var e notify.Event
	switch result {
	case resultCancelled:
		return err
	case resultSucceeded:
		e = notify.Event{Event: config.OnSuccess, Kind: s.Kind(), Text: fmt.Sprintf("%s by schedule %s succeeded", s.Kind(), s.Schedule)}
		if s.Skipped != "" {
			e.Text = fmt.Sprintf("%s by schedule %s did nothing: %s", s.Kind(), s.Schedule, s.Skipped)
		}
	default:
		e = failureEvent(s.Kind(), err)
		e.Text = fmt.Sprintf("%s by schedule %s failed: %s", s.Kind(), s.Schedule, e.Error)
	}
	e.Schedule, e.BackupID, e.WorkflowID, e.RunID, e.Requester = s.Schedule, s.BackupID, s.WorkflowID, s.RunID, s.requester()
	if !s.started {
		run := workflow.GetInfo(ctx).WorkflowExecution
		e.WorkflowID, e.RunID = run.ID, run.RunID
	}
	tell(ctx, s.ScheduledRequest.Requested().Notifications, e)
	if err == nil {
		return nil
	}
	if !s.started && s.attributes(ctx) {
		shown := temporalservice.Attributes{Kind: s.Kind(), Phase: "start", Repository: s.Place}
		if uerr := workflow.UpsertTypedSearchAttributes(ctx, shown.Updates()...); uerr != nil {
			return errors.Join(err, uerr)
		}
	}
	// The service shows this text as the reason when the schedule is paused.
	var timeout *temporal.TimeoutError
	var terminated *temporal.TerminatedError
	if cause := root(err); cause != nil {
		return temporal.NewApplicationErrorWithOptions(cause.Message(), cause.Type(), temporal.ApplicationErrorOptions{NonRetryable: true, Cause: err})
	} else if errors.As(err, &timeout) || errors.As(err, &terminated) {
		return temporal.NewApplicationErrorWithOptions(s.WorkflowID+": "+err.Error(), "", temporal.ApplicationErrorOptions{NonRetryable: true, Cause: err})
	}
	return err
}

// countedRuns is the metric of runs of schedules that have ended, with the
// labels schedule, kind and result.
const countedRuns = "kafka_backup_scheduled_runs"

// taken tells whether an operation was refused because its name is taken.
func taken(err error) bool {
	var running *temporal.ChildWorkflowExecutionAlreadyStartedError
	var app *temporal.ApplicationError
	return errors.As(err, &running) || errors.As(err, &app) && app.Type() == activities.Exists
}
