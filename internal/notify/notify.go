// Package notify tells people about operations, over HTTP: any webhook, Slack
// and what understands its webhooks, and PagerDuty's Events API v2.
//
// Invariants:
//
//   - No address, key or token is in an error or a message: the address of a
//     webhook is a secret, and whoever has it can write there.
//   - A try is bounded by its context and never repeated here; an error says
//     whether another try may help ([RefusedError.Permanent]).
//   - What is told carries no data of Kafka records and no configuration, only
//     names, times and error texts.
package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

// Event is what is told. It is the body of the generic webhook.
type Event struct {
	// Event is failure, success or waiting (for approval).
	Event string `json:"event"`
	// Answered says of the event waiting that it waits no more. Only PagerDuty
	// is told.
	Answered bool `json:"answered,omitempty"`
	// Kind is the kind of operation: backup, restore ...
	Kind       string `json:"kind"`
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id"`
	BackupID   string `json:"backup_id,omitempty"`
	Schedule   string `json:"schedule,omitempty"` // the schedule's id; empty: not started by one
	Requester  string `json:"requester,omitempty"`
	// Text says in one line what happened.
	Text string `json:"text"`
	// Error is why it failed; empty otherwise.
	Error     string    `json:"error,omitempty"`
	ErrorType string    `json:"error_type,omitempty"` // NotFound, Corrupt ...
	StartedAt time.Time `json:"started_at"`
	At        time.Time `json:"at"`
	// URL is its page in the Web UI; empty when that is not known.
	URL string `json:"url,omitempty"`
}

// subject names what an incident is about: runs of one schedule are about the
// same thing.
func (e *Event) subject() string {
	if e.Schedule != "" {
		return "schedule/" + e.Schedule
	}
	return e.WorkflowID
}

// RefusedError is an endpoint's answer that it did not take the event.
type RefusedError struct {
	Channel string // webhook, slack, pagerduty
	Status  int    // HTTP
	Answer  string // the beginning of what it said
}

func (e *RefusedError) Error() string {
	text := fmt.Sprintf("%s answered %d %s", e.Channel, e.Status, http.StatusText(e.Status))
	if e.Answer != "" {
		text += ": " + e.Answer
	}
	if e.Permanent() {
		text += "; check the address and key under notifications." + e.Channel
	}
	return text
}

// Permanent reports whether another try makes no sense.
func (e *RefusedError) Permanent() bool {
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return e.Status < 500
}

// Send tells one channel (see [config.Notifications.Channels]) about an event,
// with one request. Errors are *RefusedError, *config.SecretError, or of the
// connection.
func Send(ctx context.Context, client *http.Client, n config.Notifications, channel string, e Event) error {
	var address, authorization string
	var body any
	var err error
	switch channel {
	case config.ChannelWebhook:
		if address, err = n.Webhook.URL.Resolve(); err != nil {
			return err
		}
		if authorization, err = n.Webhook.Authorization.Resolve(); err != nil {
			return err
		}
		body = e
	case config.ChannelSlack:
		if address, err = n.Slack.URL.Resolve(); err != nil {
			return err
		}
		body = slackMessage(e)
	case config.ChannelPagerDuty:
		key, err := n.PagerDuty.RoutingKey.Resolve()
		if err != nil {
			return err
		}
		address, body = n.PagerDuty.URL, pagerDutyEvent(e, key, n.PagerDuty.Severity)
	default:
		return fmt.Errorf("there is no notification channel %q", channel)
	}
	return post(ctx, client, channel, address, authorization, body)
}

func post(ctx context.Context, client *http.Client, channel, address, authorization string, body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("notify %s: %w", channel, err)
	}
	if u, err := url.Parse(address); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return &RefusedError{Channel: channel, Status: http.StatusBadRequest, Answer: "the address is not a URL with http or https"}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("notify %s: %w", channel, withoutAddress(err))
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "kafka-backup")
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("notify %s: %w", channel, withoutAddress(err))
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
	if resp.StatusCode/100 == 2 {
		return nil
	}
	return &RefusedError{Channel: channel, Status: resp.StatusCode, Answer: strings.ToValidUTF8(strings.TrimSpace(string(answer)), "?")}
}

// withoutAddress takes the address, which is a secret, out of an error of
// net/http.
func withoutAddress(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// slackMessage is a message for Slack's incoming webhooks.
func slackMessage(e Event) any {
	type field struct {
		Title string `json:"title"`
		Value string `json:"value"`
		Short bool   `json:"short"`
	}
	color := map[string]string{config.OnFailure: "danger", config.OnSuccess: "good", config.OnWaiting: "warning"}[e.Event]
	var fields []field
	for _, f := range []field{{"Operation", e.WorkflowID, false}, {"Backup", e.BackupID, true}, {"Schedule", e.Schedule, true}, {"Requested by", e.Requester, true}} {
		if f.Value != "" {
			f.Value = escapeSlack(f.Value)
			fields = append(fields, f)
		}
	}
	attachment := map[string]any{"color": color, "fallback": e.Text, "fields": fields, "ts": e.At.Unix()}
	if e.URL != "" {
		attachment["title"], attachment["title_link"] = "Open in the Temporal Web UI", e.URL
	}
	if e.Error != "" {
		attachment["text"] = escapeSlack(e.Error)
	}
	return map[string]any{"text": escapeSlack(e.Text), "attachments": []any{attachment}}
}

// escapeSlack escapes what Slack's markup gives a meaning to.
func escapeSlack(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

// pagerDutyEvent is an event of PagerDuty's Events API v2. A success resolves
// the incident of the same subject, an answer the one of what waits.
func pagerDutyEvent(e Event, key, severity string) any {
	event := map[string]any{"routing_key": key, "dedup_key": "kafka-backup/" + e.subject(), "event_action": "trigger"}
	if e.Event == config.OnSuccess {
		event["event_action"] = "resolve"
		return event
	}
	if e.Event == config.OnWaiting {
		severity = "info"
		event["dedup_key"] = "kafka-backup/waiting/" + e.WorkflowID
		if e.Answered {
			event["event_action"] = "resolve"
			return event
		}
	}
	if severity == "" {
		severity = "error"
	}
	const maxSummary = 1024 // of the API
	summary := []rune(e.Text)
	event["payload"] = map[string]any{
		"summary": string(summary[:min(len(summary), maxSummary)]), "source": e.subject(), "severity": severity,
		"timestamp": e.At.UTC().Format(time.RFC3339), "component": "kafka-backup", "class": e.Kind, "custom_details": e,
	}
	if e.URL != "" {
		event["links"] = []any{map[string]string{"href": e.URL, "text": "Temporal Web UI"}}
	}
	return event
}
