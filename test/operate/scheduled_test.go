package operate

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kafka-backup/kafka-backup/test/rig"
)

// scheduled is what `schedule describe --output json` says.
type scheduled struct {
	Runs   int            `json:"runs"`
	Recent []scheduledRun `json:"recent"`
}

type scheduledRun struct {
	Operation string `json:"operation"`
	Status    string `json:"status"`
	Error     string `json:"error"`
}

// awaitRuns waits until a schedule's runs are as they should be.
func (m *met) awaitRuns(id, what string, ready func(scheduled) bool) (s scheduled) {
	m.t.Helper()
	for {
		out := m.run("carol", "schedule", "describe", id, "--output", "json")
		if out.Code == 0 {
			s = scheduled{}
			m.must(out.JSON(&s))
			if ready(s) {
				return s
			}
		}
		select {
		case <-m.ctx.Done():
			m.t.Fatalf("schedule %s: not %s: %+v %s", id, what, s, out)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// status is that of the run that an operation belongs to; empty when it is long
// ago.
func (s scheduled) status(operation string) string {
	for _, r := range s.Recent {
		if r.Operation == operation {
			return r.Status
		}
	}
	return ""
}

// Worker and Temporal server die in the middle of a scheduled backup: it
// completes, and so do the next ones. Beside it every other kind of operation
// that can be scheduled runs.
func TestScheduledRunSurvivesKills(t *testing.T) {
	o := newOperator(t, 6*time.Minute)
	const name = "often"
	s := o.shelf()
	m := &met{operator: o, shelf: s, ground: o.ground([]string{name}), name: name}
	m.location = s.storage
	file := m.file(rig.Document{"backup_id": "often-{{date}}-{{time}}", "retention": rig.Document{"keep_last": 2},
		"source": rig.Document{"bootstrap_servers": m.servers(), "topics": rig.Document{"include": []string{m.topic}}}})
	w := o.worker()
	h := s.hold(name, "", place{method: "PUT", key: "data/"})
	create := func(id string, more ...string) {
		m.wantCode(m.run("carol", append([]string{"schedule", "create", id, "--config", file, "--task-queue", m.queue}, more...)...), 0)
	}
	create(name, "--every", "3s")
	m.awaitHeld(h)
	running := m.awaitRuns(name, "running", func(s scheduled) bool { return len(s.Recent) == 1 && s.Recent[0].Status == "running" }).Recent[0].Operation
	o.must(w.Kill())
	o.must(o.rig.KillServer())
	o.must(o.rig.RestartServer(o.ctx))
	s.release(name)
	o.worker()
	m.awaitRuns(name, "three more runs", func(s scheduled) bool {
		last := len(s.Recent) - 1
		return s.Runs >= 4 && (s.status(running) == "succeeded" || s.status(running) == "") && s.Recent[last].Status == "succeeded"
	})
	m.wantCode(m.run("carol", "operations", "show", running), 0, "completed", "schedule often", "1,200")

	create("check", "--kind", "validate", "--deep", "--every", "100d")
	create("offsets", "--kind", "offset-snapshot", "--groups-matching", "met-often-*", "--every", "100d")
	create("tidy", "--kind", "prune", "--min-age", "1s", "--every", "100d")
	for _, id := range []string{"check", "offsets", "tidy"} {
		m.wantCode(m.run("carol", "schedule", "trigger", id), 0)
	}
	for _, id := range []string{"check", "offsets", "tidy"} {
		run := m.awaitRuns(id, "ended", func(s scheduled) bool { return len(s.Recent) > 0 && s.Recent[0].Status != "running" }).Recent[0]
		if run.Status != "succeeded" {
			t.Errorf("%s: %+v", id, run)
		}
	}
	m.wantCode(m.run("carol", "schedule", "pause", name), 0)
	m.awaitRuns(name, "at rest", func(s scheduled) bool {
		return !slices.ContainsFunc(s.Recent, func(r scheduledRun) bool { return r.Status == "running" })
	})
	if n := m.snapshots(); n != 1 {
		t.Errorf("there are %d snapshots", n)
	}
	listed := m.run("carol", "schedule", "list")
	m.wantCode(listed, 0, name, "check", "offsets", "tidy")
	if n := strings.Count(listed.Out, "succeeded"); n < 4 {
		t.Errorf("not all schedules say that they succeeded: %s", listed)
	}
	for _, id := range []string{name, "check", "offsets", "tidy"} {
		m.wantCode(m.run("carol", "schedule", "delete", id), 0)
	}
}
