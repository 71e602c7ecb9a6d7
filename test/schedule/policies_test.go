package schedule

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
	"github.com/kafka-backup/kafka-backup/workflows"
)

// A run that is due while another waits cancels or terminates it, where the
// policy says so; either way its backup ends in order.
func TestOverlapEndsTheOther(t *testing.T) {
	for policy, status := range map[string]string{"cancel-other": "cancelled", "terminate-other": "terminated"} {
		t.Run(policy, func(t *testing.T) {
			b := newBed(t)
			b.work()
			conf := b.config("o-{{time}}", "approval: {required: true, timeout: 1h}\n")
			b.must("schedule", "create", policy, "--config", conf, "--every", "100d", "--overlap", policy, "--task-queue", b.queue)
			b.must("schedule", "trigger", policy)
			s := b.await(policy, "its operation", func(s scheduled) bool { return len(s.Recent) == 1 && s.Recent[0].Operation != "" })
			first := s.Recent[0].Operation
			b.until(first, "the question", func(p workflows.Progress) bool { return p.State == workflows.Waiting })
			b.must("schedule", "trigger", policy, "--overlap", policy)
			s = b.await(policy, "the second operation", func(s scheduled) bool { return len(s.Recent) == 2 && s.Recent[0].Operation != "" })
			second := s.Recent[0].Operation
			if s.Recent[1].Status != status || first == second {
				t.Errorf("the runs: %+v", s.Recent)
			}
			b.until(first, "its end", func(p workflows.Progress) bool { return p.State == workflows.Cancelled })
			waiting := b.until(second, "the question", func(p workflows.Progress) bool { return p.State == workflows.Waiting })
			b.must("approve", second, "--plan", waiting.Approval.Plan.Digest, "--by", "alice")
			if s = b.ran(policy, 2); s.Last.Status != "succeeded" {
				t.Errorf("the second run: %+v", s.Last)
			}
		})
	}
}

// A schedule starts as many runs as it was told to, and no more.
func TestRunsAreLimited(t *testing.T) {
	b := newBed(t)
	b.work()
	b.must("schedule", "create", "twice", "--config", b.config("t-{{date}}-{{time}}", ""), "--every", "1s", "--runs", "2", "--overlap", "buffer-all", "--task-queue", b.queue)
	b.ran("twice", 2)
	b.eventually("its end", func() bool {
		return strings.Contains(b.must("schedule", "list").out, "finished")
	})
	if s := b.describe("twice"); s.Runs != 2 || s.RunsLeft != 0 || len(b.backups()) != 2 {
		t.Errorf("%+v, backups %q", s, b.backups())
	}
}

// When a schedule acts: not before its beginning, not at times left out, and
// later by chance, but not by more than it was told.
func TestWhenASchedule(t *testing.T) {
	b := newBed(t)
	conf := b.config("w-{{date}}-{{time}}", "")
	create := func(id string, flags ...string) []time.Time {
		t.Helper()
		b.must(append([]string{"schedule", "create", id, "--config", conf, "--task-queue", b.queue}, flags...)...)
		next := b.describe(id).NextRuns
		if len(next) < 5 {
			t.Fatalf("%s: next runs %v", id, next)
		}
		return next
	}
	begin := time.Now().UTC().Truncate(time.Hour).Add(50 * time.Hour)
	if next := create("later", "--every", "1h", "--start-at", begin.Format(time.RFC3339)); !next[0].Equal(begin) {
		t.Errorf("begins %v, want %v", next[0], begin)
	}
	for _, at := range create("night", "--calendar", "hour=* minute=0", "--skip", "hour=2-22 minute=* second=*") {
		if h := at.Hour(); h != 23 && h > 1 {
			t.Errorf("not left out: %v", at)
		}
	}
	var late []time.Duration
	for _, at := range create("jitter", "--every", "1h", "--jitter", "10m") {
		late = append(late, at.Sub(at.Truncate(time.Hour)))
	}
	if most := slices.Max(late); most > 10*time.Minute || most == slices.Min(late) {
		t.Errorf("late by %v", late)
	}
}

// Runs that were due while the Temporal service was away are made up for.
func TestOutageIsMadeUpFor(t *testing.T) {
	dir := t.TempDir()
	start := func() {
		t.Helper()
		s, err := temporalservice.StartServer(t.Context(), temporalservice.ServerOptions{Binary: binary, StateDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		server = s
	}
	shared := server
	defer func() { server = shared }()
	start()
	b := newBed(t)
	w := b.work()
	b.must("schedule", "create", "away", "--config", b.config("a-{{date}}-{{time}}", ""), "--every", "2s", "--overlap", "allow-all", "--catch-up-window", "1h", "--task-queue", b.queue)
	b.ran("away", 1)
	w.Stop()
	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	from := time.Now()
	time.Sleep(7 * time.Second) // what is due meanwhile is what this is about
	to := time.Now()
	start()
	again := newBedOn(t, b)
	again.work()
	var made []time.Time
	again.eventually("the runs that were due", func() bool {
		made = nil
		for _, r := range again.describe("away").Recent {
			if r.At.After(from) && r.At.Before(to) && r.Status == "succeeded" {
				made = append(made, r.At)
			}
		}
		return len(made) >= 3
	})
	if s := again.describe("away"); s.Missed != 0 {
		t.Errorf("%d runs were missed", s.Missed)
	}
	again.must("schedule", "pause", "away")
}
