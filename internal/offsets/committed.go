package offsets

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
)

// Committed is what a group has committed for a partition.
type Committed struct {
	Offset      int64 // the next to be read; None: nothing is committed
	LeaderEpoch int32 // -1: none, or the brokers do not tell
	Metadata    string
}

var nothing = Committed{Offset: None, LeaderEpoch: -1}

func (c Committed) String() string {
	switch {
	case c.Offset < 0:
		return "none"
	case c.Metadata != "":
		return fmt.Sprintf("%d with metadata %q", c.Offset, c.Metadata)
	}
	return strconv.FormatInt(c.Offset, 10)
}

// like tells whether two are the same as far as brokers tell: old ones know no
// leader epochs.
func (c Committed) like(o Committed) bool {
	return c.Offset == o.Offset && c.Metadata == o.Metadata && (c.LeaderEpoch == o.LeaderEpoch || c.LeaderEpoch < 0 || o.LeaderEpoch < 0)
}

func (c *Change) committed() Committed {
	if c.Offset < 0 {
		return nothing
	}
	return Committed{c.Offset, c.LeaderEpoch, c.Metadata}
}

// before is what was committed when the plan was made.
func (r *Row) before() Committed {
	if r.Current < 0 {
		return nothing
	}
	return Committed{r.Current, r.CurrentEpoch, r.CurrentMetadata}
}

// after is what the plan makes of it.
func (r *Row) after() Committed {
	if r.Target < 0 {
		return nothing
	}
	return Committed{r.Target, r.Epoch, r.Metadata}
}

// owner is who committed what a group has committed for a partition of a plan.
type owner int

const (
	somebody owner = iota // neither what was there before nor what the plan sets
	nobody                // it is as it was before
	us                    // it is what the plan sets
)

// owner tells who committed what is there now.
func (r *Row) owner(now Committed) owner {
	switch {
	case now == r.after():
		return us
	case now == r.before():
		return nobody
	case now.like(r.after()):
		return us
	case now.like(r.before()):
		return nobody
	}
	return somebody
}

// groupPartition is where a group commits offsets.
type groupPartition struct {
	group, topic string
	partition    int32
}

// now is what groups have committed at this moment.
type now struct {
	groups map[string]map[kafka.TopicPartition]Committed
	failed map[string]error // groups that could not be read
}

func (n *now) at(p groupPartition) Committed {
	if c, ok := n.groups[p.group][kafka.TopicPartition{Topic: p.topic, Partition: p.partition}]; ok {
		return c
	}
	return nothing
}

// whole returns why a group could not be read; nil: all could be.
func (n *now) whole() error {
	if len(n.failed) == 0 {
		return nil
	}
	return n.failed[slices.Min(slices.Collect(maps.Keys(n.failed)))]
}

// readCommitted reads what groups have committed. That some of them cannot be
// read is no error.
func readCommitted(ctx context.Context, cluster *kafka.Cluster, groups []string) (*now, error) {
	all, err := cluster.CommittedOffsets(ctx, groups)
	n := &now{groups: make(map[string]map[kafka.TopicPartition]Committed, len(all)), failed: map[string]error{}}
	var partial *kafka.PartialError
	if errors.As(err, &partial) {
		for _, f := range partial.Failed {
			n.failed[f.Group] = f
		}
	} else if err != nil {
		return nil, err
	}
	for group, offsets := range all {
		if n.failed[group] != nil {
			continue
		}
		at := make(map[kafka.TopicPartition]Committed, len(offsets))
		for _, o := range offsets {
			at[kafka.TopicPartition{Topic: o.Topic, Partition: o.Partition}] = Committed{o.Offset, o.LeaderEpoch, o.Metadata}
		}
		n.groups[group] = at
	}
	return n, nil
}

// mayReturn tells whether what failed may pass later: transient errors, and,
// for who can wait, members that may leave.
func mayReturn(err error) bool {
	for _, code := range []error{kerr.UnknownMemberID, kerr.GroupSubscribedToTopic, kerr.NonEmptyGroup, kerr.IllegalGeneration, kerr.StaleMemberEpoch} {
		if errors.Is(err, code) {
			return true
		}
	}
	return transient(err)
}
