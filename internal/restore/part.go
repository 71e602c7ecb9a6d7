package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/transfer"
)

// Amount counts work; bytes are those of record batches as they were sent.
type Amount struct{ Records, Bytes, Partitions int64 }

// Lag is how many records a target partition still has to get.
type Lag struct {
	Topic     string
	Partition int32
	Records   int64
}

// Progress is how far a part is, all attempts together.
type Progress struct {
	Done    Amount
	Lagging []Lag // worst first, a few
}

// Filler fills target partitions.
type Filler struct {
	Cluster    *kafka.Cluster
	Repository *repository.Repository
	Options    config.Restore
	// Share is the share of the rate limits that is this part's, more than 0
	// and at most 1.
	Share float64
	// Report, when not nil, is told now and then how far the part is.
	Report func(Progress)
}

// PartResult is operations/<workflow id>/<run id>/done/<part>.json: what a
// part put where.
type PartResult struct {
	Part       int               `json:"part"`
	Partitions []PartitionResult `json:"partitions"`
}

// PartitionResult is one target partition.
type PartitionResult struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	// Begin is the offset at which the restore began, Records how many records
	// it wrote from there on.
	Begin   int64 `json:"begin"`
	Records int64 `json:"records"`
	Bytes   int64 `json:"bytes"`
	// Pieces is where runs of records begin that do not follow each other in
	// the target, because others wrote in between; empty where nobody did.
	Pieces []Piece `json:"pieces,omitempty"`
}

// Piece says that the record of this rank has this offset in the target, and
// those after it the following ones, up to the next piece.
type Piece struct {
	Rank   int64 `json:"rank"`
	Offset int64 `json:"offset"`
}

// target is one partition to be filled.
type target struct {
	transfer.ProducePartition
	bytes int64 // estimate of all that goes into it
	want  int64 // estimate of its records
}

// size is about how large some of the target's records are: what earlier
// attempts sent is known in records only.
func (t *target) size(records int64) int64 {
	if t.want == 0 {
		return 0
	}
	return int64(float64(records) / float64(t.want) * float64(t.bytes))
}

// Fill fills the target partitions of one part, going on where their logs
// end, and returns what they hold of this restore. When ctx ends it stops at a
// record boundary.
func (f *Filler) Fill(ctx context.Context, plan *Plan, part int) (Amount, error) {
	var result PartResult
	_, err := f.Repository.ReadDocument(ctx, plan.object(doneName(part)), &result)
	if err == nil || !errors.Is(err, repository.ErrNotFound) {
		return result.amount(), err
	}
	var pp PlanPart
	if err := f.Repository.GetDocument(ctx, plan.Parts[part], &pp); err != nil {
		return Amount{}, fmt.Errorf("read the plan of part %d: %w", part, err)
	}
	targets, err := readTargets(ctx, f.Repository, plan)
	if err != nil {
		return Amount{}, fmt.Errorf("read the targets of the restore: %w", err)
	}
	passing, end := context.WithCancel(ctx)
	defer end()
	fills, err := f.fills(passing, plan, &pp, targets)
	if err != nil {
		return Amount{}, err
	}
	opts := transfer.ProduceOptions{
		ProducerID: targets.ProducerID, Epoch: targets.ProducerEpoch, AllowForeign: f.Options.AllowForeignWrites,
		MaxRequestBytes: int(f.Options.ProduceMaxBytes), MaxPartitions: atOnce(&pp),
		ByteRate:   limiter(int64(f.Options.RateLimitBytesPerSec), f.Share),
		RecordRate: limiter(f.Options.RateLimitRecordsPerSec, f.Share),
	}
	sent := newTally(fills, f.Report)
	partitions := make([]transfer.ProducePartition, len(fills))
	for i := range fills {
		partitions[i] = fills[i].ProducePartition
	}
	if err := transfer.Produce(ctx, f.Cluster.Client(), partitions, opts, sent.acked); err != nil {
		return sent.amount(), err
	}
	result.Part = part
	ids := make([]kafka.TopicID, len(fills))
	for i := range fills {
		t := &fills[i]
		ids[i] = t.TopicID
		result.Partitions = append(result.Partitions, PartitionResult{
			Topic: t.Topic, Partition: t.Partition, Begin: t.Begin, Records: sent.ranks[i], Bytes: t.size(sent.ranks[i]),
		})
	}
	if f.Options.AllowForeignWrites {
		if err := f.findPieces(ctx, targets, result.Partitions, ids); err != nil {
			return sent.amount(), err
		}
	}
	_, _, err = repository.AdoptDocument(ctx, f.Repository, plan.object(doneName(part)), &result)
	return result.amount(), err
}

func (r *PartResult) amount() (a Amount) {
	for _, p := range r.Partitions {
		a.Records += p.Records
		a.Bytes += p.Bytes
		a.Partitions++
	}
	return a
}

func doneName(part int) string { return "done/" + strconv.Itoa(part) + ".json" }

// limiter is a part's share of a rate limit; nil for none.
func limiter(perSecond int64, share float64) *rate.Limiter {
	if perSecond <= 0 {
		return nil
	}
	r := max(float64(perSecond)*share, 1)
	return rate.NewLimiter(rate.Limit(r), max(int(r/4), 1))
}

// blocksInFlight is how many produce requests' worth of blocks may be in
// memory.
const blocksInFlight = 6

// atOnce is how many target partitions are worked on at once: all of a merge
// are, since they go on together.
func atOnce(pp *PlanPart) int {
	n := 1000
	for i := range pp.Merges {
		n = max(n, int(pp.Merges[i].Partitions))
	}
	return n
}

// fills makes the streams of a part. The end of ctx ends the passes of merges.
func (f *Filler) fills(ctx context.Context, plan *Plan, pp *PlanPart, targets *Targets) ([]target, error) {
	byName := make(map[string]*TargetTopic, len(targets.Topics))
	for i := range targets.Topics {
		byName[targets.Topics[i].Name] = &targets.Topics[i]
	}
	var names []string
	for i := range pp.Copies {
		names = append(names, pp.Copies[i].Target)
	}
	for i := range pp.Merges {
		names = append(names, pp.Merges[i].Target)
	}
	slices.Sort(names)
	shapes, err := f.shapes(ctx, plan, slices.Compact(names))
	if err != nil {
		return nil, err
	}
	limit := blocksInFlight * int64(f.Options.ProduceMaxBytes)
	if len(pp.Copies) > 0 && len(pp.Merges) > 0 {
		limit /= 2
	}
	mem, leases, confirmMem := newMemory(limit), newMemory(limit), newMemory(confirming)
	var fills []target
	var sources []*source
	add := func(name string, partition int32, records, bytes int64) (*transfer.ProducePartition, error) {
		t := byName[name]
		if t == nil || int(partition) >= len(t.Begin) {
			return nil, &repository.CorruptError{Key: plan.object(targetsName), Detail: fmt.Sprintf("topic %s partition %d: it has no begin offset, but the plan names it", name, partition)}
		}
		id, err := kafka.ParseTopicID(t.ID)
		if err != nil {
			return nil, err
		}
		fills = append(fills, target{want: records, bytes: bytes, ProducePartition: transfer.ProducePartition{
			Topic: name, TopicID: id, Partition: partition, Begin: t.Begin[partition],
		}})
		return &fills[len(fills)-1].ProducePartition, nil
	}
	for i := range pp.Copies {
		c := &pp.Copies[i]
		src := f.source(plan, pp.Segments, c.Source, c.SourceID, &c.From)
		sources = append(sources, &src)
		p, err := add(c.Target, c.From.Partition, c.From.Records, c.From.Bytes)
		if err != nil {
			return nil, err
		}
		p.Open = copyStream(&src, shapes[c.Target], mem).open
		p.Confirm = f.confirm(*p, targets, func(ctx context.Context, rank int64, check func(*recordbatch.Record) error) error {
			r, err := copyStream(&src, shapes[c.Target], confirmMem).recordAt(ctx, rank-1)
			if err != nil {
				return err
			}
			return check(r)
		})
	}
	for i := range pp.Merges {
		m := &pp.Merges[i]
		var records, bytes int64
		for j := range m.From {
			records += m.From[j].Records
			bytes += m.From[j].Bytes
		}
		from := f.mergeSources(plan, pp.Segments, m)
		sources = append(sources, from...)
		pass := newPass(ctx, m, from, shapes[m.Target], leases, bytes)
		for to := range m.Partitions {
			p, err := add(m.Target, to, records/int64(m.Partitions), bytes/int64(m.Partitions))
			if err != nil {
				return nil, err
			}
			s := pass.streams[to]
			p.Open = func(context.Context) (transfer.Stream, error) { return s, nil }
			p.Confirm = f.confirm(*p, targets, func(_ context.Context, rank int64, check func(*recordbatch.Record) error) error {
				return s.confirm(rank, check)
			})
		}
	}
	readTogether(sources)
	return fills, nil
}

func (f *Filler) source(plan *Plan, segments []repository.SegmentRef, topic, id string, from *repository.Partition) source {
	return source{
		repo: f.Repository, segments: segments, slices: from.Slices, rule: plan.rule(from),
		tp: repository.TopicPartition{Topic: topic, TopicID: id, Partition: from.Partition},
	}
}

// shapes finds out how large batches may be.
func (f *Filler) shapes(ctx context.Context, plan *Plan, topics []string) (map[string]shape, error) {
	configs, err := f.Cluster.TopicConfigs(ctx, topics)
	if err != nil {
		return nil, err
	}
	shapes := make(map[string]shape, len(topics))
	for _, name := range topics {
		s := shape{headers: plan.Headers, maxBatch: defaultMaxMessage, join: int(f.Options.ProduceBatchMaxBytes)}
		if n, err := strconv.Atoi(configs[name]["max.message.bytes"].Value); err == nil && n > 0 {
			s.maxBatch = n
		}
		s.join = min(s.join, s.maxBatch)
		shapes[name] = s
	}
	return shapes, nil
}

// defaultMaxMessage is the brokers' default for max.message.bytes.
const defaultMaxMessage = 1048588

// tally counts what was acknowledged.
type tally struct {
	mu       sync.Mutex
	fills    []target
	ranks    []int64
	done     Amount
	report   func(Progress)
	reported time.Time
}

func newTally(fills []target, report func(Progress)) *tally {
	return &tally{fills: fills, ranks: make([]int64, len(fills)), report: report}
}

func (t *tally) acked(a transfer.Acked) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.ranks[a.Index]
	t.ranks[a.Index] = a.Rank
	t.done.Records += a.Rank - before
	f := &t.fills[a.Index]
	t.done.Bytes += f.size(a.Rank - before)
	if a.Done {
		t.done.Partitions++
	}
	if t.report == nil || time.Since(t.reported) < time.Second {
		return
	}
	t.reported = time.Now()
	p := Progress{Done: t.done}
	for i := range t.fills {
		if lag := t.fills[i].want - t.ranks[i]; lag > 0 {
			p.Lagging = append(p.Lagging, Lag{t.fills[i].Topic, t.fills[i].Partition, lag})
		}
	}
	slices.SortFunc(p.Lagging, func(a, b Lag) int { return cmp.Compare(b.Records, a.Records) })
	p.Lagging = p.Lagging[:min(len(p.Lagging), 3)]
	t.report(p)
}

func (t *tally) amount() Amount {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.done
}
