package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
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

func (b *bencher) send(ctx context.Context, req *kmsg.OffsetCommitRequest) error {
	resp, err := req.RequestWith(ctx, b.cl)
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
// request, so many requests in flight.
func (b *bencher) commitAll(ctx context.Context, offset int64, concurrent int) (time.Duration, error) {
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
	for _, req := range reqs {
		g.Go(func() error { return b.send(ctx, req) })
	}
	err := g.Wait()
	return time.Since(began), err
}

// bare measures what the broker takes of the same requests from a client that
// does nothing else.
func (b *bencher) bare(ctx context.Context) error {
	for range *runs {
		for _, concurrent := range []int{4, 32, 100} {
			took, err := b.commitAll(ctx, 1, concurrent)
			if err != nil {
				return err
			}
			rate := float64(*groups**partitions) / took.Seconds()
			fmt.Fprintf(os.Stderr, "bare client, %d requests in flight: %.0f partitions/s\n", concurrent, rate)
			b.n.BareClient = max(b.n.BareClient, rate)
		}
	}
	return nil
}

// sequential measures a loop of one commit a partition, one after the other,
// with the same client.
func (b *bencher) sequential(ctx context.Context) error {
	began := time.Now()
	for i := range *sample {
		if err := b.send(ctx, b.commit(b.names[i%len(b.names)], 2, int32(i/len(b.names)%*partitions))); err != nil {
			return err
		}
	}
	b.n.Sequential = float64(*sample) / time.Since(began).Seconds()
	return nil
}
