// Package workers has several workers share one backup and one restore: one
// joins late, one is drained, one is killed.
package workers

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/test/dataset"
	"github.com/kafka-backup/kafka-backup/test/kafkabed"
	"github.com/kafka-backup/kafka-backup/test/oracle"
	"github.com/kafka-backup/kafka-backup/test/rig"
)

const (
	topic = "load"
	parts = 16
)

// megabytes is how much there is to move; a measurement takes more.
func megabytes() int64 {
	n := int64(64)
	if text := os.Getenv("KAFKA_BACKUP_TEST_MEGABYTES"); text != "" {
		if _, err := fmt.Sscan(text, &n); err != nil {
			panic(err)
		}
	}
	return n
}

type site struct {
	*rig.Rig
	t    *testing.T
	ctx  context.Context
	bed  *kafkabed.Bed
	opts []kgo.Opt
	tmp  client.Client
	dir  string // of the repository
	want oracle.Content
}

func (s *site) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, ctx: kafkabed.Context(t, 9*time.Minute), bed: kafkabed.Start(t, kafkabed.Options{HeapMiB: 512}), dir: filepath.Join(t.TempDir(), "repository")}
	var err error
	s.opts, err = s.bed.ClientOptions(kafkabed.Login{})
	s.check(err)
	dir, err := os.MkdirTemp("", "workers-*")
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
	_, err = dataset.Load(s.ctx, dataset.Bulk{Client: s.opts, Topic: topic, Partitions: parts, Bytes: megabytes() << 20})
	s.check(err)
	s.want = s.content(topic)
	return s
}

func (s *site) content(topic string) oracle.Content {
	s.t.Helper()
	c, err := oracle.Read(s.ctx, oracle.Reading{Client: s.opts, Topics: []string{topic}})
	s.check(err)
	return c
}

func (s *site) worker(queue string) *rig.Worker {
	s.t.Helper()
	w, err := s.StartWorker(s.ctx, rig.WorkerOptions{Transfers: 1, TaskQueue: queue})
	s.check(err)
	return w
}

// start starts an operation on a task queue that the configuration names, and
// returns its workflow id.
func (s *site) start(queue string, d rig.Document, command string) string {
	s.t.Helper()
	d["storage"] = rig.Document{"backend": "filesystem", "path": s.dir}
	d["temporal"] = rig.Document{"task_queue": queue}
	file, err := s.File(d)
	s.check(err)
	o, err := s.Command(s.ctx, nil, command, "--config", file, "--detach", "--output", "json")
	s.check(err)
	if o.Code != 0 {
		s.t.Fatal(o)
	}
	var started struct {
		WorkflowID string `json:"workflow_id"`
	}
	s.check(json.Unmarshal([]byte(strings.SplitN(o.Err, "\n", 2)[0]), &started))
	return started.WorkflowID
}

// share is how many parts each worker finished, and how long it took from the
// first part to the last.
type share struct {
	parts map[string]int
	took  time.Duration
	again []string // why parts were begun again
}

func (s *site) share(id string) share {
	s.t.Helper()
	sh := share{parts: map[string]int{}}
	var from, to time.Time
	part := map[int64]bool{}
	by := map[int64]string{}
	it := s.tmp.GetWorkflowHistory(s.ctx, id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for it.HasNext() {
		e, err := it.Next()
		s.check(err)
		switch a := e.Attributes.(type) {
		case *history.HistoryEvent_ActivityTaskScheduledEventAttributes:
			name := a.ActivityTaskScheduledEventAttributes.GetActivityType().GetName()
			part[e.GetEventId()] = name == "RestorePart" || name == "CopyPart"
			if part[e.GetEventId()] && from.IsZero() {
				from = e.GetEventTime().AsTime()
			}
		case *history.HistoryEvent_ActivityTaskStartedEventAttributes:
			by[e.GetEventId()] = a.ActivityTaskStartedEventAttributes.GetIdentity()
			if f := a.ActivityTaskStartedEventAttributes.GetLastFailure(); f != nil {
				sh.again = append(sh.again, fmt.Sprintf("attempt %d after: %s", a.ActivityTaskStartedEventAttributes.GetAttempt(), f.GetMessage()))
			}
		case *history.HistoryEvent_ActivityTaskCompletedEventAttributes:
			c := a.ActivityTaskCompletedEventAttributes
			if part[c.GetScheduledEventId()] {
				sh.parts[by[c.GetStartedEventId()]]++
				to = e.GetEventTime().AsTime()
			}
		}
	}
	sh.took = to.Sub(from)
	return sh
}

// partsDone waits until that many parts are finished.
func (s *site) partsDone(id string, n int) {
	s.t.Helper()
	for {
		sh := s.share(id)
		done := 0
		for _, p := range sh.parts {
			done += p
		}
		if done >= n {
			return
		}
		select {
		case <-s.ctx.Done():
			s.t.Fatalf("%d parts are done, waiting for %d", done, n)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// restore starts a restore; rate, in MiB a second, is what its 8 parts at once
// may take together, so that a part has an eighth of it; 0 is no limit.
func (s *site) restore(queue, into string, rate int) string {
	return s.start(queue, rig.Document{"backup_id": "b", "target": rig.Document{"bootstrap_servers": s.bed.Bootstrap},
		"restore": rig.Document{"topic_mapping": rig.Document{topic: into}, "part_max_partitions": 1, "max_concurrent_parts": 8,
			"rate_limit_bytes_per_sec": fmt.Sprintf("%dMiB", rate)}}, "restore")
}

// finished waits for the end and compares.
func (s *site) finished(id, into string) share {
	s.t.Helper()
	var report activities.RestoreReport
	s.check(s.tmp.GetWorkflow(s.ctx, id, "").Get(s.ctx, &report))
	mapping := map[string]string{topic: into}
	r := oracle.Compare(s.want, s.content(into), oracle.Plan{Mapping: mapping})
	s.check(r.Err())
	if r.Expected == 0 {
		s.t.Fatal("the oracle expected no record at all")
	}
	sh := s.share(id)
	s.t.Logf("%s: %d records, 0 lost, 0 repeated, 0 reordered; %v in %d parts, by worker %v; %q",
		into, r.Expected, sh.took.Round(time.Millisecond), parts, slices.Sorted(maps.Values(sh.parts)), sh.again)
	return sh
}

func TestWorkersShareAnOperation(t *testing.T) {
	s := newSite(t)
	const queue = "site-berlin"
	// Two share a backup.
	a, b := s.worker(queue), s.worker(queue)
	id := s.start(queue, rig.Document{"backup_id": "b", "source": rig.Document{"bootstrap_servers": s.bed.Bootstrap, "topics": rig.Document{"include": []string{topic}}},
		"backup": rig.Document{"part_max_partitions": 1, "max_concurrent_parts": 8}}, "backup")
	s.check(s.tmp.GetWorkflow(s.ctx, id, "").Get(s.ctx, nil))
	sh := s.share(id)
	t.Logf("backup: %v in %d parts, by worker %v", sh.took.Round(time.Millisecond), parts, slices.Sorted(maps.Values(sh.parts)))
	if len(sh.parts) != 2 {
		t.Errorf("the backup was made by %v", sh.parts)
	}

	// Two share a restore.
	if sh := s.finished(s.restore(queue, "by-two", 0), "by-two"); len(sh.parts) != 2 {
		t.Errorf("the restore was made by %v", sh.parts)
	}

	// Where not the machine that all of this shares is the limit, but what a
	// part may take.
	rate := int(megabytes()) / 2
	s.finished(s.restore(queue, "limited-by-two", rate), "limited-by-two")

	// One alone.
	s.check(b.Stop())
	s.finished(s.restore(queue, "limited-by-one", rate), "limited-by-one")
	if sh := s.finished(s.restore(queue, "by-one", 0), "by-one"); len(sh.parts) != 1 {
		t.Errorf("the restore was made by %v", sh.parts)
	}

	// One joins late, and takes its part; the first one is drained.
	id = s.restore(queue, "by-joiner", 0)
	s.partsDone(id, 2)
	b = s.worker(queue)
	s.partsDone(id, parts/2)
	begun := time.Now()
	s.check(a.Stop())
	t.Logf("drained in %v", time.Since(begun).Round(time.Millisecond))
	if sh := s.finished(id, "by-joiner"); len(sh.parts) != 2 {
		t.Errorf("the restore was made by %v", sh.parts)
	}

	// One of two is killed.
	a = s.worker(queue)
	id = s.restore(queue, "by-survivor", 0)
	s.partsDone(id, 3)
	s.check(a.Kill())
	s.finished(id, "by-survivor")
	s.check(b.Stop())
}
