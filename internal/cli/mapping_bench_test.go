package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/storage/file"
)

// The mapping of a backup of 100,000 partitions, in 200 parts, each partition
// in three segments. There are no segments: the index is all that is read. The
// command is a process of its own, so that its memory can be told.
func BenchmarkShowOffsetMapping(b *testing.B) {
	dir, ctx := b.TempDir(), b.Context()
	bucket, err := file.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	r, err := repository.Create(ctx, bucket)
	if err != nil {
		b.Fatal(err)
	}
	m := &repository.Manifest{BackupID: "b", ClusterID: "cluster", CreatedAt: testTime, FinishedAt: testTime, ToolVersion: "v1"}
	var tally repository.Tally
	for part := range 200 {
		s := &repository.Shard{}
		for i := range 3 {
			s.Segments = append(s.Segments, repository.SegmentRef{Key: repository.SegmentKey("b", part, i), Size: 1 << 27})
		}
		for t := range 5 {
			topic := repository.Topic{Name: fmt.Sprintf("some.topic.name-%d", 5*part+t), ID: fmt.Sprintf("AAAAAAAAQACAAAAAAA%04d", 5*part+t), PartitionCount: 100}
			for p := range int32(100) {
				at := int64(part+1)*1000 + int64(p)
				partition := repository.Partition{Partition: p, LogStart: at, FirstOffset: -1, LastOffset: -1, End: at + 3000, HighWatermark: at + 3001, LeaderEpoch: 4}
				for k := range int64(3) {
					partition.AddSlice(repository.Slice{Segment: int(k), FirstOffset: at + 1000*k, LastOffset: at + 1000*k + 999, Records: 1000, Bytes: 123456 + at*int64(p+1)%99991,
						StoredBytes: 23456 + at, MinBaseTimestamp: recordTime + at*k, MaxTimestamp: recordTime + at*(k+1)})
				}
				topic.Partitions = append(topic.Partitions, partition)
			}
			s.Topics = append(s.Topics, topic)
		}
		ref, _, err := r.AdoptIndex(ctx, "b", part, s)
		if err != nil {
			b.Fatal(err)
		}
		tally.Add("b", s)
		m.Index = append(m.Index, ref)
	}
	m.Totals = tally.Totals()
	if _, err := r.WriteManifest(ctx, m); err != nil {
		b.Fatal(err)
	}
	program := filepath.Join(b.TempDir(), "kafka-backup")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "../../starter").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	for _, format := range []string{"text", "csv", "json"} {
		b.Run(format, func(b *testing.B) {
			var memory int64
			var cpu time.Duration
			for b.Loop() {
				cmd := exec.CommandContext(ctx, program, "show-offset-mapping", "--path", dir, "--backup-id", "b", "--format", format)
				cmd.Stderr = os.Stderr
				if err := cmd.Run(); err != nil {
					b.Fatal(err)
				}
				memory = max(memory, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
				cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
			}
			b.ReportMetric(float64(memory)/1024, "MB-RSS")
			b.ReportMetric(cpu.Seconds(), "cpu-s")
		})
	}
}
