package workflows

import (
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/notify"
)

// Notify tells people about an operation: each channel by itself, tried again
// for a day. It runs detached from the operation, which neither waits for it
// nor fails with it.
//
// Promise. When it completes, every channel has taken the event, at least
// once. Otherwise it fails and its history says which have not, and why.
//
// On a crash of a worker another one tries again, also a channel of which it was
// not known whether it had taken the event. On cancel it tries no further; what
// was told stays told. It cannot be paused.
func Notify(ctx workflow.Context, req activities.NotifyRequest) error {
	var a *activities.Notify
	var sent []workflow.Future
	channels := req.Notifications.Channels(req.Event.Event)
	for _, channel := range channels {
		try := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			StartToCloseTimeout:    time.Minute,
			ScheduleToCloseTimeout: 24 * time.Hour,
			Summary:                "tell " + channel,
			RetryPolicy:            &temporal.RetryPolicy{InitialInterval: 2 * time.Second, BackoffCoefficient: 2, MaximumInterval: 10 * time.Minute},
		})
		sent = append(sent, workflow.ExecuteActivity(try, a.Deliver, req, channel))
	}
	var errs []error
	for i, f := range sent {
		if err := f.Get(ctx, nil); err != nil {
			errs = append(errs, fmt.Errorf("%s was not told: %w", channels[i], err))
		}
	}
	return errors.Join(errs...)
}

// tell starts the Notify workflow for an event, if anybody wants to be told,
// and returns as soon as it runs by itself. That it could not be started is
// logged and no more: an operation does not fail for want of an audience.
func tell(ctx workflow.Context, n config.Notifications, e notify.Event) {
	if len(n.Channels(e.Event)) == 0 {
		return
	}
	ctx, _ = workflow.NewDisconnectedContext(ctx) // also after a cancel
	info := workflow.GetInfo(ctx)
	e.StartedAt, e.At = info.WorkflowStartTime, workflow.Now(ctx)
	name := e.Event
	if e.Answered {
		name = "answered"
	}
	ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID:        fmt.Sprintf("notify/%s/%s/%d", info.WorkflowExecution.ID, name, e.At.UnixMilli()),
		ParentClosePolicy: enumspb.PARENT_CLOSE_POLICY_ABANDON,
		StaticSummary:     "Tell: " + e.Text,
	})
	started := workflow.ExecuteChildWorkflow(ctx, Notify, activities.NotifyRequest{Notifications: n, Event: e}).GetChildWorkflowExecution()
	if err := started.Get(ctx, nil); err != nil {
		workflow.GetLogger(ctx).Error("A notification could not be started", "event", e.Event, "error", err)
	}
}

// results of operations, for the metric and for notifications.
const (
	resultSucceeded = "succeeded"
	resultFailed    = "failed"
	resultCancelled = "cancelled"
)

// resultOf says in one word how an operation ended; empty: it has not ended
// but goes on in another run.
func resultOf(err error) string {
	var again *workflow.ContinueAsNewError
	switch {
	case err == nil:
		return resultSucceeded
	case errors.As(err, &again):
		return ""
	case canceled(err):
		return resultCancelled
	}
	return resultFailed
}

// root is the application error that says what happened: the innermost. What
// lies around it passed it on.
func root(err error) *temporal.ApplicationError {
	var innermost *temporal.ApplicationError
	for e := err; e != nil; e = errors.Unwrap(e) {
		if app, ok := e.(*temporal.ApplicationError); ok {
			innermost = app
		}
	}
	return innermost
}

// failureEvent is the event of an operation that failed.
func failureEvent(kind string, err error) notify.Event {
	e := notify.Event{Event: config.OnFailure, Kind: kind, Error: err.Error()}
	if cause := root(err); cause != nil {
		e.Error, e.ErrorType = cause.Message(), cause.Type()
	}
	return e
}

// about says what is told about the operation: who asked for it, who is told,
// and which backup it makes or uses (empty: none in particular).
func (o *operation) about(req activities.Requested, backupID string) {
	o.requested, o.backupID = req, backupID
}

// counted is the metric of operations that have ended, with the labels kind and
// result, and took the one of their duration.
const (
	counted = "kafka_backup_operations"
	took    = "kafka_backup_operation_duration"
)

// Kinds are the kinds of operation, as [Progress] and the search attributes
// have them.
var Kinds = []string{"backup", "continuous", "restore", "prune", "validate", "offset-reset", "offset-reset-bulk", "offset-rollback", "offset-snapshot", "offset-snapshot-delete"}

// CountFromZero makes the counters of operations known before anything is
// counted: an alert on how much one grew does not see it begin with 1.
func CountFromZero(metrics client.MetricsHandler) {
	for _, result := range []string{resultSucceeded, resultFailed, resultCancelled} {
		for _, kind := range Kinds {
			metrics.WithTags(map[string]string{"kind": kind, "result": result}).Counter(counted).Inc(0)
		}
		if result != resultCancelled {
			metrics.WithTags(map[string]string{"result": result}).Counter(countedCheckpoints).Inc(0)
		}
	}
}

// tellEnd counts the end of the operation and tells of it.
func (o *operation) tellEnd(ctx workflow.Context, err error) {
	result := resultOf(err)
	if result == "" {
		return
	}
	metrics := workflow.GetMetricsHandler(ctx).WithTags(map[string]string{"kind": o.Kind, "result": result})
	metrics.Counter(counted).Inc(1)
	metrics.Timer(took).Record(workflow.Now(ctx).Sub(o.StartedAt))
	switch result {
	case resultSucceeded:
		e := o.event(ctx, notify.Event{Event: config.OnSuccess, Kind: o.Kind})
		e.Text = o.name(ctx) + " succeeded"
		tell(ctx, o.requested.Notifications, e)
	case resultFailed:
		e := o.event(ctx, failureEvent(o.Kind, err))
		e.Text = o.name(ctx) + " failed: " + e.Error
		tell(ctx, o.requested.Notifications, e)
	}
}

// tellWaiting tells that the operation waits for approval.
func (o *operation) tellWaiting(ctx workflow.Context, q *Question) {
	e := o.event(ctx, notify.Event{Event: config.OnWaiting, Kind: o.Kind})
	e.Text = fmt.Sprintf("%s waits for approval until %s: %s (plan %s)", o.name(ctx), q.Until.UTC().Format(time.RFC3339), q.Plan.Summary, short(q.Plan.Digest))
	tell(ctx, o.requested.Notifications, e)
}

// tellAnswered tells that it waits no more, whoever or whatever ended that. It is
// told to PagerDuty only, where an incident is open for it.
func (o *operation) tellAnswered(ctx workflow.Context) {
	e := o.event(ctx, notify.Event{Event: config.OnWaiting, Kind: o.Kind, Answered: true})
	e.Text = o.name(ctx) + " does not wait for approval any more"
	tell(ctx, config.Notifications{PagerDuty: o.requested.Notifications.Only(config.OnWaiting).PagerDuty}, e)
}

func (o *operation) event(ctx workflow.Context, e notify.Event) notify.Event {
	run := workflow.GetInfo(ctx).WorkflowExecution
	e.WorkflowID, e.RunID, e.BackupID, e.Requester = run.ID, run.RunID, o.backupID, o.requested.Requester
	return e
}

// name is the operation in two words.
func (o *operation) name(ctx workflow.Context) string {
	if o.backupID != "" {
		return o.Kind + " " + o.backupID
	}
	return o.Kind + " (" + workflow.GetInfo(ctx).WorkflowExecution.ID + ")"
}
