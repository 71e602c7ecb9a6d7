package offsets

import (
	"context"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
)

// Before returns the changes that undo the given ones: for each, what is
// committed now, or its removal where nothing is.
func Before(ctx context.Context, cluster *kafka.Cluster, changes []Change) ([]Change, error) {
	var names []string
	for _, g := range byGroup(changes) {
		names = append(names, g[0].Group)
	}
	got, err := cluster.CommittedOffsets(ctx, names)
	if err != nil {
		return nil, err
	}
	type key struct {
		group, topic string
		partition    int32
	}
	now := map[key]kafka.CommittedOffset{}
	for g, offsets := range got {
		for _, o := range offsets {
			now[key{g, o.Topic, o.Partition}] = o
		}
	}
	undo := make([]Change, len(changes))
	for i, c := range changes {
		undo[i] = Change{Group: c.Group, Topic: c.Topic, Partition: c.Partition, Offset: -1, LeaderEpoch: -1}
		if o, ok := now[key{c.Group, c.Topic, c.Partition}]; ok {
			undo[i].Offset, undo[i].LeaderEpoch, undo[i].Metadata = o.Offset, o.LeaderEpoch, o.Metadata
		}
	}
	return undo, nil
}
