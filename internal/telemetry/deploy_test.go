package telemetry

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// What the dashboard, the alert rules and the documentation name exists.
func TestNamedMetricsExist(t *testing.T) {
	set, done := Lag("w", "1")
	set(1)
	defer done()
	Continuous([]ContinuousState{{WorkflowID: "w", Counted: true}})
	defer Continuous(nil)
	defer Running("a")()
	Schedules([]ScheduleState{{Schedule: "s", Ended: true, LastGood: time.Now(), Next: time.Now()}})
	defer Schedules(nil)
	known := map[string]bool{ // counted in workflows, by way of the SDK
		"kafka_backup_operations_total": true, "kafka_backup_operation_duration_seconds": true, "kafka_backup_scheduled_runs_total": true,
		"kafka_backup_checkpoints_total": true,
	}
	families, err := Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		known[f.GetName()] = true
	}
	name := regexp.MustCompile(`kafka_backup_[a-z_]*[a-z]`)
	for _, file := range []string{"../../deploy/prometheus/alerts.yaml", "../../deploy/grafana/dashboard.json", "../../docs/OPERATING.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := name.FindAllString(string(text), -1)
		if len(found) < 5 {
			t.Errorf("%s names %d metrics", file, len(found))
		}
		for _, n := range found {
			if !known[n] && !known[strings.TrimSuffix(n, "_bucket")] {
				t.Errorf("%s: there is no metric %s", file, n)
			}
		}
	}
}
