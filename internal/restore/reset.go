package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// Reset is operations/<workflow id>/<run id>/offsets.json: the committed
// offsets that are set after a restore, and what they were before. It is
// written before the first one is set.
type Reset struct {
	Format  string           `json:"format"`
	Version int              `json:"version"`
	Set     []offsets.Change `json:"set"`
	Before  []offsets.Change `json:"before"` // the same places, in the same order
	// Skipped says which captured offsets have no place in the target.
	Skipped []string `json:"skipped,omitempty"`
}

const formatReset = "kafka-backup/restore-offsets"

// PlanReset translates the captured offsets of the plan's groups, records what
// is committed in their places now, and writes both, or reads what an earlier
// attempt wrote. generation tells runs apart: each records anew what it finds.
func PlanReset(ctx context.Context, cluster *kafka.Cluster, repo *repository.Repository, plan *Plan, groups []string, generation string) (*Reset, string, error) {
	key := plan.object("offsets-" + generation + ".json")
	reset, err := ReadReset(ctx, repo, key)
	if err == nil || !errors.Is(err, repository.ErrNotFound) {
		return reset, key, err
	}
	var m Mapping
	if _, err := repo.ReadDocument(ctx, plan.object("mapping.json"), &m); err != nil {
		return nil, "", fmt.Errorf("read the offset mapping: %w", err)
	}
	t, err := NewTranslator(ctx, repo, &m)
	if err != nil {
		return nil, "", err
	}
	manifest, err := repo.ReadManifest(ctx, plan.BackupID)
	if err != nil {
		return nil, "", err
	}
	captured, err := repo.ReadGroups(ctx, manifest)
	if err != nil {
		return nil, "", err
	}
	reset = &Reset{Format: formatReset, Version: repository.FormatVersion}
	if err := reset.translate(ctx, t, captured.Last(), groups); err != nil {
		return nil, "", err
	}
	if reset.Before, err = offsets.Before(ctx, cluster, reset.Set); err != nil {
		return nil, "", err
	}
	_, _, err = repository.AdoptDocument(ctx, repo, key, reset)
	return reset, key, err
}

// ReadReset reads what PlanReset wrote.
func ReadReset(ctx context.Context, repo *repository.Repository, key string) (*Reset, error) {
	r := new(Reset)
	_, err := repo.ReadDocument(ctx, key, r)
	return r, err
}

func (r *Reset) translate(ctx context.Context, t *Translator, captured *repository.GroupsCapture, groups []string) error {
	rekeyed := map[string][]map[int32]int64{} // by source topic: offsets by group and partition
	owners := map[string][]string{}           // by source topic: the groups
	for _, g := range captured.Groups {
		if !slices.Contains(groups, g.Group) {
			continue
		}
		for _, o := range g.Offsets {
			if t.Rekeyed(o.Topic) {
				n := len(owners[o.Topic])
				if n == 0 || owners[o.Topic][n-1] != g.Group {
					owners[o.Topic] = append(owners[o.Topic], g.Group)
					rekeyed[o.Topic] = append(rekeyed[o.Topic], map[int32]int64{})
					n++
				}
				rekeyed[o.Topic][n-1][o.Partition] = o.Offset
				continue
			}
			at, err := t.Translate(ctx, o.Topic, o.Partition, o.Offset)
			var missing *NotRestoredError
			if errors.As(err, &missing) {
				r.Skipped = append(r.Skipped, fmt.Sprintf("group %s: %v", g.Group, err))
				continue
			}
			if err != nil {
				return err
			}
			c := offsets.Change{Group: g.Group, Topic: at.Topic, Partition: at.Partition, Offset: at.Offset, LeaderEpoch: -1}
			if o.Metadata != nil {
				c.Metadata = *o.Metadata
			}
			r.Set = append(r.Set, c)
		}
	}
	for topic, committed := range rekeyed {
		places, err := t.Merge(ctx, topic, committed)
		if err != nil {
			return err
		}
		for i, group := range owners[topic] {
			for _, at := range places[i] {
				r.Set = append(r.Set, offsets.Change{Group: group, Topic: at.Topic, Partition: at.Partition, Offset: at.Offset, LeaderEpoch: -1})
			}
		}
	}
	return nil
}
