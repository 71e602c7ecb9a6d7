// Package e2e runs the product as its users do, from one real Kafka through a
// repository into another, and has the oracle compare what arrived.
//
// The tests share two clusters: small, one broker, and large, three brokers
// with secured listeners. Every test has topics, groups, a repository and a
// task queue of its own.
package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/test/kafkabed"
	"github.com/kafka-backup/kafka-backup/test/oracle"
	"github.com/kafka-backup/kafka-backup/test/rig"
)

var (
	smallBed = kafkabed.Share(kafkabed.Options{HeapMiB: 384, Properties: map[string]string{
		// Seen to work within a test: what retention removes is removed soon.
		"log.retention.check.interval.ms": "1000", "log.initial.task.delay.ms": "1000",
		// A quota holds from the second second on, not from the eleventh.
		"quota.window.num": "2",
	}})
	largeBed = kafkabed.Share(kafkabed.Options{HeapMiB: 320, Brokers: 3, Secure: true})
	product  rigOnce
)

type rigOnce struct {
	once sync.Once
	rig  *rig.Rig
	err  error
}

func TestMain(m *testing.M) {
	os.Exit(largeBed.Main(mainFunc(func() int { return smallBed.Main(mainFunc(func() int { return product.main(m) })) })))
}

type mainFunc func() int

func (f mainFunc) Run() int { return f() }

func (r *rigOnce) main(m *testing.M) int {
	code := m.Run()
	if r.rig == nil {
		return code
	}
	if err := r.rig.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if code != 0 {
		fmt.Fprintln(os.Stderr, "the logs and configurations are in", r.rig.Dir)
		return code
	}
	if err := os.RemoveAll(r.rig.Dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return code
}

// programs starts the Temporal server, if this is the first call.
func programs(t *testing.T) *rig.Rig {
	t.Helper()
	product.once.Do(func() {
		var dir string
		if dir, product.err = os.MkdirTemp("", "e2e-*"); product.err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute) // the first build takes minutes
			defer cancel()
			product.rig, product.err = rig.Run(ctx, dir)
		}
	})
	if product.err != nil {
		t.Fatal(product.err)
	}
	return product.rig
}

// orders is how large the ordinary data set is; a long run takes more.
var orders = func() int {
	if n, err := strconv.Atoi(os.Getenv("KAFKA_BACKUP_TEST_ORDERS")); err == nil && n > 0 {
		return n
	}
	return 300
}()

// cluster is one of the beds with a connection that belongs to the test.
type cluster struct {
	*kafkabed.Bed
	opts []kgo.Opt
	adm  *kadm.Client
}

func connect(t *testing.T, bed *kafkabed.Bed) *cluster {
	t.Helper()
	opts, err := bed.ClientOptions(kafkabed.Login{})
	if err != nil {
		t.Fatal(err)
	}
	opts = append(opts, kgo.MetadataMinAge(50*time.Millisecond))
	return &cluster{bed, opts, kadm.NewClient(bed.Client(t, kafkabed.Login{}, kgo.MetadataMinAge(50*time.Millisecond)))}
}

func small(t *testing.T) *cluster { t.Helper(); return connect(t, smallBed.Bed(t)) }
func large(t *testing.T) *cluster { t.Helper(); return connect(t, largeBed.Bed(t)) }

// user is somebody with a repository, a worker and a command line.
type user struct {
	t       *testing.T
	ctx     context.Context
	rig     *rig.Rig
	queue   string
	storage rig.Document
	dir     string   // of the repository; empty where it is no folder
	env     []string // of the command and of the worker
}

// newUser gives a test a repository in a folder, and nobody to work yet.
func newUser(t *testing.T, timeout time.Duration) *user {
	t.Helper()
	u := &user{t: t, rig: programs(t), ctx: kafkabed.Context(t, timeout), queue: strings.ReplaceAll(t.Name(), "/", "-")}
	u.dir = filepath.Join(t.TempDir(), "repository")
	u.storage = rig.Document{"backend": "filesystem", "path": u.dir}
	return u
}

// worker starts a worker for the test, which ends with it.
func (u *user) worker() *rig.Worker {
	u.t.Helper()
	w, err := u.rig.StartWorker(u.ctx, rig.WorkerOptions{TaskQueue: u.queue, Env: u.env})
	if err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() {
		if err := w.Kill(); err != nil {
			u.t.Error(err)
		}
	})
	return w
}

// run runs a command.
func (u *user) run(args ...string) *rig.Outcome {
	u.t.Helper()
	o, err := u.rig.Command(u.ctx, append(slices.Clone(u.env), "KAFKA_BACKUP_TASK_QUEUE="+u.queue), args...)
	if err != nil {
		u.t.Fatal(err)
	}
	return o
}

// with runs a command on a configuration, and on this user's storage unless
// the configuration has its own.
func (u *user) with(d rig.Document, args ...string) *rig.Outcome {
	u.t.Helper()
	return u.run(append(args, "--config", u.file(d))...)
}

func (u *user) file(d rig.Document) string {
	u.t.Helper()
	if d["storage"] == nil {
		d["storage"] = u.storage
	}
	file, err := u.rig.File(d)
	if err != nil {
		u.t.Fatal(err)
	}
	return file
}

// backup makes a backup, which must succeed.
func (u *user) backup(d rig.Document) (report activities.BackupReport) {
	u.t.Helper()
	u.succeed(u.with(d, "backup", "--output", "json"), &report)
	return report
}

// restore restores a backup in three phases, which must succeed.
func (u *user) restore(d rig.Document) (report activities.RestoreReport) {
	u.t.Helper()
	threePhases(d)
	u.succeed(u.with(d, "three-phase-restore", "--output", "json"), &report)
	return report
}

// threePhases adds what a configuration of a three-phase restore says.
func threePhases(d rig.Document) rig.Document {
	options, ok := d["restore"].(rig.Document)
	if !ok {
		options = rig.Document{}
		d["restore"] = options
	}
	options["consumer_group_strategy"], options["reset_consumer_offsets"] = "header-based", true
	return d
}

func (u *user) succeed(o *rig.Outcome, report any) {
	u.t.Helper()
	if o.Code != 0 {
		u.t.Fatal(o)
	}
	if err := o.JSON(report); err != nil {
		u.t.Fatal(err)
	}
}

// refused checks that a command ended with a code and said what it should.
func refused(t *testing.T, o *rig.Outcome, code int, words ...string) {
	t.Helper()
	if o.Code != code {
		t.Errorf("exit code %d, want %d: %s", o.Code, code, o)
	}
	for _, w := range words {
		if !strings.Contains(o.Out+o.Err, w) {
			t.Errorf("it does not say %q: %s", w, o)
		}
	}
}

func source(c *cluster, topics ...string) rig.Document {
	return rig.Document{"bootstrap_servers": c.Bootstrap, "topics": rig.Document{"include": topics}}
}

func target(c *cluster) rig.Document { return rig.Document{"bootstrap_servers": c.Bootstrap} }

// content reads topics with the oracle.
func content(u *user, c *cluster, topics ...string) oracle.Content {
	u.t.Helper()
	got, err := oracle.Read(u.ctx, oracle.Reading{Client: c.opts, Topics: topics})
	if err != nil {
		u.t.Fatal(err)
	}
	return got
}

func committed(u *user, c *cluster, groups ...string) []oracle.Committed {
	u.t.Helper()
	got, err := oracle.ReadGroups(u.ctx, c.opts, groups...)
	if err != nil {
		u.t.Fatal(err)
	}
	return got
}

// mapped gives the target names of topics.
func mapped(topics []string, mapping map[string]string) []string {
	names := make([]string, len(topics))
	for i, t := range topics {
		if names[i] = t; mapping[t] != "" {
			names[i] = mapping[t]
		}
	}
	return names
}

// same checks records and, where groups are given, their positions.
func same(u *user, want, got oracle.Content, plan oracle.Plan, before, after []oracle.Committed) {
	u.t.Helper()
	report := oracle.Compare(want, got, plan)
	if err := report.Err(); err != nil {
		u.t.Error(err)
		return
	}
	if report.Expected == 0 {
		u.t.Error("the oracle expected no record at all: the test proves nothing")
	}
	if before == nil {
		u.t.Logf("%d records, 0 lost, 0 repeated, 0 reordered", report.Expected)
		return
	}
	positions := oracle.ComparePositions(want, got, before, after, plan)
	if err := positions.Err(); err != nil {
		u.t.Error(err)
	}
	if positions.Expected == 0 {
		u.t.Error("the oracle expected no committed offset at all: the test proves nothing")
	}
	u.t.Logf("%d records, 0 lost, 0 repeated, 0 reordered; %d committed offsets", report.Expected, positions.Expected)
}

// renaming maps each topic to the same with a prefix before it. A name that
// is as long as Kafka allows loses as much.
func renaming(prefix string, topics ...string) map[string]string {
	m := map[string]string{}
	for _, t := range topics {
		m[t] = prefix + t[max(0, len(prefix)+len(t)-249):]
	}
	return m
}
