package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// offsetBed is a cluster in this process, and a repository with the backups of
// testRepository. The cluster has the topics orders (three partitions of 20
// records, a second apart from recordTime on) and payments (two of 10).
type offsetBed struct {
	t         *testing.T
	bootstrap string
	adm       *kadm.Client
	dir       string
	repo      *repository.Repository
}

func newOffsetBed(t *testing.T) *offsetBed {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ClusterID("cluster-1"), kfake.SeedTopics(3, "orders"), kfake.SeedTopics(2, "payments"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	cl, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	var records []*kgo.Record
	for topic, size := range map[string][2]int{"orders": {3, 20}, "payments": {2, 10}} {
		for p := range size[0] {
			for n := range size[1] {
				records = append(records, &kgo.Record{Topic: topic, Partition: int32(p), Timestamp: time.UnixMilli(recordTime + 1000*int64(n)), Value: []byte("value")})
			}
		}
	}
	if err := cl.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	dir, repo := testRepository(t)
	return &offsetBed{t, strings.Join(fake.ListenAddrs(), ","), kadm.NewClient(cl), dir, repo}
}

// commit commits a group's offsets by partition from 0; -1: none.
func (b *offsetBed) commit(group, topic string, at ...int64) {
	b.t.Helper()
	var os kadm.Offsets
	for p, o := range at {
		if o >= 0 {
			os.AddOffset(topic, int32(p), o, -1)
		}
	}
	if err := b.adm.CommitAllOffsets(b.t.Context(), group, os); err != nil {
		b.t.Fatal(err)
	}
}

// run runs a command on the cluster and the repository.
func (b *offsetBed) run(adjust func(*program), command string, more ...string) result {
	b.t.Helper()
	args := append(strings.Fields(command), "--path", b.dir, "--bootstrap-servers", b.bootstrap)
	return runProgram(b.t, adjust, append(args, more...)...)
}

// read is run of a command that needs no Temporal.
func (b *offsetBed) read(command string, more ...string) result {
	b.t.Helper()
	return b.run(func(p *program) { p.dial = nil }, command, more...)
}

// snapshot takes a snapshot under the id of testTime or of the seconds after it.
func (b *offsetBed) snapshot(description string, groups ...string) *offsets.Snapshot {
	b.t.Helper()
	cluster, err := kafka.Connect(b.t.Context(), config.Cluster{BootstrapServers: strings.Split(b.bootstrap, ",")})
	if err != nil {
		b.t.Fatal(err)
	}
	defer cluster.Close()
	s, err := offsets.TakeSnapshot(b.t.Context(), cluster, b.repo, offsets.SnapshotRequest{Groups: offsets.Selection{Names: groups}, At: testTime,
		Description: description, Requester: "ann", Operation: description})
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// file writes a file and returns its path.
func (b *offsetBed) file(name, text string) string {
	b.t.Helper()
	path := filepath.Join(b.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// An operation that runs is joined only by a command that asks for the same,
// whoever asks; what must be approved is part of that.
func TestOnlyTheSameOffsetOperationIsJoined(t *testing.T) {
	b := newOffsetBed(t)
	b.commit("g", "orders", 1, 2, 3)
	id := b.snapshot("before", "g").ID
	joined := func(f *fakeService, command string) result {
		t.Helper()
		f.running = true
		r := b.run(f.install, command)
		if r.code == ExitDone && !strings.HasPrefix(r.err, "Running already: workflow ") && !strings.Contains(r.err, "\nRunning already: workflow ") {
			t.Errorf("%s: joined nothing: %s", command, r.err)
		}
		return r
	}
	for _, c := range []struct {
		begun string
		same  []string
		other map[string]string // command, what differs
	}{
		{
			"offset-reset execute --groups g,h --to-earliest --topics orders", []string{
				"offset-reset execute --groups g,h --to-earliest --topics orders --by ben",
				"offset-reset execute --groups h --groups g --to-earliest --topics orders",
			}, map[string]string{
				"offset-reset execute --groups g,h --to-earliest --topics orders --no-snapshot":                                     "no_snapshot",
				"offset-reset execute --groups g,h --to-earliest --topics orders --approval-required":                               "approval",
				"offset-reset execute --groups g,h --to-earliest --topics orders --max-concurrent 3 --wait-inactive 1m":             "max_concurrent, wait_inactive",
				"offset-reset execute --groups g,h --to-earliest --topics orders --max-retries 0 --description text --client-id me": "description, max_retries, target",
			},
		},
		{"offset-reset-bulk --groups g --by-duration PT1H", []string{"offset-reset-bulk --groups g --by-duration 60m"},
			map[string]string{"offset-reset-bulk --groups g --by-duration PT1H --no-snapshot": "no_snapshot"}},
		{"offset-rollback rollback --snapshot-id " + id, nil,
			map[string]string{"offset-rollback rollback --approval-required --approval-approvers ann --snapshot-id " + id: "approval"}},
		{"offset-rollback delete --snapshot-id " + id, nil,
			map[string]string{"offset-rollback delete --approval-required --snapshot-id " + id: "approval"}},
	} {
		f := newFakeService().ended(activities.OffsetReport{}, nil)
		if r := b.run(f.install, c.begun, "--by", "ann"); r.code != ExitDone {
			t.Fatalf("%s: %+v", c.begun, r)
		}
		begun := f.started[0].ID
		for _, same := range append(c.same, c.begun) {
			if r := joined(f, same); r.code != ExitDone {
				t.Errorf("%s beside %s: %+v", same, c.begun, r)
			}
			if !strings.Contains(joined(f, same).err, begun) {
				t.Errorf("%s is another operation than %s", same, c.begun)
			}
		}
		for other, what := range c.other {
			if r := joined(f, other); r.code != ExitFailed || !strings.Contains(r.err, begun+" is running already, and was asked for with other settings ("+what+"; ") {
				t.Errorf("%s beside %s: %+v", other, c.begun, r)
			}
		}
	}
}

// So it is with every other kind: who wants an approval gets none from a run
// that goes without.
func TestARunWithoutApprovalIsNotJoined(t *testing.T) {
	dir, _ := testRepository(t)
	for _, command := range []string{"backup --config " + write(t, backupConfig), "restore --config " + write(t, restoreConfig), "prune --execute --keep-last 2 --path " + dir} {
		f := newFakeService()
		if r := runProgram(t, f.install, append(strings.Fields(command), "--detach")...); r.code != ExitDone {
			t.Fatalf("%s: %+v", command, r)
		}
		f.running = true
		if r := runProgram(t, f.install, append(strings.Fields(command), "--approval-required")...); r.code != ExitFailed || !strings.Contains(r.err, "other settings (approval; ") {
			t.Errorf("%s: %+v", command, r)
		}
	}
	f := newFakeService()
	runProgram(t, f.install, "prune", "--execute", "--keep-last", "2", "--path", dir, "--detach")
	f.running = true
	if r := runProgram(t, f.install, "prune", "--execute", "--keep-last", "1", "--path", dir); r.code != ExitFailed || !strings.Contains(r.err, "other settings (retention; ") {
		t.Errorf("another retention: %+v", r)
	}
}

// setTargets are the targets of a plan, as orders/0>5.
func setTargets(t *testing.T, r result) string {
	t.Helper()
	if r.code != ExitDone {
		t.Fatalf("code %d, %s", r.code, r.err)
	}
	var all []string
	for _, line := range strings.Split(strings.TrimSpace(r.out), "\n")[1:] {
		f := strings.Split(line, ",")
		all = append(all, fmt.Sprintf("%s %s/%s>%s", f[0], f[1], f[2], f[4]))
	}
	return strings.Join(all, " ")
}

// A list flag may be given several times: all of them count.
func TestListFlagsAddUp(t *testing.T) {
	b := newOffsetBed(t)
	b.commit("a", "orders", 1, 1, 1)
	b.commit("b", "payments", 1, 1)
	b.commit("c-1", "orders", 1, 1, 1)
	for command, want := range map[string]string{
		"--groups a --groups b --to-earliest":                                                 "a orders/0>0 a orders/1>0 a orders/2>0 b payments/0>0 b payments/1>0",
		"-g a,b -g c-1 --topics payments --topics orders:0,1 --to-earliest":                   "a orders/0>0 a orders/1>0 a payments/0>0 a payments/1>0 b orders/0>0 b orders/1>0 b payments/0>0 b payments/1>0 c-1 orders/0>0 c-1 orders/1>0 c-1 payments/0>0 c-1 payments/1>0",
		"--groups-matching c-* --groups-matching b --to-earliest":                             "b payments/0>0 b payments/1>0 c-1 orders/0>0 c-1 orders/1>0 c-1 orders/2>0",
		"--bootstrap-servers 127.0.0.1:1 --groups-matching a --to-earliest --topics orders:2": "a orders/2>0",
	} {
		if got := setTargets(t, b.read("offset-reset plan -o csv "+command)); got != want {
			t.Errorf("%s: %s, want %s", command, got, want)
		}
	}
	f := newFakeService()
	r := runProgram(t, f.install, "restore", "--config", write(t, restoreConfig), "--topic-mapping", "a=b", "--topic-mapping", "c=d", "--topics-include", "a", "--topics-include", "c", "--detach")
	if req, ok := f.request.(activities.RestoreRequest); !ok || len(req.Options.TopicMapping) != 2 || len(req.Options.Topics.Include) != 2 {
		t.Errorf("%+v, %+v", r, f.request)
	}
}
