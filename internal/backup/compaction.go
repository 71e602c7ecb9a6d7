package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/transfer"
)

// A compacted topic forgets: a key that was deleted is first named by a
// tombstone, and then not at all. Who adds to an earlier backup, which has the
// key, must see the tombstone. One that was written after the earlier backup
// was planned stays for delete.retention.ms, at least. When that has passed, or
// will have before all is read, there is another way to be sure of it: to read
// what was written since. Where no offset is missing, compaction has removed
// nothing yet; and each batch with a tombstone that compaction has come across
// says until when it stays (the delete horizon, KIP-534, brokers from 3.1 on).
// Only where neither helps is a partition read anew.

// surely is how long it is sure that no tombstone went unseen.
type surely struct {
	until time.Time
	// toRead is how much of that must be left for reading.
	toRead time.Duration
}

func (s surely) enough(now time.Time) bool { return !now.Add(s.toRead).After(s.until) }

// shortRetention is the least delete.retention.ms with which it is worth while
// to look for tombstones that compaction has come across.
const shortRetention = time.Hour

// readingShare is the part of delete.retention.ms that is left for reading.
const readingShare = 4

// forget gives up what earlier backups hold of partitions in which a tombstone
// may have gone unseen, and notes for the others until when none has.
func (e *earlier) forget(ctx context.Context, p *planner, topics []kafka.Topic) error {
	if e == nil {
		return nil
	}
	now := Clock()
	var doubtful []planned
	for i := range topics {
		t := &topics[i]
		for j := range t.Partitions {
			b := e.find(t, t.Partitions[j].Partition)
			if b == nil || !t.Compacted {
				continue
			}
			b.surely = surely{b.at.Add(t.DeleteRetention), t.DeleteRetention / readingShare}
			if !b.surely.enough(now) {
				pp, _ := p.partition(t, &t.Partitions[j], e)
				doubtful = append(doubtful, planned{t, pp})
			}
		}
	}
	if len(doubtful) == 0 {
		return nil
	}
	horizons := p.cluster.Supports(kmsg.Fetch, 13) // KIP-534 came with it
	var mu sync.Mutex
	var anew []string
	var before string
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(surveys)
	limit := p.surveyRate()
	for _, d := range doubtful {
		g.Go(func() error {
			var until time.Time
			if horizons && d.topic.DeleteRetention >= shortRetention {
				var err error
				if until, err = survey(gctx, p.cluster, d, limit); err != nil {
					return err
				}
			}
			mu.Lock()
			defer mu.Unlock()
			b := e.find(d.topic, d.Partition.Partition)
			if b.surely.until = until; b.surely.enough(now) {
				return nil
			}
			anew, before = append(anew, d.topic.Name), b.backup
			delete(e.partitions, repository.TopicPartition{Topic: d.topic.Name, TopicID: d.topic.ID.String(), Partition: d.Partition.Partition})
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("look for compaction: %w", err)
	}
	if n := len(anew); n > 0 {
		slices.Sort(anew)
		p.warn("%d partitions of compacted topics are read anew, the first is of %s: compaction has come by since backup %s, and tombstones written since may be gone (back up more often, or raise delete.retention.ms)",
			n, anew[0], before)
	}
	return nil
}

// surveys is how many partitions are looked through at once.
const surveys = 4

// surveyRate is the limit of the rate at which planning reads, nil for none.
func (p *planner) surveyRate() *rate.Limiter {
	n := p.req.Options.RateLimitBytesPerSec
	if n <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(n), max(int(n)/8, smallestAnswer))
}

var errCompacted = errors.New("compaction has removed something")

// survey reads what a partition would add, and returns until when, by what is
// there now, no tombstone of it is removed. That is the zero time when
// something has been removed already.
func survey(ctx context.Context, cluster *kafka.Cluster, d planned, limit *rate.Limiter) (time.Time, error) {
	// What compaction comes across from now on stays this long.
	s := sighting{next: d.From, until: Clock().Add(d.topic.DeleteRetention)}
	if d.From >= d.End {
		return s.until, nil
	}
	err := transfer.Fetch(ctx, cluster.Client(), []transfer.FetchPartition{{
		Topic: d.topic.Name, TopicID: d.topic.ID, Partition: d.Partition.Partition, Next: d.From, End: d.End, LeaderEpoch: d.FromEpoch,
	}}, transfer.FetchOptions{
		Rate: limit, Compacted: func(context.Context, string) (bool, error) { return true, nil },
	}, func(_ context.Context, c transfer.Chunk) error { return s.take(c) })
	if errors.Is(err, errCompacted) {
		return time.Time{}, nil
	}
	return s.until, err
}

// sighting is what has been seen of a partition.
type sighting struct {
	next  int64     // up to where every offset was there
	until time.Time // when the first tombstone may go
}

// take looks at what comes next; errCompacted when something is missing.
func (s *sighting) take(c transfer.Chunk) error {
	there := c.AbortedRecords + c.ControlBatches // a control batch has one record
	for _, b := range c.Batches {
		there += int64(b.NumRecords())
		if b.LastOffset()-b.BaseOffset()+1 != int64(b.NumRecords()) {
			return errCompacted
		}
		if ms, ok := b.DeleteHorizon(); ok && time.UnixMilli(ms).Before(s.until) {
			s.until = time.UnixMilli(ms)
		}
	}
	if there != c.Next-s.next || c.Gap != nil {
		return errCompacted
	}
	s.next = c.Next
	return nil
}

// LateError says that a partition of a compacted topic was read so late that
// tombstones may have gone unseen: keys that were deleted would come back.
type LateError struct {
	Topic     string
	Partition int32
	// Until is when it had to be read.
	Until time.Time
}

func (e *LateError) Error() string {
	return fmt.Sprintf("%s/%d: the topic is compacted, and it was to be read by %s to see every tombstone that was written since the backup before (it was paused for too long or takes too long: make a backup of another id, which reads it anew; or raise delete.retention.ms)",
		e.Topic, e.Partition, e.Until.UTC().Format(time.RFC3339))
}

// inTime is a *LateError when a partition that was still to be read from the
// offsets given is read later than is sure to show every tombstone.
func (r *run) inTime(from []transfer.FetchPartition) error {
	now := Clock()
	for i, p := range r.partitions {
		if !p.readBy.IsZero() && from[i].Next < p.entry.End && now.After(p.readBy) {
			return &LateError{Topic: p.Topic, Partition: p.Partition, Until: p.readBy}
		}
	}
	return nil
}
