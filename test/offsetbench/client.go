package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

// commit is a request that commits one offset to some partitions of a group.
func (b *bencher) commit(group string, offset int64, partitions ...int32) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic, t.TopicID = "bench", b.topic
	for _, p := range partitions {
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata = p, offset, -1, kmsg.StringPtr("")
		t.Partitions = append(t.Partitions, rp)
	}
	req.Topics = append(req.Topics, t)
	return req
}

func send(ctx context.Context, cl *kgo.Client, req *kmsg.OffsetCommitRequest) error {
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("partition %d: %w", p.Partition, err)
			}
		}
	}
	return nil
}

// commitAll commits an offset to all partitions of all groups, a group a
// request, so many requests in flight on so many connections to each broker.
// The requests are ready before, and the coordinators known.
func (b *bencher) commitAll(ctx context.Context, offset int64, connections, concurrent int) (rate float64, err error) {
	all := make([]int32, *partitions)
	for p := range all {
		all[p] = int32(p)
	}
	reqs := make([]*kmsg.OffsetCommitRequest, len(b.names))
	for i, name := range b.names {
		reqs[i] = b.commit(name, offset, all...)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(concurrent)
	began := time.Now()
	for i, req := range reqs {
		g.Go(func() error { return send(ctx, b.clients[i%connections], req) })
	}
	err = g.Wait()
	return float64(len(b.names)**partitions) / time.Since(began).Seconds(), err
}

// bare measures what the broker takes of the same requests from a client that
// does nothing else.
func (b *bencher) bare(ctx context.Context) (one, many float64, err error) {
	for _, concurrent := range []int{32, 100} {
		for _, c := range []struct {
			connections int
			best        *float64
		}{{1, &one}, {connections, &many}} {
			rate, err := b.commitAll(ctx, 1, c.connections, concurrent)
			if err != nil {
				return 0, 0, err
			}
			*c.best = max(*c.best, rate)
		}
	}
	return one, many, nil
}

// sequential measures a loop of one commit a partition, one after the other,
// with the same client.
func (b *bencher) sequential(ctx context.Context) error {
	began := time.Now()
	for time.Since(began) < *sample {
		i := b.n.Sampled
		if err := send(ctx, b.clients[0], b.commit(b.names[i%len(b.names)], 2, int32(i/len(b.names)%*partitions))); err != nil {
			return err
		}
		b.n.Sampled++
	}
	b.n.Sequential = float64(b.n.Sampled) / time.Since(began).Seconds()
	return nil
}
