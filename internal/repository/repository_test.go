package repository

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"sync"
	"testing"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/storage/file"
)

// buckets are the kinds that tests run over; the storage package shows that clouds behave alike.
var buckets = map[string]func(testing.TB) *blob.Bucket{
	"memory": func(testing.TB) *blob.Bucket { return memblob.OpenBucket(nil) },
	"file": func(t testing.TB) *blob.Bucket {
		b, err := file.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return b
	},
}

func overBuckets(t *testing.T, test func(*testing.T, *Repository)) {
	for name, open := range buckets {
		t.Run(name, func(t *testing.T) { test(t, newRepository(t, open(t))) })
	}
}

func newRepository(t testing.TB, b *blob.Bucket) *Repository {
	t.Helper()
	t.Cleanup(func() { b.Close() })
	r, err := Create(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// batch makes a record batch of n records of 20 bytes at offset base. Each record is later than the one before.
func batch(t testing.TB, base int64, n int, timestamp int64) recordbatch.Batch {
	t.Helper()
	e, err := recordbatch.NewEncoder(recordbatch.EncoderConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if !e.Append(&recordbatch.Record{Timestamp: timestamp + int64(i), Key: fmt.Appendf(nil, "k%09d", base+int64(i)), Value: []byte("value12345")}) {
			t.Fatal("the batch is full")
		}
	}
	data, err := e.Flush(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := recordbatch.Batch(data)
	binary.BigEndian.PutUint64(b, uint64(base)) // the base offset is not in the CRC
	return b
}

// source is a topic partition to back up: batches of 10 records from offset First to before End.
type source struct {
	TopicPartition
	first, end int64
}

// backup writes a complete backup of one part, which goes on from previous if that is not nil.
func backup(t testing.TB, r *Repository, id string, previous *Shard, sources ...source) *Manifest {
	t.Helper()
	ctx := context.Background()
	w, err := r.NewSegment(ctx, id, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	shard := &Shard{}
	if previous != nil {
		shard.Segments = previous.Segments
	}
	var table []SegmentPartition
	slices := make([]Slice, len(sources))
	for i, s := range sources {
		slices[i].Segment = len(shard.Segments)
		// Two blocks a partition.
		for _, part := range [][2]int64{{s.first, (s.first + s.end) / 20 * 10}, {(s.first + s.end) / 20 * 10, s.end}} {
			var b Block
			var raw [][]byte
			for at := part[0]; at < part[1]; at += 10 {
				data := batch(t, at, 10, 1_000_000+at)
				b.AddBatch(data)
				raw = append(raw, data)
			}
			if len(raw) == 0 {
				continue
			}
			codec := CodecZstd
			if i%2 == 1 {
				codec = CodecNone
			}
			e, err := EncodeBlock(codec, 0, raw...)
			if err != nil {
				t.Fatal(err)
			}
			b.SetEncoded(e)
			if err := w.Append(s.TopicPartition, b, e.Stored...); err != nil {
				t.Fatal(err)
			}
			e.Release()
			slices[i].AddBlocks(b)
		}
		table = append(table, SegmentPartition{TopicPartition: s.TopicPartition, NextOffset: s.end, LeaderEpoch: 3})
	}
	ref, err := w.Close(table)
	if err != nil {
		t.Fatal(err)
	}
	shard.Segments = append(shard.Segments[:len(shard.Segments):len(shard.Segments)], ref)
	for i, s := range sources {
		p := Partition{Partition: s.Partition, FirstOffset: -1, LastOffset: -1, End: s.end, HighWatermark: s.end, LeaderEpoch: 3}
		if previous != nil {
			for _, old := range previous.Topics[i].Partitions[0].Slices {
				p.AddSlice(old)
			}
		}
		if slices[i].Bytes > 0 {
			p.AddSlice(slices[i])
		}
		shard.Topics = append(shard.Topics, Topic{
			Name: s.Topic, ID: s.TopicID, ReplicationFactor: 3, PartitionCount: int(s.Partition) + 1,
			Config: map[string]string{"retention.ms": "1000"}, Partitions: []Partition{p},
		})
	}
	indexRef, created, err := r.AdoptIndex(ctx, id, 0, shard)
	if err != nil || !created {
		t.Fatalf("index: created %v, %v", created, err)
	}
	text := "metadata"
	groupsRef, _, err := r.AdoptGroups(ctx, id, &Groups{Captures: []GroupsCapture{{At: AtEnd, Time: time.Unix(1, 0).UTC(), Groups: []Group{{
		Group: "g", Type: "classic", State: "Empty", Protocol: "consumer",
		Offsets: []CommittedOffset{{TopicPartition: sources[0].TopicPartition, Offset: 7, LeaderEpoch: -1, Metadata: &text}},
	}}}}})
	if err != nil {
		t.Fatal(err)
	}
	var tally Tally
	tally.Add(id, shard)
	m := &Manifest{
		BackupID: id, ClusterID: "cluster", CreatedAt: time.Now().UTC(), FinishedAt: time.Now().UTC(),
		ToolVersion: "test", Totals: tally.Totals(), Index: []ObjectRef{indexRef}, Groups: &groupsRef,
	}
	if _, err := r.WriteManifest(ctx, m); err != nil {
		t.Fatal(err)
	}
	return m
}

func ordersAndPayments(first, end int64) []source {
	return []source{
		{TopicPartition{"orders", "AAAAAAAAQACAAAAAAAAAAQ", 0}, first, end},
		{TopicPartition{"payments", "AAAAAAAAQACAAAAAAAAAAg", 4}, first, end},
	}
}

func shardOf(t testing.TB, r *Repository, m *Manifest) *Shard {
	t.Helper()
	s, err := r.ReadIndex(context.Background(), m.Index[0])
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOpen(t *testing.T) {
	b := memblob.OpenBucket(nil)
	defer b.Close()
	if _, err := Open(t.Context(), b); !errors.Is(err, ErrNotRepository) {
		t.Errorf("an empty bucket: %v, want ErrNotRepository", err)
	}
	// Many processes make the repository at once and get the same one.
	ids := make([]string, 8)
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() {
			r, err := OpenOrCreate(t.Context(), b)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = r.ID()
		})
	}
	all.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Fatalf("different repositories: %q", ids)
		}
	}
	if _, err := Create(t.Context(), b); !errors.Is(err, ErrExists) {
		t.Errorf("a second Create: %v, want ErrExists", err)
	}
	for what, text := range map[string]Description{
		"newer":         {Format: formatRepository, Version: FormatVersion + 1},
		"no version":    {Format: formatRepository},
		"other product": {Format: "x", Version: 1},
	} {
		other := memblob.OpenBucket(nil)
		data, err := Seal(&text)
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Upload(t.Context(), repositoryKey, bytes.NewReader(data), writeOptions(typeJSON)); err != nil {
			t.Fatal(err)
		}
		want := ErrVersion
		if what == "other product" {
			want = ErrCorrupt
		}
		if _, err := Open(t.Context(), other); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
}

func TestBackupsAreListed(t *testing.T) {
	overBuckets(t, func(t *testing.T, r *Repository) {
		if latest, err := r.LatestBackup(t.Context()); latest != nil || err != nil {
			t.Errorf("no backups: %v, %v", latest, err)
		}
		first := backup(t, r, "z-first", nil, ordersAndPayments(0, 40)...)
		backup(t, r, "a-second", shardOf(t, r, first), ordersAndPayments(40, 60)...)
		if _, err := r.CreateDocument(t.Context(), PlanKey("running"), map[string]int{"x": 1}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Create(t.Context(), ManifestKey("broken"), []byte("{}"), typeJSON); err != nil {
			t.Fatal(err)
		}
		all, err := r.ListBackups(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, b := range all {
			got = append(got, fmt.Sprint(b.ID, " ", b.Complete(), " ", errors.Is(b.Err, ErrCorrupt)))
		}
		want := []string{"z-first true false", "a-second true false", "broken false true", "running false false"}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("got %q, want %q", got, want)
		}
		latest, err := r.LatestBackup(t.Context())
		if err != nil || latest.BackupID != "a-second" {
			t.Fatalf("latest: %v, %v", latest, err)
		}
		if got, want := latest.Totals.Records, int64(120); got != want {
			t.Errorf("records %d, want %d", got, want)
		}
		if got, want := latest.Totals.NewRecords, int64(40); got != want {
			t.Errorf("new records %d, want %d", got, want)
		}
		if latest.Totals.Segments != 2 || latest.Totals.NewSegments != 1 || latest.Totals.Topics != 2 {
			t.Errorf("totals %+v", latest.Totals)
		}
		if _, err := r.ReadManifest(t.Context(), "running"); !IsNotFound(err) {
			t.Errorf("a running backup's manifest: %v, want ErrNotFound", err)
		}
		if _, err := r.WriteManifest(t.Context(), latest); !errors.Is(err, ErrExists) {
			t.Errorf("a second manifest: %v, want ErrExists", err)
		}
	})
}

func TestIDs(t *testing.T) {
	for id, ok := range map[string]bool{
		"2026-01-02T03.04_x": true, "x": true, "-x": true, "": false, ".x": false, "a/b": false, "ä": false,
		"a b": false, strings.Repeat("x", 200): true, strings.Repeat("x", 201): false, "..": false, "a%b": false,
	} {
		if err := CheckID(id); (err == nil) != ok || err != nil && !errors.Is(err, ErrID) {
			t.Errorf("%q: %v", id, err)
		}
	}
	key := SegmentKey("b.1", 7, 123456)
	if key != "data/b.1/00007/123456.seg" {
		t.Error(key)
	}
	if id, part, seq, ok := ParseSegmentKey(key); !ok || id != "b.1" || part != 7 || seq != 123456 {
		t.Error(id, part, seq, ok)
	}
	for _, bad := range []string{"data/b/7/123456.seg", "data/b/00007/1.seg", "x/b/00007/000001.seg", "data/b/00007/000001.sg", "data/b/c/00007/000001.seg", "data/b/-0007/000001.seg"} {
		if _, _, _, ok := ParseSegmentKey(bad); ok {
			t.Errorf("%q was taken for a segment", bad)
		}
	}
	// Different workflow ids have different keys, and all can be files.
	seen := map[string]string{}
	for _, id := range []string{"restore/b/x", "restore/b/y z", "restore/b/y%20z", "a//b", "a/%/b", "../x", "./x", "%2E/x", "a/", "a/%"} {
		k := OperationKey(id, "plan.json")
		if other, ok := seen[k]; ok {
			t.Errorf("%q and %q have the same key %q", id, other, k)
		}
		seen[k] = id
		for e := range strings.SplitSeq(k, "/") {
			if e == "" || e == "." || e == ".." {
				t.Errorf("%q gives the key %q", id, k)
			}
		}
	}
}

func TestDocuments(t *testing.T) {
	type plan struct {
		Name string `json:"name"`
		N    int64  `json:"n"`
	}
	overBuckets(t, func(t *testing.T, r *Repository) {
		mine := plan{"mine", 1<<62 + 1}
		ref, created, err := AdoptDocument(t.Context(), r, "operations/x/plan.json", &mine)
		if err != nil || !created {
			t.Fatal(created, err)
		}
		late := plan{Name: "late"}
		same, created, err := AdoptDocument(t.Context(), r, "operations/x/plan.json", &late)
		if err != nil || created || late != mine || same != ref {
			t.Errorf("the second attempt got %+v, created %v, %v", late, created, err)
		}
		var read plan
		if err := r.GetDocument(t.Context(), ref, &read); err != nil || read != mine {
			t.Errorf("read %+v, %v", read, err)
		}
		wrong := ref
		wrong.SHA256[31]++
		if err := r.GetDocument(t.Context(), wrong, &read); !errors.Is(err, ErrCorrupt) {
			t.Errorf("another document than the one referred to: %v", err)
		}
		if _, err := r.Get(t.Context(), ObjectRef{Key: "nothing"}); !IsNotFound(err) {
			t.Errorf("a missing object: %v", err)
		}
	})
	for _, v := range []any{nil, 1, "x", []int{1}, struct{}{}, map[string]int{}} {
		if data, err := Seal(v); err == nil {
			t.Errorf("%T was sealed as %s", v, data)
		}
	}
}

// TestSealIsWhatFORMATSays checks the digest the way the documentation says: over all lines but the last two.
func TestSealIsWhatFORMATSays(t *testing.T) {
	data, err := Seal(map[string]any{"b": 1, "a": []string{"x\ny"}})
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(data), "\n")
	head := strings.Join(lines[:len(lines)-3], "") // the last element is empty
	want := fmt.Sprintf("  \"digest\": \"%s\"\n}\n", refOf("", []byte(head)).SHA256)
	if got := strings.Join(lines[len(lines)-3:], ""); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// castagnoli is the CRC of record batches, from the attributes on.
func fixCRC(b recordbatch.Batch) {
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
}
