package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/version"
)

// Complete captures the consumer groups once more, checks that every part is
// there, and writes the manifest: from then on the backup exists. Called again
// it returns the manifest that is there.
func Complete(ctx context.Context, cluster *kafka.Cluster, repo *repository.Repository, plan *Plan, groups config.GroupFilter, capture bool) (*repository.Manifest, error) {
	m, err := repo.ReadManifest(ctx, plan.BackupID)
	if err == nil {
		return m, nil
	}
	if !errors.Is(err, repository.ErrNotFound) {
		return nil, err
	}
	m = &repository.Manifest{
		BackupID: plan.BackupID, ClusterID: plan.ClusterID, CreatedAt: plan.CreatedAt, Previous: plan.Previous, Selection: &plan.Selection,
		WorkflowID: plan.WorkflowID, ToolVersion: version.String(), Warnings: plan.Warnings,
		Index: make([]repository.ObjectRef, len(plan.Parts)),
	}
	sums := totals{backupID: plan.BackupID, topics: map[string]string{}}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i := range plan.Parts {
		g.Go(func() error {
			shard, ref, err := repo.FindIndex(gctx, plan.BackupID, i)
			if err != nil {
				return fmt.Errorf("part %d is not complete: %w", i+1, err)
			}
			m.Index[i] = ref
			sums.add(shard)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	m.Totals = sums.totals()
	if m.Totals.Partitions != int(plan.Partitions) {
		return nil, fmt.Errorf("backup %q: the index has %d partitions, the plan %d", plan.BackupID, m.Totals.Partitions, plan.Partitions)
	}
	m.Warnings = append(m.Warnings, sums.warnings...)
	if capture {
		if err := completeGroups(ctx, cluster, repo, plan, groups, sums.topics, m); err != nil {
			return nil, err
		}
	}
	if err := repo.CheckPruned(ctx, plan.BackupID); err != nil {
		return nil, err
	}
	m.FinishedAt = Clock().UTC().Truncate(time.Millisecond)
	_, err = repo.WriteManifest(ctx, m)
	if errors.Is(err, repository.ErrExists) {
		return repo.ReadManifest(ctx, plan.BackupID)
	}
	return m, err
}
