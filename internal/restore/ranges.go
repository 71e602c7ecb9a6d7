package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// Range says where a source partition went.
type Range struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"` // -1: all, since records were placed by their keys
	// First and Last are the lowest and highest offset that the backup holds; -1:
	// none, or of several partitions.
	First  int64  `json:"first_offset"`
	Last   int64  `json:"last_offset"`
	Target string `json:"target_topic"`
	// To is the target partition.
	To int32 `json:"target_partition"`
	// TargetFirst and TargetLast are the offsets of the first and the last
	// restored record; -1: none was restored.
	TargetFirst int64 `json:"target_first_offset"`
	TargetLast  int64 `json:"target_last_offset"`
	Records     int64 `json:"record_count"`
	// Pieces counts the runs of records between which others wrote; 1: nobody did.
	Pieces int `json:"pieces"`
}

// Ranges lists where each source partition went, by topic and partition.
func (m *Mapping) Ranges(ctx context.Context, repo *repository.Repository) ([]Range, error) {
	plan, _, err := ReadPlan(ctx, repo, m.Plan.Key)
	if err != nil {
		return nil, err
	}
	var all []Range
	for i := range plan.Parts {
		var pp PlanPart
		var result PartResult
		if err := errors.Join(repo.GetDocument(ctx, plan.Parts[i], &pp), repo.GetDocument(ctx, m.Results[i], &result)); err != nil {
			return nil, fmt.Errorf("read part %d of the mapping: %w", i+1, err)
		}
		at := map[sourceKey]*PartitionResult{}
		for j := range result.Partitions {
			at[sourceKey{result.Partitions[j].Topic, result.Partitions[j].Partition}] = &result.Partitions[j]
		}
		add := func(r Range) {
			r.TargetFirst, r.TargetLast = -1, -1
			if p := at[sourceKey{r.Target, r.To}]; p != nil {
				r.Records, r.Pieces = p.Records, max(1, len(p.Pieces))
				if p.Records > 0 {
					r.TargetFirst, r.TargetLast = p.offset(0), p.offset(p.Records-1)
				}
			}
			all = append(all, r)
		}
		for _, c := range pp.Copies {
			first, last := c.From.FirstOffset, c.From.LastOffset
			if c.From.Records == 0 {
				first, last = -1, -1
			}
			add(Range{Topic: c.Source, Partition: c.From.Partition, First: first, Last: last, Target: c.Target, To: c.From.Partition})
		}
		for _, mg := range pp.Merges {
			for to := range mg.Partitions {
				add(Range{Topic: mg.Source, Partition: -1, First: -1, Last: -1, Target: mg.Target, To: to})
			}
		}
	}
	slices.SortFunc(all, func(a, b Range) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.To, b.To))
	})
	return all, nil
}
