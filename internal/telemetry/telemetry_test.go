package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestServe(t *testing.T) {
	h := &Health{}
	at, stop, err := Serve("127.0.0.1:0", h)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	ProduceDone(time.Now())
	set, done := Lag("w", "1")
	set(7)
	code, body := get(t, "http://"+at+"/metrics")
	for _, line := range []string{
		`kafka_backup_bytes_total{what="fetched"} 0`, `kafka_backup_retries_total{op="produce"} 0`, "kafka_backup_realignments_total 0",
		"kafka_backup_produce_seconds_count 1", `kafka_backup_lag_records{activity_id="1",workflow_id="w"} 7`, "kafka_backup_build_info{", "go_goroutines ",
	} {
		if !strings.Contains(body, "\n"+line) {
			t.Errorf("no line %s", line)
		}
	}
	if code != 200 {
		t.Errorf("code %d", code)
	}
	done()
	if _, body := get(t, "http://"+at+"/metrics"); strings.Contains(body, "kafka_backup_lag_records{") {
		t.Error("the lag of work that is done stays")
	}
	if _, _, err := Serve(at, h); err == nil {
		t.Error("two servers have one address")
	}
}

func TestHealth(t *testing.T) {
	var answer error
	asked := 0
	h := &Health{Ready: func(context.Context) error { asked++; return answer }}
	at, stop, err := Serve("127.0.0.1:0", h)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	expect := func(path string, want int, word string) {
		t.Helper()
		if code, body := get(t, "http://"+at+path); code != want || !strings.Contains(body, word) {
			t.Errorf("%s: %d %s, want %d with %q", path, code, body, want, word)
		}
	}
	expect("/readyz", 200, "ready")
	answer = errors.New("no service")
	expect("/readyz", 200, "ready") // known from just before
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	h.asked = time.Time{}
	expect("/readyz", 503, "no service")
	expect("/healthz", 200, "ok")
	answer, h.asked = nil, time.Time{}
	h.Stopping()
	expect("/readyz", 503, "stopping")
	expect("/healthz", 200, "ok")
}

// The SDK gives the same name with different tags, from many goroutines.
func TestSDKMetrics(t *testing.T) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			a := SDK().WithTags(map[string]string{"namespace": "n"})
			for range 100 {
				a.Counter("test_requests").Inc(1)
				a.WithTags(map[string]string{"task-queue": "q", "namespace": "m"}).Counter("test_requests").Inc(2)
			}
		})
	}
	wg.Wait()
	SDK().Timer("test.latency").Record(20 * time.Millisecond)
	SDK().Gauge("test_slots").Update(3)
	at, stop, err := Serve("127.0.0.1:0", &Health{})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	_, body := get(t, "http://"+at+"/metrics")
	for _, line := range []string{
		`test_requests_total{namespace="n"} 800`, `test_requests_total{namespace="m",task_queue="q"} 1600`,
		`test_latency_seconds_bucket{le="0.01"} 0`, `test_latency_seconds_bucket{le="0.05"} 1`, `test_slots 3`,
	} {
		if !strings.Contains(body, "\n"+line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
}

type lines []string

func (l *lines) Debug(msg string, kv ...any) { *l = append(*l, msg) }
func (l *lines) Info(msg string, kv ...any)  { *l = append(*l, msg) }
func (l *lines) Warn(msg string, kv ...any)  { *l = append(*l, msg) }
func (l *lines) Error(msg string, kv ...any) { *l = append(*l, msg) }

func TestLog(t *testing.T) {
	Realigned(t.Context(), "t", 1, 2) // without a log
	var l lines
	ctx := WithLog(t.Context(), &l)
	Realigned(ctx, "t", 1, 2)
	Retried(ctx, "fetch", "t", 1, io.EOF)
	if len(l) != 2 || l[0] != "Realigned" || l[1] != "Trying again" {
		t.Errorf("logged %q", l)
	}
}

func TestScheduleMetrics(t *testing.T) {
	defer Schedules(nil)
	Schedules([]ScheduleState{
		{Schedule: "good", Kind: "backup", Ended: true, Succeeded: true, LastGood: time.Now().Add(-time.Hour), Next: time.Unix(1000, 0)},
		{Schedule: "new", Paused: true},
	})
	at, stop, err := Serve("127.0.0.1:0", &Health{})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	_, body := get(t, "http://"+at+"/metrics")
	for _, line := range []string{
		`kafka_backup_schedule_last_success_age_seconds{kind="backup",schedule="good"} 36`, `kafka_backup_schedule_last_run_succeeded{kind="backup",schedule="good"} 1`,
		`kafka_backup_schedule_next_run_timestamp_seconds{kind="backup",schedule="good"} 1000`, `kafka_backup_schedule_paused{kind="",schedule="new"} 1`,
	} {
		if !strings.Contains(body, "\n"+line) {
			t.Errorf("no line %s", line)
		}
	}
	if strings.Contains(body, `last_run_succeeded{kind="",schedule="new"}`) {
		t.Error("a schedule that never ran has a result")
	}
}

// What a workflow counts goes on from the zero that was shown before, whatever
// the SDK adds to it.
func TestWorkflowsCountFromZero(t *testing.T) {
	var series []string
	gather := func() (values map[string]float64) {
		families, err := Registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		values = map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if f.GetName() == "kafka_backup_tests_total" {
					values[fmt.Sprint(m.GetLabel())] = m.GetCounter().GetValue()
				}
			}
		}
		return values
	}
	tags := map[string]string{"kind": "restore", "result": "failed"}
	SDK().WithTags(tags).Counter("kafka_backup_tests").Inc(0)
	for s, v := range gather() {
		if series = append(series, s); v != 0 {
			t.Errorf("%s begins with %v", s, v)
		}
	}
	SDK().WithTags(map[string]string{"namespace": "default", "task_queue": "berlin", "workflow_type": "Restore"}).WithTags(tags).Counter("kafka_backup_tests").Inc(1)
	if after := gather(); len(series) != 1 || len(after) != 1 || after[series[0]] != 1 {
		t.Errorf("before %q, after %v", series, after)
	}
}

// An age is there, and grows, whatever the schedule or the continuous backup does.
func TestAgesAreAlwaysThere(t *testing.T) {
	Schedules([]ScheduleState{{Schedule: "never", Kind: "backup", Made: time.Now().Add(-30 * time.Hour)}})
	defer Schedules(nil)
	Continuous([]ContinuousState{{WorkflowID: "continuous/live", RecoveryPoint: time.Now().Add(-time.Hour), Lag: 7, Counted: true}})
	defer Continuous(nil)
	families, err := Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if m := f.GetMetric(); len(m) == 1 {
			got[f.GetName()] = m[0].GetGauge().GetValue()
		}
	}
	for name, least := range map[string]float64{
		"kafka_backup_schedule_last_success_age_seconds": 30 * 3600, "kafka_backup_recovery_point_lag_seconds": 3600, "kafka_backup_recovery_point_lag_records": 7,
	} {
		if got[name] < least || got[name] > least+60 {
			t.Errorf("%s is %v, want %v", name, got[name], least)
		}
	}
}
