package cli

import (
	"errors"
	"fmt"
	"strings"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/workflows"
)

// Types of failures that are not application errors (those have the types of
// package activities).
const (
	typeCancelled  = "Cancelled"
	typeTerminated = "Terminated"
	typeTimeout    = "Timeout"
)

// failure is why an operation failed, without Temporal's wrapping.
type failure struct {
	Message string `json:"error"`
	Type    string `json:"type,omitempty"` // of the application error: "NotFound", "Corrupt" ...
	// Left is what it leaves behind; nil when that is not known.
	Left *workflows.Left `json:"left,omitempty"`
}

func (f *failure) Error() string { return f.Message }

// explain finds in the error of a workflow the one that tells what happened:
// the outermost application error that has a named type, or else the outermost
// that an activity returned. What lies above it passed it on; of that, what a
// workflow put before it ("part 3: ") is kept.
func explain(err error) *failure {
	var prefix, plainPrefix string
	var root, plain *temporal.ApplicationError
	for e := err; e != nil && root == nil; e = errors.Unwrap(e) {
		app, ok := e.(*temporal.ApplicationError)
		if !ok {
			continue
		}
		if named(app.Type()) {
			root = app
			break
		}
		cause := errors.Unwrap(e)
		if plain == nil && !passedOn(cause) {
			plain, plainPrefix = app, prefix
		}
		if cause != nil {
			if before, found := strings.CutSuffix(app.Message(), cause.Error()); found {
				prefix += before
			}
		}
	}
	if root == nil {
		root, prefix = plain, plainPrefix
	}
	var cancelled *temporal.CanceledError
	var terminated *temporal.TerminatedError
	var timeout *temporal.TimeoutError
	switch {
	case root != nil:
		return &failure{Message: prefix + root.Message(), Type: root.Type()}
	case errors.As(err, &cancelled):
		return cancelledBy(cancelled)
	case errors.As(err, &terminated):
		return &failure{Message: "the operation was terminated by force; nothing was put back", Type: typeTerminated}
	case errors.As(err, &timeout):
		return &failure{Message: timeoutMessage(timeout), Type: typeTimeout}
	default:
		return &failure{Message: err.Error()}
	}
}

// cancelledBy is a cancellation with what the operation says about it.
func cancelledBy(err *temporal.CanceledError) *failure {
	f := &failure{Message: "the operation was cancelled", Type: typeCancelled}
	var left workflows.Left
	if !err.HasDetails() || err.Details(&left) != nil {
		return f
	}
	f.Left = &left
	if left.Phase != "" {
		f.Message += " in phase " + left.Phase
	}
	if by := left.By; by != nil && by.By != "" {
		f.Message += " by " + by.By
		if by.Reason != "" {
			f.Message += ": " + by.Reason
		}
	}
	return f
}

// passedOn tells whether an error comes out of an activity or child workflow.
func passedOn(err error) bool {
	var activity *temporal.ActivityError
	var child *temporal.ChildWorkflowExecutionError
	return errors.As(err, &activity) || errors.As(err, &child)
}

// named tells whether an error type is one that was given a name, and not the
// Go type of an error that nobody classified.
func named(t string) bool {
	return t != "" && !strings.ContainsAny(t, "*.") && t[0] >= 'A' && t[0] <= 'Z'
}

func timeoutMessage(t *temporal.TimeoutError) string {
	switch t.TimeoutType() {
	case enumspb.TIMEOUT_TYPE_HEARTBEAT:
		return "a worker fell silent in the middle of its work, and the work could not be taken over"
	case enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START:
		return "no worker took the work in time; is one running?"
	default:
		return fmt.Sprintf("it took too long (%s)", strings.ToLower(strings.TrimPrefix(t.TimeoutType().String(), "TIMEOUT_TYPE_")))
	}
}

// codeOf returns the exit code for the error of an operation.
func codeOf(err error) int {
	var f *failure
	if errors.As(err, &f) && f.Type == activities.Configuration {
		return ExitUsage
	}
	return ExitFailed
}
