package cli

import (
	"cmp"
	"context"
	"slices"

	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// topics reads what a backup holds of each topic from its index alone, by name
// and with all partitions in order. The slices, which only a restore needs, are
// dropped at once, so that memory is bounded by the number of partitions.
func (r *opened) topics(ctx context.Context, m *repository.Manifest) ([]repository.Topic, error) {
	type key struct{ name, id string }
	at := map[key]int{}
	var all []repository.Topic
	for shard, err := range r.Shards(ctx, m, 2) {
		if err != nil {
			return nil, err
		}
		for _, t := range shard.Topics {
			for i := range t.Partitions {
				t.Partitions[i].Slices = nil
			}
			i, known := at[key{t.Name, t.ID}]
			if !known {
				at[key{t.Name, t.ID}] = len(all)
				all = append(all, t)
				continue
			}
			all[i].Partitions = append(all[i].Partitions, t.Partitions...)
		}
	}
	for i := range all {
		slices.SortFunc(all[i].Partitions, func(a, b repository.Partition) int { return cmp.Compare(a.Partition, b.Partition) })
	}
	slices.SortFunc(all, func(a, b repository.Topic) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}
