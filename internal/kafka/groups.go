package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

// What is done with groups, as errors name it.
const (
	opFetchOffsets   = "fetch committed offsets"
	opCommitOffsets  = "commit offsets"
	opDeleteOffsets  = "delete committed offsets"
	opDescribeGroups = "describe groups"
)

// Types of groups, in Kafka's words (ListGroups version 5, KIP-848, KIP-932, KIP-1071).
const (
	GroupClassic  = "classic"
	GroupConsumer = "consumer"
	GroupShare    = "share"
	GroupStreams  = "streams"
)

// Group is a consumer, share or streams group.
type Group struct {
	Name     string
	Type     string // one of the Group constants; brokers before 3.7 do not tell, theirs are classic
	State    string // Empty, Stable, ...; empty when the brokers do not tell (before 2.6)
	Protocol string // protocol type: "consumer" for consumers; empty for a group that only has offsets
	// Offsets are by topic and partition; nil unless asked for. A share group has none of this kind.
	Offsets []CommittedOffset
}

// CommittedOffset is a group's position in a partition: the next offset to be read.
type CommittedOffset struct {
	Topic       string
	TopicID     TopicID // zero when the brokers do not tell
	Partition   int32
	Offset      int64
	LeaderEpoch int32 // of the record before it; -1: none was committed
	Metadata    string
}

// ListGroups lists the groups that filter selects, by name, without offsets. All brokers are asked, for
// each knows only the groups it coordinates; those that do not answer are in a [*PartialError]. Groups
// for which DESCRIBE is missing are invisible.
func (c *Cluster) ListGroups(ctx context.Context, filter config.GroupFilter) ([]Group, error) {
	const op = "list groups"
	var groups []Group
	err := patiently(ctx, c, func() error {
		var failed []*Error
		byName := map[string]Group{}
		for _, shard := range c.client.RequestSharded(ctx, kmsg.NewPtrListGroupsRequest()) {
			err := shard.Err
			if err == nil {
				err = kerr.ErrorForCode(shard.Resp.(*kmsg.ListGroupsResponse).ErrorCode)
			}
			if err != nil {
				failed = append(failed, brokerError(op, shard.Meta.NodeID, err))
				continue
			}
			for _, g := range shard.Resp.(*kmsg.ListGroupsResponse).Groups {
				if filter.Match(g.Group) {
					byName[g.Group] = Group{Name: g.Group, Type: cmp.Or(strings.ToLower(g.GroupType), GroupClassic), State: g.GroupState, Protocol: g.ProtocolType}
				}
			}
		}
		groups = groups[:0]
		for _, name := range sortedKeys(byName) {
			groups = append(groups, byName[name])
		}
		return partial(op, failed)
	})
	return groups, err
}

// CaptureGroups lists the groups that filter selects with their committed offsets on the topics for which
// topic says yes. Groups without any are left out, except share groups, which keep their positions
// elsewhere. What failed, broker or group, is in a [*PartialError], and the rest is returned.
//
// A committed offset on a topic for which DESCRIBE is missing is left out by the brokers, silently.
func (c *Cluster) CaptureGroups(ctx context.Context, filter config.GroupFilter, topic func(string) bool) ([]Group, error) {
	listed, err := c.ListGroups(ctx, filter)
	failed, err := gather(nil, err)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, g := range listed {
		if g.Type != GroupShare {
			names = append(names, g.Name)
		}
	}
	offsets, err := c.CommittedOffsets(ctx, names)
	if failed, err = gather(failed, err); err != nil {
		return nil, err
	}
	groups := listed[:0]
	for _, g := range listed {
		for _, o := range offsets[g.Name] {
			if topic(o.Topic) {
				g.Offsets = append(g.Offsets, o)
			}
		}
		if len(g.Offsets) > 0 || g.Type == GroupShare {
			groups = append(groups, g)
		}
	}
	return groups, partial("capture groups", failed)
}

// CommittedOffsets returns all committed offsets of groups, by topic and partition (OffsetFetch, many
// groups a request from version 8 on). A group that does not exist, or has no offsets, gives an empty
// list. What failed is in a [*PartialError].
//
// From version 10 on brokers name a topic by its id only, and another broker is asked for its name, which
// may not know a new topic yet. So that nothing is left out, it is looked for again for [LookAgain]; what
// has no name then was deleted, and so were its offsets.
func (c *Cluster) CommittedOffsets(ctx context.Context, groups []string) (map[string][]CommittedOffset, error) {
	const op = opFetchOffsets
	got := make(map[string][]CommittedOffset, len(groups))
	var failed []*Error
	each(chunks(groups, maxGroupsPerRequest), func(names []string) func() {
		offsets, bad := c.committedOffsets(ctx, op, names)
		return func() {
			for name, os := range offsets {
				got[name] = os
			}
			failed = append(failed, bad...)
		}
	})
	slices.SortFunc(failed, func(a, b *Error) int { return cmp.Compare(a.Group, b.Group) })
	if ctx.Err() != nil {
		return got, ctx.Err()
	}
	return got, c.asked(partial(op, failed))
}

func (c *Cluster) committedOffsets(ctx context.Context, op string, names []string) (map[string][]CommittedOffset, []*Error) {
	got := make(map[string][]CommittedOffset, len(names))
	var failed map[string]error
	open := names
	begin := time.Now()
	_ = patiently(ctx, c, func() error { // what is left in failed says how it ended
		req := kmsg.NewPtrOffsetFetchRequest()
		round := make(map[string]error, len(open))
		for _, name := range open {
			g := kmsg.NewOffsetFetchRequestGroup()
			g.Group, g.MemberEpoch, g.Topics = name, -1, nil // nil: all topics
			req.Groups = append(req.Groups, g)
			round[name] = errNoAnswer
		}
		for _, shard := range c.client.RequestSharded(ctx, req) {
			if shard.Err != nil {
				for _, g := range shard.Req.(*kmsg.OffsetFetchRequest).Groups {
					round[g.Group] = shard.Err
				}
				if g := shard.Req.(*kmsg.OffsetFetchRequest).Group; g != "" { // before version 8
					round[g] = shard.Err
				}
				continue
			}
			for _, g := range shard.Resp.(*kmsg.OffsetFetchResponse).Groups {
				if os, nameless, err := committed(g); err != nil {
					round[g.Group] = err
				} else if nameless && time.Since(begin) < min(LookAgain, c.patience/2) {
					round[g.Group] = errNameless
				} else {
					got[g.Group] = os
					delete(round, g.Group)
				}
			}
		}
		open = open[:0:0]
		failed = mergeErrors(failed, names, got, round)
		var transient error
		for _, name := range sortedKeys(round) {
			if Retryable(round[name]) {
				open, transient = append(open, name), round[name]
			}
		}
		return transient
	})
	var bad []*Error
	for _, name := range sortedKeys(failed) {
		bad = append(bad, groupError(op, name, failed[name]))
	}
	return got, bad
}

// mergeErrors brings what failed so far up to date with another round.
func mergeErrors[T any](failed map[string]error, names []string, got map[string]T, round map[string]error) map[string]error {
	if failed == nil {
		failed = map[string]error{}
	}
	for _, name := range names {
		if err, ok := round[name]; ok {
			failed[name] = err
		} else if _, ok := got[name]; ok {
			delete(failed, name)
		}
	}
	return failed
}

// errNameless is a topic of which no broker that was asked knows the name.
var errNameless = errors.New("a topic is known by its id only")

// committed reads one group of an answer; nameless: topics without a name are left out.
func committed(g kmsg.OffsetFetchResponseGroup) (os []CommittedOffset, nameless bool, err error) {
	if err := kerr.ErrorForCode(g.ErrorCode); err == kerr.GroupIDNotFound {
		return []CommittedOffset{}, false, nil
	} else if err != nil {
		return nil, false, err
	}
	os = []CommittedOffset{}
	for _, t := range g.Topics {
		if t.Topic == "" {
			nameless = true
			continue
		}
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return nil, false, fmt.Errorf("topic %s partition %d: %w", t.Topic, p.Partition, err)
			}
			if p.Offset < 0 {
				continue // nothing committed
			}
			os = append(os, CommittedOffset{Topic: t.Topic, TopicID: t.TopicID, Partition: p.Partition, Offset: p.Offset, LeaderEpoch: p.LeaderEpoch, Metadata: text(p.Metadata)})
		}
	}
	slices.SortStableFunc(os, func(a, b CommittedOffset) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	// Apache Kafka 4.3 lists offsets twice after it has refused a commit that was too large to be written.
	return slices.CompactFunc(os, func(a, b CommittedOffset) bool { return a.Topic == b.Topic && a.Partition == b.Partition }), nameless, nil
}
