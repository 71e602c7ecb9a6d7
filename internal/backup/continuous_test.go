package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"gocloud.dev/blob/memblob"
	"pgregory.net/rapid"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

const topic, partitions = "orders", 3

// source is a fake cluster and a repository that it is backed up into.
type source struct {
	t       *testing.T
	ctx     context.Context
	fake    *kfake.Cluster
	cluster *kafka.Cluster
	client  *kgo.Client
	repo    *repository.Repository
	options config.Backup
	topics  []string             // that are backed up
	n       int                  // of records produced
	want    [partitions][]string // values, by offset
}

func newSource(t *testing.T, opts ...kfake.Opt) *source {
	t.Helper()
	fake, err := kfake.NewCluster(append(opts, kfake.NumBrokers(1), kfake.SeedTopics(partitions, topic))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	s := &source{t: t, ctx: ctx, fake: fake, options: config.New().Backup, topics: []string{topic}}
	s.options.Continuous, s.options.FetchMaxWait = true, config.Duration(20*time.Millisecond)
	if s.cluster, err = kafka.Connect(ctx, config.Cluster{BootstrapServers: fake.ListenAddrs()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.cluster.Close)
	if s.client, err = kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.client.Close)
	if s.repo, err = repository.Create(ctx, memblob.OpenBucket(nil)); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *source) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// produce writes n records to each partition.
func (s *source) produce(n int) {
	s.t.Helper()
	var records []*kgo.Record
	for range n {
		for p := range partitions {
			v := fmt.Sprintf("%d of %d", s.n, p)
			s.want[p] = append(s.want[p], v)
			records = append(records, &kgo.Record{Topic: topic, Partition: int32(p), Value: []byte(v)})
		}
		s.n++
	}
	s.check(s.client.ProduceSync(s.ctx, records...).FirstErr())
}

func (s *source) plan(id, previous string) *Plan {
	s.t.Helper()
	plan, _, err := MakePlan(s.ctx, s.cluster, s.repo, Request{BackupID: id, Topics: config.TopicFilter{Include: s.topics}, Options: s.options, Previous: previous})
	s.check(err)
	return plan
}

func (s *source) copier(until time.Time) *Copier {
	return &Copier{Cluster: s.cluster, Repository: s.repo, Options: s.options, Share: 1, Until: until}
}

func (s *source) complete(plan *Plan) *repository.Manifest {
	s.t.Helper()
	m, err := Complete(s.ctx, s.cluster, s.repo, plan, s.options.ConsumerGroups, false)
	s.check(err)
	return m
}

func (s *source) backup(id, previous string, until time.Time) *repository.Manifest {
	s.t.Helper()
	plan := s.plan(id, previous)
	for part := range plan.Parts {
		_, err := s.copier(until).Copy(s.ctx, plan, part)
		s.check(err)
	}
	return s.complete(plan)
}

// holds checks that a backup is intact and returns the values it has, and how
// many segments.
func (s *source) holds(m *repository.Manifest) (values [partitions][]string, segments int) {
	s.t.Helper()
	report, err := s.repo.Validate(s.ctx, m.BackupID, repository.ValidateOptions{Deep: true})
	s.check(err)
	if len(report.Problems) > 0 {
		s.t.Fatalf("backup %s: %v", m.BackupID, report.Problems)
	}
	var dec recordbatch.Decoder
	var buf repository.Buffer
	for shard, err := range s.repo.Shards(s.ctx, m, 1) {
		s.check(err)
		segments += len(shard.Segments)
		for _, t := range shard.Topics {
			for _, p := range t.Partitions {
				for i := range p.Slices {
					seg, err := s.repo.OpenSegment(s.ctx, shard.Segments[p.Slices[i].Segment])
					s.check(err)
					tp := repository.TopicPartition{Topic: t.Name, TopicID: t.ID, Partition: p.Partition}
					s.check(seg.ReadBlocks(s.ctx, seg.SliceBlocks(tp, &p.Slices[i]), &buf, func(_ *repository.Block, raw []byte) error {
						for len(raw) > 0 {
							b, rest, err := recordbatch.Next(raw)
							if err != nil {
								return err
							}
							raw = rest
							if err := dec.Records(b, func(r *recordbatch.Record) error {
								if r.Offset != int64(len(values[p.Partition])) {
									return fmt.Errorf("partition %d: offset %d comes after %d records", p.Partition, r.Offset, len(values[p.Partition]))
								}
								values[p.Partition] = append(values[p.Partition], string(r.Value))
								return nil
							}); err != nil {
								return err
							}
						}
						return nil
					}))
				}
			}
		}
	}
	return values, segments
}

func (s *source) same(m *repository.Manifest) (segments int) {
	s.t.Helper()
	got, segments := s.holds(m)
	for p := range got {
		if !slices.Equal(got[p], s.want[p]) {
			s.t.Fatalf("backup %s: partition %d has %d records, want %d", m.BackupID, p, len(got[p]), len(s.want[p]))
		}
	}
	return segments
}

// A trickle, through hundreds of checkpoints, leaves few segments, and every
// checkpoint has every record.
func TestATrickleLeavesFewSegments(t *testing.T) {
	s := newSource(t)
	previous, most := "", 0
	for i := range 100 {
		s.produce(1)
		id := fmt.Sprintf("c-%03d", i)
		m := s.backup(id, previous, time.Time{})
		if most = max(most, s.same(m)); most > mergeFrom {
			t.Fatalf("%d segments at checkpoint %d", most, i)
		}
		previous = id
	}
	t.Logf("at most %d segments", most)
}

// What comes after the plan, until the time is up, is in the backup.
func TestFollowTakesWhatComesAfterThePlan(t *testing.T) {
	s := newSource(t)
	s.produce(10)
	plan := s.plan("c", "")
	done := make(chan error)
	go func() {
		_, err := s.copier(time.Now().Add(time.Second)).Copy(s.ctx, plan, 0)
		done <- err
	}()
	for range 5 {
		time.Sleep(20 * time.Millisecond) // polls in between; nothing depends on it
		s.produce(3)
	}
	s.check(<-done)
	m := s.complete(plan)
	got, segments := s.holds(m)
	if segments != 1 {
		t.Errorf("%d segments, polls should not close them", segments)
	}
	for p := range got {
		if n := len(got[p]); n < 10 || !slices.Equal(got[p], s.want[p][:n]) {
			t.Errorf("partition %d has %d records", p, n)
		}
	}
	// The next one goes on without a gap.
	s.same(s.backup("d", "c", time.Time{}))
}

// written is records and the time at which all of them were acknowledged.
type written struct {
	at   time.Time
	upto int // records of each partition
}

// holdsUpTo checks a time up to which a backup is said to have everything.
func (s *source) holdsUpTo(m *repository.Manifest, caughtUp time.Time, log []written) {
	s.t.Helper()
	got, _ := s.holds(m)
	for _, w := range log {
		for p := range got {
			if w.at.Before(caughtUp) && len(got[p]) < w.upto {
				s.t.Errorf("partition %d has %d records; %d were there at %v, which is before %v", p, len(got[p]), w.upto, w.at, caughtUp)
			}
		}
	}
}

// What a part says to have is in the backup: with records coming all the time,
// when it is followed, when the time is up before it has reached its planned
// end, and when it is stopped and goes on after the time is up.
func TestAPartHasWhatItSaysToHave(t *testing.T) {
	for name, copy := range map[string]func(s *source, plan *Plan) Copied{
		"followed": func(s *source, plan *Plan) Copied {
			did, err := s.copier(time.Now().Add(time.Second)).Copy(s.ctx, plan, 0)
			s.check(err)
			if !did.CaughtUp.After(plan.CreatedAt) {
				s.t.Error("it was followed, and says to have no more than was planned")
			}
			return did
		},
		"slow": func(s *source, plan *Plan) Copied {
			time.Sleep(100 * time.Millisecond) // records come meanwhile
			did, err := s.copier(time.Now()).Copy(s.ctx, plan, 0)
			s.check(err)
			return did
		},
		"stopped across the end": func(s *source, plan *Plan) Copied {
			until := time.Now().Add(300 * time.Millisecond)
			ctx, stop := context.WithTimeout(s.ctx, 100*time.Millisecond)
			defer stop()
			if _, err := s.copier(until).Copy(ctx, plan, 0); !errors.Is(err, context.DeadlineExceeded) {
				s.t.Fatal(err)
			}
			time.Sleep(time.Until(until) + 50*time.Millisecond)
			did, err := s.copier(until).Copy(s.ctx, plan, 0)
			s.check(err)
			return did
		},
		"another attempt was first": func(s *source, plan *Plan) Copied {
			_, err := s.copier(time.Time{}).Copy(s.ctx, plan, 0)
			s.check(err)
			did, err := s.copier(time.Now().Add(200*time.Millisecond)).Copy(s.ctx, plan, 0)
			s.check(err)
			return did
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSource(t)
			s.produce(10)
			before := time.Now()
			plan := s.plan("c", "")
			stop, stopped := make(chan struct{}), make(chan []written)
			go func() {
				var log []written
				for {
					select {
					case <-stop:
						stopped <- log
						return
					default:
						s.produce(1)
						log = append(log, written{time.Now(), s.n})
					}
				}
			}()
			did := copy(s, plan)
			close(stop)
			log := <-stopped
			if before.Sub(did.CaughtUp) > time.Millisecond { // as exact as it is written
				t.Errorf("it says to have everything up to %v, before it was planned at %v", did.CaughtUp, before)
			}
			s.holdsUpTo(s.complete(plan), did.CaughtUp, log)
		})
	}
}

// A part that is stopped anywhere, also while it merges, and begun again has
// everything once.
func TestStoppedAnywhereLosesNothing(t *testing.T) {
	s := newSource(t)
	s.options.SegmentMaxBytes, s.options.BlockMaxBytes = 1<<10, 64
	previous, round := "", 0
	rapid.Check(t, func(r *rapid.T) {
		s.produce(rapid.IntRange(0, 30).Draw(r, "records"))
		id := fmt.Sprintf("c-%05d", round)
		round++
		plan := s.plan(id, previous)
		for range rapid.IntRange(0, 2).Draw(r, "stops") {
			ctx, stop := context.WithTimeout(s.ctx, time.Duration(rapid.IntRange(0, 3000).Draw(r, "µs"))*time.Microsecond)
			_, err := s.copier(time.Time{}).Copy(ctx, plan, 0)
			stop()
			if err != nil && !errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
				r.Fatal(err)
			}
		}
		_, err := s.copier(time.Time{}).Copy(s.ctx, plan, 0)
		s.check(err)
		s.same(s.complete(plan))
		previous = id
	})
}

// What was proposed and not begun stands in nobody's way, and what is proposed
// again is what there is then. What was begun is gone on with.
func TestAProposalBeginsNothing(t *testing.T) {
	s := newSource(t)
	s.produce(3)
	propose := func(key string, topics ...string) *Plan {
		t.Helper()
		plan, ref, err := Propose(s.ctx, s.cluster, s.repo, Request{BackupID: "b", Topics: config.TopicFilter{Include: topics}, Options: s.options}, key)
		s.check(err)
		if ref.Key != key {
			t.Errorf("the plan is at %s", ref.Key)
		}
		return plan
	}
	first := propose("operations/w/0.json", "*")
	s.produce(4)
	second := propose("operations/w/1.json", "*")
	if second.Content != first.Content {
		t.Error("records that come are another plan")
	}
	if second.Offsets != 7*partitions {
		t.Errorf("what is proposed again has %d offsets", second.Offsets)
	}
	if again := propose("operations/w/1.json", "*"); again.Offsets != second.Offsets || again.Parts[0] != second.Parts[0] {
		t.Error("an attempt that is made again proposes something else")
	}
	if _, err := kadm.NewClient(s.client).CreateTopic(s.ctx, 1, 1, nil, "more"); err != nil {
		t.Fatal(err)
	}
	if third := propose("operations/w/2.json", "*"); third.Content == first.Content {
		t.Error("a topic that has come is the same plan")
	}

	// The first was not approved; another selection is proposed under the same id, and begun.
	other := propose("operations/v/0.json", topic)
	begun, _, err := Begin(s.ctx, s.repo, "operations/v/0.json")
	s.check(err)
	if begun.Content != other.Content {
		t.Error("another plan was begun")
	}
	if _, _, err := Begin(s.ctx, s.repo, "operations/w/1.json"); !errors.As(err, new(*ExistsError)) {
		t.Errorf("two plans are begun: %v", err)
	}
	// Started again, it goes on.
	s.topics = []string{topic}
	s.produce(1)
	if again := s.plan("b", ""); again.Parts[0] != begun.Parts[0] {
		t.Error("started again, it has another plan")
	}
	_, err = s.copier(time.Time{}).Copy(s.ctx, begun, 0)
	s.check(err)
	got, _ := s.holds(s.complete(begun))
	if len(got[0]) != 7 {
		t.Errorf("it has %d records", len(got[0]))
	}
}

func TestTheBackupToAddToCanBeSaid(t *testing.T) {
	s := newSource(t)
	s.produce(5)
	s.backup("first", "", time.Time{})
	s.backup("second", "", time.Time{})
	for previous, want := range map[string]string{"": "second", "first": "first", "gone": "second"} {
		if got := s.plan("by-"+previous, previous).Previous; !slices.Equal(got, []string{want}) {
			t.Errorf("previous %q: adds to %q", previous, got)
		}
	}
}

// However the sizes fall, the number of segments goes with what they hold and
// not with the number of checkpoints, and nothing is merged but the end of
// each partition.
func TestMergeSmall(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const limit = 16 << 20
		pp := &PlanPart{Topics: []PlanTopic{{Partitions: make([]PlanPartition, 2)}}}
		var data int64
		for i := range rapid.IntRange(1, 200).Draw(t, "checkpoints") {
			ref := repository.SegmentRef{Key: fmt.Sprintf("data/c-%05d/00000/000000.seg", i), Size: rapid.Int64Range(1, 1<<21).Draw(t, "size")}
			data += ref.Size
			in := rapid.IntRange(1, 3).Draw(t, "partitions") // a set of two
			at := len(pp.Segments)
			pp.Segments = append(pp.Segments, ref)
			var merged int64
			for j := range pp.Topics[0].Partitions {
				p := &pp.Topics[0].Partitions[j]
				if in&(1<<j) != 0 {
					p.AddSlice(repository.Slice{Segment: at, FirstOffset: p.From, LastOffset: p.From, Records: 1, Bytes: ref.Size})
					p.From++
				}
			}
			pp.mergeSmall(limit)
			// As if it had been written.
			var one []int
			for j := range pp.Topics[0].Partitions {
				p := &pp.Topics[0].Partitions[j]
				next := int64(0)
				if n := len(p.Slices); n > 0 {
					next = p.Slices[n-1].LastOffset + 1
				}
				for _, s := range p.Merge {
					if s.FirstOffset != next {
						t.Fatalf("partition %d: a slice from %d on is merged after %d", j, s.FirstOffset, next)
					}
					next = s.LastOffset + 1
				}
				if next != p.From {
					t.Fatalf("partition %d: up to %d of %d", j, next, p.From)
				}
				if len(p.Merge) > 0 {
					first := p.Merge[0].FirstOffset
					for _, s := range p.Merge {
						if !slices.Contains(one, s.Segment) {
							one = append(one, s.Segment)
							merged += pp.Segments[s.Segment].Size
						}
					}
					p.Merge = nil
					p.AddSlice(repository.Slice{Segment: len(pp.Segments), FirstOffset: first, LastOffset: p.From - 1, Records: p.From - first, Bytes: 1})
				}
			}
			if merged > 0 {
				pp.Segments = append(pp.Segments, repository.SegmentRef{Key: fmt.Sprintf("data/c-%05d/00000/000001.seg", i), Size: merged})
			}
		}
		used := map[int]bool{}
		pp.each(func(p *PlanPartition) {
			for _, s := range p.Slices {
				used[s.Segment] = true
			}
		})
		if most := mergeFrom + 2*mergeFrom*int(data/(limit/16)); len(used) > most {
			t.Fatalf("%d segments for %d bytes, want at most %d", len(used), data, most)
		}
	})
}
