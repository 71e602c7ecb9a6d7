package offsets

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// Comparison is how the committed offsets on a cluster compare with a snapshot.
type Comparison struct {
	Source      string // as Plan.Source
	ClusterID   string
	Groups      int
	Partitions  int64 // committed offsets, in the snapshot or on the cluster
	Differences []Difference
	Warnings    []string // what a person should know
}

// Difference is a committed offset that is not as a snapshot has it; None: there
// is none. Why says what differs when the offset does not, and why it cannot be
// the same when that is known.
type Difference struct {
	Group, Topic      string
	Partition         int32
	Snapshot, Current int64
	Why               string
}

// Compare compares the committed offsets on the cluster with the snapshot of a
// request, or with the groups captured with its backup. Whether the logs hold
// the offsets does not matter, and neither do active members. Errors: those of
// Plan but for [*RecreatedError], which is a difference.
func (r Request) Compare(ctx context.Context, cluster *kafka.Cluster, repo *repository.Repository) (*Comparison, error) {
	var source Source
	var err error
	if r.Snapshot != "" {
		source, err = r.snapshot(ctx, cluster, repo)
	} else {
		source, err = r.backup(ctx, cluster, repo, &Plan{})
	}
	if err != nil {
		return nil, err
	}
	if r.Groups.Empty() {
		r.Groups.All = true
	}
	listed, err := cluster.ListGroups(ctx, config.GroupFilter{})
	if err != nil {
		return nil, err
	}
	now := map[string]kafka.Group{}
	for _, g := range listed {
		now[g.Name] = g
	}
	kinds := map[string]string{}
	known, _ := source.Groups()
	for _, g := range known {
		kinds[g.Name] = g.Type
	}
	there := slices.Sorted(maps.Keys(kinds))
	names, missing := r.Groups.pick(there)
	if len(missing) > 0 {
		return nil, &GroupNotFoundError{Group: missing[0], Where: source.Describe(), Nearest: nearest(missing[0], there), Known: len(there)}
	}
	c := &Comparison{Source: source.Describe(), ClusterID: cluster.ID()}
	if text, err := hidden(ctx, cluster); err != nil {
		return nil, err
	} else if text != "" {
		c.Warnings = append(c.Warnings, text)
	}
	until := time.Now().Add(kafka.LookAgain)                                                      // for all that is missing together
	names = slices.DeleteFunc(names, func(n string) bool { return kinds[n] == kafka.GroupShare }) // has no committed offsets
	for chunk := range slices.Chunk(names, partGroups) {
		groups := make([]GroupNow, len(chunk))
		for i, n := range chunk {
			g, ok := now[n]
			g.Name = n
			groups[i] = GroupNow{g, ok}
		}
		if err := r.compare(ctx, c, cluster, source, groups, until); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (r *Request) compare(ctx context.Context, c *Comparison, cluster *kafka.Cluster, source Source, groups []GroupNow, until time.Time) error {
	var ask []string
	for i := range groups {
		if groups[i].Type != kafka.GroupShare {
			ask = append(ask, groups[i].Name)
		}
	}
	committed, err := cluster.CommittedOffsets(ctx, ask)
	if err != nil {
		return err
	}
	for i := range groups {
		groups[i].Offsets = committed[groups[i].Name]
	}
	wants, err := source.Wants(ctx, groups)
	if err != nil {
		return err
	}
	counts := map[string]int32{}
	for i := range wants {
		for _, w := range wants[i] {
			counts[w.Topic] = max(counts[w.Topic], w.Partition+1)
		}
	}
	found, err := cluster.FindTopics(ctx, counts, until)
	var some *kafka.PartialError
	if err != nil && !errors.As(err, &some) {
		return err
	}
	unseen := map[string]error{}
	if some != nil {
		for _, e := range some.Failed {
			unseen[e.Topic] = e
		}
	}
	for i := range groups {
		g := &groups[i]
		c.Groups++
		current := map[kafka.TopicPartition]kafka.CommittedOffset{}
		for _, o := range g.Offsets {
			current[kafka.TopicPartition{Topic: o.Topic, Partition: o.Partition}] = o
		}
		slices.SortStableFunc(wants[i], func(a, b Want) int {
			return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
		})
		for j := range wants[i] {
			w := &wants[i][j]
			if !r.Topics.Match(w.Topic, w.Partition) {
				continue
			}
			c.Partitions++
			at, ok := current[kafka.TopicPartition{Topic: w.Topic, Partition: w.Partition}]
			if !ok {
				at = kafka.CommittedOffset{Offset: None, LeaderEpoch: -1}
			}
			d := Difference{Group: g.Name, Topic: w.Topic, Partition: w.Partition, Snapshot: w.Offset, Current: at.Offset}
			if w.At == AtNone {
				d.Snapshot = None
			}
			d.Why = differs(w, g, at, found[w.Topic], unseen[w.Topic])
			if d.Snapshot != d.Current || d.Why != "" {
				c.Differences = append(c.Differences, d)
			}
		}
	}
	return nil
}

// differs says why a committed offset is not that of a snapshot, or what differs
// beside the offset; "" when there is nothing to say.
func differs(w *Want, g *GroupNow, at kafka.CommittedOffset, topic kafka.Topic, unseen error) string {
	switch {
	case w.At == AtNone:
		return ""
	case unseen != nil:
		return unseen.Error()
	case topic.Name == "":
		return "the topic does not exist on the cluster, or the user may not DESCRIBE it"
	case recreated(w, topic):
		return fmt.Sprintf("the topic was deleted and created again (its id was %s and is %s): the old offset means nothing in it", w.TopicID, topic.ID)
	case int(w.Partition) >= len(topic.Partitions):
		return fmt.Sprintf("the topic has %d partitions on the cluster", len(topic.Partitions))
	case g.Type == kafka.GroupShare:
		return "the group is a share group now: it has no committed offsets"
	case !g.Exists:
		return "the group does not exist on the cluster"
	case at.Offset != w.Offset:
		return ""
	case w.Metadata != nil && *w.Metadata != at.Metadata:
		return fmt.Sprintf("the metadata was %q and is %q", *w.Metadata, at.Metadata)
	case w.Epoch >= 0 && w.Epoch != at.LeaderEpoch:
		return fmt.Sprintf("the leader epoch was %d and is %d", w.Epoch, at.LeaderEpoch)
	}
	return ""
}
