package activities

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/prune"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/retention"
	"github.com/kafka-backup/kafka-backup/internal/storage"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
)

// PruneRequest is which repository to prune, and what to keep.
type PruneRequest struct {
	Requested
	Storage   config.Storage   `json:"storage"`
	Retention config.Retention `json:"retention"`
}

// PrunePlan is a planned prune. The plan itself is in the repository.
type PrunePlan struct {
	Proposal Proposal `json:"proposal"`
	Key      string   `json:"key"`
	// Drop and Keep are how many backups go and stay, Abandoned how many
	// unfinished ones are given up.
	Drop      int `json:"drop"`
	Keep      int `json:"keep"`
	Abandoned int `json:"abandoned"`
	// Freed is an estimate of what goes.
	Freed    prune.Amount `json:"freed"`
	Warnings []string     `json:"warnings,omitempty"`
}

// PruneDropped is what was dropped; lists name the first [MaxProposalRows].
type PruneDropped struct {
	Dropped   int           `json:"dropped"`
	Abandoned int           `json:"abandoned"`
	Names     []string      `json:"names,omitempty"`
	Kept      []prune.Entry `json:"kept,omitempty"`
}

// PruneReport is what a prune did.
type PruneReport struct {
	Repository string    `json:"repository"`
	Plan       string    `json:"plan"` // its key
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`
	// Keep is how many backups there still are.
	Keep int `json:"keep"`
	PruneDropped
	prune.Swept
	Warnings []string  `json:"warnings,omitempty"`
	Approval *Decision `json:"approval,omitempty"`
}

// PruneOptions are the options that a configuration says.
func PruneOptions(r config.Retention) (prune.Options, error) {
	zone, err := r.Location()
	return prune.Options{
		Policy: retention.Policy{Last: r.KeepLast, Within: r.KeepWithin.Std(), Daily: r.KeepDaily, Weekly: r.KeepWeekly, Monthly: r.KeepMonthly, Zone: zone},
		Match:  r.Backups,
		MinAge: r.MinAge.Std(),
	}, err
}

// Prune are the activities of the Prune workflow.
type Prune struct{ Temporal client.Client }

// PlanPrune works out what goes, and writes the plan. Each round has a plan of
// its own.
func (a *Prune) PlanPrune(ctx context.Context, req PruneRequest, round int) (PrunePlan, error) {
	return step(ctx, true, func(ctx context.Context) (PrunePlan, error) {
		p, done, err := a.open(ctx, req)
		if err != nil {
			return PrunePlan{}, err
		}
		defer done()
		running, err := p.Running(ctx)
		if err != nil {
			return PrunePlan{}, err
		}
		made, err := prune.MakePlan(ctx, p.Repository, p.Options, running)
		if err != nil {
			return PrunePlan{}, err
		}
		e := activity.GetInfo(ctx).WorkflowExecution
		key := repository.OperationKey(e.ID, fmt.Sprintf("%s/plan-%d.json", e.RunID, round))
		if _, _, err := repository.AdoptDocument(ctx, p.Repository, key, made); err != nil {
			return PrunePlan{}, err
		}
		drops := made.Drops()
		plan := PrunePlan{Key: key, Drop: len(drops), Keep: len(made.Backups) - len(drops), Abandoned: len(made.Abandoned), Freed: made.Freed,
			Warnings: made.Warnings[:min(len(made.Warnings), MaxProposalRows)]}
		plan.Proposal = pruneProposal(made, key)
		return plan, nil
	})
}

func pruneProposal(p *prune.Plan, key string) Proposal {
	drops := p.Drops()
	backups := Table{Name: "Backups that go", Header: []string{"Backup", "Created", "Frees"}}
	for _, e := range p.Backups {
		if len(e.Keep) == 0 {
			backups.Add(e.BackupID, render.Time(e.CreatedAt), render.Bytes(e.Freed.Bytes))
		}
	}
	for _, e := range p.Abandoned {
		backups.Add(e.BackupID, "never finished", render.Bytes(e.Freed.Bytes))
	}
	return Proposal{
		Key: key, Digest: p.Digest(),
		Summary: fmt.Sprintf("remove %s of %d and %s, about %s", render.Number(len(drops), "backup"), len(p.Backups),
			render.Number(len(p.Abandoned), "unfinished one"), render.Bytes(p.Freed.Bytes)),
		Facts:    []Fact{{"Objects", render.Count(p.Freed.Objects)}, {"Bytes", render.Bytes(p.Freed.Bytes)}},
		Tables:   []Table{backups},
		Warnings: p.Warnings[:min(len(p.Warnings), MaxProposalRows)],
	}
}

// DropBackups gives up the backups that the plan does not keep. Started again
// it goes on: what is gone is not dropped twice. When it is told to stop, the
// details of the cancellation are what it has done.
func (a *Prune) DropBackups(ctx context.Context, req PruneRequest, plan PrunePlan) (PruneDropped, error) {
	did, err := step(ctx, false, func(ctx context.Context) (PruneDropped, error) {
		p, done, err := a.open(ctx, req)
		if err != nil {
			return PruneDropped{}, err
		}
		defer done()
		var made prune.Plan
		if _, err := p.Repository.ReadDocument(ctx, plan.Key, &made); err != nil {
			return PruneDropped{}, err
		}
		dropped, err := p.Drop(ctx, &made)
		names := append(dropped.Dropped, dropped.Abandoned...)
		return PruneDropped{
			Dropped: len(dropped.Dropped), Abandoned: len(dropped.Abandoned),
			Names: names[:min(len(names), MaxProposalRows)], Kept: dropped.Kept[:min(len(dropped.Kept), MaxProposalRows)],
		}, err
	})
	if errors.Is(err, context.Canceled) {
		err = temporal.NewCanceledError(did)
	}
	return did, err
}

// ReleaseBackups takes this prune's marks off the backups that it has not
// dropped and, as it was stopped or failed, will not.
func (a *Prune) ReleaseBackups(ctx context.Context, req PruneRequest) error {
	_, err := step(ctx, false, func(ctx context.Context) (struct{}, error) {
		p, done, err := a.open(ctx, req)
		if err != nil {
			return struct{}{}, err
		}
		defer done()
		return struct{}{}, p.Release(ctx)
	})
	return err
}

// Sweep removes what no backup needs. before is what sweeps of the same prune
// that were stopped have removed; it is in the sum. When it is told to stop, the
// details of the cancellation are an [Amount] and what it has done.
func (a *Prune) Sweep(ctx context.Context, req PruneRequest, before prune.Amount) (prune.Swept, error) {
	ctx, cancel := draining(ctx)
	defer cancel()
	if f := earlier(ctx).Freed; f != nil {
		before = *f
	}
	report, stop := beating(ctx)
	defer stop()
	swept, err := func() (prune.Swept, error) {
		p, done, err := a.open(ctx, req)
		if err != nil {
			return prune.Swept{}, err
		}
		defer done()
		p.Report = func(n prune.Amount) {
			n = n.Add(before)
			report(Watermark{Done: Amount{Bytes: n.Bytes}, Freed: &n})
		}
		return p.Sweep(ctx)
	}()
	swept.Freed = swept.Freed.Add(before)
	if err = classify(ctx, err, false); errors.Is(err, context.Canceled) {
		err = temporal.NewCanceledError(Amount{Bytes: swept.Freed.Bytes}, swept)
	}
	return swept, err
}

// open opens the repository of a request.
func (a *Prune) open(ctx context.Context, req PruneRequest) (*prune.Pruner, func(), error) {
	options, err := PruneOptions(req.Retention)
	if err != nil {
		return nil, nil, err
	}
	bucket, err := storage.Open(ctx, req.Storage)
	if err != nil {
		return nil, nil, err
	}
	repo, err := repository.Open(ctx, bucket)
	if err != nil {
		bucket.Close()
		return nil, nil, err
	}
	info := activity.GetInfo(ctx)
	return &prune.Pruner{Repository: repo, Options: options, By: info.WorkflowExecution.ID + "/" + info.WorkflowExecution.RunID,
		Running: func(ctx context.Context) ([]prune.Operation, error) {
			return RunningOperations(ctx, a.Temporal, info.Namespace, storage.Describe(req.Storage))
		},
	}, func() { bucket.Close() }, nil
}

// backupUsers are the workflow types that make or use a backup: those that
// always do, and those that may.
const (
	backupUsers      = `"Backup", "Restore", "Continuous", "Validate", "RestoreDrill"`
	backupUsersMaybe = `"OffsetReset", "BulkOffsetReset"`
)

// RunningOperations lists the operations that are running in a namespace and
// make or use a backup, whichever repository it is in: one repository may be
// named in several ways. Of those that do not say which backup, those that name
// another repository than place are left out.
func RunningOperations(ctx context.Context, c client.Client, namespace, place string) ([]prune.Operation, error) {
	var running []prune.Operation
	var page []byte
	for {
		answer, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
			Namespace: namespace, Query: `ExecutionStatus = "Running" AND WorkflowType IN (` + backupUsers + `, ` + backupUsersMaybe + `)`, NextPageToken: page, PageSize: 1000,
		})
		if err != nil {
			return nil, fmt.Errorf("ask Temporal which operations are running: %w", err)
		}
		for _, e := range answer.GetExecutions() {
			op := prune.Operation{WorkflowID: e.GetExecution().GetWorkflowId()}
			attribute := func(name string) (value string) {
				p := e.GetSearchAttributes().GetIndexedFields()[name]
				if p == nil || converter.GetDefaultDataConverter().FromPayload(p, &value) != nil {
					return ""
				}
				return value
			}
			op.BackupID = attribute(temporalservice.KeyBackupID.GetName())
			// In a namespace without the search attributes the workflow id tells.
			if kind, rest, _ := strings.Cut(op.WorkflowID, "/"); op.BackupID == "" && (kind == "backup" || kind == "restore") {
				op.BackupID, _, _ = strings.Cut(rest, "/")
			}
			if op.BackupID == "" && strings.Contains(backupUsersMaybe, strconv.Quote(e.GetType().GetName())) {
				continue
			}
			if there := attribute(temporalservice.KeyRepository.GetName()); op.BackupID == "" && there != "" && there != place {
				continue
			}
			running = append(running, op)
		}
		if page = answer.GetNextPageToken(); len(page) == 0 {
			return running, nil
		}
	}
}
