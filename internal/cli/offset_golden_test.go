package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/restore"
)

var (
	anyTime   = regexp.MustCompile(`20(2[5-9]|[3-9]\d)-\d\d-\d\dT[0-9:.]+Z`)
	anyDigest = regexp.MustCompile(`[0-9a-f]{64}`)
	anyHost   = regexp.MustCompile(`127\.0\.0\.1:\d+`)
	anyMember = regexp.MustCompile(`the-client-[A-Za-z0-9_-]+`)
)

// golden compares what a command printed, in each format, with a file of that
// name: times of today, digests and ids that Kafka makes are masked.
func (b *offsetBed) golden(name string, code int, formats []string, command string, more ...string) {
	b.t.Helper()
	topics, err := b.adm.ListTopics(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	masks := []string{b.bootstrap, "BOOTSTRAP", b.dir, "/data/backups"}
	for _, t := range topics {
		masks = append(masks, kafka.TopicID(t.ID).String(), "ID-OF-"+t.Topic)
	}
	mask := strings.NewReplacer(masks...)
	for _, format := range formats {
		args := append(strings.Fields(command), "--path", b.dir, "-o", map[string]string{"txt": "text"}[format]+strings.TrimPrefix(format, "txt"))
		r := runProgram(b.t, func(p *program) { p.dial = nil }, append(args, more...)...)
		if r.code != code || r.err != "" {
			b.t.Errorf("%s %s: code %d, %q", command, format, r.code, r.err)
		}
		text := anyDigest.ReplaceAllString(anyTime.ReplaceAllString(mask.Replace(r.out), "YYYY-MM-DDTHH:MM:SSZ"), "DIGEST")
		golden(b.t, name+"."+format, anyHost.ReplaceAllString(anyMember.ReplaceAllString(text, "MEMBER"), "HOST"))
	}
}

var allFormats = []string{"txt", "json", "yaml", "csv"}

// What the commands for offsets print does not change its shape unseen.
func TestOffsetCommandsPrint(t *testing.T) {
	b := newOffsetBed(t)
	b.commit("order-processor", "orders", 5, 6, 7)
	b.commit("busy", "payments", 1, 2)
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.bootstrap), kgo.ConsumerGroup("busy"), kgo.ConsumeTopics("payments"), kgo.ClientID("the-client"), kgo.DisableAutoCommit())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	cl.PollFetches(t.Context())
	file := b.file("targets.csv", "busy,payments,0,9\nfresh,payments,1,4\n"+
		"order-processor,orders,0,15\norder-processor,orders,1,6\norder-processor,orders,2,99\norder-processor,nowhere,0,1\norder-processor,payments,7,1\n")
	b.golden("offset-plan", ExitDone, allFormats, "offset-reset plan", "--from-file", file, "--bootstrap-servers", b.bootstrap)
	b.golden("offset-plan-clamped", ExitDone, []string{"txt", "json"}, "offset-reset plan --groups order-processor --shift-by -6 --on-out-of-range clamp", "--bootstrap-servers", b.bootstrap)

	b.commit("payment-service", "payments", 3)
	id := b.snapshot("Before <restore> & more", "order-processor", "payment-service").ID
	damaged := b.snapshot("lost", "order-processor")
	if err := os.WriteFile(filepath.Join(b.dir, filepath.FromSlash(repository.SnapshotKey(damaged.ID))), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.golden("snapshot-list", ExitDone, allFormats, "offset-rollback list")
	b.golden("snapshot-show", ExitDone, allFormats, "offset-rollback show --snapshot-id "+id)
	b.golden("snapshot-show-backup", ExitDone, []string{"txt", "json"}, "offset-rollback show --backup-id production-backup-001")
	b.golden("verify-same", ExitDone, allFormats, "offset-rollback verify --snapshot-id "+id, "--bootstrap-servers", b.bootstrap)
	b.commit("order-processor", "orders", 5, 9, 7)
	b.commit("order-processor", "payments", -1, 4)
	if _, err := b.adm.DeleteGroups(t.Context(), "payment-service"); err != nil {
		t.Fatal(err)
	}
	b.golden("verify", ExitPartly, allFormats, "offset-rollback verify --snapshot-id "+id, "--bootstrap-servers", b.bootstrap)
	b.golden("offset-rollback-plan", ExitDone, []string{"txt", "json", "yaml"}, "offset-rollback rollback --dry-run --snapshot-id "+id, "--bootstrap-servers", b.bootstrap)
}

var testOffsetReport = activities.OffsetReport{
	Report: offsets.Report{Format: "kafka-backup/offset-report", Version: 1, PlanKey: "operations/w/r/offsets/plan-0.json", Plan: "abc", ClusterID: "cluster-1",
		Source: "--to-earliest", SnapshotID: "snapshot-20241203-100000",
		Totals:   offsets.Totals{Groups: 5, Blocked: 61, Active: 1, Partitions: 1300, Set: 1200, Unchanged: 3, Skip: 52, Failed: 1, LagAfter: 12345},
		Summary:  offsets.Summary{Changed: 1120, Requests: 12, Retries: 3, Failed: 80, Errors: map[string]int64{"GROUP_AUTHORIZATION_FAILED": 79, "MISMATCH": 1}, Began: testTime, Ended: testTime.Add(time.Second), Latency: &offsets.Latency{P50: 1, P90: 2.5, P99: 3.25, Max: 10}},
		Seconds:  1,
		Rate:     1120,
		Verified: 1119, GroupsDone: 3, GroupsBad: 63,
		Failures: []offsets.Failure{{Group: "g", Change: offsets.Change{Topic: "orders", Partition: 1, Offset: 7, LeaderEpoch: -1}, Code: "GROUP_AUTHORIZATION_FAILED", Error: "User:ann lacks READ on GROUP g"}},
		Blocked:  []offsets.Blocked{{Group: "busy", Kind: offsets.BlockedActive, Why: "it has active members: group busy"}},
		Rows: []offsets.Changed{{Group: "g", Topic: "orders", Partition: 0, From: offsets.None, To: 0, Action: offsets.Set},
			{Group: "g", Topic: "payments", Partition: 0, From: 5, To: offsets.None, Action: offsets.Remove}},
		Skipped:  []offsets.Changed{{Group: "g", Topic: "nowhere", Partition: 0, From: offsets.None, To: offsets.None, Action: offsets.Skip, Why: "the topic does not exist on the cluster"}},
		Warnings: []string{"careful"},
		More:     offsets.More{Failures: 79, Blocked: 60, Skipped: 52},
	},
	Key:       "operations/w/r/offsets/0/report.json",
	StartedAt: testTime, FinishedAt: testTime.Add(3 * time.Second),
}

// Lists that are cut say how much is missing and where it is.
func TestAnOffsetReportPrints(t *testing.T) {
	b := newOffsetBed(t)
	for format, file := range map[string]string{"text": "offset-report.txt", "json": "offset-report.json", "yaml": "offset-report.yaml"} {
		f := newFakeService().ended(testOffsetReport, nil)
		r := b.run(f.install, "offset-reset-bulk --groups g --to-earliest -o "+format)
		if r.code != ExitPartly {
			t.Errorf("%s: %+v", format, r)
		}
		golden(t, file, r.out)
	}
	snapshot := activities.SnapshotReport{ID: "snapshot-20241203-100000", Key: "offset-snapshots/snapshot-20241203-100000.json", CreatedAt: testTime,
		ClusterID: "cluster-1", Groups: 2, Partitions: 1234, Description: "Before", Warnings: []string{"careful"}}
	for format, file := range map[string]string{"text": "snapshot-report.txt", "json": "snapshot-report.json"} {
		f := newFakeService().ended(snapshot, nil)
		r := b.run(f.install, "snapshot-groups -o "+format)
		if r.code != ExitDone {
			t.Errorf("%s: %+v", format, r)
		}
		golden(t, file, r.out)
	}
}

// Where there is no number, there is null, and nothing in CSV.
func TestAMappingOfARestorePrints(t *testing.T) {
	m := &restoreMapping{Restore: "restore/b/c/d", BackupID: "b", SourceClusterID: "one", ClusterID: "two", Mapping: "operations/m.json", Ranges: []restore.Range{
		{Topic: "orders", Partition: 0, First: 5, Last: 9, Target: "orders", To: 0, TargetFirst: 0, TargetLast: 4, Records: 5, Pieces: 1},
		{Topic: "orders", Partition: 1, First: -1, Last: -1, Target: "orders", To: 1, TargetFirst: -1, TargetLast: -1, Pieces: 1},
		{Topic: "payments", Partition: -1, First: -1, Last: -1, Target: "paid", To: 2, TargetFirst: 0, TargetLast: 7, Records: 8, Pieces: 2}}}
	for file, format := range map[string]render.Format{"restore-mapping.txt": render.Text, "restore-mapping.json": render.JSON, "restore-mapping.csv": render.CSV} {
		var out bytes.Buffer
		if err := render.Write(&out, format, m); err != nil {
			t.Fatal(err)
		}
		golden(t, file, out.String())
	}
}
