package schedule

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kafka-backup/kafka-backup/internal/telemetry"
	"github.com/kafka-backup/kafka-backup/workflows"
)

// Each alert has something to look at before anything went wrong and while it
// does: a schedule that has never run, a continuous backup that is paused, and
// counters that were never counted.
func TestAlertsHaveSeries(t *testing.T) {
	b := newBed(t)
	w := b.work()
	b.must("schedule", "create", "never", "--config", b.config("never-{{time}}", ""), "--every", "100d", "--paused", "--task-queue", b.queue)
	b.must("schedule", "create", "once", "--kind", "prune", "--keep-last", "1", "--config", b.config("once-{{time}}", ""), "--every", "100d", "--task-queue", b.queue)
	id := b.continuous("watched", "1s")
	b.until(id, "a backup", func(p workflows.Progress) bool { return p.RecoveryPoint != nil })
	b.must("pause", id)
	b.until(id, "the pause", func(p workflows.Progress) bool { return p.State == workflows.Paused })
	b.must("schedule", "trigger", "once")
	b.ran("once", 1)
	w.Stop()
	newBedOn(t, b).work() // it looks at everything when it begins

	find := func(name, matchers string) bool {
		families, err := telemetry.Registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				labels := map[string]string{}
				for _, l := range m.GetLabel() {
					labels[l.GetName()] = l.GetValue()
				}
				if f.GetName() == name && has(labels, matchers) {
					return true
				}
			}
		}
		return false
	}
	await := func(name, matchers string) {
		t.Helper()
		for end := time.Now().Add(patience); !find(name, matchers); time.Sleep(100 * time.Millisecond) {
			if time.Now().After(end) {
				t.Errorf("there is no series %s{%s}", name, matchers)
				return
			}
		}
	}
	await("kafka_backup_recovery_point_lag_seconds", `workflow_id="`+id+`"`)
	await("kafka_backup_schedule_last_success_age_seconds", `schedule="never",kind="backup"`)
	for _, kind := range workflows.Kinds {
		await("kafka_backup_operations_total", `kind="`+kind+`",result="failed"`)
	}

	text, err := os.ReadFile("../../deploy/prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	selector := regexp.MustCompile(`(kafka_backup_\w+)(?:\{([^}]*)\})?`)
	n := 0
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			for _, m := range selector.FindAllStringSubmatch(r.Expr, -1) {
				n++
				if !find(m[1], m[2]) {
					t.Errorf("%s looks at %s, which does not exist", r.Alert, m[0])
				}
			}
		}
	}
	if n < 7 {
		t.Errorf("the rules look at %d series", n)
	}
	b.must("cancel", id)
}

// has tells whether a series has labels, as in name="value",name="value".
func has(labels map[string]string, matchers string) bool {
	for _, want := range strings.Split(matchers, ",") {
		name, value, _ := strings.Cut(want, "=")
		if want != "" && `"`+labels[name]+`"` != value {
			return false
		}
	}
	return true
}

// continuous starts a continuous backup and returns its workflow id.
func (b *bed) continuous(backupID, every string) string {
	b.t.Helper()
	conf := b.config(backupID, "backup: {continuous: true, checkpoint_interval: "+every+", fetch_max_wait: 50ms}\n")
	r := b.must("backup", "--config", conf, "--task-queue", b.queue, "--detach", "--output", "json")
	var started struct {
		WorkflowID string `json:"workflow_id"`
	}
	if err := json.Unmarshal([]byte(strings.SplitN(r.err, "\n", 2)[0]), &started); err != nil {
		b.t.Fatalf("%v in %v", err, r)
	}
	return started.WorkflowID
}

// until waits until the progress of an operation is as wanted.
func (b *bed) until(id, what string, so func(p workflows.Progress) bool) (p workflows.Progress) {
	b.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		v, err := b.client.QueryWorkflow(b.t.Context(), id, "", workflows.QueryProgress)
		if err == nil {
			err = v.Get(&p)
		}
		if err == nil && so(p) {
			return p
		}
		if time.Now().After(end) {
			b.t.Fatalf("%s: %s did not come: %+v, %v", id, what, p, err)
		}
	}
}
