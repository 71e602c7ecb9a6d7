package activities

import (
	"errors"

	"go.temporal.io/sdk/temporal"

	"github.com/kafka-backup/kafka-backup/internal/offsets"
)

// Types of application errors of operations on offsets.
const (
	OutOfRange    = "OutOfRange"    // a target is not in the log
	ActiveMembers = "ActiveMembers" // a group has active members
	PlanMoved     = "PlanMoved"     // the cluster is not as the plan found it
	NotSet        = "NotSet"        // offsets could not be set, and were put back
	UndoFailed    = "UndoFailed"    // ... and could not be put back
)

// offsetKind is the type of an error of package offsets; "" for others.
func offsetKind(err error) string {
	var (
		rng       *offsets.RangeError
		active    *offsets.ActiveError
		moved     *offsets.MovedError
		notFound  *offsets.GroupNotFoundError
		topic     *offsets.MissingTopicError
		request   *offsets.RequestError
		snapshot  *offsets.NoSnapshotError
		recreated *offsets.RecreatedError
		blocked   *offsets.BlockedError
		app       *temporal.ApplicationError
	)
	switch {
	case errors.Is(err, offsets.ErrSuspended):
		return Transient
	case errors.As(err, &app):
		return ""
	case errors.As(err, &rng):
		return OutOfRange
	case errors.As(err, &active):
		return ActiveMembers
	case errors.As(err, &moved):
		return PlanMoved
	case errors.As(err, &notFound), errors.As(err, &topic), errors.As(err, &snapshot):
		return NotFound
	case errors.As(err, &request):
		return Configuration
	case errors.As(err, &recreated):
		return TopicRecreated
	case errors.As(err, &blocked):
		if blocked.Kind == offsets.BlockedNoRight {
			return Authorization
		}
		return Refused
	}
	return ""
}
