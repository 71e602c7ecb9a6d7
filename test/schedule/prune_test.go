package schedule

import (
	"context"
	"slices"
	"strings"
	"testing"

	"go.temporal.io/sdk/client"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
	"github.com/kafka-backup/kafka-backup/workflows"
)

// Prune runs beside checks that have not said yet which backup they are about,
// of its own repository and of others, and beside a continuous backup.
func TestPruneBesideOthers(t *testing.T) {
	b := newBed(t)
	b.work()
	conf := b.config("n-{{date}}-{{time}}", "")
	for _, id := range []string{"n-1", "n-2", "n-3"} {
		b.must("backup", "--config", conf, "--backup-id", id, "--task-queue", b.queue)
	}
	prune := []string{"prune", "--path", b.dir, "--keep-last", "1", "--min-age", "1s", "--execute", "--task-queue", b.queue}

	// As a schedule starts them; no worker takes them up.
	check := func(id, place string) client.WorkflowRun {
		run, err := b.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
			ID: id, TaskQueue: "nobody", TypedSearchAttributes: temporalservice.Registration{}.Start(temporalservice.Attributes{Kind: "validate", Repository: place}),
		}, workflows.Validate, activities.ValidateRequest{Storage: config.Storage{Backend: "filesystem", Path: place}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.client.TerminateWorkflow(context.Background(), id, run.GetRunID(), "the test is over") })
		return run
	}
	own := check("validate/own", b.dir)
	b.listed(own.GetID())
	if r := b.must(prune...); !strings.Contains(r.out, "validate/own is running and does not say which backup it uses") {
		t.Errorf("beside a check of the same repository: %v", r)
	}
	if got := b.backups(); len(got) != 3 {
		t.Errorf("left are %q", got)
	}
	if err := b.client.TerminateWorkflow(t.Context(), own.GetID(), own.GetRunID(), "enough"); err != nil {
		t.Fatal(err)
	}
	b.listed("")

	b.listed(check("validate/other", "/somewhere/else").GetID())
	id := b.continuous("live", "1s")
	b.until(id, "a third backup", func(p workflows.Progress) bool { return p.RecoveryPoint != nil && len(b.backups()) > 5 })
	if r := b.must(prune...); strings.Contains(r.out, "does not say") {
		t.Errorf("beside a check of another repository: %v", r)
	}
	if got := b.backups(); slices.Contains(got, "n-1") || slices.Contains(got, "n-2") || len(got) == 0 {
		t.Errorf("left are %q", got)
	}
	before := b.until(id, "a recovery point", func(p workflows.Progress) bool { return p.RecoveryPoint != nil })
	b.until(id, "another backup", func(p workflows.Progress) bool { return p.RecoveryPoint.BackupID != before.RecoveryPoint.BackupID })
	b.must("cancel", id)
	b.until(id, "the end", func(p workflows.Progress) bool { return p.State == workflows.Cancelled })
	got := b.backups()
	b.must("validate", "--path", b.dir, "--backup-id", got[len(got)-1], "--deep")
}

// listed waits until the service lists a check as the only one that is running;
// empty: until it lists none.
func (b *bed) listed(id string) {
	b.t.Helper()
	b.eventually("the list of running checks", func() bool {
		r := b.must("operations", "--running", "--kind", "validate", "--output", "csv")
		return strings.Contains(r.out, "validate/") == (id != "") && strings.Contains(r.out, id)
	})
}
