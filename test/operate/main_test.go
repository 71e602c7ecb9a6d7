// Package operate runs operations the way people do: they approve and reject,
// pause, cancel, look, and kill what carries the operation out meanwhile.
//
// One broker, which forgets producer ids within seconds, is source and target.
package operate

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/kafka-backup/kafka-backup/test/dataset"
	"github.com/kafka-backup/kafka-backup/test/kafkabed"
	"github.com/kafka-backup/kafka-backup/test/oracle"
	"github.com/kafka-backup/kafka-backup/test/rig"
	"github.com/kafka-backup/kafka-backup/workflows"
)

var bed = kafkabed.Share(kafkabed.Options{HeapMiB: 384, Properties: map[string]string{
	"producer.id.expiration.ms": "1000", "producer.id.expiration.check.interval.ms": "200",
}})

func TestMain(m *testing.M) {
	os.Exit(bed.Main(runner(func() int {
		code := m.Run()
		scene.close(code)
		return code
	})))
}

type runner func() int

func (f runner) Run() int { return f() }

// stage is the cluster, the programs and one backup, which the tests share.
type stage struct {
	once   sync.Once
	err    error
	rig    *rig.Rig
	opts   []kgo.Opt
	dir    string
	topics []string
	groups []string
	want   oracle.Content
	before []oracle.Committed
}

var scene stage

func (s *stage) close(code int) {
	if s.rig == nil {
		return
	}
	if err := s.rig.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if code != 0 {
		fmt.Fprintln(os.Stderr, "the logs and configurations are in", s.dir)
	} else if err := os.RemoveAll(s.dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// operator is somebody at the command line, with a worker of their own.
type operator struct {
	*stage
	t        *testing.T
	ctx      context.Context
	queue    string
	adm      *kadm.Client
	temporal client.Client
}

func newOperator(t *testing.T, timeout time.Duration) *operator {
	t.Helper()
	b := bed.Bed(t)
	scene.once.Do(func() { scene.err = scene.set(b) })
	if scene.err != nil {
		t.Fatal(scene.err)
	}
	o := &operator{stage: &scene, t: t, ctx: kafkabed.Context(t, timeout), queue: strings.ReplaceAll(t.Name(), "/", "-"),
		adm: kadm.NewClient(b.Client(t, kafkabed.Login{}, kgo.MetadataMinAge(50*time.Millisecond)))}
	var err error
	o.temporal, err = client.Dial(client.Options{HostPort: o.rig.Address(), Logger: silent{}})
	o.must(err)
	t.Cleanup(o.temporal.Close)
	return o
}

type silent struct{}

func (silent) Debug(string, ...any) {}
func (silent) Info(string, ...any)  {}
func (silent) Warn(string, ...any)  {}
func (silent) Error(string, ...any) {}

// set starts the programs and makes the backup that all tests restore.
func (s *stage) set(b *kafkabed.Bed) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute) // the first build takes minutes
	defer cancel()
	if s.opts, err = b.ClientOptions(kafkabed.Login{}); err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp("", "operate-*"); err != nil {
		return err
	}
	if s.rig, err = rig.Run(ctx, s.dir); err != nil {
		return err
	}
	shop, err := dataset.Shop(ctx, dataset.Options{Client: s.opts, Orders: 300, Prefix: "src-"})
	if err != nil {
		return err
	}
	// Bytes that do not compress, so that a limited restore takes a while.
	if _, err := dataset.Load(ctx, dataset.Bulk{Client: s.opts, Topic: "src-load", Partitions: 4, Bytes: 4 << 20, BatchBytes: 16 << 10}); err != nil {
		return err
	}
	s.topics, s.groups = append(shop.Topics, "src-load"), shop.Groups
	if s.want, err = oracle.Read(ctx, oracle.Reading{Client: s.opts, Topics: s.topics}); err != nil {
		return err
	}
	if s.before, err = oracle.ReadGroups(ctx, s.opts, s.groups...); err != nil {
		return err
	}
	w, err := s.rig.StartWorker(ctx, rig.WorkerOptions{})
	if err != nil {
		return err
	}
	defer w.Kill()
	file, err := s.rig.File(rig.Document{"backup_id": "b1", "source": rig.Document{"bootstrap_servers": b.Bootstrap, "topics": rig.Document{"include": []string{"src-*"}}},
		"storage": s.storage()})
	if err != nil {
		return err
	}
	o, err := s.rig.Command(ctx, nil, "backup", "--config", file)
	if err == nil && o.Code != 0 {
		err = fmt.Errorf("%s", o)
	}
	return err
}

func (s *stage) storage() rig.Document {
	return rig.Document{"backend": "filesystem", "path": filepath.Join(s.dir, "repository")}
}

func (o *operator) must(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

// worker starts a worker for the test, which ends with it.
func (o *operator) worker() *rig.Worker {
	o.t.Helper()
	w, err := o.rig.StartWorker(o.ctx, rig.WorkerOptions{TaskQueue: o.queue})
	o.must(err)
	o.t.Cleanup(func() { o.must(w.Kill()) })
	return w
}

// run runs a command as somebody.
func (o *operator) run(who string, args ...string) *rig.Outcome {
	o.t.Helper()
	out, err := o.rig.Command(o.ctx, []string{"KAFKA_BACKUP_TASK_QUEUE=" + o.queue, "KAFKA_BACKUP_USER=" + who}, args...)
	o.must(err)
	return out
}

func (o *operator) wantCode(out *rig.Outcome, code int, words ...string) {
	o.t.Helper()
	if out.Code != code {
		o.t.Fatalf("exit code %d, want %d: %s", out.Code, code, out)
	}
	for _, w := range words {
		if !strings.Contains(out.Out+out.Err, w) {
			o.t.Errorf("it does not say %q: %s", w, out)
		}
	}
}

// restored is a restore in the making: the same backup into topics of its own.
type restored struct {
	file    string
	id      string // workflow id, once it was started
	mapping map[string]string
}

// restore writes the configuration of a restore of some topics under names of
// the test's own.
func (o *operator) restore(prefix string, options rig.Document, approval rig.Document, topics ...string) *restored {
	o.t.Helper()
	r := &restored{mapping: map[string]string{}}
	if len(topics) == 0 {
		topics = o.topics
	}
	for _, t := range topics {
		r.mapping[t] = prefix + strings.TrimPrefix(t, "src-")
	}
	all := rig.Document{"topics": rig.Document{"include": topics}, "topic_mapping": r.mapping}
	for k, v := range options {
		all[k] = v
	}
	doc := rig.Document{"backup_id": "b1", "target": rig.Document{"bootstrap_servers": bed.Bed(o.t).Bootstrap}, "storage": o.storage(), "restore": all}
	if approval != nil {
		doc["approval"] = approval
	}
	var err error
	r.file, err = o.rig.File(doc)
	o.must(err)
	return r
}

// start starts a restore, detached, and expects an exit code.
func (o *operator) start(who string, r *restored, code int) *rig.Outcome {
	o.t.Helper()
	out := o.run(who, "three-phase-restore", "--config", r.file, "--detach")
	o.wantCode(out, code)
	_, rest, found := strings.Cut(out.Err, "Started workflow ")
	if !found {
		o.t.Fatal(out)
	}
	r.id, _, _ = strings.Cut(rest, "\n")
	return out
}

// progress asks the operation what it is doing.
func (o *operator) progress(id string) (p workflows.Progress, err error) {
	ctx, cancel := context.WithTimeout(o.ctx, 5*time.Second)
	defer cancel()
	v, err := o.temporal.QueryWorkflow(ctx, id, "", workflows.QueryProgress)
	if err == nil {
		err = v.Get(&p)
	}
	return p, err
}

// await waits until the operation is as it should be.
func (o *operator) await(id, what string, ready func(workflows.Progress) bool) workflows.Progress {
	o.t.Helper()
	var p workflows.Progress
	var err error
	for {
		if p, err = o.progress(id); err == nil && ready(p) {
			return p
		}
		select {
		case <-o.ctx.Done():
			text, _ := json.Marshal(p)
			o.t.Fatalf("%s: not %s: %v\n%s", id, what, err, text)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (o *operator) awaitState(id string, s workflows.State) workflows.Progress {
	o.t.Helper()
	return o.await(id, string(s), func(p workflows.Progress) bool { return p.State == s })
}

// status is how the workflow stands with the service.
func (o *operator) status(id string) enumspb.WorkflowExecutionStatus {
	o.t.Helper()
	d, err := o.temporal.DescribeWorkflowExecution(o.ctx, id, "")
	o.must(err)
	return d.GetWorkflowExecutionInfo().GetStatus()
}

// same has the oracle compare what arrived.
func (o *operator) same(r *restored) {
	o.t.Helper()
	var targets []string
	want := oracle.Content{}
	for _, t := range o.topics {
		if to := r.mapping[t]; to != "" {
			targets = append(targets, to)
			want[t] = o.stage.want[t]
		}
	}
	got, err := oracle.Read(o.ctx, oracle.Reading{Client: o.opts, Topics: targets})
	o.must(err)
	report := oracle.Compare(want, got, oracle.Plan{Mapping: r.mapping})
	o.must(report.Err())
	if report.Expected == 0 {
		o.t.Fatal("the oracle expected no record: the test proves nothing")
	}
	o.t.Logf("%d records, 0 lost, 0 repeated, 0 reordered", report.Expected)
}

// exist tells which of the topics that a restore writes are there.
func (o *operator) exist(r *restored) (names []string) {
	o.t.Helper()
	all, err := o.adm.ListTopics(o.ctx)
	o.must(err)
	for _, to := range r.mapping {
		if all.Has(to) {
			names = append(names, to)
		}
	}
	slices.Sort(names)
	return names
}
