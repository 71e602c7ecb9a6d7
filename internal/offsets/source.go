package offsets

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/restore"
)

// GroupNow is a group as the cluster has it.
type GroupNow struct {
	kafka.Group      // with its committed offsets
	Exists      bool // the cluster lists it
}

// Want is what a source says about one partition of a group.
type Want struct {
	Topic     string
	Partition int32
	// TopicID is the id that the topic must have on the cluster; empty: any.
	TopicID string
	At      At
	Offset  int64 // with AtOffset
	Time    int64 // with AtTime, in ms since 1970
	Epoch   int32 // leader epoch to commit with it; -1: none
	// Metadata to commit with it; nil: it does not matter, none is committed.
	Metadata *string
	// Unable says why the source has no target; the row is then a Skip.
	Unable string
}

// At is a way to say where.
type At int

// The ways.
const (
	AtOffset   At = iota
	AtEarliest    // the log start offset
	AtLatest      // the high watermark
	AtTime        // the first record of a time or later; the high watermark where there is none
	AtNone        // no committed offset at all
)

// Source says what committed offsets groups should have.
type Source interface {
	// Describe says in a few words where targets come from.
	Describe() string
	// Groups are the groups that it knows; cluster says that those of the cluster
	// are meant too.
	Groups() (known []KnownGroup, cluster bool)
	// Wants gives the targets of groups, in their order.
	Wants(ctx context.Context, groups []GroupNow) ([][]Want, error)
}

// KnownGroup is a group that a source knows.
type KnownGroup struct {
	Name string
	Type string // one of package kafka's Group constants; empty: not known
	// New: it need not exist on the cluster. Setting its offsets creates it.
	New bool
}

// Captured takes the committed offsets that were captured with a backup, as
// they are. They mean the same records only in the log they were committed
// for.
type Captured struct {
	Capture  *repository.GroupsCapture
	BackupID string
	// SameCluster: the cluster is the one that was backed up. Then topic ids are
	// compared and leader epochs are kept.
	SameCluster bool
	// Topics are the ids of the backup's topics by name, for a rollback: a group has
	// no committed offset on them that was not captured. Nil: what was not captured
	// is left as it is. Topics that are not in the backup always are.
	Topics map[string]string

	index captureIndex
}

// Describe implements Source.
func (s *Captured) Describe() string { return "the offsets captured with backup " + s.BackupID }

// Groups implements Source.
func (s *Captured) Groups() ([]KnownGroup, bool) { return capturedGroups(s.Capture), false }

func capturedGroups(c *repository.GroupsCapture) []KnownGroup {
	if c == nil {
		return nil
	}
	known := make([]KnownGroup, 0, len(c.Groups))
	for i := range c.Groups {
		known = append(known, KnownGroup{Name: c.Groups[i].Group, Type: c.Groups[i].Type})
	}
	return known
}

// captureIndex finds captured groups by their names.
type captureIndex struct {
	once   sync.Once
	groups map[string]*repository.Group
}

func (x *captureIndex) find(c *repository.GroupsCapture, name string) *repository.Group {
	x.once.Do(func() {
		x.groups = map[string]*repository.Group{}
		if c != nil {
			for i := range c.Groups {
				x.groups[c.Groups[i].Group] = &c.Groups[i]
			}
		}
	})
	return x.groups[name]
}

// Wants implements Source.
func (s *Captured) Wants(_ context.Context, groups []GroupNow) ([][]Want, error) {
	all := make([][]Want, len(groups))
	for i := range groups {
		g := s.index.find(s.Capture, groups[i].Name)
		if g == nil {
			continue
		}
		had := map[kafka.TopicPartition]bool{}
		for _, o := range g.Offsets {
			had[kafka.TopicPartition{Topic: o.Topic, Partition: o.Partition}] = true
			w := Want{Topic: o.Topic, Partition: o.Partition, Offset: o.Offset, Epoch: -1, Metadata: o.Metadata}
			if s.SameCluster {
				w.TopicID, w.Epoch = o.TopicID, o.LeaderEpoch
			}
			all[i] = append(all[i], w)
		}
		for _, o := range groups[i].Offsets {
			if id, ok := s.Topics[o.Topic]; ok && !had[kafka.TopicPartition{Topic: o.Topic, Partition: o.Partition}] {
				all[i] = append(all[i], Want{Topic: o.Topic, Partition: o.Partition, TopicID: id, At: AtNone, Epoch: -1})
			}
		}
	}
	return all, nil
}

// Translator finds target offsets for source offsets, through the mapping of
// a restore.
type Translator interface {
	// Rekeyed tells whether a source topic's records were placed by their keys:
	// its offsets have no single place in the target.
	Rekeyed(topic string) bool
	// Translate finds the place of a committed source offset: that of the first
	// restored record at or after it, or the end of what was restored. The error
	// is restore.ErrNotRestored when the partition was not restored.
	Translate(ctx context.Context, topic string, partition int32, offset int64) (restore.Position, error)
	// Merge finds the places in a re-keyed topic from which groups read all they
	// had not read, given their committed offsets by source partition.
	Merge(ctx context.Context, topic string, committed []map[int32]int64) ([][]restore.Position, error)
}

// Mapped takes the committed offsets that were captured with a backup through
// the offset mapping of a restore.
type Mapped struct {
	Capture    *repository.GroupsCapture
	Translator Translator
	Restore    string // workflow id of the restore

	index captureIndex
}

// Describe implements Source.
func (s *Mapped) Describe() string { return "the offset mapping of " + s.Restore }

// Groups implements Source.
func (s *Mapped) Groups() ([]KnownGroup, bool) { return capturedGroups(s.Capture), false }

// Wants implements Source.
func (s *Mapped) Wants(ctx context.Context, groups []GroupNow) ([][]Want, error) {
	all := make([][]Want, len(groups))
	rekeyed := map[string]*merge{}
	var order []string
	for i := range groups {
		g := s.index.find(s.Capture, groups[i].Name)
		if g == nil {
			continue
		}
		for _, o := range g.Offsets {
			if s.Translator.Rekeyed(o.Topic) {
				m := rekeyed[o.Topic]
				if m == nil {
					m = &merge{}
					rekeyed[o.Topic], order = m, append(order, o.Topic)
				}
				m.add(i, o.Partition, o.Offset)
				continue
			}
			at, err := s.Translator.Translate(ctx, o.Topic, o.Partition, o.Offset)
			switch {
			case errors.Is(err, restore.ErrNotRestored):
				all[i] = append(all[i], Want{Topic: o.Topic, Partition: o.Partition, Unable: "the partition was not restored; restore it, or say where to with --to-earliest, --to-latest, --to-offset"})
			case err != nil:
				return nil, fmt.Errorf("group %s, %s partition %d, offset %d: %w", g.Group, o.Topic, o.Partition, o.Offset, err)
			default:
				all[i] = append(all[i], Want{Topic: at.Topic, TopicID: at.TopicID, Partition: at.Partition, Offset: at.Offset, Epoch: -1, Metadata: o.Metadata})
			}
		}
	}
	slices.Sort(order)
	for _, topic := range order {
		m := rekeyed[topic]
		places, err := s.Translator.Merge(ctx, topic, m.committed)
		if err != nil {
			return nil, fmt.Errorf("topic %s: %w", topic, err)
		}
		for j, i := range m.owners {
			for _, at := range places[j] {
				all[i] = append(all[i], Want{Topic: at.Topic, TopicID: at.TopicID, Partition: at.Partition, Offset: at.Offset, Epoch: -1})
			}
		}
	}
	return all, nil
}

// merge gathers the committed offsets of groups on a re-keyed topic.
type merge struct {
	owners    []int // groups, by position
	committed []map[int32]int64
}

func (m *merge) add(group int, partition int32, offset int64) {
	if n := len(m.owners); n == 0 || m.owners[n-1] != group {
		m.owners, m.committed = append(m.owners, group), append(m.committed, map[int32]int64{})
	}
	m.committed[len(m.committed)-1][partition] = offset
}
