package backup

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/transfer"
)

// Amount counts work: records are counted as offsets passed, bytes as those
// of record batches kept.
type Amount struct{ Records, Bytes, Partitions int64 }

// Lag is how many offsets a partition still has to go.
type Lag struct {
	Topic     string
	Partition int32
	Offsets   int64
}

// Progress is how far a part is, all attempts together.
type Progress struct {
	Done    Amount
	Lagging []Lag // worst first, a few
}

// Copier copies parts of a plan.
type Copier struct {
	Cluster    *kafka.Cluster
	Repository *repository.Repository
	Options    config.Backup
	// Share is the share of the rate limit that is this part's, more than 0
	// and at most 1.
	Share float64
	// Until is when a part is closed that has reached its planned end: until
	// then it goes on with what comes after. Zero is at once.
	Until time.Time
	// Report, when not nil, is told now and then how far the part is.
	Report func(Progress)
}

// Copied is what a part has copied in all attempts together.
type Copied struct {
	Amount
	// CaughtUp is a time up to which the part has everything that was committed
	// to its partitions: when each was last seen to have nothing more. It is
	// that of the plan where the part was not followed. Zero: it is not done.
	CaughtUp time.Time
}

// Copy copies one part, going on where earlier attempts ended. When ctx ends,
// what is in hand is still written.
func (c *Copier) Copy(ctx context.Context, plan *Plan, part int) (Copied, error) {
	var pp PlanPart
	if err := c.Repository.GetDocument(ctx, plan.Parts[part], &pp); err != nil {
		return Copied{}, fmt.Errorf("read the plan of part %d: %w", part, err)
	}
	for begun, again := -1, 0; ; again++ {
		r, err := load(ctx, c.Repository, plan.BackupID, &pp)
		if err != nil {
			return Copied{}, err
		}
		if r.sequence != begun {
			begun, again = r.sequence, 0
		}
		caughtUp, err := c.fetch(ctx, r, plan.CreatedAt)
		if errors.Is(err, repository.ErrExists) && again < 3 {
			continue // another attempt was first: go on after its segment
		}
		if err != nil {
			return Copied{Amount: r.amount()}, err
		}
		shard := r.shard()
		_, created, err := c.Repository.AdoptIndex(ctx, plan.BackupID, part, shard)
		if err != nil {
			return Copied{}, err
		}
		if !created { // how far another attempt had followed is not known
			caughtUp = plan.CreatedAt
		}
		return Copied{copied(&pp, shard), caughtUp}, nil
	}
}

// copied is what a part's finished index has over its plan.
func copied(pp *PlanPart, shard *repository.Shard) (did Amount) {
	for _, t := range shard.Topics {
		for _, p := range t.Partitions {
			did.Records += p.Records
			did.Bytes += p.Bytes
			did.Partitions++
		}
	}
	for _, t := range pp.Topics {
		for _, p := range t.Partitions {
			did.Records -= p.Records
			did.Bytes -= p.Bytes
			for _, s := range p.Merge {
				did.Records -= s.Records
				did.Bytes -= s.Bytes
			}
		}
	}
	return did
}

// fetch runs fetch lanes, encoders and the segment writer until the part is
// complete, and returns Copied.CaughtUp. ErrExists means that another attempt
// closed a segment first. planned is when the ends in the plan were seen.
func (c *Copier) fetch(ctx context.Context, r *run, planned time.Time) (caughtUp time.Time, err error) {
	targets := make([]transfer.FetchPartition, len(r.partitions))
	for i, p := range r.partitions {
		targets[i] = transfer.FetchPartition{
			Topic: p.Topic, TopicID: p.id, Partition: p.Partition,
			Next: p.next, End: p.entry.End, LeaderEpoch: p.epoch,
		}
	}
	opts := transfer.FetchOptions{MaxBytes: int32(c.Options.FetchMaxBytes), MaxPartitionBytes: int32(c.Options.FetchPartitionMax), MaxWait: c.Options.FetchMaxWait.Std(), Compacted: c.compacted}
	if n := c.Options.RateLimitBytesPerSec; n > 0 {
		// What an answer brings is paid for afterwards: small answers, so that
		// what a part owes when it stops is little.
		share := max(float64(n)*c.Share, 1)
		answer := max(int(share/8), smallestAnswer)
		opts.MaxBytes = min(opts.MaxBytes, int32(min(answer, math.MaxInt32)))
		opts.Rate = rate.NewLimiter(rate.Limit(share), answer)
	}
	f := newFollower(targets, opts, planned)
	w := newWriter(ctx, c, r)
	stop := make(chan struct{})
	fctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		defer close(stop)
		if err := w.run(); err != nil {
			cancel(err)
		}
	}()
	err = c.merge(fctx, r, w)
	merged := err == nil
	if merged {
		begun := slices.Clone(targets)
		err = transfer.Fetch(fctx, c.Cluster.Client(), targets, f.opts, f.take(w.take))
		if err == nil {
			err = r.inTime(begun)
		}
	}
	if err == nil && time.Now().Before(c.Until) {
		err = f.follow(fctx, c.Cluster.Client(), c.Until, w.take)
	}
	// A first segment without all that is merged would be taken for whole.
	w.finish(err != nil && (ctx.Err() == nil || !merged))
	<-stop
	if w.err != nil {
		return caughtUp, w.err
	}
	if err != nil && ctx.Err() != nil {
		return caughtUp, context.Cause(ctx)
	}
	return f.caughtUp(), err
}

// compacted tells whether a topic's cleanup policy, its own or the brokers',
// is or includes compaction.
func (c *Copier) compacted(ctx context.Context, topic string) (bool, error) {
	configs, err := c.Cluster.TopicConfigs(ctx, []string{topic})
	return strings.Contains(configs[topic]["cleanup.policy"].Value, "compact"), err
}

// smallestAnswer is the least that is asked for at a time where the rate is
// limited.
const smallestAnswer = 64 << 10

// reportEvery is how often progress is reported.
const reportEvery = time.Second
