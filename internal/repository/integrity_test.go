package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
)

// replace puts other bytes in an object's place, behind the repository's back.
func replace(t testing.TB, r *Repository, key string, data []byte) {
	t.Helper()
	if err := r.bucket.Upload(context.Background(), key, bytes.NewReader(data), &blob.WriterOptions{ContentType: typeBinary}); err != nil {
		t.Fatal(err)
	}
	r.segments = segmentCache{}
}

func content(t testing.TB, r *Repository, key string) []byte {
	t.Helper()
	data, err := r.Read(context.Background(), key)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// readers of a backup, each of which must notice damage of the object it reads.
func readers(t testing.TB, r *Repository, m *Manifest) map[string]func() (any, error) {
	ctx := context.Background()
	segment := shardOf(t, r, m).Segments[0]
	readAll := func(s *Segment, err error) (any, error) {
		if err != nil {
			return nil, err
		}
		var all []byte
		var blocks []Block
		for _, p := range s.Index.InOrder() {
			blocks = append(blocks, p.Block)
		}
		err = s.ReadBlocks(ctx, blocks, &Buffer{}, func(_ *Block, raw []byte) error {
			all = append(all, raw...)
			return nil
		})
		return all, err
	}
	return map[string]func() (any, error){
		repositoryKey:           func() (any, error) { x, err := Open(ctx, r.bucket); return x != nil, err },
		ManifestKey(m.BackupID): func() (any, error) { return r.ReadManifest(ctx, m.BackupID) },
		m.Groups.Key:            func() (any, error) { return r.ReadGroups(ctx, m) },
		m.Index[0].Key:          func() (any, error) { return r.ReadIndex(ctx, m.Index[0]) },
		segment.Key:             func() (any, error) { return readAll(r.OpenSegment(ctx, segment)) },
		"found " + segment.Key:  func() (any, error) { return readAll(r.FindSegment(ctx, m.BackupID, 0, 0)) },
	}
}

// Whichever byte of whichever object is changed in whichever way, and wherever it is cut: the reader
// says that the object is corrupt.
func TestEveryDamageIsRecognised(t *testing.T) {
	r := newRepository(t, memblob.OpenBucket(nil))
	m := backup(t, r, "b", nil, ordersAndPayments(0, 40)...)
	for name, read := range readers(t, r, m) {
		key := strings.TrimPrefix(name, "found ")
		good := content(t, r, key)
		if _, err := read(); err != nil {
			t.Fatalf("%s: undamaged: %v", name, err)
		}
		for i := range good {
			for _, change := range []byte{0x01, 0x20, 0x80, 0xff} {
				bad := bytes.Clone(good)
				bad[i] ^= change
				replace(t, r, key, bad)
				if _, err := read(); !errors.Is(err, ErrCorrupt) {
					t.Fatalf("%s: byte %d of %d changed from %#x to %#x: %v", name, i, len(good), good[i], bad[i], err)
				}
			}
		}
		for n := range good {
			replace(t, r, key, good[:n])
			if _, err := read(); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s: cut to %d of %d bytes: %v", name, n, len(good), err)
			}
		}
		replace(t, r, key, append(bytes.Clone(good), 'x'))
		if _, err := read(); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%s: with a byte more: %v", name, err)
		}
		replace(t, r, key, good)
	}
}

// What nothing refers to yet has no digest from outside: damage is recognised or does not matter.
func TestDamagedIndexIsNotAdopted(t *testing.T) {
	r := newRepository(t, memblob.OpenBucket(nil))
	m := backup(t, r, "b", nil, ordersAndPayments(0, 40)...)
	key := m.Index[0].Key
	good := content(t, r, key)
	want := shardOf(t, r, m)
	recognised := 0
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		replace(t, r, key, bad)
		s, _, err := r.FindIndex(t.Context(), "b", 0)
		if errors.Is(err, ErrCorrupt) {
			recognised++
		} else if err != nil || !reflect.DeepEqual(s, want) {
			t.Fatalf("byte %d of %d changed: %v, other content", i, len(good), err)
		}
	}
	if recognised < len(good)-10 {
		t.Errorf("only %d of %d changes were recognised", recognised, len(good))
	}
}

// Objects of other backups, whole but in the wrong place, are not taken for the right ones.
func TestSwappedObjectsAreRecognised(t *testing.T) {
	r := newRepository(t, memblob.OpenBucket(nil))
	a := backup(t, r, "a", nil, ordersAndPayments(0, 40)...)
	b := backup(t, r, "b", nil, ordersAndPayments(0, 40)...)
	for from, to := range map[string]string{
		ManifestKey("b"):      ManifestKey("a"),
		b.Groups.Key:          a.Groups.Key,
		b.Index[0].Key:        a.Index[0].Key,
		SegmentKey("b", 0, 0): SegmentKey("a", 0, 0),
	} {
		replace(t, r, to, content(t, r, from))
	}
	if _, err := r.ReadManifest(t.Context(), "a"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("manifest: %v", err)
	}
	if _, err := r.ReadGroups(t.Context(), a); !errors.Is(err, ErrCorrupt) {
		t.Errorf("groups: %v", err)
	}
	if _, err := r.ReadIndex(t.Context(), a.Index[0]); !errors.Is(err, ErrCorrupt) {
		t.Errorf("index: %v", err)
	}
	if _, _, err := r.FindIndex(t.Context(), "a", 0); !errors.Is(err, ErrCorrupt) {
		t.Errorf("index found: %v", err)
	}
	if _, err := r.FindSegment(t.Context(), "a", 0, 0); !errors.Is(err, ErrCorrupt) {
		t.Errorf("segment: %v", err)
	}
}

func validate(t testing.TB, r *Repository, id string, deep bool) *Report {
	t.Helper()
	report, err := r.Validate(context.Background(), id, ValidateOptions{Deep: deep, Concurrency: 2})
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(report.Problems)) != report.ProblemCount {
		t.Fatalf("%d problems are counted, %d listed", report.ProblemCount, len(report.Problems))
	}
	return report
}

func TestValidateGood(t *testing.T) {
	overBuckets(t, func(t *testing.T, r *Repository) {
		first := backup(t, r, "first", nil, ordersAndPayments(0, 40)...)
		backup(t, r, "second", shardOf(t, r, first), ordersAndPayments(40, 60)...)
		for _, deep := range []bool{false, true} {
			report := validate(t, r, "second", deep)
			if !report.OK() || report.Segments != 2 || report.Partitions != 2 || report.Blocks != 8 || report.Objects != 5 {
				t.Errorf("deep %v: %+v", deep, report)
			}
			if want := map[bool]int64{true: 120}[deep]; report.Records != want {
				t.Errorf("deep %v: %d records, want %d", deep, report.Records, want)
			}
		}
		if _, err := r.Validate(t.Context(), "nothing", ValidateOptions{}); !IsNotFound(err) {
			t.Errorf("an unknown backup: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.Validate(ctx, "first", ValidateOptions{}); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

// A validation that goes on where another was cut off finds what one from the
// beginning does, and looks at nothing twice.
func TestValidateFromWhereItWasCutOff(t *testing.T) {
	r := newRepository(t, memblob.OpenBucket(nil))
	orders := backup(t, r, "orders", nil, ordersAndPayments(0, 40)...)
	clicks := backup(t, r, "clicks", nil, source{TopicPartition{"clicks", "AAAAAAAAQACAAAAAAAAAAw", 0}, 0, 60})
	// Two shards that share a segment, and one of its own.
	third := *shardOf(t, r, clicks)
	third.Topics[0].Name, third.Topics[0].ID = "views", "AAAAAAAAQACAAAAAAAAABA"
	ref, _, err := r.AdoptIndex(t.Context(), "all", 0, &third)
	if err != nil {
		t.Fatal(err)
	}
	all := &Manifest{BackupID: "all", ClusterID: "cluster", CreatedAt: time.Now().UTC(), FinishedAt: time.Now().UTC(), ToolVersion: "test",
		Index: []ObjectRef{orders.Index[0], clicks.Index[0], ref}, Groups: orders.Groups}
	if _, err := r.WriteManifest(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	var reached []Checked
	whole, err := r.Validate(t.Context(), "all", ValidateOptions{Deep: true, Reached: func(c Checked) { reached = append(reached, c) }})
	if err != nil || whole.OK() || whole.Records != 140 { // the totals, and topic views has no blocks
		t.Fatalf("%+v, %v", whole, err)
	}
	if len(reached) != 3 {
		t.Fatalf("%d places were reached", len(reached))
	}
	for _, from := range reached {
		report, err := r.Validate(t.Context(), "all", ValidateOptions{Deep: true, From: from})
		if err != nil || !reflect.DeepEqual(report, whole) {
			t.Errorf("from shard %d:\n%+v, %v\nfrom the beginning\n%+v", from.Shards, report, err, whole)
		}
	}
}

// Validating finds any changed byte: deep in every object, otherwise in all but the blocks.
func TestValidateFindsDamage(t *testing.T) {
	r := newRepository(t, memblob.OpenBucket(nil))
	m := backup(t, r, "b", nil, ordersAndPayments(0, 40)...)
	segment := shardOf(t, r, m).Segments[0]
	s, err := r.OpenSegment(t.Context(), segment)
	if err != nil {
		t.Fatal(err)
	}
	placed := s.Index.InOrder()
	blocksEnd := placed[len(placed)-1].Block.Position + placed[len(placed)-1].Block.Length
	for _, key := range []string{ManifestKey("b"), m.Groups.Key, m.Index[0].Key, segment.Key} {
		good := content(t, r, key)
		for i := 0; i < len(good); i += 3 {
			bad := bytes.Clone(good)
			bad[i] ^= 4
			replace(t, r, key, bad)
			report := validate(t, r, "b", true)
			if report.OK() || report.Problems[0].Key != key || report.Problems[0].Kind != ProblemCorrupt {
				t.Fatalf("%s: byte %d changed: %+v", key, i, report)
			}
			if inBlocks := key == segment.Key && i >= headerLength && int64(i) < blocksEnd; inBlocks {
				if p := report.Problems[0]; p.Topic == "" || p.Partition < 0 || p.Offset < 0 || len(report.Problems) != 1 {
					t.Fatalf("block byte %d: %+v", i, report.Problems)
				}
				if !validate(t, r, "b", false).OK() {
					t.Fatalf("block byte %d was found without reading it", i)
				}
			} else if validate(t, r, "b", false).OK() {
				t.Fatalf("%s: byte %d changed: found only when deep", key, i)
			}
		}
		replace(t, r, key, good)
	}
}

func TestValidateGoesOn(t *testing.T) {
	r := newRepository(t, memblob.OpenBucket(nil))
	first := backup(t, r, "a-first", nil, ordersAndPayments(0, 40)...)
	second := backup(t, r, "second", shardOf(t, r, first), ordersAndPayments(40, 80)...)
	// A missing segment, a missing groups object, and two damaged blocks in the other segment.
	for _, key := range []string{SegmentKey("a-first", 0, 0), second.Groups.Key} {
		if err := r.bucket.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	key := SegmentKey("second", 0, 0)
	s, err := r.FindSegment(t.Context(), "second", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	data := content(t, r, key)
	data[s.Index.Partitions[0].Blocks[0].Position]++
	data[s.Index.Partitions[1].Blocks[1].Position]++
	replace(t, r, key, data)
	report := validate(t, r, "second", true)
	var got []string
	for _, p := range report.Problems {
		got = append(got, fmt.Sprintf("%s %s %s %d %d", p.Kind, p.Key, p.Topic, p.Partition, p.Offset))
	}
	want := []string{
		"missing backups/second/groups.json.zst  -1 -1",
		"missing data/a-first/00000/000000.seg orders 0 0",
		"missing data/a-first/00000/000000.seg payments 4 0",
		"corrupt data/second/00000/000000.seg orders 0 40",
		"corrupt data/second/00000/000000.seg payments 4 60",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if report.Records != 40 {
		t.Errorf("%d records of the undamaged blocks were read, want 40", report.Records)
	}
}

// Deep validation does not believe the index: hashes that fit do not help a wrong entry.
func TestValidateComparesIndexWithContent(t *testing.T) {
	for name, c := range map[string]struct {
		change func(b *Block, data recordbatch.Batch)
		want   string
	}{
		"offsets":    {func(b *Block, _ recordbatch.Batch) { b.LastOffset++ }, ProblemInconsistent},
		"records":    {func(b *Block, _ recordbatch.Batch) { b.Records-- }, ProblemInconsistent},
		"max time":   {func(b *Block, _ recordbatch.Batch) { b.MaxTimestamp++ }, ProblemInconsistent},
		"base time":  {func(b *Block, _ recordbatch.Batch) { b.MinBaseTimestamp++ }, ProblemInconsistent},
		"crc":        {func(_ *Block, data recordbatch.Batch) { data[70]++ }, ProblemCorrupt},
		"records in": {func(_ *Block, data recordbatch.Batch) { data[61]++; fixCRC(data) }, ProblemCorrupt},
		"length":     {func(_ *Block, data recordbatch.Batch) { data[11]++ }, ProblemCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepository(t, memblob.OpenBucket(nil))
			w, err := r.NewSegment(t.Context(), "b", 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			data := batch(t, 0, 10, 5)
			var b Block
			b.AddBatch(data)
			c.change(&b, data)
			put(t, w, tp0, b, CodecNone, data)
			ref, err := w.Close([]SegmentPartition{{TopicPartition: tp0, NextOffset: 100}})
			if err != nil {
				t.Fatal(err)
			}
			p := Partition{End: 100, FirstOffset: -1, LastOffset: -1}
			s, err := r.OpenSegment(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			var slice Slice
			slice.AddBlocks(s.Blocks(tp0)...)
			p.AddSlice(slice)
			shard := &Shard{Segments: []SegmentRef{ref}, Topics: []Topic{{Name: tp0.Topic, ID: tp0.TopicID, PartitionCount: 1, Partitions: []Partition{p}}}}
			index, _, err := r.AdoptIndex(t.Context(), "b", 0, shard)
			if err != nil {
				t.Fatal(err)
			}
			var tally Tally
			tally.Add("b", shard)
			if _, err := r.WriteManifest(t.Context(), &Manifest{BackupID: "b", Index: []ObjectRef{index}, Totals: tally.Totals()}); err != nil {
				t.Fatal(err)
			}
			if report := validate(t, r, "b", false); !report.OK() {
				t.Fatalf("not deep: %+v", report.Problems)
			}
			report := validate(t, r, "b", true)
			if report.OK() || report.Problems[0].Kind != c.want || report.Problems[0].Topic != tp0.Topic {
				t.Errorf("got %+v, want a problem of kind %s", report.Problems, c.want)
			}
		})
	}
}

func TestShardsThatContradictThemselvesAreRefused(t *testing.T) {
	slice := Slice{FirstOffset: 0, LastOffset: 9, Records: 10, Bytes: 5}
	good := func() *Shard {
		return &Shard{Segments: make([]SegmentRef, 1), Topics: []Topic{{Name: "t", Partitions: []Partition{
			{Partition: 0, FirstOffset: 0, LastOffset: 9, Records: 10, Bytes: 5, Slices: []Slice{slice}},
			{Partition: 1, FirstOffset: -1, LastOffset: -1},
		}}}}
	}
	r := newRepository(t, memblob.OpenBucket(nil))
	for name, change := range map[string]func(*Shard){
		"topic twice":      func(s *Shard) { s.Topics = append(s.Topics, s.Topics[0]) },
		"partition twice":  func(s *Shard) { s.Topics[0].Partitions[1].Partition = 0 },
		"order":            func(s *Shard) { s.Topics[0].Partitions[0].Partition = 2 },
		"segment":          func(s *Shard) { s.Topics[0].Partitions[0].Slices[0].Segment = 1 },
		"negative segment": func(s *Shard) { s.Topics[0].Partitions[0].Slices[0].Segment = -1 },
		"records":          func(s *Shard) { s.Topics[0].Partitions[0].Records++ },
		"bytes":            func(s *Shard) { s.Topics[0].Partitions[0].Bytes++ },
		"first offset":     func(s *Shard) { s.Topics[0].Partitions[0].FirstOffset++ },
		"no slices":        func(s *Shard) { s.Topics[0].Partitions[1].LastOffset = 0 },
		"overlap": func(s *Shard) {
			p := &s.Topics[0].Partitions[0]
			p.Slices = append(p.Slices, slice)
			p.Records, p.Bytes = 20, 10
		},
		"too many records": func(s *Shard) {
			p := &s.Topics[0].Partitions[0]
			p.Slices[0].Records, p.Records = 11, 11
		},
	} {
		s := good()
		change(s)
		if _, _, err := r.AdoptIndex(t.Context(), "b", 0, s); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	mine, theirs := good(), good()
	if _, created, err := r.AdoptIndex(t.Context(), "b", 0, theirs); err != nil || !created {
		t.Fatal(created, err)
	}
	mine.Topics[0].Name = "mine"
	if _, created, err := r.AdoptIndex(t.Context(), "b", 0, mine); err != nil || created || !reflect.DeepEqual(mine, theirs) {
		t.Errorf("the second attempt has %+v, created %v, %v", mine, created, err)
	}
}

func TestShardsAreStreamed(t *testing.T) {
	r := newRepository(t, memblob.OpenBucket(nil))
	m := &Manifest{BackupID: "b"}
	for part := range 20 {
		ref, _, err := r.AdoptIndex(t.Context(), "b", part, &Shard{})
		if err != nil {
			t.Fatal(err)
		}
		m.Index = append(m.Index, ref)
	}
	for _, ahead := range []int{0, 1, 5, 100} {
		next := 0
		for s, err := range r.Shards(t.Context(), m, ahead) {
			if err != nil || s.Part != next {
				t.Fatalf("ahead %d: part %d, %v, want %d", ahead, s.Part, err, next)
			}
			next++
		}
		if next != 20 {
			t.Errorf("ahead %d: %d shards", ahead, next)
		}
	}
	replace(t, r, m.Index[2].Key, []byte("x"))
	var seen int
	var last error
	for _, err := range r.Shards(t.Context(), m, 3) {
		seen, last = seen+1, err
	}
	if seen != 3 || !errors.Is(last, ErrCorrupt) {
		t.Errorf("%d shards, %v", seen, last)
	}
}

func leftovers(t testing.TB, r *Repository, o LeftoverOptions) string {
	t.Helper()
	var all []string
	err := r.Leftovers(context.Background(), o, func(l Leftover) error {
		all = append(all, l.Key+" "+l.Reason)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, "\n")
}

func TestLeftovers(t *testing.T) {
	overBuckets(t, func(t *testing.T, r *Repository) {
		now := LeftoverOptions{MinAge: -time.Hour} // everything is old enough
		first := backup(t, r, "first", nil, ordersAndPayments(0, 40)...)
		backup(t, r, "second", shardOf(t, r, first), ordersAndPayments(40, 60)...)
		for _, key := range []string{PlanKey("second"), PlanPartKey("second", 0), OperationKey("x/y", "plan.json"), SnapshotKey("s")} {
			if _, err := r.CreateDocument(t.Context(), key, map[string]int{"x": 1}); err != nil {
				t.Fatal(err)
			}
		}
		if got := leftovers(t, r, now); got != "" {
			t.Errorf("nothing is left over, but got\n%s", got)
		}
		// An orphan of a complete backup, a failed backup and a running one.
		for _, key := range []string{SegmentKey("first", 7, 7), "backups/first/other", PlanKey("failed"), SegmentKey("failed", 0, 0), PlanKey("running"), SegmentKey("running", 0, 0)} {
			if _, err := r.Create(t.Context(), key, []byte("x"), typeBinary); err != nil {
				t.Fatal(err)
			}
		}
		want := "backups/failed/plan.json incomplete\nbackups/first/other unreferenced\n" +
			"data/failed/00000/000000.seg incomplete\ndata/first/00007/000007.seg unreferenced"
		now.Running = []string{"running"}
		if got := leftovers(t, r, now); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		if got := leftovers(t, r, LeftoverOptions{MinAge: time.Hour}); got != "" {
			t.Errorf("young objects are left over:\n%s", got)
		}
		// The first backup is pruned: what the second shares with it stays.
		if err := r.bucket.Delete(t.Context(), ManifestKey("first")); err != nil {
			t.Fatal(err)
		}
		got := leftovers(t, r, now)
		if strings.Contains(got, "data/first/00000/000000.seg") || !strings.Contains(got, first.Index[0].Key+" incomplete") {
			t.Errorf("after pruning:\n%s", got)
		}
		// So is the second, while a running backup goes on from it.
		if err := r.bucket.Delete(t.Context(), ManifestKey("second")); err != nil {
			t.Fatal(err)
		}
		now.Keep = []string{"second"}
		if got := leftovers(t, r, now); strings.Contains(got, "second") || strings.Contains(got, "data/first/00000/000000.seg") {
			t.Errorf("what the running backup needs is left over:\n%s", got)
		}
		now.Keep = nil
		if got := leftovers(t, r, now); !strings.Contains(got, "data/first/00000/000000.seg") || !strings.Contains(got, "data/second/00000/000000.seg") {
			t.Errorf("after pruning all:\n%s", got)
		}
	})
}

// When it is not known what a backup needs, nothing is left over.
func TestLeftoversFailClosed(t *testing.T) {
	r := newRepository(t, memblob.OpenBucket(nil))
	m := backup(t, r, "b", nil, ordersAndPayments(0, 40)...)
	if _, err := r.Create(t.Context(), SegmentKey("failed", 0, 0), []byte("x"), typeBinary); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{m.Index[0].Key, ManifestKey("b")} {
		good := content(t, r, key)
		replace(t, r, key, good[:len(good)-1])
		err := r.Leftovers(t.Context(), LeftoverOptions{MinAge: -time.Hour}, func(l Leftover) error {
			t.Errorf("%s damaged: %s is left over", key, l.Key)
			return nil
		})
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s damaged: %v", key, err)
		}
		replace(t, r, key, good)
	}
}
