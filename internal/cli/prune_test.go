package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/prune"
)

// nowhere is a Temporal service that is not there.
var nowhere = []string{"--temporal-address", "127.0.0.1:1"}

func TestPrunePlanAndHolds(t *testing.T) {
	dir, _ := testRepository(t)
	mask := func(s string) string {
		before, _, found := strings.Cut(s, "is not known (")
		_, after, _ := strings.Cut(s, "); backups that")
		if found {
			s = before + "is not known (...); backups that" + after
		}
		return strings.ReplaceAll(s, dir, "/data/backups")
	}
	plan := append([]string{"prune", "--path", dir, "--keep-last", "1"}, nowhere...)
	got := run(t, plan...)
	if got.code != ExitDone || got.err != "" {
		t.Errorf("code %d, stderr %q", got.code, got.err)
	}
	golden(t, "prune.txt", mask(got.out))

	// The unfinished backup is young; the folder's files are as old as the test.
	if got := run(t, append(plan, "--output", "csv")...); !strings.Contains(got.out, "first,cluster-1,2024-12-03T09:00:00Z,drop,,") {
		t.Errorf("csv: %s%s", got.out, got.err)
	}

	// A hold from the command line keeps it; the time of the hold is now.
	got = run(t, "hold", "add", "--path", dir, "-b", "first", "--name", "audit", "--reason", "case 7", "--by", "ann")
	if got.code != ExitDone || !strings.Contains(got.out, "first       audit") || !strings.Contains(got.out, "case 7") {
		t.Errorf("add: code %d, %s%s", got.code, got.out, got.err)
	}
	var p prune.Plan
	got = run(t, append(plan, "--output", "json")...)
	if err := json.Unmarshal([]byte(got.out), &p); err != nil {
		t.Fatal(err, got.out)
	}
	if len(p.Drops()) != 0 || !slices.Equal(p.Backups[0].Keep, []string{"hold audit: case 7"}) {
		t.Errorf("with the hold: %+v", p.Backups)
	}
	var held holdList
	got = run(t, "hold", "list", "--path", dir, "-o", "json")
	if err := json.Unmarshal([]byte(got.out), &held); err != nil || len(held.Holds) != 1 || held.Holds[0].By != "ann" {
		t.Errorf("list: %v %s%s", err, got.out, got.err)
	}
	for _, c := range []struct {
		want string
		code int
		args []string
	}{
		{`has a hold "audit" already`, ExitFailed, []string{"add", "-b", "first", "-n", "audit"}},
		{"is not complete", ExitFailed, []string{"add", "-b", "interrupted"}},
		{"say which backup", ExitUsage, []string{"add"}},
		{"invalid id", ExitUsage, []string{"add", "-b", "first", "-n", "../x"}},
		{`has no hold "other"`, ExitFailed, []string{"remove", "-b", "first", "-n", "other"}},
		{"say which backup", ExitUsage, []string{"remove"}},
		{"", ExitDone, []string{"remove", "-b", "first", "-n", "audit"}},
	} {
		got := run(t, append([]string{"hold", c.args[0], "--path", dir}, c.args[1:]...)...)
		if got.code != c.code || !strings.Contains(got.err, c.want) {
			t.Errorf("hold %q: code %d, %q", c.args, got.code, got.err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "holds")); !os.IsNotExist(err) {
		t.Errorf("something is left of the holds: %v", err)
	}
}

func TestPruneRefuses(t *testing.T) {
	dir, _ := testRepository(t)
	for _, c := range []struct {
		want string
		args []string
	}{
		{"say where the repository is", []string{"--keep-last", "1"}},
		{"say which backups to keep", []string{"--path", dir}},
		{"say which backups to keep", []string{"--path", dir, "--execute"}},
		{"unexpected argument", []string{"--path", dir, "--keep-last", "1", "x"}},
		{"time zone", []string{"--path", dir, "--keep-daily", "1", "--time-zone", "Mars"}},
		{"is not a pattern", []string{"--path", dir, "--keep-last", "1", "--backups", "[x"}},
		{"as in 500ms", []string{"--path", dir, "--keep-within", "30"}},
	} {
		got := run(t, append(append([]string{"prune"}, c.args...), nowhere...)...)
		if got.code != ExitUsage || !strings.Contains(got.err, c.want) {
			t.Errorf("prune %q: code %d, %q", c.args, got.code, got.err)
		}
	}
}

func TestPruneReport(t *testing.T) {
	at := testTime
	r := pruneReport{activities.PruneReport{
		StartedAt: at, FinishedAt: at.Add(90 * time.Second), Keep: 12,
		PruneDropped: activities.PruneDropped{Dropped: 30, Abandoned: 1, Kept: []prune.Entry{{BackupID: "b7", Keep: []string{"hold audit"}}}},
		Swept: prune.Swept{Freed: prune.Amount{Objects: 1234, Bytes: 5 << 30}, Locked: prune.Amount{Objects: 2, Bytes: 1 << 20},
			LockedUntil: at.Add(48 * time.Hour), Unfinished: prune.Amount{Objects: 1, Bytes: 100}, Left: 3},
		Warnings: []string{"something"},
	}}
	var b strings.Builder
	if err := r.Text(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "prune-report.txt", b.String())
}

func TestPolicyText(t *testing.T) {
	got := policyText(config.Retention{KeepLast: 3, KeepWithin: config.Duration(48 * time.Hour), KeepDaily: 7, Backups: "nightly-*"})
	if got != "last 3, daily 7, within 48h of nightly-*" {
		t.Errorf("got %q", got)
	}
}

func TestRecoveryPoint(t *testing.T) {
	p := &activities.RecoveryPoint{BackupID: "live-1", At: testTime}
	if got := recoveryPoint(p, testTime.Add(12*time.Second)); got != "recovery point 12s ago (live-1)" {
		t.Errorf("got %q", got)
	}
	p.Lag, p.MeasuredAt = 1200, testTime
	if got := recoveryPoint(p, testTime.Add(12*time.Second)); got != "recovery point 12s ago, 1,200 records behind (live-1)" {
		t.Errorf("got %q", got)
	}
	if got := recoveryPoint(p, testTime.Add(80*time.Second)); got != "recovery point 1m20s ago, 1,200 records behind when it was counted 1m20s ago (live-1)" {
		t.Errorf("got %q", got)
	}
	if got := recoveryPoint(nil, testTime); got != "" {
		t.Errorf("got %q", got)
	}
}
