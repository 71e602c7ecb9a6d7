package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/transfer"
)

// drainMerge reads all streams of a merge to their ends, as attempts do which
// go on at ranks (nil: at 0). With trouble there are doubts on the way, and
// other attempts that get ahead.
func drainMerge(t *rapid.T, p *pass, ranks []int64, trouble bool) [][]logged {
	seed := rapid.Uint64().Draw(t, "seed")
	out := make([][]logged, len(p.streams))
	g, ctx := errgroup.WithContext(context.Background())
	for to, s := range p.streams {
		var from int64
		if ranks != nil {
			from = ranks[to]
		}
		random := rand.New(rand.NewPCG(seed, uint64(to)))
		g.Go(func() (err error) {
			out[to], err = drainStream(ctx, s, from, p.shape.maxBatch, random, trouble)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*memory{p.leases, p.blocks, p.queued} {
		if !m.budget.TryAcquire(m.limit) {
			t.Fatal("memory was not given back")
		}
	}
	p.leases.budget.Release(p.leases.limit)
	return out
}

func drainStream(ctx context.Context, s *mergeStream, rank int64, maxBatch int, random *rand.Rand, trouble bool) (out []logged, err error) {
	if err := s.Seek(ctx, rank); err != nil {
		return nil, err
	}
	var dec recordbatch.Decoder
	type kept struct{ given, copied []byte }
	var given []kept // up by a request that may still read them
	for {
		load, err := s.Next(ctx)
		if err == io.EOF {
			for _, k := range given {
				if !bytes.Equal(k.given, k.copied) {
					return nil, errors.New("a batch was changed although somebody may still read it")
				}
			}
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		b := load.Batch
		if load.Rank != rank {
			return nil, fmt.Errorf("rank %d instead of %d", load.Rank, rank)
		}
		if !b.Dense() || b.IsLogAppendTime() || len(b) > maxBatch || b.Verify() != nil {
			return nil, fmt.Errorf("a broker would refuse or change it: dense %v, broker time %v, %d bytes, %v", b.Dense(), b.IsLogAppendTime(), len(b), b.Verify())
		}
		b.Stamp(recordbatch.Stamp{ProducerID: 7, BaseSequence: int32(rank)})
		n, clean := int64(b.NumRecords()), true
		if trouble && random.IntN(3) == 0 {
			if clean = random.IntN(2) == 0; !clean {
				given = append(given, kept{b, bytes.Clone(b)})
			}
			load.Release(clean)
			// It was written, not at all, or in part by somebody who cuts otherwise.
			n = random.Int64N(n + 1)
			if err := s.Seek(ctx, rank+n); err != nil {
				return nil, err
			}
		} else {
			load.Release(true)
		}
		if err := dec.Records(b, func(r *recordbatch.Record) error {
			if r.Offset < n {
				l := logged{timestamp: r.Timestamp, key: bytes.Clone(r.Key), value: bytes.Clone(r.Value)}
				out = append(out, l)
			}
			return nil
		}); err != nil {
			return nil, err
		}
		rank += n
	}
}

// makeMerge draws a topic whose records are placed by their keys.
func makeMerge(t *rapid.T, repo *repository.Repository, plan *Plan) (mg *Merge, segments []repository.SegmentRef, logs []*madeLog) {
	mg = &Merge{Source: "a", SourceID: "x", Target: "b", Partitions: rapid.Int32Range(1, 4).Draw(t, "partitions")}
	var all []logged
	for p := range rapid.Int32Range(1, 4).Draw(t, "sources") {
		m := makeLog(t, repo, repository.TopicPartition{Topic: "a", TopicID: "x", Partition: p}, fmt.Sprint("run-", p))
		from := m.part
		from.Slices = slices.Clone(from.Slices)
		for i := range from.Slices {
			from.Slices[i].Segment += len(segments)
		}
		segments = append(segments, m.segments...)
		mg.From = append(mg.From, from)
		all = append(all, m.records...)
		logs = append(logs, m)
	}
	if len(all) > 0 && rapid.Bool().Draw(t, "window") {
		end := all[rapid.IntRange(0, len(all)-1).Draw(t, "end")].timestamp
		plan.End = &end
	}
	return mg, segments, logs
}

func TestAMergePlacesEachRecordOnceByItsKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		repo, plan := newRepo(t), &Plan{}
		mg, segments, logs := makeMerge(t, repo, plan)
		f := &Filler{Repository: repo}
		begin := func() *pass {
			sources := f.mergeSources(plan, segments, mg)
			if rapid.Bool().Draw(t, "read together") {
				readTogether(sources)
			}
			sh := shape{
				maxBatch: rapid.SampledFrom([]int{400, 2000, 1 << 20}).Draw(t, "max batch"),
				join:     rapid.SampledFrom([]int{1, 500, 1 << 20}).Draw(t, "join"),
			}
			p := newPass(context.Background(), mg, sources, sh, newMemory(rapid.SampledFrom([]int64{8, 2000, 1 << 20}).Draw(t, "memory")), 10000)
			if rapid.Bool().Draw(t, "little is collected") {
				p.join, p.most = 100, rapid.Int64Range(0, 500).Draw(t, "collected")
			}
			return p
		}
		whole := drainMerge(t, begin(), nil, false)
		place := map[string]int32{} // by value, which is unique
		seen := map[string]int{}    // position in its target
		total := 0
		var ranks []int64
		for to, got := range whole {
			for i, r := range got {
				if _, twice := place[string(r.value)]; twice {
					t.Fatalf("%s is there twice", r.value)
				}
				place[string(r.value)], seen[string(r.value)] = int32(to), i
				if r.key != nil && recordbatch.KeyPartition(r.key, mg.Partitions) != int32(to) {
					t.Fatalf("key %s is in partition %d", r.key, to)
				}
			}
			total += len(got)
			ranks = append(ranks, rapid.Int64Range(0, int64(len(got))).Draw(t, "rank"))
		}
		// Another attempt, which finds each partition somewhere else, and has
		// trouble.
		for to, got := range drainMerge(t, begin(), ranks, true) {
			compare(t, fmt.Sprintf("partition %d again from rank %d", to, ranks[to]), got, whole[to][ranks[to]:])
		}
		want := 0
		for _, m := range logs {
			last := map[int32]int{}
			for _, r := range m.expected(plan.rule(&m.part)) {
				to, ok := place[string(r.value)]
				if !ok {
					t.Fatalf("%s is missing", r.value)
				}
				if at := seen[string(r.value)]; at < last[to] {
					t.Fatalf("%s is before its predecessor of the same source partition", r.value)
				}
				last[to] = seen[string(r.value)]
				want++
			}
		}
		if total != want {
			t.Fatalf("%d records, want %d", total, want)
		}
	})
}

// What a target holds beyond, or has lost, is never passed over.
func TestATargetThatDoesNotFitAMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		repo, plan := newRepo(t), &Plan{}
		mg, segments, _ := makeMerge(t, repo, plan)
		f := &Filler{Repository: repo}
		begin := func() *pass {
			return newPass(ctx, mg, f.mergeSources(plan, segments, mg), shape{maxBatch: 1 << 20, join: 100}, newMemory(1<<20), 10000)
		}
		whole := drainMerge(t, begin(), nil, false)
		to := rapid.IntRange(0, len(whole)-1).Draw(t, "target")
		total := int64(len(whole[to]))
		confirm := func(int64) error { return nil }
		// at has all other streams read to their ends, and this one go on at a
		// rank, and then at another.
		at := func(p *pass, first int64, next ...int64) error {
			g, ctx := errgroup.WithContext(ctx)
			for i, s := range p.streams {
				g.Go(func() error {
					if i != to {
						_, err := drainStream(ctx, s, 0, 1<<20, nil, false)
						return err
					}
					err := s.Seek(ctx, first)
					for err == nil {
						if _, err = s.Next(ctx); err == nil && len(next) > 0 {
							err = errors.Join(confirm(next[0]), s.Seek(ctx, next[0]))
							next = next[1:]
						}
					}
					if err == io.EOF {
						err = nil
					}
					return err
				})
			}
			return g.Wait()
		}
		var beyond *BeyondError
		if err := at(begin(), total+1); !errors.As(err, &beyond) || beyond.Rank != total+1 || beyond.Beyond != 1 {
			t.Fatalf("a log with one record too many: %v", err)
		}
		if total == 0 {
			return
		}
		if err := at(begin(), 0, total+1); !errors.As(err, &beyond) {
			t.Fatalf("another attempt wrote one record too many: %v", err)
		}
		var back *WentBackError
		if err := at(begin(), total-1, total-2); total > 1 && !errors.As(err, &back) {
			t.Fatalf("a log that lost a record: %v", err)
		}
		// The last record before the place to go on at is held against the log's.
		other := errors.New("another record")
		p := begin()
		rank := rapid.Int64Range(1, total).Draw(t, "rank")
		var ours *recordbatch.Record
		if err := p.streams[to].confirm(rank, func(r *recordbatch.Record) error { ours = r; return other }); err != nil {
			t.Fatal(err)
		}
		if err := at(p, rank); !errors.Is(err, other) || !bytes.Equal(ours.Value, whole[to][rank-1].value) {
			t.Fatalf("got %v, for %v", err, ours)
		}
		// Another attempt gets ahead, and the broker does not say who wrote.
		ours = nil
		p = begin()
		confirm = func(rank int64) error {
			return p.streams[to].confirm(rank, func(r *recordbatch.Record) error { ours = copyRecord(r); return other })
		}
		if err := at(p, 0, rank); !errors.Is(err, other) || !bytes.Equal(ours.Value, whole[to][rank-1].value) {
			t.Fatalf("got %v, for %v", err, ours)
		}
	})
}

// upTo is a stream that ends early, at a batch.
type upTo struct {
	transfer.Stream
	rank int64
}

func (s upTo) Next(ctx context.Context) (transfer.Load, error) {
	load, err := s.Stream.Next(ctx)
	if err == nil && load.Rank >= s.rank {
		load.Release(true)
		return load, io.EOF
	}
	return load, err
}

// An attempt dies when it has got differently far in each target partition.
// The next one goes on in each where its log ends, and so does one that begins
// while the other is still at work.
func TestAnAttemptGoesOnWhereEachPartitionOfAMergeEnds(t *testing.T) {
	const targets = 3
	w := newWorld(t, map[string]map[string]string{"a": {"max.message.bytes": "110"}})
	o := options()
	o.PartitionCount = map[string]int32{"a": targets}
	plan := w.must(w.plan("run-1", o))
	begun := w.prepare(plan)
	f := Filler{Cluster: w.cluster, Repository: w.repo, Options: o, Share: 1}
	var pp PlanPart
	if err := w.repo.GetDocument(t.Context(), plan.Parts[0], &pp); err != nil {
		t.Fatal(err)
	}
	attempt := func(stop ...int64) []transfer.ProducePartition {
		fills, err := f.fills(t.Context(), plan, &pp, begun)
		if err != nil {
			t.Fatal(err)
		}
		var all []transfer.ProducePartition
		for i, p := range fills {
			open := p.Open
			p.Open = func(ctx context.Context) (transfer.Stream, error) {
				s, err := open(ctx)
				return upTo{s, stop[i]}, err
			}
			all = append(all, p.ProducePartition)
		}
		return all
	}
	produce := func(all []transfer.ProducePartition) error {
		return transfer.Produce(t.Context(), w.cluster.Client(), all, transfer.ProduceOptions{ProducerID: begun.ProducerID, Epoch: begun.ProducerEpoch}, func(transfer.Acked) {})
	}
	if err := produce(attempt(100, 3, 0)); err != nil {
		t.Fatal(err)
	}
	ends := func() (at []int64) {
		var all []kafka.TopicPartition
		for p := range int32(targets) {
			all = append(all, kafka.TopicPartition{Topic: "a", Partition: p})
		}
		ends, err := w.cluster.EndOffsets(t.Context(), all)
		if err != nil {
			t.Fatal(err)
		}
		for _, tp := range all {
			at = append(at, ends[tp].Offset)
		}
		return at
	}
	before := ends()
	if before[0] < 6 || before[1] < 3 || before[1] >= before[0] || before[2] != 0 {
		t.Fatalf("the first attempt got to %v", before)
	}
	var g errgroup.Group
	g.Go(func() error { return produce(attempt(100, 100, 100)) })
	g.Go(func() error { return w.fill(plan, o) })
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	var total int64
	for _, n := range ends() {
		total += n
	}
	if total != 2*perPartition {
		t.Fatalf("%d records, want %d", total, 2*perPartition)
	}
	// Each of them once, in its place.
	whole := newPass(t.Context(), &pp.Merges[0], f.mergeSources(plan, pp.Segments, &pp.Merges[0]), shape{maxBatch: 1 << 20, join: 1 << 20}, newMemory(1<<20), 1<<20)
	for to, s := range whole.streams {
		g.Go(func() error {
			want, err := drainStream(t.Context(), s, 0, 1<<20, nil, false)
			if err != nil {
				return err
			}
			for i, r := range want {
				got, err := f.recordAt(t.Context(), transfer.ProducePartition{Topic: "a", TopicID: attemptID(begun), Partition: int32(to)}, int64(i))
				if err != nil {
					return err
				}
				if got == nil || !bytes.Equal(got.Value, r.value) {
					t.Errorf("partition %d offset %d holds %v, want %s", to, i, got, r.value)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

func attemptID(t *Targets) kafka.TopicID {
	id, err := kafka.ParseTopicID(t.Topics[0].ID)
	if err != nil {
		panic(err)
	}
	return id
}
