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
// records, a minute apart from recordTime on) and payments (two of 10).
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
				records = append(records, &kgo.Record{Topic: topic, Partition: int32(p), Timestamp: time.UnixMilli(recordTime + 60_000*int64(n)), Value: []byte("value")})
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
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.bootstrap)) // a fresh one remembers no topic that was deleted
	if err != nil {
		b.t.Fatal(err)
	}
	defer cl.Close()
	if err := kadm.NewClient(cl).CommitAllOffsets(b.t.Context(), group, os); err != nil {
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

// The backup that a configuration file names is not what a rollback goes to:
// only who asks for it gets that.
func TestARollbackIsToWhatIsNamed(t *testing.T) {
	b := newOffsetBed(t)
	b.commit("order-processor", "orders", 1)
	conf := write(t, "backup_id: production-backup-001\n")
	for _, command := range []string{"rollback --dry-run", "rollback", "verify"} {
		r := b.read("offset-rollback "+command, "--config", conf)
		if r.code != ExitUsage || r.out != "" || !strings.Contains(r.err, "--snapshot-id") || !strings.Contains(r.err, "--backup-id") {
			t.Errorf("%s: %+v", command, r)
		}
	}
	if r := run(t, "offset-rollback", "show", "--path", b.dir); r.code != ExitUsage || !strings.Contains(r.err, "--backup-id") {
		t.Errorf("show: %+v", r)
	}
	if r := b.read("offset-rollback verify --backup-id production-backup-001", "--config", conf); r.code != ExitPartly || !strings.Contains(r.out, "order-processor   orders   0           7          1") {
		t.Errorf("verify, of the backup: %+v", r)
	}
}

// What makes no sense is wrong usage, also where the plan finds it out.
func TestARequestThatMakesNoSenseIsWrongUsage(t *testing.T) {
	b := newOffsetBed(t)
	b.commit("g", "orders", 1)
	for command, want := range map[string]string{
		"offset-reset plan --groups-matching nobody-* --to-earliest":                                           "no group of the cluster is selected",
		"offset-reset plan --groups g --to-earliest --topics a/b":                                              "--topics: ",
		"offset-reset plan --groups g --to-datetime yesterday":                                                 "is not a time",
		"offset-reset plan --groups g --by-duration -1h":                                                       "is negative: it would lie in the future",
		"offset-reset plan --groups g --to-earliest --on-out-of-range x":                                       "--on-out-of-range is fail, clamp, earliest or latest",
		"offset-rollback rollback --snapshot-id x --on-out-of-range x":                                         "--on-out-of-range is fail, clamp, earliest or latest",
		"offset-rollback verify --snapshot-id ../x":                                                            "../x",
		"offset-reset plan --groups order-processor --restore r --to-latest --backup-id production-backup-001": "exclude each other",
	} {
		if r := b.read(command); r.code != ExitUsage || r.out != "" || !strings.Contains(r.err, want) {
			t.Errorf("%s: %+v, want %q", command, r, want)
		}
	}
	if r := b.read("offset-rollback verify --snapshot-id snapshot-20240101-000000"); r.code != ExitFailed || !strings.Contains(r.err, "there is no offset snapshot") {
		t.Errorf("no such snapshot: %+v", r)
	}
}

// A difference says why, whatever it is; none keeps the others from being told.
func TestVerifyTellsAllDifferences(t *testing.T) {
	b := newOffsetBed(t)
	ctx := t.Context()
	if _, err := b.adm.CreateTopics(ctx, 1, 1, nil, "again", "gone"); err != nil {
		t.Fatal(err)
	}
	b.commit("g", "again", 0)
	b.commit("g", "gone", 0)
	b.commit("g", "orders", 5, 6)
	b.commit("h", "payments", 7, 8)
	id := b.snapshot("before", "g", "h").ID
	command := "offset-rollback verify --snapshot-id " + id
	if r := b.read(command); r.code != ExitDone || !strings.Contains(r.out, "All 6 committed offsets of 2 groups match.\n") {
		t.Fatalf("nothing has changed: %+v", r)
	}
	if _, err := b.adm.DeleteTopics(ctx, "again", "gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.adm.CreateTopics(ctx, 1, 1, nil, "again"); err != nil {
		t.Fatal(err)
	}
	b.commit("g", "again", 0)
	b.commit("g", "orders", 5, 9, 3)
	if _, err := b.adm.DeleteGroups(ctx, "h"); err != nil {
		t.Fatal(err)
	}
	r := b.read(command + " -o csv")
	for _, want := range []string{
		"\ng,again,0,0,0,the topic was deleted and created again (its id was ", "\ng,gone,0,0,", ",the topic does not exist on the cluster, or the user may not DESCRIBE it",
		"\ng,orders,1,6,9,\n", "\ng,orders,2,,3,\n", "\nh,payments,0,7,,the group does not exist on the cluster\n", "\nh,payments,1,8,,",
	} {
		if !strings.Contains(strings.ReplaceAll(r.out, `"`, ""), want) {
			t.Errorf("it does not say %q: %s", want, r.out)
		}
	}
	if r.code != ExitPartly || strings.Contains(r.out, "orders,0") || r.err != "" {
		t.Errorf("%+v", r)
	}
	if text := b.read(command); text.code != ExitPartly || !strings.Contains(text.out, "the group does not exist on the cluster\n") ||
		!strings.Contains(text.out, "6 of 7 committed offsets differ.\n") || strings.Contains(text.out+text.err, "hanged") {
		t.Errorf("%+v", text)
	}
}

// A damaged snapshot is told as such everywhere, and can be deleted.
func TestADamagedSnapshotCanBeDeleted(t *testing.T) {
	b := newOffsetBed(t)
	b.commit("g", "orders", 5, 6)
	head, part := b.snapshot("one", "g"), b.snapshot("two", "g")
	path := func(key string) string { return filepath.Join(b.dir, filepath.FromSlash(key)) }
	if err := os.WriteFile(path(repository.SnapshotKey(head.ID)), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path(part.Parts[0].Key)); err != nil {
		t.Fatal(err)
	}
	list := run(t, "offset-rollback", "list", "--path", b.dir)
	for _, s := range []*offsets.Snapshot{head, part} {
		if !strings.Contains(list.out, s.ID+"   -         -        DAMAGED: ") {
			t.Errorf("the list: %s", list.out)
		}
		if r := b.read("offset-rollback rollback --dry-run --snapshot-id " + s.ID); r.code != ExitFailed || !strings.Contains(r.err, "is corrupt: ") {
			t.Errorf("rollback: %+v", r)
		}
		f := newFakeService().ended(activities.SnapshotReport{ID: s.ID, Deleted: true}, nil)
		r := b.run(f.install, "offset-rollback delete --approval-required --snapshot-id "+s.ID)
		if r.code != ExitDone || !strings.Contains(r.err, "Snapshot "+s.ID+" is damaged, and no rollback can use it: ") {
			t.Errorf("delete: %+v", r)
		}
		if req := f.request.(activities.DeleteSnapshotRequest); req.ID != s.ID || !req.Approval.Required {
			t.Errorf("it asks for %+v", req)
		}
	}
}

// A saved plan is carried out as it is, and nothing that is said beside it may
// say otherwise.
func TestASavedPlanIsCarriedOut(t *testing.T) {
	b := newOffsetBed(t)
	b.commit("g", "orders", 5, 6, 7)
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.bootstrap), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("payments"), kgo.DisableAutoCommit())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	cl.PollFetches(t.Context())
	plan := filepath.Join(t.TempDir(), "plan.json")
	if r := b.read("offset-reset plan --groups g --to-earliest --save " + plan); r.code != ExitDone || !strings.Contains(r.out, "Cannot be reset: it has active members") {
		t.Fatalf("%+v", r)
	}
	// The group is active: whether it still is, and whether that is waited for, is
	// the workflow's to find out.
	for _, flags := range []string{"", " --wait-inactive 2h"} {
		f := newFakeService().ended(activities.OffsetReport{}, nil)
		r := b.run(f.install, "offset-reset execute --plan "+plan+flags)
		req, ok := f.request.(activities.OffsetRequest)
		if r.code != ExitDone || !ok || req.Plan == nil || (req.WaitInactive > 0) != (flags != "") {
			t.Errorf("%q: %+v, %+v", flags, r, req)
		}
	}
	for _, beside := range []string{"--backup-id production-backup-001", "--groups g", "--groups-matching g*", "--topics orders", "--to-latest", "--restore r", "--on-out-of-range clamp"} {
		flag, _, _ := strings.Cut(beside, " ")
		if r := b.read("offset-reset execute --plan " + plan + " " + beside); r.code != ExitUsage || !strings.Contains(r.err, "--plan and "+flag+" exclude each other") {
			t.Errorf("%s: %+v", beside, r)
		}
	}
	data, err := os.ReadFile(plan)
	if err != nil {
		t.Fatal(err)
	}
	edited := b.file("edited.json", strings.Replace(string(data), `"group": "g"`, `"group": "h"`, 1))
	if r := b.read("offset-reset execute --plan " + edited); r.code != ExitUsage || !strings.Contains(r.err, "--plan: "+edited+": the content does not fit its digest; it must be as offset-reset plan --save has written it") {
		t.Errorf("an edited plan: %+v", r)
	}
	if r := b.read("offset-reset execute --plan " + plan + "x"); r.code != ExitUsage || !strings.Contains(r.err, plan+"x") {
		t.Errorf("no plan: %+v", r)
	}
	// A target out of range stands against the plan at any time.
	bad := filepath.Join(t.TempDir(), "bad.json")
	b.read("offset-reset plan --groups g --to-offset 99 --save " + bad)
	if r := b.read("offset-reset execute --plan " + bad); r.code != ExitFailed || !strings.Contains(r.err, "Offset 99 is out of range for partition 0 (current: 0-20)") {
		t.Errorf("out of range: %+v", r)
	}
}

// Each strategy says where groups go, as kafka-consumer-groups has them.
func TestTheStrategiesOfAPlan(t *testing.T) {
	b := newOffsetBed(t)
	b.commit("g", "orders", 5, 6, 7)
	b.commit("h", "payments", 3, 4)
	one := b.file("one.csv", "\"orders\",0,15\norders,2,1\n")                                                 // of one group
	several := b.file("several.csv", "\"g\",\"orders\",0,15\n\"g\",\"orders\",2,1\n\"h\",\"payments\",1,0\n") // of several
	groups := b.file("groups.txt", "# those of the shop\ng\n\n h \n")
	at := time.UnixMilli(recordTime).UTC()
	ago := time.Since(at.Add(9*time.Minute + 30*time.Second)).Round(time.Second) // half a minute before the tenth record
	for command, want := range map[string]string{
		"--groups g --shift-by 3":                                                           "g orders/0>8 g orders/1>9 g orders/2>10",
		"--groups g --shift-by -5":                                                          "g orders/0>0 g orders/1>1 g orders/2>2",
		"--groups g --shift-by -6 --on-out-of-range clamp":                                  "g orders/0>0 g orders/1>0 g orders/2>1",
		"--groups g --to-datetime 2024-12-01T10:04:00.000":                                  "g orders/0>4 g orders/1>4 g orders/2>4",
		"--groups g --to-datetime 2024-12-01T11:03:00.001+01:00":                            "g orders/0>4 g orders/1>4 g orders/2>4",
		"--groups g --to-datetime 2030-01-01":                                               "g orders/0>20 g orders/1>20 g orders/2>20",
		"--groups g --by-duration P0D --topics orders:1":                                    "g orders/1>20",
		"--groups g --by-duration P36500D":                                                  "g orders/0>0 g orders/1>0 g orders/2>0",
		"--groups g --by-duration " + ago.String() + " --topics orders:0":                   "g orders/0>10",
		fmt.Sprintf("--groups g --by-duration PT%dS --topics orders:0", int(ago.Seconds())): "g orders/0>10",
		"--groups g --from-file " + one:                                                     "g orders/0>15 g orders/2>1",
		"--from-file " + several:                                                            "g orders/0>15 g orders/2>1 h payments/1>0",
		"--groups h --from-file " + several:                                                 "h payments/1>0",
		"--groups-file " + groups + " --to-earliest":                                        "g orders/0>0 g orders/1>0 g orders/2>0 h payments/0>0 h payments/1>0",
	} {
		if got := setTargets(t, b.read("offset-reset plan -o csv "+command)); got != want {
			t.Errorf("%s: %s, want %s", command, got, want)
		}
	}
	for command, want := range map[string]string{
		"--groups g --from-file " + b.file("few.csv", "orders,0\n"):                 "few.csv:1: it has 2 fields",
		"--groups g --from-file " + b.file("twice.csv", "orders,0,1\norders,0,2\n"): "twice.csv:2: orders partition 0 is in line 1 already",
		"--groups g --from-file " + b.file("empty.csv", ""):                         "there is no line in ",
		"--groups g --from-file " + one + "x":                                       "no such file",
		"--groups-file " + b.file("none.txt", "# nobody\n") + " --to-earliest":      "there is no group in ",
		"--from-file " + one:                    "say whose offsets",
		"--groups g --to-datetime 1960-01-01":   "is before 1970",
		"--groups g --to-earliest --shift-by 1": "--to-earliest and --shift-by exclude each other",
	} {
		if r := b.read("offset-reset plan " + command); r.code != ExitUsage || !strings.Contains(r.err, want) {
			t.Errorf("%s: %+v, want %q", command, r, want)
		}
	}
	// Names of groups on standard input.
	r := b.run(func(p *program) { p.In = strings.NewReader("h\n") }, "offset-reset plan -o csv --groups-file - --to-latest")
	if got := setTargets(t, r); got != "h payments/0>10 h payments/1>10" {
		t.Error(got)
	}
	// The duration itself is what a workflow is asked for.
	f := newFakeService().ended(activities.OffsetReport{}, nil)
	b.run(f.install, "offset-reset execute --groups g --by-duration PT1H30M")
	if s := f.request.(activities.OffsetRequest).Offsets.Strategy; s.Ago == nil || *s.Ago != 90*time.Minute || s.Time != nil {
		t.Errorf("%+v", s)
	}
}
