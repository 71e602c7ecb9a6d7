package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

// opFindTopics is what is done, as errors name it.
const opFindTopics = "find topics"

// Topic is a topic as the cluster describes it.
type Topic struct {
	Name              string
	ID                TopicID
	Internal          bool              // one of Kafka's own (__consumer_offsets, ...)
	ReplicationFactor int               // of partition 0
	Config            map[string]string // what is set on the topic itself; nil: not known (see [Discovery.Warnings])
	Partitions        []Partition       // by number, without gaps
	Operations        Operations        // what who asks may do with it
	// Compacted tells whether the cleanup policy, the topic's own or the brokers', is or includes
	// compaction; DeleteRetention is then how long tombstones are kept at least (delete.retention.ms).
	// Both are filled in by [Cluster.Discover], as far as the configuration is known.
	Compacted       bool
	DeleteRetention time.Duration
}

// Partition is a partition as its leader describes it.
type Partition struct {
	Partition   int32
	Leader      int32 // broker id; -1: none
	LeaderEpoch int32 // -1: the brokers do not tell (before 2.1)
	Replicas    []int32
	// The offsets are filled in by [Cluster.Discover]; elsewhere they are -1.
	LogStart      int64 // offset of the first record that is kept
	HighWatermark int64 // next offset after what is replicated
	LastStable    int64 // next offset after what a read_committed consumer can read; at most HighWatermark
	Size          int64 // bytes of the leader's log on disk; -1: not known
}

// Discovery is what was found.
type Discovery struct {
	Topics []Topic // by name
	// Warnings are what could not be learnt and is not needed: sizes and configurations for
	// which rights are missing.
	Warnings []*Error
}

// Partitions lists all partitions found, by topic and number.
func (d *Discovery) Partitions() []TopicPartition { return partitionsOf(d.Topics) }

func partitionsOf(topics []Topic) []TopicPartition {
	var all []TopicPartition
	for _, t := range topics {
		for _, p := range t.Partitions {
			all = append(all, TopicPartition{t.Name, p.Partition})
		}
	}
	return all
}

// Discover finds the topics that filter selects, with everything in [Topic] and [Partition]. Internal
// topics are left out, except those that filter names without a wildcard, and all that it matches when
// internal is set.
//
// It fails, with a [*PartialError], when a topic that filter names without a wildcard does not exist or
// may not be described, when a partition has no leader, and when offsets cannot be read: a
// backup would be incomplete. Topics for which DESCRIBE is missing are invisible to wildcards.
func (c *Cluster) Discover(ctx context.Context, filter config.TopicFilter, internal bool) (*Discovery, error) {
	topics, err := c.selected(ctx, filter, internal)
	if err != nil {
		return nil, err
	}
	d := &Discovery{Topics: topics}
	parts := d.Partitions()
	starts, err := c.StartOffsets(ctx, parts)
	if err != nil {
		return nil, err
	}
	// The last stable offset is asked for first: so it is not above the high watermark.
	stable, err := c.StableOffsets(ctx, parts)
	if err != nil {
		return nil, err
	}
	ends, err := c.EndOffsets(ctx, parts)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = t.Name
	}
	configs, err := c.TopicConfigs(ctx, names)
	if err := d.warn(err, notAllowed); err != nil {
		return nil, err
	}
	sizes, err := c.PartitionSizes(ctx, topics)
	if err := d.warn(err, func(error) bool { return ctx.Err() == nil }); err != nil {
		return nil, err
	}
	for i := range d.Topics {
		t := &d.Topics[i]
		if cfg, ok := configs[t.Name]; ok {
			t.Config = cfg.Dynamic()
			t.Compacted = strings.Contains(cfg["cleanup.policy"].Value, "compact")
			if ms, err := strconv.ParseInt(cfg["delete.retention.ms"].Value, 10, 64); err == nil {
				t.DeleteRetention = time.Duration(min(ms, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
			}
		}
		for j := range t.Partitions {
			p := &t.Partitions[j]
			tp := TopicPartition{t.Name, p.Partition}
			p.LogStart, p.LastStable, p.HighWatermark = starts[tp].Offset, stable[tp].Offset, ends[tp].Offset
			if size, ok := sizes[tp]; ok {
				p.Size = size
			}
		}
	}
	return d, nil
}

// warn keeps the failures for which optional says yes as warnings, and returns err when there are others.
func (d *Discovery) warn(err error, optional func(error) bool) error {
	var pe *PartialError
	if !errors.As(err, &pe) {
		return err
	}
	for _, f := range pe.Failed {
		if !optional(f.Err) {
			return err
		}
	}
	d.Warnings = append(d.Warnings, pe.Failed...)
	return nil
}

// notAllowed: the brokers will not tell, however often one asks.
func notAllowed(err error) bool {
	return Unauthorized(err) || errors.Is(err, kerr.UnsupportedVersion)
}

// selected lists the topics that filter selects, each with all its partitions and their leaders.
// It waits within the cluster's patience for leaders that are being elected.
func (c *Cluster) selected(ctx context.Context, filter config.TopicFilter, internal bool) (topics []Topic, err error) {
	var exact []string
	wild := len(filter.Include) == 0
	for _, p := range filter.Include {
		if strings.ContainsAny(p, "*?") {
			wild = true
		} else if filter.Match(p) {
			exact = append(exact, p)
		}
	}
	ask := exact
	if wild {
		ask = nil // all
	} else if len(exact) == 0 {
		return nil, nil
	}
	err = patiently(ctx, c, func() error {
		all, failed, err := c.metadata(ctx, ask)
		if err != nil {
			return err
		}
		topics = topics[:0]
		present := map[string]bool{}
		for _, t := range all {
			present[t.Name] = true
			if t.SelectedBy(filter, internal) {
				topics = append(topics, t)
				failed = append(failed, t.leaderless()...)
			}
		}
		// A topic that was not named and cannot be described right now would be left out silently.
		failed = slices.DeleteFunc(failed, func(e *Error) bool { return !filter.Match(e.Topic) })
		for _, e := range failed {
			present[e.Topic] = true
		}
		for _, name := range exact {
			if !present[name] {
				failed = append(failed, topicError(opFindTopics, name, kerr.UnknownTopicOrPartition))
			}
		}
		return c.asked(partial(opFindTopics, failed))
	})
	if err != nil {
		return nil, err
	}
	return topics, nil
}

// SelectedBy reports whether a filter selects the topic; one of Kafka's own only by its name, or when internal is set.
func (t *Topic) SelectedBy(filter config.TopicFilter, internal bool) bool {
	return filter.Match(t.Name) && (!t.Internal || internal || filter.Names(t.Name))
}

// leaderless reports the partitions that have no leader.
func (t *Topic) leaderless() []*Error {
	var failed []*Error
	for _, p := range t.Partitions {
		if p.Leader < 0 {
			failed = append(failed, partitionError(opFindTopics, TopicPartition{t.Name, p.Partition}, kerr.LeaderNotAvailable))
		}
	}
	return failed
}

// DescribeTopics returns topics by name, without offsets, sizes and configurations. A topic that does
// not exist is not in the result and is no error; other failures are in a [*PartialError].
func (c *Cluster) DescribeTopics(ctx context.Context, names []string) (map[string]Topic, error) {
	found := make(map[string]Topic, len(names))
	var failed []*Error
	for rest := names; len(rest) > 0; {
		n := min(maxTopicsPerRequest, len(rest))
		topics, bad, err := c.metadata(ctx, rest[:n])
		if err != nil {
			return found, err
		}
		for _, t := range topics {
			found[t.Name] = t
		}
		failed = append(failed, slices.DeleteFunc(bad, func(e *Error) bool { return missing(e.Err) })...)
		rest = rest[n:]
	}
	return found, c.asked(partial(opFindTopics, failed))
}

// LookAgain is how long topics that should be there are looked for: one that was just created, or given
// partitions, is not known to every broker at once; under load that takes seconds. Tests shorten it.
var LookAgain = 5 * time.Second

// FindTopics is [Cluster.DescribeTopics] for topics that should be there, by name, with at least so many
// partitions each. What the brokers do not know is looked for again until the given time, and some times
// in any case: no broker decides alone that something does not exist.
func (c *Cluster) FindTopics(ctx context.Context, counts map[string]int32, until time.Time) (map[string]Topic, error) {
	found := make(map[string]Topic, len(counts))
	bad := map[string]*Error{}
	short := sortedKeys(counts)
	wait := metadataMinAge
	for look := 1; ; look++ {
		topics, err := c.DescribeTopics(ctx, short)
		var some *PartialError
		if err != nil && !errors.As(err, &some) {
			return found, err
		}
		for _, name := range short {
			delete(bad, name)
		}
		if some != nil {
			for _, e := range some.Failed {
				bad[e.Topic] = e
			}
		}
		for name, t := range topics {
			if len(t.Partitions) >= len(found[name].Partitions) { // not of a broker that is behind
				found[name] = t
			}
		}
		short = slices.DeleteFunc(short, func(name string) bool {
			t, ok := found[name]
			e := bad[name]
			return ok && len(t.Partitions) >= int(counts[name]) || e != nil && !Retryable(e.Err)
		})
		if len(short) == 0 || look >= 3 && time.Now().Add(wait).After(until) || !sleep(ctx, wait) {
			break
		}
		wait = min(2*wait, time.Second)
	}
	var failed []*Error
	for _, name := range sortedKeys(bad) {
		if _, ok := found[name]; !ok {
			failed = append(failed, bad[name])
		}
	}
	return found, cmp.Or(ctx.Err(), partial(opFindTopics, failed))
}

// TopicNames lists the names of all topics that the user may DESCRIBE, in order.
func (c *Cluster) TopicNames(ctx context.Context) ([]string, error) {
	topics, _, err := c.metadata(ctx, nil)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(topics))
	for i := range topics {
		names[i] = topics[i].Name
	}
	return names, nil
}

// metadata asks some broker about topics; nil names: all of them. Topics are by name.
func (c *Cluster) metadata(ctx context.Context, names []string) ([]Topic, []*Error, error) {
	req := metadataRequest(names)
	req.IncludeTopicAuthorizedOperations = true
	resp, err := req.RequestWith(ctx, c.client)
	if err != nil {
		return nil, nil, &Error{Op: opFindTopics, Partition: -1, Broker: -1, Err: err}
	}
	topics, failed := readMetadata(resp)
	return topics, failed, nil
}

// metadataRequest asks for topics by name; nil: all.
func metadataRequest(names []string) *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	for _, name := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	return req
}

func readMetadata(resp *kmsg.MetadataResponse) (topics []Topic, failed []*Error) {
	for _, rt := range resp.Topics {
		if rt.Topic == nil {
			continue // we never ask by id
		}
		if err := kerr.ErrorForCode(rt.ErrorCode); err != nil {
			failed = append(failed, topicError(opFindTopics, *rt.Topic, err))
			continue
		}
		t := Topic{Name: *rt.Topic, ID: rt.TopicID, Internal: rt.IsInternal, Operations: operations(rt.AuthorizedOperations)}
		for _, rp := range rt.Partitions {
			p := Partition{Partition: rp.Partition, Leader: rp.Leader, LeaderEpoch: rp.LeaderEpoch, Replicas: rp.Replicas, LogStart: -1, HighWatermark: -1, LastStable: -1, Size: -1}
			if err := kerr.ErrorForCode(rp.ErrorCode); errors.Is(err, kerr.LeaderNotAvailable) {
				p.Leader = -1
			} // other codes tell of replicas that are down, which is nothing to the leader
			t.Partitions = append(t.Partitions, p)
		}
		slices.SortFunc(t.Partitions, func(a, b Partition) int { return cmp.Compare(a.Partition, b.Partition) })
		for i, p := range t.Partitions {
			if p.Partition != int32(i) {
				failed = append(failed, topicError(opFindTopics, t.Name, fmt.Errorf("the broker's answer leaves out partition %d", i)))
				break
			}
		}
		if len(t.Partitions) > 0 {
			t.ReplicationFactor = len(t.Partitions[0].Replicas)
		}
		topics = append(topics, t)
	}
	slices.SortFunc(topics, func(a, b Topic) int { return cmp.Compare(a.Name, b.Name) })
	return topics, failed
}

// PartitionSizes returns the bytes that each partition's leader has on disk (DescribeLogDirs, KIP-113).
// It needs DESCRIBE on the cluster. Brokers that do not answer, or may not, are in a [*PartialError];
// their partitions are not in the result.
func (c *Cluster) PartitionSizes(ctx context.Context, topics []Topic) (map[TopicPartition]int64, error) {
	const op = "describe log dirs"
	if !c.Supports(kmsg.DescribeLogDirs, 0) {
		return nil, partial(op, []*Error{brokerError(op, -1, kerr.UnsupportedVersion)})
	}
	byLeader := map[int32]map[string][]int32{}
	for _, t := range topics {
		for _, p := range t.Partitions {
			if p.Leader < 0 {
				continue
			}
			if byLeader[p.Leader] == nil {
				byLeader[p.Leader] = map[string][]int32{}
			}
			byLeader[p.Leader][t.Name] = append(byLeader[p.Leader][t.Name], p.Partition)
		}
	}
	sizes := map[TopicPartition]int64{}
	var failed []*Error
	each(sortedKeys(byLeader), func(broker int32) func() {
		req := kmsg.NewPtrDescribeLogDirsRequest()
		for _, topic := range sortedKeys(byLeader[broker]) {
			t := kmsg.NewDescribeLogDirsRequestTopic()
			t.Topic, t.Partitions = topic, byLeader[broker][topic]
			req.Topics = append(req.Topics, t)
		}
		resp, err := c.client.Broker(int(broker)).RetriableRequest(ctx, req)
		if err == nil {
			err = kerr.ErrorForCode(resp.(*kmsg.DescribeLogDirsResponse).ErrorCode)
		}
		return func() {
			if err != nil {
				failed = append(failed, brokerError(op, broker, err))
				return
			}
			dirs := resp.(*kmsg.DescribeLogDirsResponse).Dirs
			// Before version 3 an answer has no error code of its own: without rights it is just empty.
			if len(dirs) == 0 {
				failed = append(failed, brokerError(op, broker, kerr.ClusterAuthorizationFailed))
			}
			for _, dir := range dirs {
				if err := kerr.ErrorForCode(dir.ErrorCode); err != nil {
					failed = append(failed, brokerError(op, broker, err))
					continue
				}
				for _, t := range dir.Topics {
					for _, p := range t.Partitions {
						if !p.IsFuture {
							sizes[TopicPartition{t.Topic, p.Partition}] = p.Size
						}
					}
				}
			}
		}
	})
	return sizes, partial(op, failed)
}
