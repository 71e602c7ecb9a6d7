package cli

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/backup"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/storage"
)

// Times of the backups and of the records in them.
var (
	testTime   = time.Date(2024, 12, 3, 10, 0, 0, 0, time.UTC)
	recordTime = time.Date(2024, 12, 1, 10, 0, 0, 0, time.UTC).UnixMilli()
)

// batch makes a record batch of n records at an offset, a second apart.
func batch(t *testing.T, offset int64, n int) recordbatch.Batch {
	t.Helper()
	enc, err := recordbatch.NewEncoder(recordbatch.EncoderConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		at := offset + int64(i)
		r := recordbatch.Record{Timestamp: recordTime + 1000*at, Key: fmt.Appendf(nil, "key %d", at), Value: []byte("value")}
		if !enc.Append(&r) {
			t.Fatal("batch is full")
		}
	}
	b, err := enc.Flush(nil)
	if err != nil {
		t.Fatal(err)
	}
	binary.BigEndian.PutUint64(b, uint64(offset))
	return b
}

// partition is what a test backup holds of a topic partition.
type partition struct {
	topic   string
	number  int32
	first   int64
	records int // 0: none
	leftOut repository.LeftOut
	gaps    []repository.Gap
}

// makeBackup writes a complete backup with one segment, spread over two index
// shards so that readers have to put topics together.
func makeBackup(t *testing.T, r *repository.Repository, id string, at time.Time, warnings []string, parts ...partition) *repository.Manifest {
	t.Helper()
	ctx := t.Context()
	w, err := r.NewSegment(ctx, id, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var index []repository.SegmentPartition
	slices := make([]repository.Slice, len(parts))
	for i, p := range parts {
		tp := repository.TopicPartition{Topic: p.topic, TopicID: "id-" + p.topic, Partition: p.number}
		index = append(index, repository.SegmentPartition{TopicPartition: tp, NextOffset: p.first + int64(p.records), LeaderEpoch: 1, LeftOut: p.leftOut, Gaps: p.gaps})
		if p.records == 0 {
			continue
		}
		data := batch(t, p.first, p.records)
		encoded, err := repository.EncodeBlock("none", 0, data)
		if err != nil {
			t.Fatal(err)
		}
		var b repository.Block
		b.AddBatch(data)
		b.SetEncoded(encoded)
		if err := w.Append(tp, b, encoded.Stored...); err != nil {
			t.Fatal(err)
		}
		slices[i].AddBlocks(b)
	}
	segment, err := w.Close(index)
	if err != nil {
		t.Fatal(err)
	}
	m := &repository.Manifest{BackupID: id, ClusterID: "cluster-1", CreatedAt: at, FinishedAt: at.Add(time.Minute),
		WorkflowID: "backup/" + id + "/test", ToolVersion: "v1", Warnings: warnings}
	var tally repository.Tally
	for part := range 2 {
		shard := &repository.Shard{Segments: []repository.SegmentRef{segment}}
		for i := len(parts) - 1; i >= 0; i-- { // in no order
			if i%2 == part {
				shard.Topics = addPartition(shard.Topics, parts[i], slices[i])
			}
		}
		ref, _, err := r.AdoptIndex(ctx, id, part, shard)
		if err != nil {
			t.Fatal(err)
		}
		tally.Add(id, shard)
		m.Index = append(m.Index, ref)
	}
	metadata := "by hand"
	groups := &repository.Groups{Captures: []repository.GroupsCapture{{At: repository.AtEnd, Time: at.Add(time.Minute), Groups: []repository.Group{
		{Group: "order-processor", Type: "classic", State: "Empty", Protocol: "consumer", Offsets: []repository.CommittedOffset{
			{TopicPartition: repository.TopicPartition{Topic: "orders", TopicID: "id-orders", Partition: 0}, Offset: 7, LeaderEpoch: -1, Metadata: &metadata}}},
		{Group: "shared", Type: "share", State: "Stable"},
	}}}}
	ref, _, err := r.AdoptGroups(ctx, id, groups)
	if err != nil {
		t.Fatal(err)
	}
	m.Groups, m.Totals = &ref, tally.Totals()
	m.Totals.Groups = 2
	if _, err := r.WriteManifest(ctx, m); err != nil {
		t.Fatal(err)
	}
	return m
}

func addPartition(topics []repository.Topic, p partition, s repository.Slice) []repository.Topic {
	entry := repository.Partition{Partition: p.number, LogStart: p.first, End: p.first + int64(p.records), HighWatermark: p.first + int64(p.records),
		LeaderEpoch: 1, FirstOffset: -1, LastOffset: -1, LeftOut: p.leftOut, Gaps: p.gaps}
	if p.records > 0 {
		entry.AddSlice(s)
	}
	for i := range topics {
		if topics[i].Name == p.topic {
			topics[i].Partitions = append([]repository.Partition{entry}, topics[i].Partitions...)
			return topics
		}
	}
	return append(topics, repository.Topic{Name: p.topic, ID: "id-" + p.topic, ReplicationFactor: 3, PartitionCount: 3,
		Config: map[string]string{"retention.ms": "604800000", "cleanup.policy": "delete"}, Partitions: []repository.Partition{entry}})
}

// testRepository makes a repository with two backups and one that is not
// complete, and returns its folder and the repository.
func testRepository(t *testing.T) (string, *repository.Repository) {
	t.Helper()
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "backups")
	bucket, err := storage.Open(ctx, config.Storage{Backend: "filesystem", Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bucket.Close() })
	r, err := repository.Create(ctx, bucket)
	if err != nil {
		t.Fatal(err)
	}
	makeBackup(t, r, "first", testTime.Add(-time.Hour), nil, partition{topic: "orders", number: 0, records: 5})
	makeBackup(t, r, "production-backup-001", testTime, []string{"orders/2 moved on while it was read"},
		partition{topic: "orders", number: 0, records: 15},
		partition{topic: "orders", number: 1, first: 100, records: 10, gaps: []repository.Gap{{From: 40, To: 100, Reason: repository.GapLogStartMoved}}},
		partition{topic: "orders", number: 2},
		partition{topic: "payments", number: 0, first: 3, records: 8, leftOut: repository.LeftOut{AbortedBatches: 1, AbortedRecords: 4, ControlBatches: 2, Bytes: 300}},
		partition{topic: "payments", number: 1, first: 0, records: 1},
	)
	plan := backup.Plan{Format: "kafka-backup/plan", Version: 1, BackupID: "interrupted", CreatedAt: testTime.Add(time.Hour),
		WorkflowID: "backup/interrupted/test", Bytes: 1 << 20, Parts: make([]repository.ObjectRef, 3)}
	if _, err := r.CreateDocument(ctx, repository.PlanKey("interrupted"), plan); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.AdoptIndex(ctx, "interrupted", 1, &repository.Shard{}); err != nil {
		t.Fatal(err)
	}
	return dir, r
}

func TestReadCommands(t *testing.T) {
	dir, r := testRepository(t)
	conf := filepath.Join(t.TempDir(), "backup.yaml")
	text := "backup_id: production-backup-001\nstorage:\n  backend: filesystem\n  path: " + dir + "\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	mask := strings.NewReplacer(dir, "/data/backups", r.ID(), "REPOSITORY-ID",
		r.Description().CreatedAt.UTC().Format(time.RFC3339Nano), "CREATED", r.Description().CreatedAt.UTC().Format(time.RFC3339), "CREATED")
	backupID := []string{"--backup-id", "production-backup-001"}
	for _, c := range []struct {
		golden string
		args   []string
	}{
		{"list.txt", []string{"list"}},
		{"list.csv", []string{"list", "-o", "csv"}},
		{"list.json", []string{"list", "-o", "json"}},
		{"mapping.txt", append([]string{"show-offset-mapping"}, backupID...)},
		{"mapping.csv", append([]string{"show-offset-mapping", "--format", "csv"}, backupID...)},
		{"mapping.json", append([]string{"show-offset-mapping", "--output", "json"}, backupID...)},
		{"mapping.yaml", append([]string{"show-offset-mapping", "--output", "yaml"}, backupID...)},
		{"describe.txt", append([]string{"describe"}, backupID...)},
		{"validate.txt", append([]string{"validate"}, backupID...)},
		{"validate-deep.txt", append([]string{"validate", "--deep"}, backupID...)},
	} {
		args := append(c.args, "--path", dir)
		got := run(t, args...)
		if got.code != ExitDone || got.err != "" {
			t.Errorf("%q: code %d, stderr %q", args, got.code, got.err)
		}
		golden(t, c.golden, mask.Replace(got.out))
		if strings.Contains(strings.Join(args, " "), "--backup-id") {
			if same := run(t, append(c.args[:len(c.args)-2], "--config", conf)...); same != got {
				t.Errorf("%s with --config: code %d, stderr %q, other output than with --path", c.args[0], same.code, same.err)
			}
		}
	}
}

// The mapping is read from the index: it needs no segment.
func TestTheOffsetMappingNeedsNoData(t *testing.T) {
	dir, _ := testRepository(t)
	args := []string{"show-offset-mapping", "--path", dir, "--backup-id", "production-backup-001"}
	want := run(t, args...)
	if err := os.RemoveAll(filepath.Join(dir, "data")); err != nil {
		t.Fatal(err)
	}
	if got := run(t, args...); got != want || got.code != ExitDone {
		t.Errorf("without the segments: %+v", got)
	}
	if got := run(t, "validate", "--path", dir, "--backup-id", "production-backup-001"); got.code == ExitDone {
		t.Error("the segments are there still")
	}
}

func TestDescribeHoldsCommittedOffsets(t *testing.T) {
	dir, _ := testRepository(t)
	r := run(t, "describe", "--path", dir, "-b", "production-backup-001", "-o", "json")
	var got struct {
		BackupID string                     `json:"backup_id"`
		Captures []repository.GroupsCapture `json:"captured_groups"`
	}
	if err := json.Unmarshal([]byte(r.out), &got); err != nil {
		t.Fatal(err)
	}
	o := got.Captures[0].Groups[0].Offsets[0]
	if got.BackupID != "production-backup-001" || o.Offset != 7 || o.Topic != "orders" || *o.Metadata != "by hand" {
		t.Errorf("got %+v", got)
	}
}

func TestStatus(t *testing.T) {
	dir, r := testRepository(t)
	var s repositoryStatus
	got := run(t, "status", "--path", dir, "-o", "json")
	if err := json.Unmarshal([]byte(got.out), &s); err != nil || got.code != ExitDone {
		t.Fatalf("code %d, %v, %s", got.code, err, got.err)
	}
	if s.Complete != 2 || s.Latest.BackupID != "production-backup-001" || len(s.Others) != 1 || s.RepositoryID != r.ID() {
		t.Errorf("got %s", got.out)
	}
	if o := s.Others[0]; o.State != backupIncomplete || o.Plan.Parts != 3 || o.Plan.PartsDone != 1 || o.Plan.WorkflowID != "backup/interrupted/test" {
		t.Errorf("got %s", got.out)
	}
	for id, code := range map[string]int{"first": ExitDone, "interrupted": ExitPartly, "nothing": ExitFailed} {
		if got := run(t, "status", "--path", dir, "--backup-id", id); got.code != code {
			t.Errorf("%s: code %d, want %d; %s", id, got.code, code, got.err)
		}
	}
	if got := run(t, "status", "--path", dir); !strings.Contains(got.out, "interrupted   INCOMPLETE   2024-12-03T11:00:00Z   1 of 3       backup/interrupted/test\n") {
		t.Errorf("got %s", got.out)
	}
}

func TestDamageIsFound(t *testing.T) {
	dir, _ := testRepository(t)
	segment := filepath.Join(dir, filepath.FromSlash(repository.SegmentKey("production-backup-001", 0, 0)))
	data, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	data[200] ^= 1
	if err := os.WriteFile(segment, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := run(t, "validate", "--path", dir, "-b", "production-backup-001"); r.code != ExitDone {
		t.Errorf("not deep: code %d\n%s%s", r.code, r.out, r.err)
	}
	r := run(t, "validate", "--deep", "--path", dir, "-b", "production-backup-001")
	if r.code != ExitFailed || !strings.Contains(r.out, repository.SegmentKey("production-backup-001", 0, 0)) || !strings.Contains(r.out, "orders") {
		t.Errorf("deep: code %d\n%s%s", r.code, r.out, r.err)
	}
	if err := os.WriteFile(filepath.Join(dir, repository.ManifestKey("first")), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := run(t, "list", "--path", dir); r.code != ExitDone || !strings.Contains(r.out, "DAMAGED") {
		t.Errorf("list: code %d\n%s%s", r.code, r.out, r.err)
	}
	if r := run(t, "status", "--path", dir, "-b", "first"); r.code != ExitFailed {
		t.Errorf("status: code %d\n%s%s", r.code, r.out, r.err)
	}
}

func TestUnknownBackup(t *testing.T) {
	dir, _ := testRepository(t)
	for _, command := range []string{"describe", "show-offset-mapping", "validate"} {
		for id, want := range map[string]string{
			"production-backup-002": `there is no backup "production-backup-002" in ` + dir + `; did you mean "production-backup-001"?`,
			"x":                     `there is no backup "x" in ` + dir + "; the latest there are: first, production-backup-001, interrupted",
			"interrupted":           `backup "interrupted" in ` + dir + " is not complete",
		} {
			r := run(t, command, "--path", dir, "--backup-id", id)
			if r.code != ExitFailed || !strings.Contains(r.err, want) {
				t.Errorf("%s %s: code %d, %q, want %q", command, id, r.code, r.err, want)
			}
		}
		if r := run(t, command, "--path", dir); r.code != ExitUsage {
			t.Errorf("%s without a backup id: code %d, %q", command, r.code, r.err)
		}
		if r := run(t, command, "--path", dir, "-b", "../x"); r.code == ExitDone {
			t.Errorf("%s took the backup id ../x", command)
		}
	}
	if r := run(t, "list", "--path", t.TempDir()); r.code != ExitFailed || !strings.Contains(r.err, "not a kafka-backup repository") {
		t.Errorf("empty folder: code %d, %q", r.code, r.err)
	}
	if r := run(t, "list", "--path", "ftp://x/y"); r.code != ExitUsage {
		t.Errorf("unknown scheme: code %d, %q", r.code, r.err)
	}
}
