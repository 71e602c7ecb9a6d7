// Package continuous runs a continuous backup of a real Kafka: records trickle
// in, topics and partitions come, workers die, the operation is paused, and
// every backup it makes restores.
package continuous

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.temporal.io/sdk/client"

	"github.com/kafka-backup/kafka-backup/workflows"

	"github.com/kafka-backup/kafka-backup/test/kafkabed"
	"github.com/kafka-backup/kafka-backup/test/oracle"
	"github.com/kafka-backup/kafka-backup/test/rig"
)

type site struct {
	*rig.Rig
	t    *testing.T
	ctx  context.Context
	bed  *kafkabed.Bed
	kgo  *kgo.Client
	opts []kgo.Opt
	adm  *kadm.Client
	tmp  client.Client
	dir  string // of the repository
	id   string // of the workflow
	n    int    // of records produced
}

func (s *site) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func newSite(t *testing.T, timeout time.Duration, brokers int) *site {
	t.Helper()
	s := &site{t: t, ctx: kafkabed.Context(t, timeout), bed: kafkabed.Start(t, kafkabed.Options{HeapMiB: 384, Brokers: brokers}), dir: filepath.Join(t.TempDir(), "repository")}
	var err error
	s.opts, err = s.bed.ClientOptions(kafkabed.Login{})
	s.check(err)
	s.kgo = s.bed.Client(t, kafkabed.Login{}, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(50*time.Millisecond))
	s.adm = kadm.NewClient(s.kgo)
	dir, err := os.MkdirTemp("", "continuous-*")
	s.check(err)
	s.Rig, err = rig.Run(s.ctx, dir)
	s.check(err)
	t.Cleanup(func() {
		if err := s.Rig.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log("the logs and configurations are in", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s.tmp, err = client.DialContext(s.ctx, client.Options{HostPort: s.Address(), Logger: quiet{}})
	s.check(err)
	t.Cleanup(s.tmp.Close)
	return s
}

type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}

func (s *site) worker() *rig.Worker {
	s.t.Helper()
	w, err := s.StartWorker(s.ctx, rig.WorkerOptions{})
	s.check(err)
	return w
}

// produce writes a record to each partition of a topic.
func (s *site) produce(topic string, partitions int) {
	s.t.Helper()
	var records []*kgo.Record
	for p := range partitions {
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(p), Key: fmt.Appendf(nil, "key %d", s.n), Value: fmt.Appendf(nil, "value %d", s.n)})
		s.n++
	}
	s.check(s.kgo.ProduceSync(s.ctx, records...).FirstErr())
}

func (s *site) command(args ...string) *rig.Outcome {
	s.t.Helper()
	o, err := s.Command(s.ctx, nil, args...)
	s.check(err)
	if o.Code != 0 {
		s.t.Fatal(o)
	}
	return o
}

func (s *site) file(d rig.Document) string {
	s.t.Helper()
	d["storage"] = rig.Document{"backend": "filesystem", "path": s.dir}
	file, err := s.File(d)
	s.check(err)
	return file
}

// progress asks the workflow; a worker that has just begun may not know it yet.
func (s *site) progress() (p workflows.Progress) {
	s.t.Helper()
	for {
		ctx, stop := context.WithTimeout(s.ctx, 5*time.Second)
		v, err := s.tmp.QueryWorkflow(ctx, s.id, "", workflows.QueryProgress)
		stop()
		if err == nil {
			s.check(v.Get(&p))
			return p
		}
		if s.ctx.Err() != nil {
			s.t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// until waits for the progress to be as wanted, and lets records trickle in.
func (s *site) until(what string, trickle func(), ok func(workflows.Progress) bool) workflows.Progress {
	s.t.Helper()
	for {
		if p := s.progress(); ok(p) {
			return p
		} else if s.ctx.Err() != nil {
			s.t.Fatalf("%s does not come: %+v", what, p)
		}
		if trickle != nil {
			trickle()
		}
		select {
		case <-s.ctx.Done():
			s.t.Fatalf("%s does not come: %+v", what, s.progress())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// begin starts the continuous backup.
func (s *site) begin(config string) {
	s.t.Helper()
	o := s.command("backup", "--config", config, "--detach", "--output", "json")
	var started struct {
		WorkflowID string `json:"workflow_id"`
	}
	s.check(json.Unmarshal([]byte(strings.SplitN(o.Err, "\n", 2)[0]), &started))
	s.id = started.WorkflowID
	if !strings.HasPrefix(s.id, "continuous/live/") {
		s.t.Fatal(o)
	}
}

type listed struct {
	Backups []struct {
		BackupID string `json:"backup_id"`
		State    string `json:"state"`
	} `json:"backups"`
}

func (s *site) backups() (ids []string) {
	s.t.Helper()
	var l listed
	s.check(s.command("list", "--path", s.dir, "--output", "json").JSON(&l))
	for _, b := range l.Backups {
		if b.State == "COMPLETE" {
			ids = append(ids, b.BackupID)
		}
	}
	return ids
}

func (s *site) content(topics ...string) oracle.Content {
	s.t.Helper()
	c, err := oracle.Read(s.ctx, oracle.Reading{Client: s.opts, Topics: topics})
	s.check(err)
	return c
}

func TestContinuousBackup(t *testing.T) {
	s := newSite(t, 9*time.Minute, 1)
	_, err := s.adm.CreateTopic(s.ctx, 2, 1, nil, "orders-eu")
	s.check(err)
	w := s.worker()
	s.produce("orders-eu", 2)

	config := s.file(rig.Document{"backup_id": "live",
		"source": rig.Document{"bootstrap_servers": s.bed.Bootstrap, "topics": rig.Document{"include": []string{"orders-*"}}},
		"backup": rig.Document{"continuous": true, "checkpoint_interval": "1s", "fetch_max_wait": "50ms"}})
	s.begin(config)
	trickle := func() { s.produce("orders-eu", 2) }
	first := s.until("a first backup", trickle, func(p workflows.Progress) bool { return p.RecoveryPoint != nil })

	// A topic and partitions that come are in later backups.
	_, err = s.adm.CreateTopic(s.ctx, 1, 1, nil, "orders-us")
	s.check(err)
	_, err = s.adm.UpdatePartitions(s.ctx, 3, "orders-eu")
	s.check(err)
	for i := 0; ; i++ {
		// Until clients know of them.
		if err := s.kgo.ProduceSync(s.ctx, &kgo.Record{Topic: "orders-us", Value: []byte("first")}, &kgo.Record{Topic: "orders-eu", Partition: 2, Value: []byte("first")}).FirstErr(); err == nil {
			break
		} else if s.ctx.Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	trickle = func() { s.produce("orders-eu", 3); s.produce("orders-us", 1) }

	// A worker dies, another goes on.
	s.until("another backup", trickle, func(p workflows.Progress) bool {
		return p.RecoveryPoint != nil && p.RecoveryPoint.BackupID != first.RecoveryPoint.BackupID
	})
	s.check(w.Kill())
	trickle()
	w = s.worker()
	at := time.Now()
	s.until("a backup after the worker died", trickle, func(p workflows.Progress) bool { return p.RecoveryPoint.At.After(at) })

	// Paused, it falls behind, and says so.
	s.command("pause", s.id)
	s.until("the pause", nil, func(p workflows.Progress) bool { return p.State == workflows.Paused })
	for range 20 {
		trickle()
	}
	s.command("resume", s.id)
	at = time.Now()
	s.until("a backup after the pause", trickle, func(p workflows.Progress) bool { return p.RecoveryPoint.At.After(at) })

	// It continues as new; a drained worker loses nothing either.
	run := func() string {
		d, err := s.tmp.DescribeWorkflowExecution(s.ctx, s.id, "")
		s.check(err)
		return d.GetWorkflowExecutionInfo().GetExecution().GetRunId()
	}
	before := run()
	s.check(w.Stop())
	s.worker()
	s.until("a new run", trickle, func(workflows.Progress) bool { return run() != before })
	d, err := s.tmp.DescribeWorkflowExecution(s.ctx, s.id, "")
	s.check(err)
	if n := len(d.GetWorkflowExecutionInfo().GetSearchAttributes().GetIndexedFields()); n < 4 {
		t.Errorf("the new run has %d search attributes", n)
	}

	// Nothing more comes: the lag goes to nothing.
	trickle()
	want := s.content("orders-eu", "orders-us")
	at = time.Now()
	end := s.until("the end of the lag", nil, func(p workflows.Progress) bool {
		r := p.RecoveryPoint
		return r != nil && r.At.After(at) && r.Lag == 0 && r.MeasuredAt.After(at)
	})
	s.command("cancel", s.id)
	s.until("the end", nil, func(p workflows.Progress) bool { return p.State == workflows.Cancelled })

	ids := s.backups()
	var objects int
	s.check(filepath.WalkDir(filepath.Join(s.dir, "data"), func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			objects++
		}
		return err
	}))
	last := end.RecoveryPoint.BackupID
	var m struct {
		Totals struct {
			Segments int `json:"segments"`
		} `json:"totals"`
	}
	s.check(s.command("describe", "--path", s.dir, "--backup-id", last, "--output", "json").JSON(&m))
	t.Logf("%d backups, %d segments in all, %d in the last backup", len(ids), objects, m.Totals.Segments)
	if m.Totals.Segments > 10 || len(ids) < 50 {
		t.Errorf("%d segments in the last of %d backups", m.Totals.Segments, len(ids))
	}

	// Any of them restores; the last one has everything.
	s.command("validate", "--path", s.dir, "--backup-id", ids[len(ids)/2], "--deep")
	mapping := map[string]string{"orders-eu": "back-eu", "orders-us": "back-us"}
	s.command("restore", "--config", s.file(rig.Document{"backup_id": last, "target": rig.Document{"bootstrap_servers": s.bed.Bootstrap},
		"restore": rig.Document{"topic_mapping": mapping}}))
	report := oracle.Compare(want, s.content("back-eu", "back-us"), oracle.Plan{Mapping: mapping})
	s.check(report.Err())
	if report.Expected == 0 {
		t.Error("the oracle expected no record at all")
	}
	t.Logf("%d records, 0 lost, 0 repeated, 0 reordered", report.Expected)

	// Prune keeps two of them, and all that these need.
	s.command("prune", "--path", s.dir, "--keep-last", "2", "--min-age", "1s", "--execute")
	if left := s.backups(); len(left) != 2 || left[1] != last {
		t.Errorf("left are %v", left)
	}
	s.command("validate", "--path", s.dir, "--backup-id", last, "--deep")
}
