package offsets

import (
	"context"
	"fmt"
	"slices"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
)

// Refusal returns why a plan cannot be carried out as a whole: an offset out
// of range, a group with active members, a group that cannot be reset. Nil: it
// can. groups are those of the plan, or the bad ones among them.
func Refusal(t Totals, groups []GroupPlan) error {
	var active []GroupPlan
	var blocked *BlockedError
	for i := range groups {
		g := &groups[i]
		switch {
		case g.Kind == BlockedActive:
			active = append(active, *g)
		case g.Blocked != "":
			if blocked == nil {
				blocked = &BlockedError{Group: g.Group, Why: g.Blocked, Kind: g.Kind, More: int64(t.Blocked - t.Active - 1), What: "groups"}
			}
		}
		for j := range g.Topics {
			for k := range g.Topics[j].Rows {
				r := &g.Topics[j].Rows[k]
				if r.Action == Failed && g.Blocked == "" {
					return &BlockedError{Group: g.Group, Why: fmt.Sprintf("topic %s partition %d: %s", g.Topics[j].Topic, r.Partition, r.Why),
						Kind: BlockedNoRight, More: t.Failed - 1, What: "partitions"}
				}
				if r.Action == OutOfRange {
					return &RangeError{Group: g.Group, Topic: g.Topics[j].Topic, Partition: r.Partition, Offset: r.Wanted, Start: r.Start, End: r.End, More: t.OutOfRange - 1}
				}
			}
		}
	}
	switch {
	case blocked != nil:
		return blocked
	case len(active) > 0:
		return &ActiveError{Groups: active[:min(5, len(active))], Count: t.Active}
	}
	return nil
}

// Bad tells whether a group stands against a plan as a whole.
func (g *GroupPlan) Bad() bool {
	if g.Blocked != "" {
		return true
	}
	for i := range g.Topics {
		if slices.ContainsFunc(g.Topics[i].Rows, func(r Row) bool { return r.Action == OutOfRange || r.Action == Failed }) {
			return true
		}
	}
	return false
}

// CheckUnmoved makes sure that what a shard was planned on still holds: the
// committed offsets of its groups, and the ids of their topics. The error is a
// [*MovedError].
func CheckUnmoved(ctx context.Context, cluster *kafka.Cluster, s *Shard, ranges bool) error {
	var names, topics []string
	for i := range s.Groups {
		if s.Groups[i].Blocked != "" {
			continue
		}
		names = append(names, s.Groups[i].Group)
		for j := range s.Groups[i].Topics {
			topics = append(topics, s.Groups[i].Topics[j].Topic)
		}
	}
	slices.Sort(topics)
	committed, err := cluster.CommittedOffsets(ctx, names)
	if err != nil {
		return err
	}
	found, err := cluster.DescribeTopics(ctx, slices.Compact(topics))
	if err != nil {
		return err
	}
	var moved *MovedError
	report := func(group, topic string, partition int32, format string, args ...any) {
		if moved != nil {
			moved.More++
			return
		}
		moved = &MovedError{Group: group, Topic: topic, Partition: partition, What: fmt.Sprintf(format, args...)}
	}
	var parts []kafka.TopicPartition
	for i := range s.Groups {
		g := &s.Groups[i]
		if g.Blocked != "" {
			continue
		}
		now := make(map[kafka.TopicPartition]kafka.CommittedOffset, len(committed[g.Group]))
		for _, o := range committed[g.Group] {
			now[kafka.TopicPartition{Topic: o.Topic, Partition: o.Partition}] = o
		}
		for j := range g.Topics {
			t := &g.Topics[j]
			if id := found[t.Topic].ID.String(); id != t.TopicID {
				report(g.Group, t.Topic, -1, "the topic was deleted or created again (its id was %q and is %q)", t.TopicID, id)
				continue
			}
			for k := range t.Rows {
				r := &t.Rows[k]
				tp := kafka.TopicPartition{Topic: t.Topic, Partition: r.Partition}
				at, ok := now[tp]
				if !ok {
					at.Offset = None
				}
				switch {
				case r.Action == Skip || r.Action == Failed:
				case at.Offset != r.Current:
					report(g.Group, t.Topic, r.Partition, "the committed offset was %s and is %s", place(r.Current), place(at.Offset))
				case at.Metadata != r.CurrentMetadata:
					report(g.Group, t.Topic, r.Partition, "the metadata committed with the offset was %q and is %q", r.CurrentMetadata, at.Metadata)
				}
				if r.Action == Set || r.Action == Clamped {
					parts = append(parts, tp)
				}
			}
		}
	}
	if moved != nil {
		return moved
	}
	if !ranges || len(parts) == 0 {
		return nil
	}
	slices.SortFunc(parts, comparePartitions)
	parts = slices.Compact(parts)
	starts, err := cluster.StartOffsets(ctx, parts)
	if err != nil {
		return err
	}
	ends, err := cluster.EndOffsets(ctx, parts)
	if err != nil {
		return err
	}
	for i := range s.Groups {
		g := &s.Groups[i]
		for j := range g.Topics {
			for k := range g.Topics[j].Rows {
				r := &g.Topics[j].Rows[k]
				tp := kafka.TopicPartition{Topic: g.Topics[j].Topic, Partition: r.Partition}
				if start, end := starts[tp].Offset, ends[tp].Offset; (r.Action == Set || r.Action == Clamped) && g.Blocked == "" && (r.Target < start || r.Target > end) {
					report(g.Group, tp.Topic, tp.Partition, "offset %d is not in the log any more (current: %d-%d)", r.Target, start, end)
				}
			}
		}
	}
	if moved != nil {
		return moved
	}
	return nil
}

// Active tells which groups of a plan have active members now, as an
// [*ActiveError] does; "" when none has.
func Active(ctx context.Context, r *Run) (string, error) {
	e := &ActiveError{Waited: true}
	for n := range r.Plan.Shards {
		s, err := r.Plan.ReadShard(ctx, r.Folder.Repository, n)
		if err != nil {
			return "", err
		}
		var names []string
		for i := range s.Groups {
			if s.Groups[i].Type != kafka.GroupShare {
				names = append(names, s.Groups[i].Group)
			}
		}
		groups, err := r.Cluster.DescribeGroups(ctx, names)
		if err != nil {
			return "", err
		}
		for _, name := range names {
			g := groups[name]
			if len(g.Members) == 0 {
				continue
			}
			if e.Count++; len(e.Groups) < 5 {
				e.Groups = append(e.Groups, GroupPlan{Group: name, Type: g.Type, State: g.State, Members: membersOf(g), MemberCount: len(g.Members)})
			}
		}
	}
	if e.Count == 0 {
		return "", nil
	}
	return e.Error(), nil
}
