package offsets

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
)

// Refusal returns why a plan cannot be carried out as a whole, whoever is waited
// for: an offset out of range, a group or a partition that cannot be reset. Nil:
// it can, once no group has active members. groups are those of the plan, or the
// bad ones among them.
func Refusal(t Totals, groups []GroupPlan) error {
	var blocked *BlockedError
	for i := range groups {
		g := &groups[i]
		if g.Blocked != "" && g.Kind != BlockedActive {
			if blocked == nil {
				blocked = &BlockedError{Group: g.Group, Why: g.Blocked, Kind: g.Kind, More: int64(t.Blocked - t.Active - 1), What: "groups"}
			}
			continue
		}
		for j := range g.Topics {
			for k := range g.Topics[j].Rows {
				switch r := &g.Topics[j].Rows[k]; r.Action {
				case Failed:
					return &BlockedError{Group: g.Group, Why: fmt.Sprintf("topic %s partition %d: %s", g.Topics[j].Topic, r.Partition, r.Why),
						Kind: BlockedNoRight, More: t.Failed - 1, What: "partitions"}
				case OutOfRange:
					return &RangeError{Group: g.Group, Topic: g.Topics[j].Topic, Partition: r.Partition, Offset: r.Wanted, Start: r.Start, End: r.End, More: t.OutOfRange - 1}
				}
			}
		}
	}
	if blocked != nil {
		return blocked
	}
	return nil
}

// Active returns the groups of a plan that have active members; nil: none has.
// groups are as with [Refusal].
func Active(t Totals, groups []GroupPlan) *ActiveError {
	if t.Active == 0 {
		return nil
	}
	e := &ActiveError{Count: t.Active}
	for i := range groups {
		if groups[i].Kind == BlockedActive && len(e.Groups) < maxNamed {
			e.Groups = append(e.Groups, groups[i])
		}
	}
	return e
}

// maxNamed is how many groups an error names.
const maxNamed = 5

// Bad tells whether a group stands against a plan as a whole.
func (g *GroupPlan) Bad() bool { return g.Blocked != "" || g.BadRows() }

// BadRows tells whether rows of a group stand against a plan as a whole, whoever
// its members are.
func (g *GroupPlan) BadRows() bool {
	for i := range g.Topics {
		if slices.ContainsFunc(g.Topics[i].Rows, func(r Row) bool { return r.Action == OutOfRange || r.Action == Failed }) {
			return true
		}
	}
	return false
}

// CheckUnmoved makes sure that what a shard was planned on still holds: the
// committed offsets of its groups, and the ids of their topics; and, for a plan
// that was made long ago, that the logs still hold what is to be set. The error
// is a [*MovedError].
func CheckUnmoved(ctx context.Context, cluster *kafka.Cluster, s *Shard, ranges bool) error {
	moved := &MovedError{}
	if err := s.checkGroups(ctx, cluster, moved); err != nil {
		return err
	}
	if ranges && moved.What == "" {
		if err := s.checkRanges(ctx, cluster, moved); err != nil {
			return err
		}
	}
	if moved.What != "" {
		return moved
	}
	return nil
}

func (e *MovedError) add(group, topic string, partition int32, format string, args ...any) {
	if e.What != "" {
		e.More++
		return
	}
	e.Group, e.Topic, e.Partition, e.What = group, topic, partition, fmt.Sprintf(format, args...)
}

// checkGroups looks for topics and committed offsets that are not any more as
// they were.
func (s *Shard) checkGroups(ctx context.Context, cluster *kafka.Cluster, moved *MovedError) error {
	var names []string
	topics := map[string]int32{}
	for g := range s.open() {
		names = append(names, g.Group)
		for j := range g.Topics {
			topics[g.Topics[j].Topic] = 1
		}
	}
	now, err := readCommitted(ctx, cluster, names)
	if err == nil {
		err = now.whole()
	}
	if err != nil {
		return err
	}
	found, err := cluster.FindTopics(ctx, topics, time.Now().Add(kafka.LookAgain))
	if err != nil {
		return err
	}
	for g := range s.open() {
		for j := range g.Topics {
			t := &g.Topics[j]
			if id := found[t.Topic].ID.String(); id != t.TopicID {
				moved.add(g.Group, t.Topic, -1, "the topic was deleted or created again (its id was %q and is %q)", t.TopicID, id)
				continue
			}
			for k := range t.Rows {
				r := &t.Rows[k]
				at := now.at(groupPartition{g.Group, t.Topic, r.Partition})
				if was := r.before(); r.Action != Skip && r.Action != Failed && !at.like(was) {
					moved.add(g.Group, t.Topic, r.Partition, "the committed offset was %v and is %v", was, at)
				}
			}
		}
	}
	return nil
}

// checkRanges looks for targets that are not in the log any more.
func (s *Shard) checkRanges(ctx context.Context, cluster *kafka.Cluster, moved *MovedError) error {
	type target struct {
		group string
		kafka.TopicPartition
		offset int64
	}
	var targets []target
	var parts []kafka.TopicPartition
	for g := range s.open() {
		for j := range g.Topics {
			for k := range g.Topics[j].Rows {
				if r := &g.Topics[j].Rows[k]; r.Action == Set || r.Action == Clamped {
					tp := kafka.TopicPartition{Topic: g.Topics[j].Topic, Partition: r.Partition}
					targets, parts = append(targets, target{g.Group, tp, r.Target}), append(parts, tp)
				}
			}
		}
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
	for _, t := range targets {
		if start, end := starts[t.TopicPartition].Offset, ends[t.TopicPartition].Offset; t.offset < start || t.offset > end {
			moved.add(t.group, t.Topic, t.Partition, "offset %d is not in the log any more (current: %d-%d)", t.offset, start, end)
		}
	}
	return nil
}

// open are the groups that are not blocked.
func (s *Shard) open() iter.Seq[*GroupPlan] {
	return func(yield func(*GroupPlan) bool) {
		for i := range s.Groups {
			if s.Groups[i].Blocked == "" && !yield(&s.Groups[i]) {
				return
			}
		}
	}
}

// StillActive returns the groups of the plan that have active members now; nil:
// none has.
func (r *Run) StillActive(ctx context.Context) (*ActiveError, error) {
	e := &ActiveError{}
	for s, err := range r.Plan.EachShard(ctx, r.Folder.Repository) {
		if err != nil {
			return nil, err
		}
		var names []string
		for i := range s.Groups {
			if s.Groups[i].Type != kafka.GroupShare {
				names = append(names, s.Groups[i].Group)
			}
		}
		groups, err := r.Cluster.DescribeGroups(ctx, names)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			g := groups[name]
			if len(g.Members) == 0 {
				continue
			}
			if e.Count++; len(e.Groups) < maxNamed {
				e.Groups = append(e.Groups, GroupPlan{Group: name, Type: g.Type, State: g.State, Members: membersOf(g), MemberCount: len(g.Members)})
			}
		}
	}
	if e.Count == 0 {
		return nil, nil
	}
	return e, nil
}
