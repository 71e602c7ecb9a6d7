package cli

import (
	"context"
	"encoding/json"
	"io"
	"slices"

	"go.temporal.io/sdk/client"

	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/workflows"
)

// outcome is what an operation that completed has to say.
type outcome interface {
	render.Value
	code() int // exit code
}

// kind is a kind of operation: its workflow, and how its result is shown.
type kind struct {
	name     string // as search attribute and in Progress
	workflow any    // the workflow function
	typeName string // its workflow type
	result   func(ctx context.Context, run client.WorkflowRun) (outcome, error)
}

var (
	backupKind     = kind{"backup", workflows.Backup, "Backup", resultOf[backupReport]}
	restoreKind    = kind{"restore", workflows.Restore, "Restore", resultOf[restoreReport]}
	continuousKind = kind{"continuous", workflows.Continuous, "Continuous", resultOf[continuousReport]}
	pruneKind      = kind{"prune", workflows.Prune, "Prune", resultOf[pruneReport]}
	validateKind   = kind{"validate", workflows.Validate, "Validate", resultOf[validateReport]}
	scheduledKind  = kind{"scheduled", workflows.Scheduled, workflows.ScheduledType, resultOf[scheduledReport]}

	offsetResetKind    = kind{"offset-reset", workflows.OffsetReset, "OffsetReset", resultOf[offsetReport]}
	bulkResetKind      = kind{"offset-reset-bulk", workflows.BulkOffsetReset, "BulkOffsetReset", resultOf[offsetReport]}
	offsetRollbackKind = kind{"offset-rollback", workflows.OffsetRollback, "OffsetRollback", resultOf[offsetReport]}
	offsetSnapshotKind = kind{"offset-snapshot", workflows.OffsetSnapshot, "OffsetSnapshot", resultOf[snapshotReport]}
	snapshotDeleteKind = kind{"offset-snapshot-delete", workflows.DeleteOffsetSnapshot, "DeleteOffsetSnapshot", resultOf[snapshotReport]}

	kinds = []kind{backupKind, restoreKind, continuousKind, pruneKind, validateKind, scheduledKind,
		offsetResetKind, bulkResetKind, offsetRollbackKind, offsetSnapshotKind, snapshotDeleteKind}
)

// kindNames are the names of all kinds, in order.
func kindNames() []string {
	var names []string
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return slices.Sorted(slices.Values(names))
}

// kindOf returns the kind with that workflow type; of a type that this program
// does not know, one that shows the result as it is.
func kindOf(typeName string) kind {
	for _, k := range kinds {
		if k.typeName == typeName {
			return k
		}
	}
	return kind{name: typeName, typeName: typeName, result: resultOf[anyReport]}
}

// resultOf waits for the end of a workflow and reads its result.
func resultOf[R outcome](ctx context.Context, run client.WorkflowRun) (outcome, error) {
	var r R
	err := run.Get(ctx, &r)
	return r, err
}

// anyReport is the result of a workflow that this program does not know: its
// JSON.
type anyReport struct{ json.RawMessage }

func (r anyReport) Text(w io.Writer) error { return render.WriteYAML(w, r.RawMessage) }
func (r anyReport) code() int              { return ExitDone }
