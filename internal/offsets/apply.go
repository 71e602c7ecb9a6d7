package offsets

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"golang.org/x/sync/errgroup"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
)

// Change is one committed offset to be set, or to be removed.
type Change struct {
	Group     string `json:"group"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	// Offset is the next offset to be read; negative removes the committed
	// offset, so that the group has none.
	Offset      int64  `json:"offset"`
	LeaderEpoch int32  `json:"leader_epoch"` // -1: none
	Metadata    string `json:"metadata,omitempty"`
}

// Failure is a change that was not made, or that reads back differently.
type Failure struct {
	Change
	Err error
}

// attempts is how often a partition's transient error is tried again.
const attempts = 8

// Apply makes changes, many partitions of a group in a request, several groups
// at once. It returns what could not be changed; the rest was.
func Apply(ctx context.Context, cluster *kafka.Cluster, changes []Change) ([]Failure, error) {
	var mu sync.Mutex
	var failed []Failure
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(32)
	for _, group := range byGroup(changes) {
		g.Go(func() error {
			bad, err := applyGroup(gctx, cluster, group)
			mu.Lock()
			failed = append(failed, bad...)
			mu.Unlock()
			return err
		})
	}
	err := g.Wait()
	sortFailures(failed)
	return failed, err
}

// byGroup cuts changes into those of each group.
func byGroup(changes []Change) [][]Change {
	sorted := slices.SortedFunc(slices.Values(changes), func(a, b Change) int { return cmp.Compare(a.Group, b.Group) })
	var groups [][]Change
	for len(sorted) > 0 {
		n := 1
		for n < len(sorted) && sorted[n].Group == sorted[0].Group {
			n++
		}
		groups = append(groups, sorted[:n])
		sorted = sorted[n:]
	}
	return groups
}

func sortFailures(f []Failure) {
	slices.SortFunc(f, func(a, b Failure) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
}

// applyGroup changes the offsets of one group. Partitions whose error is
// transient are tried again alone, with growing pauses.
func applyGroup(ctx context.Context, cluster *kafka.Cluster, open []Change) ([]Failure, error) {
	group := open[0].Group
	var failed []Failure
	wait := 50 * time.Millisecond
	for attempt := 1; len(open) > 0; attempt++ {
		var set []kafka.CommittedOffset
		var remove []kafka.TopicPartition
		for _, c := range open {
			if c.Offset < 0 {
				remove = append(remove, kafka.TopicPartition{Topic: c.Topic, Partition: c.Partition})
			} else {
				set = append(set, kafka.CommittedOffset{Topic: c.Topic, Partition: c.Partition, Offset: c.Offset, LeaderEpoch: c.LeaderEpoch, Metadata: c.Metadata})
			}
		}
		results := map[kafka.TopicPartition]error{}
		if len(set) > 0 {
			if err := collect(results, set, func() (map[kafka.TopicPartition]error, error) { return cluster.CommitOffsets(ctx, group, set) }); err != nil {
				return nil, err
			}
		}
		if len(remove) > 0 {
			got, err := cluster.DeleteOffsets(ctx, group, remove)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			for _, tp := range remove {
				results[tp] = cmp.Or(err, got[tp])
				if errors.Is(results[tp], kerr.GroupIDNotFound) {
					results[tp] = nil // no group, no offset
				}
			}
		}
		var again []Change
		for _, c := range open {
			err := results[kafka.TopicPartition{Topic: c.Topic, Partition: c.Partition}]
			switch {
			case err == nil:
			case kafka.Retryable(err) && attempt < attempts:
				again = append(again, c)
			default:
				failed = append(failed, Failure{c, err})
			}
		}
		if open = again; len(open) == 0 {
			break
		}
		select {
		case <-time.After(wait):
			wait = min(2*wait, 2*time.Second)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return failed, nil
}

func collect(results map[kafka.TopicPartition]error, set []kafka.CommittedOffset, commit func() (map[kafka.TopicPartition]error, error)) error {
	got, err := commit()
	if errors.Is(err, context.Canceled) {
		return err
	}
	for _, o := range set {
		tp := kafka.TopicPartition{Topic: o.Topic, Partition: o.Partition}
		results[tp] = cmp.Or(err, got[tp])
	}
	return nil
}

// Verify reads the committed offsets back and returns the changes that they do
// not show.
func Verify(ctx context.Context, cluster *kafka.Cluster, changes []Change) ([]Failure, error) {
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
	now := map[key]int64{}
	for g, offsets := range got {
		for _, o := range offsets {
			now[key{g, o.Topic, o.Partition}] = o.Offset
		}
	}
	var failed []Failure
	for _, c := range changes {
		at, ok := now[key{c.Group, c.Topic, c.Partition}]
		if !ok {
			at = -1
		}
		if at != max(c.Offset, -1) {
			failed = append(failed, Failure{c, &MismatchError{Want: c.Offset, Got: at}})
		}
	}
	sortFailures(failed)
	return failed, nil
}
