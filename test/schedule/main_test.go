// Package schedule runs schedules on a real Temporal server: the embedded one
// as a process, a worker and the command line in the test's own process, and a
// Kafka in memory as the source.
package schedule

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.temporal.io/sdk/client"

	"github.com/kafka-backup/kafka-backup/internal/cli"
	"github.com/kafka-backup/kafka-backup/internal/telemetry"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
	"github.com/kafka-backup/kafka-backup/internal/worker"
	"github.com/kafka-backup/kafka-backup/test/rig"
)

// patience bounds every wait.
const patience = 2 * time.Minute

// server is the Temporal server of all tests, and binary its program.
var (
	server *temporalservice.Server
	binary string
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute) // the first build takes minutes
	defer cancel()
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	programs, err := rig.Build(ctx)
	if err != nil {
		return fail(err)
	}
	binary = programs.Server
	dir, err := os.MkdirTemp("", "schedule")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	server, err = temporalservice.StartServer(ctx, temporalservice.ServerOptions{Binary: binary, StateDir: dir, TimeSkipping: true, Log: os.Stderr})
	if err != nil {
		return fail(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		_ = server.Stop(ctx)
	}()
	return m.Run()
}

// bed is what one test has: a task queue of its own with a worker on it, a
// Kafka and a repository.
type bed struct {
	t      *testing.T
	queue  string
	kafka  *kfake.Cluster
	dir    string // of the repository
	client client.Client
}

func newBed(t *testing.T, adjust ...func(*client.Options)) *bed {
	t.Helper()
	b := &bed{t: t, queue: strings.ReplaceAll(t.Name(), "/", "-"), dir: filepath.Join(t.TempDir(), "repository")}
	var err error
	if b.kafka, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "orders")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.kafka.Close)
	adjust = append(adjust, func(o *client.Options) { o.MetricsHandler = telemetry.SDK() })
	if b.client, err = temporalservice.Dial(t.Context(), server.Profile(), adjust...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.client.Close)
	b.produce(10)
	return b
}

// work starts a worker until the test ends, or until stop is called.
func (b *bed) work() (w *worker.Worker) {
	b.t.Helper()
	w, err := worker.Start(b.client, worker.Options{TaskQueue: b.queue, DrainTimeout: time.Second, Page: server.Profile().WorkflowURL})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(w.Stop)
	return w
}

// produce writes n records.
func (b *bed) produce(n int) {
	b.t.Helper()
	if err := b.tryProduce(n); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) tryProduce(n int) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.kafka.ListenAddrs()...), kgo.DefaultProduceTopic("orders"))
	if err != nil {
		return err
	}
	defer cl.Close()
	var records []*kgo.Record
	for i := range n {
		records = append(records, kgo.StringRecord(fmt.Sprintf("record %d", i)))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return cl.ProduceSync(ctx, records...).FirstErr()
}

// config writes a configuration file for backups, with more at its end.
func (b *bed) config(backupID, more string) string {
	b.t.Helper()
	text := fmt.Sprintf("backup_id: %q\nsource: {bootstrap_servers: [%q]}\nstorage: {backend: filesystem, path: %q}\n%s",
		backupID, b.kafka.ListenAddrs()[0], b.dir, more)
	path := filepath.Join(b.t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// result is how a command ended.
type result struct {
	code     int
	out, err string
}

func (r result) String() string { return fmt.Sprintf("code %d\n%s%s", r.code, r.out, r.err) }

// command runs the command line.
func (b *bed) command(args ...string) result {
	b.t.Helper()
	b.t.Setenv("TEMPORAL_ADDRESS", server.Address)
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	code := cli.Run(ctx, args, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
	return result{code, out.String(), errs.String()}
}

// must runs a command that has to succeed.
func (b *bed) must(args ...string) result {
	b.t.Helper()
	r := b.command(args...)
	if r.code != cli.ExitDone {
		b.t.Fatalf("kafka-backup %q: %v", args, r)
	}
	return r
}

// scheduled is what `schedule describe --output json` says.
type scheduled struct {
	ID       string          `json:"id"`
	Paused   bool            `json:"paused"`
	Note     string          `json:"note"`
	Overlap  string          `json:"overlap"`
	Runs     int             `json:"runs"`
	Skipped  int             `json:"skipped"`
	Missed   int             `json:"missed"`
	RunsLeft int             `json:"runs_left"`
	NextRuns []time.Time     `json:"next_runs"`
	Last     *scheduledRun   `json:"last"`
	Recent   []scheduledRun  `json:"recent"`
	When     json.RawMessage `json:"when"`
}

type scheduledRun struct {
	At         time.Time `json:"at"`
	WorkflowID string    `json:"workflow_id"`
	Operation  string    `json:"operation"`
	Status     string    `json:"status"`
	Error      string    `json:"error"`
}

func (b *bed) describe(id string) (s scheduled) {
	b.t.Helper()
	r := b.must("schedule", "describe", id, "--output", "json")
	if err := json.Unmarshal([]byte(r.out), &s); err != nil {
		b.t.Fatalf("%v in %s", err, r.out)
	}
	return s
}

// await describes a schedule until what is wanted is so.
func (b *bed) await(id, what string, so func(s scheduled) bool) scheduled {
	b.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		s := b.describe(id)
		if so(s) {
			return s
		}
		if time.Now().After(end) {
			b.t.Fatalf("schedule %s: %s did not come: %+v", id, what, s)
		}
	}
}

// eventually waits until something is so.
func (b *bed) eventually(what string, so func() bool) {
	b.t.Helper()
	for end := time.Now().Add(patience); !so(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("%s did not come", what)
		}
	}
}

// ran waits until n runs have ended.
func (b *bed) ran(id string, n int) scheduled {
	b.t.Helper()
	return b.await(id, fmt.Sprintf("the end of %d runs", n), func(s scheduled) bool {
		for _, r := range s.Recent {
			if r.Status == "running" {
				return false
			}
		}
		return s.Runs >= n && len(s.Recent) > 0
	})
}

// backups lists the complete backups of the repository.
func (b *bed) backups() (ids []string) {
	b.t.Helper()
	var list struct {
		Backups []struct {
			ID    string `json:"backup_id"`
			State string `json:"state"`
		} `json:"backups"`
	}
	r := b.must("list", "--path", b.dir, "--output", "json")
	if err := json.Unmarshal([]byte(r.out), &list); err != nil {
		b.t.Fatal(err)
	}
	for _, x := range list.Backups {
		if x.State == "COMPLETE" {
			ids = append(ids, x.ID)
		}
	}
	return ids
}

// newBedOn is another connection with the same Kafka, repository and queue.
func newBedOn(t *testing.T, b *bed) *bed {
	t.Helper()
	c, err := temporalservice.Dial(t.Context(), server.Profile())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	other := *b
	other.client = c
	return &other
}

// damage changes a byte in the middle of a segment.
func damage(t *testing.T, repository string) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(repository, "data", "*", "*", "*.seg"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("no segments in %s (%v)", repository, err)
	}
	data, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.Chmod(segments[0], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(segments[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
}
