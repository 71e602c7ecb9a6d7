// Package retention prunes repositories that real backups of a real Kafka are
// in, beside running operations and across deaths of the worker, and restores
// what is left.
package retention

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kafka-backup/kafka-backup/test/kafkabed"
	"github.com/kafka-backup/kafka-backup/test/oracle"
	"github.com/kafka-backup/kafka-backup/test/rig"
)

// site is a cluster, a Temporal server and a repository.
type site struct {
	*rig.Rig
	t    *testing.T
	ctx  context.Context
	bed  *kafkabed.Bed
	kgo  *kgo.Client
	opts []kgo.Opt
	adm  *kadm.Client
	dir  string // of the repository
	n    int    // of records produced
}

func newSite(t *testing.T, timeout time.Duration) *site {
	t.Helper()
	s := &site{t: t, ctx: kafkabed.Context(t, timeout), bed: kafkabed.Start(t, kafkabed.Options{HeapMiB: 384}), dir: filepath.Join(t.TempDir(), "repository")}
	var err error
	if s.opts, err = s.bed.ClientOptions(kafkabed.Login{}); err != nil {
		t.Fatal(err)
	}
	s.kgo = s.bed.Client(t, kafkabed.Login{}, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(50*time.Millisecond))
	s.adm = kadm.NewClient(s.kgo)
	dir, err := os.MkdirTemp("", "retention-*")
	if err != nil {
		t.Fatal(err)
	}
	if s.Rig, err = rig.Run(s.ctx, dir); err != nil {
		t.Fatal(err)
	}
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
	return s
}

func (s *site) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) worker() *rig.Worker {
	s.t.Helper()
	w, err := s.StartWorker(s.ctx, rig.WorkerOptions{})
	s.check(err)
	return w
}

// produce writes records, of a few partitions in turn.
func (s *site) produce(topic string, n int) {
	s.t.Helper()
	var records []*kgo.Record
	for range n {
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(s.n % 3), Key: fmt.Appendf(nil, "key %d", s.n), Value: fmt.Appendf(nil, "value %d %s", s.n, strings.Repeat("x", s.n%300))})
		s.n++
	}
	s.check(s.kgo.ProduceSync(s.ctx, records...).FirstErr())
}

func (s *site) content(topic string) oracle.Content {
	s.t.Helper()
	c, err := oracle.Read(s.ctx, oracle.Reading{Client: s.opts, Topics: []string{topic}})
	s.check(err)
	return c
}

// run runs a command, which must end with exit code 0.
func (s *site) run(d rig.Document, args ...string) *rig.Outcome {
	s.t.Helper()
	d["storage"] = rig.Document{"backend": "filesystem", "path": s.dir}
	file, err := s.File(d)
	s.check(err)
	o, err := s.Command(s.ctx, nil, append(args, "--config", file)...)
	s.check(err)
	if o.Code != 0 {
		s.t.Fatal(o)
	}
	return o
}

func (s *site) backup(id, topic string) {
	s.t.Helper()
	s.run(rig.Document{"backup_id": id, "source": rig.Document{"bootstrap_servers": s.bed.Bootstrap, "topics": rig.Document{"include": []string{topic}}}}, "backup")
}

// restored restores a backup into another topic and compares it.
func (s *site) restored(id, topic, into string, want oracle.Content) {
	s.t.Helper()
	mapping := map[string]string{topic: into}
	s.run(rig.Document{"backup_id": id, "target": rig.Document{"bootstrap_servers": s.bed.Bootstrap}, "restore": rig.Document{"topic_mapping": mapping}}, "restore")
	report := oracle.Compare(want, s.content(into), oracle.Plan{Mapping: mapping})
	if err := report.Err(); err != nil {
		s.t.Fatal(err)
	}
	if report.Expected == 0 {
		s.t.Fatal("the oracle expected no record at all")
	}
	s.t.Logf("restored from %s: %d records, 0 lost, 0 repeated, 0 reordered", id, report.Expected)
}

// files counts the repository's files below a folder.
func (s *site) files(below string) (n int) {
	err := filepath.WalkDir(filepath.Join(s.dir, below), func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return nil
	})
	s.check(err)
	return n
}
