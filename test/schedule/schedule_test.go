package schedule

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"

	"github.com/kafka-backup/kafka-backup/internal/cli"
	"github.com/kafka-backup/kafka-backup/internal/telemetry"
)

func TestLifeOfASchedule(t *testing.T) {
	b := newBed(t)
	b.work()
	conf := b.config("nightly-{{date}}", "")
	create := []string{"schedule", "create", "life", "--config", conf, "--cron", "0 2 * * *", "--time-zone", "Europe/Berlin", "--task-queue", b.queue}
	if r := b.must(create...); !strings.Contains(r.err, "Schedule life is made; next run ") {
		t.Errorf("%v", r)
	}
	if r := b.command(create...); r.code != cli.ExitFailed || !strings.Contains(r.err, "schedule update life") {
		t.Errorf("made twice: %v", r)
	}
	s := b.describe("life")
	if s.Last != nil || len(s.NextRuns) == 0 || s.Overlap != "skip" {
		t.Errorf("before any run: %+v", s)
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	if h, m, _ := s.NextRuns[0].In(berlin).Clock(); h != 2 || m != 0 {
		t.Errorf("the next run is at %v", s.NextRuns[0])
	}

	// Two runs at once: each makes a backup of its own.
	b.must("schedule", "trigger", "life", "--overlap", "allow-all")
	b.must("schedule", "trigger", "life", "--overlap", "allow-all")
	s = b.ran("life", 2)
	for _, r := range s.Recent {
		if r.Status != "succeeded" || !strings.HasPrefix(r.Operation, "backup/nightly-") {
			t.Errorf("run %+v", r)
		}
	}
	day := s.Recent[0].At.In(berlin).Format("2006-01-02")
	got := b.backups()
	slices.Sort(got)
	if want := []string{"nightly-" + day, "nightly-" + day + "-2"}; !slices.Equal(got, want) {
		t.Errorf("backups %q, want %q", got, want)
	}
	if r := b.must("schedule", "list"); !strings.Contains(r.out, "cron 0 2 * * * Europe/Berlin") || !strings.Contains(r.out, "succeeded") {
		t.Errorf("list: %v", r)
	}
	if r := b.must("operations", "--kind", "backup"); !strings.Contains(r.out, "schedule life") {
		t.Errorf("operations: %v", r)
	}

	// What is not said stays.
	b.must("schedule", "update", "life", "--calendar", "hour=3 day-of-week=sun", "--overlap", "buffer-one", "--segment-max-bytes", "2MiB")
	s = b.describe("life")
	if string(s.When) != `{"calendars":["hour=3 day-of-week=sun"],"time_zone":"Europe/Berlin"}` && !strings.Contains(string(s.When), "day-of-week=sun") {
		t.Errorf("when: %s", s.When)
	}
	if s.Overlap != "buffer-one" || s.NextRuns[0].In(berlin).Weekday() != time.Sunday {
		t.Errorf("after the update: %+v", s)
	}
	full := b.must("schedule", "describe", "life", "--output", "json").out
	for _, want := range []string{`"segment_max_bytes": 2097152`, b.kafka.ListenAddrs()[0], `"nightly-{{date}}"`} {
		if !strings.Contains(full, want) {
			t.Errorf("%s is not in the configuration after the update: %s", want, full)
		}
	}

	b.must("schedule", "pause", "life", "--reason", "maintenance")
	if s = b.describe("life"); !s.Paused || !strings.Contains(s.Note, "maintenance") {
		t.Errorf("paused: %+v", s)
	}
	b.must("schedule", "unpause", "life")
	if s = b.describe("life"); s.Paused {
		t.Errorf("unpaused: %+v", s)
	}

	// Ids are those of the time that is made up for.
	b.must("schedule", "update", "life", "--cron", "0 2 * * *")
	b.must("schedule", "backfill", "life", "--from", "2026-03-01T00:00:00Z", "--to", "2026-03-04T00:00:00Z", "--overlap", "buffer-all")
	b.ran("life", 5)
	got = b.backups()
	for _, want := range []string{"nightly-2026-03-01", "nightly-2026-03-02", "nightly-2026-03-03"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not among %q", want, got)
		}
	}

	b.must("schedule", "delete", "life")
	for _, args := range [][]string{{"describe", "life"}, {"trigger", "life"}, {"delete", "life"}, {"update", "life", "--cron", "@daily"}} {
		if r := b.command(append([]string{"schedule"}, args...)...); r.code != cli.ExitFailed || !strings.Contains(r.err, "there is no schedule life") {
			t.Errorf("%q of one that is deleted: %v", args, r)
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	b := newBed(t)
	conf := b.config("n", "")
	create := func(args ...string) []string { return append([]string{"schedule", "create", "refused"}, args...) }
	literal := b.config("n", "notifications: {slack: {url: 'https://hooks.example.com/very-secret'}}\n")
	for _, c := range []struct {
		args []string
		word string
	}{
		{create("--config", conf), "--cron"},
		{create("--config", conf, "--cron", "61 * * * *"), "refuses"},
		{create("--config", conf, "--every", "5"), `"5"`},
		{create("--config", conf, "--every", "1h", "--time-zone", "Nowhere"), "Europe/Berlin"},
		{create("--config", conf, "--every", "1h", "--overlap", "maybe"), "buffer-one"},
		{create("--config", conf, "--every", "1h", "--kind", "restore"), "backup, validate"},
		{create("--config", conf, "--every", "1h", "--backup-id", "x-{{tiem}}"), "{{time}}"},
		{create("--config", conf, "--every", "1h", "--kind", "prune"), "--keep-last"},
		{create("--config", literal, "--every", "1h"), "notifications.slack.url"},
		{[]string{"schedule", "describe"}, "SCHEDULE-ID"},
		{[]string{"schedule", "tigger", "x"}, "schedule trigger"},
	} {
		r := b.command(c.args...)
		if r.code != cli.ExitUsage || !strings.Contains(r.err, c.word) || strings.Contains(r.err, "very-secret") {
			t.Errorf("%q: %v\nwant code %d and %q", c.args, r, cli.ExitUsage, c.word)
		}
	}
	if r := b.must("schedule", "list"); strings.Contains(r.out, "refused") {
		t.Errorf("something was made: %v", r)
	}
}

// hook is an HTTP endpoint that takes notifications.
type hook struct {
	*httptest.Server
	t     *testing.T
	mu    sync.Mutex
	tries int
	taken []map[string]any
}

// newHook makes a hook that refuses the first tries, and waits for release
// before it answers.
func newHook(t *testing.T, refuse int, release <-chan struct{}) *hook {
	h := &hook{t: t}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if release != nil {
			<-release
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.tries++; h.tries <= refuse {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		var e map[string]any
		if err := json.Unmarshal(body, &e); err != nil {
			t.Errorf("%v in %s", err, body)
		}
		h.taken = append(h.taken, e)
	}))
	t.Cleanup(h.Close)
	return h
}

// await waits until so many events were taken.
func (h *hook) await(n int) []map[string]any {
	h.t.Helper()
	for end := time.Now().Add(patience); len(h.events()) < n; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("%d events were taken, want %d", len(h.events()), n)
		}
	}
	return h.events()
}

func (h *hook) events() []map[string]any {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.taken)
}

// A failed run pauses its schedule, is among the operations, in the metrics
// and is told, and nothing waits for the endpoint that is told.
func TestFailedRun(t *testing.T) {
	release := make(chan struct{})
	h, slack, pager := newHook(t, 1, release), newHook(t, 2, nil), newHook(t, 1, nil)
	t.Setenv("FAILED_RUN_HOOK", h.URL)
	t.Setenv("FAILED_RUN_SLACK", slack.URL)
	t.Setenv("FAILED_RUN_PAGER", "routing-key-of-the-service")
	b := newBed(t)
	w := b.work()
	conf := b.config("broken-{{date}}", fmt.Sprintf("notifications: {webhook: {url: '${FAILED_RUN_HOOK}'}, slack: {url: '${FAILED_RUN_SLACK}'}, pagerduty: {url: %q, routing_key: '${FAILED_RUN_PAGER}', severity: critical}}\n", pager.URL))
	b.must("schedule", "create", "broken", "--config", conf, "--every", "100d", "--pause-on-failure", "--task-queue", b.queue, "--bootstrap-servers", "127.0.0.1:1")
	b.must("schedule", "trigger", "broken")
	s := b.ran("broken", 1) // though the endpoint does not answer yet
	if s.Last.Status != "failed" || !strings.Contains(s.Last.Error, "127.0.0.1:1") {
		t.Errorf("the run: %+v", s.Last)
	}
	if len(h.events()) != 0 {
		t.Error("the endpoint has answered already")
	}
	s = b.await("broken", "a pause", func(s scheduled) bool { return s.Paused })
	if !strings.Contains(s.Note, "127.0.0.1:1") {
		t.Errorf("the note does not say why: %s", s.Note)
	}
	if r := b.must("operations", "--state", "failed"); !strings.Contains(r.out, s.Last.Operation) {
		t.Errorf("not among the failed operations: %v", r)
	}
	close(release)
	e := h.await(1)[0]
	for key, want := range map[string]string{"event": "failure", "kind": "backup", "schedule": "broken", "error_type": "Unreachable", "workflow_id": s.Last.Operation} {
		if e[key] != want {
			t.Errorf("%s is %v, want %s", key, e[key], want)
		}
	}
	if url, _ := e["url"].(string); !strings.HasPrefix(url, server.UI) {
		t.Errorf("url %v", e["url"])
	}

	// Each was refused at first, and each was told in the words that it understands.
	if text, _ := slack.await(1)[0]["text"].(string); !strings.Contains(text, "backup by schedule broken failed") {
		t.Errorf("Slack: %v", slack.events())
	}
	incident := pager.await(1)[0]
	if incident["event_action"] != "trigger" || incident["routing_key"] != "routing-key-of-the-service" || incident["dedup_key"] == "" {
		t.Errorf("PagerDuty: %v", incident)
	}

	b.nowhere("routing-key-of-the-service", "FAILED_RUN_PAGER", `WorkflowType IN ("Scheduled", "Backup", "Notify")`)
	b.nowhere(h.URL, "FAILED_RUN_HOOK", `WorkflowType IN ("Scheduled", "Backup", "Notify")`)
	health := &telemetry.Health{Ready: w.Ready}
	at, stop, err := telemetry.Serve("127.0.0.1:0", health)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	get := func(path string) string {
		resp, err := http.Get("http://" + at + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return string(text)
	}
	if text := get("/readyz"); text != "ready\n" {
		t.Errorf("/readyz: %s", text)
	}
	for _, want := range []string{`kind="backup",`, `result="failed",schedule="broken"`} {
		if !strings.Contains(lineWith(get("/metrics"), "kafka_backup_scheduled_runs_total{", `schedule="broken"`), want) {
			t.Errorf("no metric of the failed run with %s", want)
		}
	}
	if !strings.Contains(get("/metrics"), "temporal_workflow_completed_total") {
		t.Error("no metric of the SDK")
	}

	// Put right, it goes on, and that is no event by default.
	b.must("schedule", "update", "broken", "--bootstrap-servers", b.kafka.ListenAddrs()[0])
	b.must("schedule", "trigger", "broken")
	if s = b.ran("broken", 2); s.Last.Status != "succeeded" {
		t.Errorf("the second run: %+v", s.Last)
	}
	if n := len(h.events()); n != 1 {
		t.Errorf("%d events", n)
	}
	if resolved := pager.await(2)[1]; resolved["event_action"] != "resolve" || resolved["dedup_key"] != incident["dedup_key"] {
		t.Errorf("PagerDuty: %v, opened by %v", resolved, incident)
	}
	if listed := b.must("schedule", "list"); lineWith(listed.out, "broken", "succeeded") == "" {
		t.Errorf("the list does not say how it went: %v", listed)
	}
	for end := time.Now().Add(patience); ; time.Sleep(time.Second) {
		line := lineWith(get("/metrics"), "kafka_backup_schedule_last_success_age_seconds{", `schedule="broken"`)
		if line != "" {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the age of the last good backup is not in the metrics")
		}
	}
}

// lineWith returns the first line that begins so and has a word.
func lineWith(text, begins, word string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, begins) && strings.Contains(line, word) {
			return line
		}
	}
	return ""
}

// A run that cannot even start its operation is among the operations too.
func TestRunThatStartsNothing(t *testing.T) {
	b := newBed(t)
	b.work()
	conf := b.config("x", "")
	b.must("schedule", "create", "nothing", "--config", conf, "--every", "100d", "--task-queue", b.queue, "--storage-path", "/proc/nowhere/at/all")
	b.must("schedule", "trigger", "nothing")
	s := b.ran("nothing", 1)
	if s.Last.Status != "failed" {
		t.Errorf("the run: %+v", s.Last)
	}
	if r := b.must("operations", "--state", "failed"); !strings.Contains(r.out, "schedule nothing") {
		t.Errorf("not among the failed operations: %v", r)
	}
}

func TestScheduledValidation(t *testing.T) {
	b := newBed(t)
	b.work()
	conf := b.config("v-{{time}}", "")
	b.must("backup", "--config", conf, "--task-queue", b.queue)
	b.must("schedule", "create", "check", "--kind", "validate", "--deep", "--config", conf, "--every", "100d", "--task-queue", b.queue)
	b.must("schedule", "trigger", "check")
	if s := b.ran("check", 1); s.Last.Status != "succeeded" {
		t.Errorf("the run: %+v", s.Last)
	}
	damage(t, b.dir)
	b.must("schedule", "trigger", "check")
	s := b.ran("check", 2)
	if s.Last.Status != "failed" || !strings.Contains(s.Last.Error, "is damaged") {
		t.Errorf("of a damaged backup: %+v", s.Last)
	}
}

// A worker that is stopped in the middle of a fetch that nobody answers stops,
// and another one completes the backup.
func TestDrain(t *testing.T) {
	b := newBed(t)
	w := b.work()
	asked := make(chan struct{})
	block := make(chan struct{})
	var once sync.Once
	b.kafka.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		b.kafka.KeepControl()
		once.Do(func() { close(asked) })
		select {
		case <-block:
		default:
			b.kafka.SleepControl(func() { <-block })
		}
		return nil, nil, false
	})
	b.must("schedule", "create", "drained", "--config", b.config("d-{{time}}", ""), "--every", "100d", "--task-queue", b.queue)
	b.must("schedule", "trigger", "drained")
	select {
	case <-asked:
	case <-time.After(patience):
		t.Fatal("nothing was fetched")
	}
	stopped := make(chan struct{})
	go func() { w.Stop(); close(stopped) }()
	select {
	case <-stopped:
	case <-time.After(patience):
		t.Fatal("the worker does not stop")
	}
	if s := b.describe("drained"); s.Last.Status != "running" {
		t.Errorf("the run: %+v", s.Last)
	}
	close(block)
	again := newBedOn(t, b)
	again.work()
	if s := b.ran("drained", 1); s.Last.Status != "succeeded" {
		t.Errorf("the run: %+v", s.Last)
	}
}

func TestScheduledOffsetSnapshot(t *testing.T) {
	b := newBed(t)
	b.work()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.kafka.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var at kadm.Offsets
	at.AddOffset("orders", 0, 1, -1)
	if err := kadm.NewClient(cl).CommitAllOffsets(t.Context(), "shop", at); err != nil {
		t.Fatal(err)
	}
	conf := b.config("s-{{time}}", "")
	b.must("backup", "--config", conf, "--task-queue", b.queue)
	b.must("schedule", "create", "snap", "--kind", "offset-snapshot", "--groups-matching", "sho*", "--config", conf, "--every", "100d", "--task-queue", b.queue)
	b.must("schedule", "trigger", "snap")
	if s := b.ran("snap", 1); s.Last.Status != "succeeded" || !strings.HasPrefix(s.Last.Operation, "offset-snapshot/snap/") {
		t.Errorf("the run: %+v", s.Last)
	}
	if r := b.must("offset-rollback", "list", "--path", b.dir, "--output", "json"); !strings.Contains(r.out, "schedule snap") {
		t.Errorf("snapshots: %v", r)
	}
}

// nowhere checks that a secret is in no history of the workflows that a query
// selects, and that its name, by which it is referred to, is in one.
func (b *bed) nowhere(secret, name, query string) {
	b.t.Helper()
	answer, err := b.client.ListWorkflow(b.t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: query})
	if err != nil {
		b.t.Fatal(err)
	}
	named := false
	for _, e := range answer.GetExecutions() {
		it := b.client.GetWorkflowHistory(b.t.Context(), e.GetExecution().GetWorkflowId(), e.GetExecution().GetRunId(), false, 0)
		for it.HasNext() {
			event, err := it.Next()
			if err != nil {
				b.t.Fatal(err)
			}
			data, err := proto.Marshal(event) // payloads are in it as they are
			if err != nil {
				b.t.Fatal(err)
			}
			named = named || bytes.Contains(data, []byte(name))
			if bytes.Contains(data, []byte(secret)) {
				b.t.Errorf("the secret is in the history of %s, event %v", e.GetExecution().GetWorkflowId(), event.GetEventType())
			}
		}
	}
	if !named {
		b.t.Error("the secret's name is in no history")
	}
}
