package backup

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kafka-backup/kafka-backup/internal/transfer"
)

// follower goes on with partitions that have reached their planned ends.
type follower struct {
	targets []transfer.FetchPartition // where they are
	seen    []time.Time               // when each was last seen with nothing more
	opts    transfer.FetchOptions
}

// newFollower begins with partitions whose ends were seen at a time.
func newFollower(targets []transfer.FetchPartition, opts transfer.FetchOptions, planned time.Time) *follower {
	f := &follower{targets: targets, seen: make([]time.Time, len(targets)), opts: opts}
	for i := range f.seen {
		f.seen[i] = planned
	}
	f.opts.CaughtUp = func(i int, at time.Time) {
		if at.After(f.seen[i]) {
			f.seen[i] = at
		}
	}
	return f
}

// caughtUp is until when everything that was written to the partitions was
// taken. All partitions have reached their planned ends.
func (f *follower) caughtUp() time.Time { return slices.MinFunc(f.seen, time.Time.Compare) }

// take notes how far each partition is. Calls for one partition come one
// after the other.
func (f *follower) take(sink transfer.Sink) transfer.Sink {
	return func(ctx context.Context, c transfer.Chunk) error {
		t := &f.targets[c.Index]
		t.Next, t.LeaderEpoch = c.Next, c.LeaderEpoch
		return sink(ctx, c)
	}
}

// follow hands on what is written to the partitions, until the time comes or
// a partition cannot be followed any more: what was read until then is good,
// and the next plan finds out what has become of the topic.
func (f *follower) follow(ctx context.Context, cl *kgo.Client, until time.Time, sink transfer.Sink) error {
	for i := range f.targets {
		f.targets[i].End = math.MaxInt64
	}
	f.opts.Follow = true
	due, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	// What was fetched is handed on whole, also when the time has come. What
	// the sink returns the writer tells too.
	_ = transfer.Fetch(due, cl, f.targets, f.opts, func(_ context.Context, c transfer.Chunk) error { return sink(ctx, c) })
	return context.Cause(ctx)
}
