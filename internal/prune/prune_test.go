package prune

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gocloud.dev/blob/memblob"
	"pgregory.net/rapid"

	"github.com/kafka-backup/kafka-backup/internal/backup"
	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/retention"
)

var began = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// store is a repository with what makes backups in it.
type store struct {
	*repository.Repository
	t rapid.TB
	n int // of backups made

	selection *repository.Selection // of the next backups
}

func newStore(t rapid.TB) *store {
	r, err := repository.Create(context.Background(), memblob.OpenBucket(nil))
	if err != nil {
		t.Fatal(err)
	}
	return &store{Repository: r, t: t}
}

func (s *store) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

var tp = repository.TopicPartition{Topic: "orders", TopicID: "AAAAAAAAAAAAAAAAAAAAAQ", Partition: 0}

func batch(t rapid.TB, offset int64) recordbatch.Batch {
	enc, err := recordbatch.NewEncoder(recordbatch.EncoderConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if !enc.Append(&recordbatch.Record{Timestamp: began.UnixMilli(), Key: []byte("k"), Value: bytes.Repeat([]byte("v"), 100)}) {
		t.Fatal("the batch is full")
	}
	b, err := enc.Flush(nil)
	if err != nil {
		t.Fatal(err)
	}
	binary.BigEndian.PutUint64(b, uint64(offset))
	return b
}

// segment writes a segment with one record.
func (s *store) segment(id string, sequence int, offset int64) (repository.SegmentRef, repository.Slice) {
	ctx := context.Background()
	raw := batch(s.t, offset)
	w, err := s.NewSegment(ctx, id, 0, sequence)
	s.check(err)
	encoded, err := repository.EncodeBlock("none", 0, raw)
	s.check(err)
	var b repository.Block
	b.AddBatch(raw)
	b.SetEncoded(encoded)
	s.check(w.Append(tp, b, encoded.Stored...))
	ref, err := w.Close([]repository.SegmentPartition{{TopicPartition: tp, NextOffset: offset + 1, LeaderEpoch: 0}})
	s.check(err)
	var slice repository.Slice
	slice.AddBlocks(b)
	return ref, slice
}

func named(ids ...string) []string {
	return slices.DeleteFunc(ids, func(id string) bool { return id == "" })
}

// plan writes a backup's plan.
func (s *store) plan(id string, previous ...string) {
	_, err := s.CreateDocument(context.Background(), repository.PlanKey(id), &backup.Plan{BackupID: id, Previous: named(previous...), CreatedAt: began})
	s.check(err)
}

// backup makes a complete backup, an hour after the one before: one new
// segment, and those of the previous backup after the first skip ones.
func (s *store) backup(id, cluster, previous string, skip int) {
	ctx := context.Background()
	s.plan(id, previous)
	p := repository.Partition{FirstOffset: -1, LastOffset: -1, LeaderEpoch: -1, End: int64(s.n + 1)}
	shard := &repository.Shard{Topics: []repository.Topic{{Name: tp.Topic, ID: tp.TopicID, PartitionCount: 1, ReplicationFactor: 1}}}
	if previous != "" {
		before, _, err := s.FindIndex(ctx, previous, 0)
		s.check(err)
		for _, slice := range before.Topics[0].Partitions[0].Slices[min(skip, len(before.Topics[0].Partitions[0].Slices)):] {
			shard.Segments = append(shard.Segments, before.Segments[slice.Segment])
			slice.Segment = len(shard.Segments) - 1
			p.AddSlice(slice)
		}
	}
	ref, slice := s.segment(id, 0, int64(s.n))
	shard.Segments = append(shard.Segments, ref)
	slice.Segment = len(shard.Segments) - 1
	p.AddSlice(slice)
	shard.Topics[0].Partitions = []repository.Partition{p}
	at, _, err := s.AdoptIndex(ctx, id, 0, shard)
	s.check(err)
	when := began.Add(time.Duration(s.n) * time.Hour)
	s.n++
	var sums repository.Tally
	sums.Add(id, shard)
	_, err = s.WriteManifest(ctx, &repository.Manifest{BackupID: id, ClusterID: cluster, CreatedAt: when, FinishedAt: when, Previous: named(previous),
		Selection: s.selection, Index: []repository.ObjectRef{at}, Totals: sums.Totals()})
	s.check(err)
}

// chain makes n backups of a cluster, each adding to the one before; they
// share up to three segments.
func (s *store) chain(cluster string, n int) {
	previous := ""
	for i := range n {
		id := fmt.Sprintf("%s-%02d", cluster, i)
		s.backup(id, cluster, previous, max(0, min(i-2, 1)))
		previous = id
	}
}

func (s *store) complete() (ids []string) {
	all, err := s.ListBackups(context.Background())
	s.check(err)
	for _, b := range all {
		if b.Complete() {
			ids = append(ids, b.ID)
		}
	}
	return ids
}

func (s *store) keys() (keys []string) {
	it := s.Bucket().List(nil)
	for {
		o, err := it.Next(context.Background())
		if err != nil {
			return keys
		}
		keys = append(keys, o.Key)
	}
}

// intact checks that each backup that exists has all it names.
func (s *store) intact() {
	s.t.Helper()
	for _, id := range s.complete() {
		report, err := s.Validate(context.Background(), id, repository.ValidateOptions{Deep: true})
		s.check(err)
		if len(report.Problems) > 0 {
			s.t.Fatalf("backup %s: %v", id, report.Problems)
		}
	}
}

func pruner(s *store, o Options, running ...Operation) *Pruner {
	return &Pruner{Repository: s.Repository, Options: o, Running: func(context.Context) ([]Operation, error) { return running, nil }}
}

// prune does all that a prune does.
func prune(s *store, o Options, running ...Operation) (Dropped, Swept) {
	s.t.Helper()
	plan, err := MakePlan(context.Background(), s.Repository, o, running)
	s.check(err)
	p := pruner(s, o, running...)
	dropped, err := p.Drop(context.Background(), plan)
	s.check(err)
	swept, err := p.Sweep(context.Background())
	s.check(err)
	return dropped, swept
}

// last is a policy; nothing is too young.
func last(n int) Options {
	return Options{Policy: retention.Policy{Last: n}, MinAge: -time.Hour}
}

func TestPruneKeepsWhatRemainingBackupsUse(t *testing.T) {
	s := newStore(t)
	s.chain("c", 6)
	plan, err := MakePlan(t.Context(), s.Repository, last(2), nil)
	s.check(err)
	if got := strings.Join(plan.Drops(), " "); got != "c-00 c-01 c-02 c-03" {
		t.Fatalf("the plan drops %s", got)
	}
	before := len(s.keys())
	dropped, swept := prune(s, last(2))
	if !slices.Equal(dropped.Dropped, plan.Drops()) || swept.Freed.Objects == 0 {
		t.Errorf("dropped %v, swept %+v", dropped, swept)
	}
	// What is promised is what is done: manifests are dropped before the sweep.
	if want := swept.Freed.Objects + int64(len(dropped.Dropped)); plan.Freed.Objects != want {
		t.Errorf("the plan frees %d objects, %d were freed", plan.Freed.Objects, want)
	}
	if got := s.complete(); !slices.Equal(got, []string{"c-04", "c-05"}) {
		t.Errorf("left are %v", got)
	}
	s.intact()
	marks, err := s.Pruned(t.Context())
	s.check(err)
	if gone := int64(before-len(s.keys())) + int64(len(marks)); gone != plan.Freed.Objects {
		t.Errorf("%d objects are gone, %d marks are left; the plan said %d", gone, len(marks), plan.Freed.Objects)
	}
	if swept.Left != len(marks) {
		t.Errorf("%d backups have something left, %d are marked", swept.Left, len(marks))
	}
	again, err := MakePlan(t.Context(), s.Repository, last(2), nil)
	s.check(err)
	if !again.Nothing() {
		t.Errorf("there is something left to do: %+v", again)
	}
}

func TestTheIDOfAPrunedBackupIsTaken(t *testing.T) {
	s := newStore(t)
	s.chain("c", 4)
	prune(s, last(1))
	// Of c-00 nothing is left. The segments of c-01 and c-02 are used by c-03,
	// so nobody may write segments there.
	for id, want := range map[string]bool{"c-00": false, "c-01": true, "c-02": true, "c-03": false} {
		err := s.CheckPruned(t.Context(), id)
		if got := errors.As(err, new(*repository.PrunedError)); got != want {
			t.Errorf("%s: %v", id, err)
		}
	}
}

func TestWhatKeepsABackup(t *testing.T) {
	s := newStore(t)
	s.chain("c", 8)
	s.chain("other", 1)
	s.check(s.AddHold(t.Context(), repository.Hold{BackupID: "c-01", Name: "audit", Reason: "case 7", By: "ann"}))
	s.plan("unfinished", "c-02")
	running := []Operation{{"restore/c-03/x", "c-03"}, {"backup/running/x", "running"}}
	s.plan("running", "c-04", "c-05")
	dropped, _ := prune(s, Options{Policy: retention.Policy{Last: 1}, MinAge: time.Hour}, running...)
	if want := []string{"c-00", "c-06"}; !slices.Equal(dropped.Dropped, want) {
		t.Errorf("dropped %v, want %v", dropped.Dropped, want)
	}
	s.intact()

	// Without the hold, the operations and the unfinished backup, they go.
	s.check(s.RemoveHold(t.Context(), "c-01", "audit"))
	dropped, _ = prune(s, last(1))
	slices.Sort(dropped.Abandoned)
	if !slices.Equal(dropped.Dropped, []string{"c-01", "c-02", "c-03", "c-04", "c-05"}) || !slices.Equal(dropped.Abandoned, []string{"running", "unfinished"}) {
		t.Errorf("dropped %+v", dropped)
	}
	s.intact()
}

func TestMatchLimitsThePolicy(t *testing.T) {
	s := newStore(t)
	s.chain("a", 3)
	s.chain("b", 3)
	o := last(1)
	o.Match = "a-*"
	dropped, _ := prune(s, o)
	if !slices.Equal(dropped.Dropped, []string{"a-00", "a-01"}) {
		t.Errorf("dropped %v", dropped.Dropped)
	}
}

func TestTheNewestOfAClusterStaysEvenWhenAPatternLeavesItOut(t *testing.T) {
	s := newStore(t)
	s.backup("nightly-1", "c", "", 0)
	s.backup("nightly-2", "c", "nightly-1", 0)
	s.backup("manual", "c", "nightly-2", 0)
	o := last(1)
	o.Match = "nightly-*"
	dropped, _ := prune(s, o)
	if !slices.Equal(dropped.Dropped, []string{"nightly-1"}) {
		t.Errorf("dropped %v", dropped.Dropped)
	}
	if !slices.Equal(s.complete(), []string{"nightly-2", "manual"}) {
		t.Errorf("left %v", s.complete())
	}
}

// A policy counts a cluster's backups together: without more, many of one
// selection of topics would drop the only one of another.
func TestTheNewestOfEachSelectionStays(t *testing.T) {
	s := newStore(t)
	for i, include := range []string{"all", "all", "orders", "orders", "orders"} {
		s.selection = &repository.Selection{Include: []string{include}}
		s.backup(fmt.Sprint(include, i), "c", "", 0)
	}
	dropped, _ := prune(s, last(1))
	if !slices.Equal(dropped.Dropped, []string{"all0", "orders2", "orders3"}) {
		t.Errorf("dropped %v", dropped.Dropped)
	}
}

func TestSomebodyBeginsToUseItBetweenPlanAndDrop(t *testing.T) {
	for name, begin := range map[string]func(*store, *Pruner){
		"hold": func(s *store, _ *Pruner) {
			s.check(s.AddHold(context.Background(), repository.Hold{BackupID: "c-00", Name: "wait"}))
		},
		"restore": func(_ *store, p *Pruner) {
			p.Running = func(context.Context) ([]Operation, error) { return []Operation{{"restore/c-00", "c-00"}}, nil }
		},
		"backup": func(s *store, _ *Pruner) { s.plan("new", "c-00") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			s.chain("c", 3)
			o := Options{Policy: retention.Policy{Last: 1}, MinAge: time.Hour}
			plan, err := MakePlan(t.Context(), s.Repository, o, nil)
			s.check(err)
			p := pruner(s, o)
			begin(s, p)
			dropped, err := p.Drop(t.Context(), plan)
			s.check(err)
			if len(dropped.Kept) != 1 || dropped.Kept[0].BackupID != "c-00" || !slices.Equal(dropped.Dropped, []string{"c-01"}) {
				t.Errorf("dropped %+v", dropped)
			}
			if marked, _ := s.IsPruned(t.Context(), "c-00"); marked {
				t.Error("the mark is still on it")
			}
			_, err = p.Sweep(t.Context())
			s.check(err)
			s.intact()
		})
	}
}

// A hold that comes after the mark is refused, and leaves nothing behind.
func TestHoldComesTooLate(t *testing.T) {
	s := newStore(t)
	s.chain("c", 2)
	_, err := s.MarkPruned(t.Context(), repository.Mark{BackupID: "c-00"})
	s.check(err)
	err = s.AddHold(t.Context(), repository.Hold{BackupID: "c-00", Name: "late"})
	if !errors.As(err, new(*repository.PrunedError)) {
		t.Errorf("got %v", err)
	}
	if holds, err := s.Holds(t.Context(), ""); err != nil || len(holds) > 0 {
		t.Errorf("left: %v, %v", holds, err)
	}
}

// While an operation does not say which backup it uses everything stays, and the
// prune ends well and says why.
func TestASilentOperationKeepsEverything(t *testing.T) {
	s := newStore(t)
	s.chain("c", 3)
	running := []Operation{{WorkflowID: "mystery"}}
	plan, err := MakePlan(t.Context(), s.Repository, last(1), running)
	s.check(err)
	if len(plan.Drops()) > 0 || len(plan.Warnings) == 0 {
		t.Errorf("the plan drops %v, warnings %q", plan.Drops(), plan.Warnings)
	}
	// It began after others were dropped.
	if plan, err = MakePlan(t.Context(), s.Repository, last(1), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := pruner(s, last(1)).Drop(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	before := s.keys()
	swept, err := pruner(s, last(1), running...).Sweep(t.Context())
	if err != nil || swept.Secret != "mystery" || !slices.Equal(before, s.keys()) {
		t.Errorf("%+v, %v; %d objects of %d are left", swept, err, len(s.keys()), len(before))
	}
	if swept, err = pruner(s, last(1)).Sweep(t.Context()); err != nil || swept.Secret != "" || swept.Freed.Objects == 0 {
		t.Errorf("the next one: %+v, %v", swept, err)
	}
}

func TestADamagedManifestStopsTheSweep(t *testing.T) {
	s := newStore(t)
	s.chain("c", 3)
	s.check(s.Bucket().WriteAll(t.Context(), repository.ManifestKey("c-01"), []byte("{"), nil))
	plan, err := MakePlan(t.Context(), s.Repository, last(1), nil)
	s.check(err)
	if !slices.Equal(plan.Damaged, []string{"c-01"}) || len(plan.Warnings) == 0 {
		t.Errorf("damaged %v, warnings %q", plan.Damaged, plan.Warnings)
	}
	before := s.keys()
	if _, err := pruner(s, last(1)).Drop(t.Context(), plan); !errors.Is(err, repository.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	if _, err := pruner(s, last(1)).Sweep(t.Context()); !errors.Is(err, repository.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	if !slices.Equal(before, s.keys()) {
		t.Error("something was removed")
	}
}

func TestAnEmptyPolicyIsRefused(t *testing.T) {
	if _, err := MakePlan(t.Context(), newStore(t).Repository, Options{}, nil); err == nil {
		t.Error("no error")
	}
}

// crash is where a prune is cut off.
var errCrash = errors.New("cut off")

// Prunes that are cut off anywhere, between backups that come and go, never
// take anything from a backup that exists; one that is not cut off finishes
// all of their work.
func TestCrashesLoseNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newStore(t)
		newest := map[string]string{}
		for i := range rapid.IntRange(1, 6).Draw(t, "rounds") {
			for range rapid.IntRange(0, 3).Draw(t, "backups") {
				cluster := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "cluster")
				id := fmt.Sprintf("%s-%03d", cluster, s.n)
				s.backup(id, cluster, newest[cluster], rapid.IntRange(0, 2).Draw(t, "skip"))
				newest[cluster] = id
			}
			if rapid.Bool().Draw(t, "unfinished") {
				id := fmt.Sprintf("unfinished-%d", i)
				s.plan(id, newest["a"])
				s.segment(id, 0, 1000)
			}
			o := last(rapid.IntRange(1, 3).Draw(t, "keep"))
			plan, err := MakePlan(context.Background(), s.Repository, o, nil)
			s.check(err)
			ctx, crash := context.WithCancel(context.Background())
			p := pruner(s, o)
			looks, deletes := rapid.IntRange(0, 3).Draw(t, "crash at look"), rapid.Int64Range(1, 30).Draw(t, "crash at delete")
			p.Running = func(context.Context) ([]Operation, error) {
				if looks--; looks == 0 {
					crash()
					return nil, errCrash
				}
				return nil, nil
			}
			p.Report = func(a Amount) {
				if a.Objects >= deletes {
					crash()
				}
			}
			if _, err = p.Drop(ctx, plan); err == nil {
				_, err = p.Sweep(ctx)
			}
			crash()
			if err != nil && !errors.Is(err, errCrash) && !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			s.intact()
			for cluster, id := range newest {
				if !slices.Contains(s.complete(), id) {
					t.Fatalf("the newest backup of %s is gone", cluster)
				}
			}
		}
		o := last(1)
		prune(s, o)
		s.intact()
		if got, want := len(s.complete()), len(newest); got != want {
			t.Fatalf("%d backups are left, of %d clusters", got, want)
		}
		err := s.Leftovers(context.Background(), repository.LeftoverOptions{MinAge: -time.Hour}, func(l repository.Leftover) error {
			return fmt.Errorf("%s is left over", l.Key)
		})
		s.check(err)
	})
}
