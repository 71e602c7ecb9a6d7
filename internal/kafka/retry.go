package kafka

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

// Bounds of one request, so that neither it nor its answer grows without limit. A request
// is cut by broker besides, so that each broker gets at most this many.
const (
	maxPartitionsPerRequest = 5000
	maxTopicsPerRequest     = 500
	maxGroupsPerRequest     = 100
	maxConcurrentRequests   = 4
	// maxMissing is how long something that does not exist is looked for again.
	maxMissing = 2 * time.Second
)

// answers are what was learnt about some partitions, and what failed.
type answers[T any] struct {
	got    map[TopicPartition]T
	failed map[TopicPartition]error
}

func newAnswers[T any](n int) *answers[T] {
	return &answers[T]{got: make(map[TopicPartition]T, n), failed: map[TopicPartition]error{}}
}

// byPartition asks about partitions, in pieces of at most limit, and asks again about those whose failure
// is transient, until for the cluster's patience no further one was answered. The result has what was
// answered; the rest is in a *PartialError with op.
func byPartition[T any](ctx context.Context, c *Cluster, op string, limit int, parts []TopicPartition, ask func(context.Context, []TopicPartition, *answers[T])) (map[TopicPartition]T, error) {
	all := newAnswers[T](len(parts))
	begin := time.Now()
	open := parts
	for wait := metadataMinAge; ; wait = min(2*wait, time.Second) {
		round := newAnswers[T](min(limit, len(open)))
		for rest := open; len(rest) > 0 && ctx.Err() == nil; {
			n := min(limit, len(rest))
			ask(ctx, rest[:n], round)
			rest = rest[n:]
		}
		if len(round.got) > 0 {
			begin = time.Now() // it goes on
		}
		var again []TopicPartition
		for _, tp := range open {
			if v, ok := round.got[tp]; ok {
				all.got[tp] = v
				delete(all.failed, tp)
				continue
			}
			err, ok := round.failed[tp]
			if !ok {
				err = errNoAnswer
			}
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			all.failed[tp] = err
			if Retryable(err) || missing(err) && time.Since(begin) < maxMissing {
				again = append(again, tp)
			}
		}
		if len(again) == 0 || time.Since(begin)+wait > c.patience || !sleep(ctx, wait) {
			break
		}
		open = again
	}
	var failed []*Error
	for _, tp := range parts {
		if err, ok := all.failed[tp]; ok {
			failed = append(failed, partitionError(op, tp, err))
		}
	}
	return all.got, partial(op, failed)
}

// ask sends a request about partitions to their brokers and takes what they answer. partitions
// names those that a request is about, read what a response says about each: an error code or a value.
func ask[Req kmsg.Request, Resp kmsg.Response, T any](ctx context.Context, c *Cluster, req Req, a *answers[T], partitions func(req Req, about func(topic string, partition int32)), read func(resp Resp, says func(topic string, partition int32, code int16, value T))) {
	for _, shard := range c.client.RequestSharded(ctx, req) {
		if shard.Err != nil {
			partitions(shard.Req.(Req), func(topic string, partition int32) { a.failed[TopicPartition{topic, partition}] = shard.Err })
			continue
		}
		read(shard.Resp.(Resp), func(topic string, partition int32, code int16, value T) {
			tp := TopicPartition{topic, partition}
			if err := kerr.ErrorForCode(code); err != nil {
				a.failed[tp] = err
			} else {
				a.got[tp] = value
			}
		})
	}
}

// patiently calls fn again while it fails transiently, within the cluster's patience.
func patiently(ctx context.Context, c *Cluster, fn func() error) error {
	begin := time.Now()
	for wait := metadataMinAge; ; wait = min(2*wait, time.Second) {
		err := fn()
		if !Retryable(err) || time.Since(begin)+wait > c.patience || !sleep(ctx, wait) {
			return err
		}
	}
}

// sleep waits; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// byTopic groups partitions by topic, in order.
func byTopic(parts []TopicPartition) (topics []string, partitions map[string][]int32) {
	partitions = map[string][]int32{}
	for _, tp := range parts {
		if _, ok := partitions[tp.Topic]; !ok {
			topics = append(topics, tp.Topic)
		}
		partitions[tp.Topic] = append(partitions[tp.Topic], tp.Partition)
	}
	return topics, partitions
}

// each calls ask for all keys, a few at the same time, and the functions it returns one after the other.
func each[K any](keys []K, ask func(K) (take func())) {
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(maxConcurrentRequests)
	for _, k := range keys {
		g.Go(func() error {
			take := ask(k)
			mu.Lock()
			defer mu.Unlock()
			take()
			return nil
		})
	}
	_ = g.Wait() // ask reports failures through take
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// chunks cuts a list into pieces of at most n.
func chunks[T any](list []T, n int) [][]T { return slices.Collect(slices.Chunk(list, n)) }
