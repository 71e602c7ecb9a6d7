package kafka

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// CommitOffsets commits offsets of a group from outside the group, all in one request to its coordinator.
// The results are in the order of the offsets: nil for one that was committed, otherwise an [*Error] that
// says why not (kerr.UnknownMemberID: the group has active members). The error is that of the request as a
// whole; then nothing is known about any partition, and committing again is safe. Nothing transient is
// tried again here, so that the caller can do it partition by partition.
//
// Topics go by their names; the TopicID of an offset is not looked at. Brokers check neither range nor
// epoch of an offset. Committing creates a group that does not exist.
//
// Who commits offsets of many groups calls it for many at the same time, and [Cluster.FindCoordinators]
// before.
func (c *Cluster) CommitOffsets(ctx context.Context, group string, offsets []CommittedOffset) ([]error, error) {
	const op = opCommitOffsets
	var topics []string
	var counts []int       // of the partitions of each
	at := map[string]int{} // topic -> place in topics
	for i, n := 0, 0; i < len(offsets); i++ {
		if t := offsets[i].Topic; i == 0 || t != offsets[i-1].Topic {
			var ok bool
			if n, ok = at[t]; !ok {
				n = len(topics)
				at[t], topics, counts = n, append(topics, t), append(counts, 0)
			}
		}
		counts[n]++
	}
	ids, bad, err := c.commitIDs(ctx, topics)
	if err != nil {
		return nil, c.asked(groupError(op, group, err))
	}
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	replies := newReplies(len(offsets))
	place := make([]int, len(topics)) // in the request; -1: not in it
	for i, t := range topics {
		if place[i] = -1; bad[t] == nil {
			place[i] = len(req.Topics)
			rt := kmsg.NewOffsetCommitRequestTopic()
			rt.Topic, rt.TopicID = t, ids[t]
			rt.Partitions = make([]kmsg.OffsetCommitRequestTopicPartition, 0, counts[i])
			req.Topics = append(req.Topics, rt)
			replies.topic(t, ids[t], counts[i])
		}
	}
	n, last := 0, ""
	for i := range offsets {
		o := &offsets[i]
		if i == 0 || o.Topic != last {
			n, last = place[at[o.Topic]], o.Topic
		}
		if n < 0 {
			replies.results[i] = bad[o.Topic]
			continue
		}
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = o.Partition, o.Offset, o.LeaderEpoch, &o.Metadata
		req.Topics[n].Partitions = append(req.Topics[n].Partitions, p)
		replies.partition(n, o.Partition, i)
	}
	if len(req.Topics) > 0 {
		resp, err := c.askCoordinator(ctx, group, req)
		if err != nil {
			return nil, c.asked(groupError(op, group, err))
		}
		for i, t := range resp.(*kmsg.OffsetCommitResponse).Topics {
			for j, p := range t.Partitions {
				replies.answer(i, j, t.Topic, t.TopicID, p.Partition, kerr.ErrorForCode(p.ErrorCode))
			}
		}
	}
	for i, err := range replies.results {
		if err == nil {
			continue
		}
		if errors.Is(err, kerr.UnknownTopicID) {
			c.commits.forgetID(offsets[i].Topic)
		}
		c.commits.forgetMoved(group, err)
		replies.results[i] = c.groupPartition(op, group, TopicPartition{offsets[i].Topic, offsets[i].Partition}, err)
	}
	return replies.results, nil
}

// DeleteOffsets removes committed offsets of a group (OffsetDelete, KIP-496), all in one request to its
// coordinator. Results and errors are as with [Cluster.CommitOffsets]; kerr.GroupSubscribedToTopic: a
// member still reads the topic. A partition without an offset is no error; a group that does not exist
// is, kerr.GroupIDNotFound.
func (c *Cluster) DeleteOffsets(ctx context.Context, group string, parts []TopicPartition) ([]error, error) {
	const op = opDeleteOffsets
	req := kmsg.NewPtrOffsetDeleteRequest()
	req.Group = group
	replies := newReplies(len(parts))
	at := map[string]int{}
	for i, tp := range parts {
		n, ok := at[tp.Topic]
		if !ok {
			n = len(req.Topics)
			at[tp.Topic] = n
			t := kmsg.NewOffsetDeleteRequestTopic()
			t.Topic = tp.Topic
			req.Topics = append(req.Topics, t)
			replies.topic(tp.Topic, TopicID{}, 0)
		}
		p := kmsg.NewOffsetDeleteRequestTopicPartition()
		p.Partition = tp.Partition
		req.Topics[n].Partitions = append(req.Topics[n].Partitions, p)
		replies.partition(n, tp.Partition, i)
	}
	resp, err := c.askCoordinator(ctx, group, req)
	if err == nil {
		err = kerr.ErrorForCode(resp.(*kmsg.OffsetDeleteResponse).ErrorCode)
	}
	if err != nil {
		c.commits.forgetMoved(group, err)
		return nil, c.asked(groupError(op, group, err))
	}
	for i, t := range resp.(*kmsg.OffsetDeleteResponse).Topics {
		for j, p := range t.Partitions {
			replies.answer(i, j, t.Topic, TopicID{}, p.Partition, kerr.ErrorForCode(p.ErrorCode))
		}
	}
	for i, err := range replies.results {
		if err != nil {
			replies.results[i] = c.groupPartition(op, group, parts[i], err)
		}
	}
	return replies.results, nil
}

func (c *Cluster) groupPartition(op, group string, tp TopicPartition, err error) error {
	e := partitionError(op, tp, err)
	e.Group, e.Principal = group, c.principal
	return e
}

// replies holds the answers to a request about partitions against what was asked, by position: brokers
// mostly answer in the order of the request, and a map of many thousand partitions costs more than the
// request.
type replies struct {
	results []error // errNoAnswer where there is none yet
	topics  []repliesTopic
}

type repliesTopic struct {
	name       string
	id         TopicID
	partitions []int32
	result     []int // of each partition, its place in results
}

func newReplies(n int) *replies {
	a := &replies{results: make([]error, n)}
	for i := range a.results {
		a.results[i] = errNoAnswer
	}
	return a
}

// topic adds a topic of about n partitions.
func (a *replies) topic(name string, id TopicID, n int) {
	a.topics = append(a.topics, repliesTopic{name, id, make([]int32, 0, n), make([]int, 0, n)})
}

func (a *replies) partition(topic int, partition int32, result int) {
	t := &a.topics[topic]
	t.partitions, t.result = append(t.partitions, partition), append(t.result, result)
}

// answer notes an answer, which is the j-th of the i-th topic of a response. One that was not asked for
// is ignored.
func (a *replies) answer(i, j int, topic string, id TopicID, partition int32, err error) {
	is := func(t repliesTopic) bool {
		if topic != "" {
			return t.name == topic
		}
		return t.id == id
	}
	if i >= len(a.topics) || !is(a.topics[i]) {
		if i = slices.IndexFunc(a.topics, is); i < 0 {
			return
		}
	}
	t := &a.topics[i]
	if j >= len(t.partitions) || t.partitions[j] != partition {
		if j = slices.Index(t.partitions, partition); j < 0 {
			return
		}
	}
	a.results[t.result[j]] = err
}

// commits is what a cluster's commits share.
type commits struct {
	mu           sync.Mutex
	coordinators map[string]int32 // group -> broker
	lanes        []*lane

	idsMu sync.Mutex // held while ids are asked for, so that one asks for all
	ids   map[string]knownID
}

// maxIDAge is how old a topic id may be that offsets are committed with. An id that has become wrong
// since makes the commit fail with kerr.UnknownTopicID; it does no harm.
const maxIDAge = 2 * time.Second

type knownID struct {
	id TopicID
	at time.Time
}

// commitIDs looks up the ids of topics, which brokers from 4.1 on want in place of names, and why there
// is none.
func (c *Cluster) commitIDs(ctx context.Context, topics []string) (ids map[string]TopicID, bad map[string]error, err error) {
	if !c.Supports(kmsg.OffsetCommit, 10) {
		return nil, nil, nil
	}
	s := &c.commits
	s.idsMu.Lock()
	defer s.idsMu.Unlock()
	ids = make(map[string]TopicID, len(topics))
	var ask []string
	for _, t := range topics {
		if k, ok := s.ids[t]; ok && time.Since(k.at) < maxIDAge {
			ids[t] = k.id
		} else {
			ask = append(ask, t)
		}
	}
	if len(ask) == 0 {
		return ids, nil, nil
	}
	bad = map[string]error{}
	for _, t := range ask {
		bad[t] = kerr.UnknownTopicOrPartition
	}
	now := time.Now()
	resp, err := metadataRequest(ask).RequestWith(ctx, c.client)
	if err != nil {
		return nil, nil, err
	}
	found, failed := readMetadata(resp)
	if s.ids == nil {
		s.ids = map[string]knownID{}
	}
	for _, t := range found {
		ids[t.Name], s.ids[t.Name] = t.ID, knownID{t.ID, now}
		delete(bad, t.Name)
	}
	for _, e := range failed {
		bad[e.Topic] = e.Err
	}
	return ids, bad, nil
}

func (s *commits) forgetID(topic string) {
	s.idsMu.Lock()
	defer s.idsMu.Unlock()
	delete(s.ids, topic)
}

// FindCoordinators looks up the coordinators of groups, many a request, so that what is sent to them
// afterwards needs no look-up each. What it does not find is looked up again when it is needed.
func (c *Cluster) FindCoordinators(ctx context.Context, groups []string) {
	for _, names := range chunks(groups, maxCoordinators) {
		_, _ = c.findCoordinators(ctx, names...)
	}
}

// maxCoordinators is how many coordinators are looked up in one request.
const maxCoordinators = 2000

// findCoordinators asks for the coordinators of groups, and returns that of the first.
func (c *Cluster) findCoordinators(ctx context.Context, groups ...string) (int32, error) {
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorKey, req.CoordinatorKeys = groups[0], groups
	first := errNoAnswer
	var node int32
	for _, shard := range c.client.RequestSharded(ctx, req) {
		if shard.Err != nil {
			first = shard.Err
			continue
		}
		c.commits.mu.Lock()
		if c.commits.coordinators == nil {
			c.commits.coordinators = make(map[string]int32, len(groups))
		}
		for _, k := range shard.Resp.(*kmsg.FindCoordinatorResponse).Coordinators {
			err := kerr.ErrorForCode(k.ErrorCode)
			if err == nil {
				c.commits.coordinators[k.Key] = k.NodeID
			}
			if k.Key == groups[0] {
				first, node = err, k.NodeID
			}
		}
		c.commits.mu.Unlock()
	}
	return node, first
}

// forgetMoved forgets a group's coordinator if an error says that it is not the one, or not there.
func (s *commits) forgetMoved(group string, err error) {
	var ke *kerr.Error
	if errors.As(err, &ke) && ke != kerr.NotCoordinator && ke != kerr.CoordinatorNotAvailable {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.coordinators, group)
}

// askCoordinator sends a request to the coordinator of a group, once.
func (c *Cluster) askCoordinator(ctx context.Context, group string, req kmsg.Request) (kmsg.Response, error) {
	s := &c.commits
	s.mu.Lock()
	node, ok := s.coordinators[group]
	s.mu.Unlock()
	if !ok {
		var err error
		if node, err = c.findCoordinators(ctx, group); err != nil {
			return nil, err
		}
	}
	l, err := c.takeLane()
	if err != nil {
		return nil, err
	}
	resp, err := l.client.Broker(int(node)).Request(ctx, req)
	s.mu.Lock()
	l.inFlight--
	s.mu.Unlock()
	if err != nil {
		s.forgetMoved(group, err)
	}
	return resp, err
}

// A broker serves the requests of one connection one after the other, and each commit waits there until
// the coordinator has written it and its replicas have it. So commits go over several connections a
// broker, each of a client of its own.
const (
	maxLanes = 8
	// laneDepth is how many requests are in flight on all lanes before another lane is opened: a few
	// requests need no connections of their own.
	laneDepth = 4
)

type lane struct {
	client   *kgo.Client
	inFlight int
}

// takeLane returns the lane with the fewest requests in flight, and counts one more on it.
func (c *Cluster) takeLane() (*lane, error) {
	s := &c.commits
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lanes == nil {
		s.lanes = []*lane{{client: c.client}}
	}
	l := slices.MinFunc(s.lanes, func(a, b *lane) int { return cmp.Compare(a.inFlight, b.inFlight) })
	if l.inFlight >= laneDepth && len(s.lanes) < maxLanes {
		client, err := kgo.NewClient(c.client.Opts()...)
		if err != nil {
			return nil, err
		}
		l = &lane{client: client}
		s.lanes = append(s.lanes, l)
	}
	l.inFlight++
	return l, nil
}

// close closes the lanes' own clients.
func (s *commits) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lanes[min(1, len(s.lanes)):] {
		l.client.Close()
	}
}
