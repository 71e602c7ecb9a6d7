package notify

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

var failure = Event{
	Event: config.OnFailure, Kind: "backup", WorkflowID: "backup/n/x", RunID: "r", BackupID: "n", Schedule: "nightly", Text: "backup <n> failed & burned",
	Error: "no <space> left", ErrorType: "StorageFull", StartedAt: time.Unix(1000, 0).UTC(), At: time.Unix(1060, 0).UTC(), URL: "http://ui/w",
}

// endpoint answers with a status and remembers the last request.
func endpoint(t *testing.T, status int) (url string, last func() (map[string]any, http.Header)) {
	t.Helper()
	var body map[string]any
	var header http.Header
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		body, header = nil, r.Header
		if err := json.Unmarshal(data, &body); err != nil {
			t.Errorf("%v in %s", err, data)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "said something\n")
	}))
	t.Cleanup(s.Close)
	return s.URL + "/secret-path", func() (map[string]any, http.Header) { return body, header }
}

func TestWebhook(t *testing.T) {
	url, last := endpoint(t, 204)
	t.Setenv("HOOK", url)
	n := config.Notifications{Webhook: config.Webhook{URL: config.NewSecret("${HOOK}"), Authorization: config.NewSecret("Bearer abc")}}
	if err := Send(t.Context(), http.DefaultClient, n, config.ChannelWebhook, failure); err != nil {
		t.Fatal(err)
	}
	body, header := last()
	if header.Get("Authorization") != "Bearer abc" || header.Get("Content-Type") != "application/json" {
		t.Errorf("header %v", header)
	}
	for key, want := range map[string]any{"event": "failure", "kind": "backup", "workflow_id": "backup/n/x", "schedule": "nightly",
		"error": "no <space> left", "error_type": "StorageFull", "at": "1970-01-01T00:17:40Z", "url": "http://ui/w"} {
		if body[key] != want {
			t.Errorf("%s is %v, want %v", key, body[key], want)
		}
	}
}

func TestSlack(t *testing.T) {
	url, last := endpoint(t, 200)
	n := config.Notifications{Slack: config.Slack{URL: config.NewSecret(url)}}
	if err := Send(t.Context(), http.DefaultClient, n, config.ChannelSlack, failure); err != nil {
		t.Fatal(err)
	}
	body, _ := last()
	attachment := body["attachments"].([]any)[0].(map[string]any)
	if body["text"] != "backup &lt;n&gt; failed &amp; burned" || attachment["color"] != "danger" || attachment["title_link"] != "http://ui/w" ||
		attachment["text"] != "no &lt;space&gt; left" || len(attachment["fields"].([]any)) != 3 {
		t.Errorf("message %v", body)
	}
}

func TestPagerDuty(t *testing.T) {
	url, last := endpoint(t, 202)
	n := config.Notifications{PagerDuty: config.PagerDuty{RoutingKey: config.NewSecret("key"), URL: url, Severity: "critical"}}
	send := func(e Event) map[string]any {
		t.Helper()
		if err := Send(t.Context(), http.DefaultClient, n, config.ChannelPagerDuty, e); err != nil {
			t.Fatal(err)
		}
		body, _ := last()
		return body
	}
	trigger := send(failure)
	payload := trigger["payload"].(map[string]any)
	if trigger["routing_key"] != "key" || trigger["event_action"] != "trigger" || payload["severity"] != "critical" || payload["source"] != "schedule/nightly" {
		t.Errorf("event %v", trigger)
	}
	success, other := failure, failure
	success.Event, success.WorkflowID, success.Error = config.OnSuccess, "backup/m/x", ""
	other.Schedule = ""
	if resolve := send(success); resolve["event_action"] != "resolve" || resolve["dedup_key"] != trigger["dedup_key"] {
		t.Errorf("the next run does not resolve it: %v", resolve)
	}
	if key := send(other)["dedup_key"]; key == trigger["dedup_key"] {
		t.Errorf("another operation has the same key %v", key)
	}
	waiting := failure
	waiting.Event, waiting.Text = config.OnWaiting, strings.Repeat("ü", 2000)
	e := send(waiting)
	if p := e["payload"].(map[string]any); p["severity"] != "info" || len([]rune(p["summary"].(string))) != 1024 || e["dedup_key"] == trigger["dedup_key"] {
		t.Errorf("waiting: %v", p)
	}
	answered := waiting
	answered.Answered = true
	if resolve := send(answered); resolve["event_action"] != "resolve" || resolve["dedup_key"] != e["dedup_key"] {
		t.Errorf("an answer does not resolve it: %v", resolve)
	}
}

func TestErrorsKeepTheAddress(t *testing.T) {
	for status, permanent := range map[int]bool{400: true, 403: true, 404: true, 302: true, 408: false, 429: false, 500: false, 503: false} {
		url, _ := endpoint(t, status)
		n := config.Notifications{Slack: config.Slack{URL: config.NewSecret(url)}}
		err := Send(t.Context(), http.DefaultClient, n, config.ChannelSlack, failure)
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Status != status || refused.Permanent() != permanent || refused.Answer != "said something" {
			t.Errorf("%d: %v", status, err)
		}
		if strings.Contains(err.Error(), "secret-path") {
			t.Errorf("the address is in the error: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, url := range []string{"http://127.0.0.1:1/secret-path", "://secret-path", "mailto:secret-path", "http://[secret-path", "http://h/secret-path\x7f"} {
		n := config.Notifications{Slack: config.Slack{URL: config.NewSecret(url)}}
		if err := Send(ctx, http.DefaultClient, n, config.ChannelSlack, failure); err == nil || strings.Contains(err.Error(), "secret-path") {
			t.Errorf("error %v", err)
		}
	}
	n := config.Notifications{Slack: config.Slack{URL: config.NewSecret("${NOT_SET_ANYWHERE}")}}
	var secret *config.SecretError
	if err := Send(t.Context(), http.DefaultClient, n, config.ChannelSlack, failure); !errors.As(err, &secret) {
		t.Errorf("error %v", err)
	}
}
