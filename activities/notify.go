package activities

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/notify"
)

// NotifyRequest is what is told, and to whom.
type NotifyRequest struct {
	Notifications config.Notifications `json:"notifications"`
	Event         notify.Event         `json:"event"`
}

// Notify are the activities of the Notify workflow.
type Notify struct {
	// Page returns the page of a workflow in the Web UI, or an empty text. Nil:
	// not known.
	Page func(workflowID, runID string) string
}

// notifyTimeout bounds one try.
const notifyTimeout = 20 * time.Second

// Deliver tells one channel.
func (n *Notify) Deliver(ctx context.Context, req NotifyRequest, channel string) error {
	ctx, cancel := context.WithTimeout(ctx, notifyTimeout)
	defer cancel()
	e := req.Event
	if n.Page != nil && e.URL == "" {
		e.URL = n.Page(e.WorkflowID, e.RunID)
	}
	err := notify.Send(ctx, http.DefaultClient, req.Notifications, channel, e)
	if err == nil {
		return nil
	}
	activity.GetLogger(ctx).Warn("A notification was not delivered", "channel", channel, "error", err)
	var refused *notify.RefusedError
	permanent := errors.As(err, &refused) && refused.Permanent()
	kind := Transient
	if permanent {
		kind = Refused
	}
	return temporal.NewApplicationErrorWithOptions(err.Error(), kind, temporal.ApplicationErrorOptions{NonRetryable: permanent})
}
