package operate

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.temporal.io/sdk/client"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
	"github.com/kafka-backup/kafka-backup/test/rig"
	"github.com/kafka-backup/kafka-backup/workflows"
)

// met is an operation that a test meets in its phases, with a repository and
// consumer groups of its own.
type met struct {
	*operator
	*shelf
	*ground
	name     string       // of the repository
	approval rig.Document // what the configuration says of it; nil: nothing
	id       string       // of the workflow
}

// ground is what all of them begin with: three backups of a topic and a snapshot
// of the groups, which have moved since.
type ground struct {
	repository string // a folder
	topic      string
	group      string // that is at 7 in the backups
	snapshot   string
	// location is how a configuration says where the repository of that name is.
	location func(name string) rig.Document
}

// metRecords is how many records are in each of the topic's 4 partitions, for
// each of the 3 backups.
const metRecords = 100

// groups are the consumer groups of one operation.
func (m *met) groups() []string { return []string{"met-" + m.name + "-a", "met-" + m.name + "-b"} }

// operations are all kinds of operations, and where they are met.
var operations = []struct {
	kind   string
	start  func(m *met) string // starts it; its workflow id
	places []place
	// cancelled are the places in which it is cancelled; nil: all.
	cancelled []int
	completed func(m *met, out *rig.Outcome)
	// stopped checks what a cancel at a place left.
	stopped func(m *met, at int, out *rig.Outcome)
}{
	{
		kind: "backup",
		start: func(m *met) string {
			return m.begin(rig.Document{"backup_id": m.name, "source": rig.Document{"bootstrap_servers": m.servers(), "topics": rig.Document{"include": []string{m.topic}}}}, "backup")
		},
		places: []place{{activity: "PlanBackup", method: "PUT"}, {activity: "CopyPart", method: "PUT", key: "data/"}, {activity: "CompleteBackup", method: "PUT", key: "manifest"}},
		completed: func(m *met, _ *rig.Outcome) {
			m.wantCode(m.onRepository("validate", "--deep", "--backup-id", m.name), 0, "1,200", "Nothing is wrong")
		},
		stopped: func(m *met, _ int, out *rig.Outcome) {
			m.wantCode(m.onRepository("describe", "--backup-id", m.name), 1)
			m.wantCode(out, 1, "not done: ")
		},
	},
	{
		kind: "restore",
		start: func(m *met) string {
			return m.begin(rig.Document{"backup_id": "h3", "target": rig.Document{"bootstrap_servers": m.servers()}, "restore": rig.Document{
				"topic_mapping": rig.Document{m.topic: m.name}, "consumer_groups": []string{m.group}, "reset_consumer_offsets": true, "consumer_group_strategy": "header-based"}}, "three-phase-restore")
		},
		places: []place{{activity: "PlanRestore", method: "PUT"}, {activity: "PrepareTargets", method: "PUT", key: "targets.json"}, {activity: "RestorePart", method: "GET", key: "data/"},
			{activity: "MapOffsets", method: "PUT"}, {activity: "PlanGroupOffsets", method: "PUT"}, {activity: "SnapshotPlanned", method: "PUT"},
			{activity: "ApplyOffsets", method: "PUT", key: "/forward-"}, {activity: "VerifyOffsets", method: "PUT"}},
		completed: func(m *met, _ *rig.Outcome) {
			ends, err := m.adm.ListEndOffsets(m.ctx, m.name)
			m.must(err)
			ends.Each(func(e kadm.ListedOffset) {
				if e.Offset != 3*metRecords {
					m.t.Errorf("partition %d ends at %d", e.Partition, e.Offset)
				}
			})
			m.wantCommitted(m.group, m.name, 7)
		},
		stopped: func(m *met, at int, out *rig.Outcome) {
			m.wantCommitted(m.group, m.name, -1)
			switch {
			case at == 0:
				m.wantCode(out, 1, "nothing was changed")
			case at < 4:
				m.wantCode(out, 1, "put back: the topic configurations", "not done: the offsets of 1 consumer groups were not set")
			case at == 4:
				m.wantCode(out, 1, "all 1,200 records are restored and stay", "not done: the offsets of 1 consumer groups are not set")
			case at == 5:
				m.wantCode(out, 1, "all 1,200 records are restored and stay", "not done: no offset was changed")
			default:
				m.wantCode(out, 1, "all 1,200 records are restored and stay", "put back: all committed offsets are as they were")
			}
		},
	},
	{
		kind: "prune",
		start: func(m *met) string {
			return m.begin(rig.Document{}, "prune", "--keep-last", "1", "--min-age", "1s", "--execute")
		},
		places: []place{{activity: "PlanPrune", method: "PUT"}, {activity: "DropBackups", method: "DELETE", key: "manifest", skip: 1}, {activity: "Sweep", method: "DELETE", key: "/", skip: 3}},
		completed: func(m *met, out *rig.Outcome) {
			m.wantCode(out, 0, "Dropped:", "2 backups")
			m.wantBackups(0, out)
		},
		stopped: func(m *met, at int, out *rig.Outcome) {
			m.wantCode(out, 1, [][]string{{"nothing was removed"}, {"1 of 2 backups are dropped", "the next prune goes on"},
				{"2 backups are dropped;", "were removed", "the next prune goes on"}}[at]...)
			m.wantBackups([]int{2, 1, 0}[at], out)
			m.wantCode(m.onRepository("prune", "--keep-last", "1", "--min-age", "1s", "--execute"), 0)
			m.wantBackups(0, out)
		},
	},
	{
		kind:   "validate",
		start:  func(m *met) string { return m.validate() },
		places: []place{{activity: "ValidateBackup", method: "GET", key: "data/", skip: 2}},
		completed: func(m *met, _ *rig.Outcome) {
			var r activities.ValidateReport
			m.must(m.temporal.GetWorkflow(m.ctx, m.id, "").Get(m.ctx, &r))
			if !r.OK() || r.Records != 12*metRecords || r.Segments != 3 {
				m.t.Errorf("%+v", r)
			}
		},
		stopped: func(m *met, _ int, out *rig.Outcome) {
			m.wantCode(out, 1, "checked to the end of a part, with 0 problems", "the backup was not checked to its end")
		},
	},
	{kind: "offset-reset", start: func(m *met) string { return m.setOffsets("offset-reset", "execute", "--to-latest") }, places: setting, completed: wereSet, stopped: putBack},
	{kind: "offset-reset-bulk", start: func(m *met) string { return m.setOffsets("offset-reset-bulk", "--to-latest") }, places: setting, cancelled: []int{2, 3}, completed: wereSet, stopped: putBack},
	{kind: "offset-rollback", start: func(m *met) string { return m.setOffsets("offset-rollback", "rollback", "--snapshot-id", m.snapshot) }, places: setting, cancelled: []int{0, 2},
		completed: func(m *met, _ *rig.Outcome) { m.wantCommitted(m.groups()[1], m.topic, 3) }, stopped: putBack},
	{
		kind: "offset-snapshot",
		start: func(m *met) string {
			return m.begin(rig.Document{"target": rig.Document{"bootstrap_servers": m.servers()}}, "offset-rollback", "snapshot", "--groups", strings.Join(m.groups(), ","))
		},
		places: []place{{activity: "TakeSnapshot", method: "PUT"}},
		completed: func(m *met, _ *rig.Outcome) {
			if n := m.snapshots(); n != 2 {
				m.t.Errorf("there are %d snapshots", n)
			}
		},
		stopped: func(m *met, _ int, out *rig.Outcome) {
			m.wantCode(out, 1, "no snapshot was taken")
			if n := m.snapshots(); n != 1 {
				m.t.Errorf("there are %d snapshots", n)
			}
		},
	},
	{
		kind: "offset-snapshot-delete",
		start: func(m *met) string {
			return m.begin(rig.Document{}, "offset-rollback", "delete", "--snapshot-id", m.snapshot)
		},
		places: []place{{activity: "PlanDeletion", method: "GET"}, {activity: "DeleteSnapshot", method: "DELETE"}},
		completed: func(m *met, _ *rig.Outcome) {
			if n := m.snapshots(); n != 0 {
				m.t.Errorf("there are %d snapshots", n)
			}
		},
		stopped: func(m *met, at int, out *rig.Outcome) {
			m.wantCode(out, 1, []string{"the snapshot is still there", "the same operation, started again"}[at])
			if n := m.snapshots(); n != 1 { // the request that was held was not answered
				m.t.Errorf("there are %d snapshots", n)
			}
		},
	},
}

// setting are the places of an operation that sets offsets. ApplyOffsets is met
// when it has set them and is about to write that down.
var setting = []place{{activity: "PlanOffsets", method: "PUT"}, {activity: "SnapshotPlanned", method: "PUT"}, {activity: "ApplyOffsets", method: "PUT", key: "/forward-"},
	{activity: "VerifyOffsets", method: "PUT"}, {activity: "ReportOffsets", method: "PUT"}}

// Where the groups were when the snapshot was taken, and where they are now.
const (
	atSnapshot = 3
	atFirst    = 5
)

func wereSet(m *met, out *rig.Outcome) {
	m.wantCode(out, 0, "Partitions set:   8, of which 8 read back")
	for _, g := range m.groups() {
		m.wantCommitted(g, m.topic, 3*metRecords)
	}
}

// putBack checks that a cancel left the offsets as they were, or, where all was
// done but the report, as they were to be.
func putBack(m *met, at int, out *rig.Outcome) {
	words, want := []string{"no offset was changed"}, int64(atFirst)
	switch at {
	case 2, 3:
		words = []string{"put back: all committed offsets are as they were", "none of 8 committed offsets is changed"}
	case 4:
		words, want = []string{"the offsets are set, were read back, and stay", "there is no report"}, 3*metRecords
	}
	m.wantCode(out, 1, words...)
	for _, g := range m.groups() {
		m.wantCommitted(g, m.topic, want)
	}
}

func (m *met) servers() string { return bed.Bed(m.t).Bootstrap }

// file writes a configuration with the repository in it.
func (m *met) file(d rig.Document) string {
	m.t.Helper()
	d["storage"] = m.location(m.name)
	if m.approval != nil {
		d["approval"] = m.approval
	}
	file, err := m.rig.File(d)
	m.must(err)
	return file
}

// begin starts an operation, detached.
func (m *met) begin(d rig.Document, args ...string) string {
	m.t.Helper()
	out := m.run("carol", append(args, "--config", m.file(d), "--detach")...)
	_, rest, found := strings.Cut(out.Err, "Started workflow ")
	if !found {
		m.t.Fatal(out)
	}
	id, _, _ := strings.Cut(rest, "\n")
	return id
}

func (m *met) setOffsets(args ...string) string {
	m.t.Helper()
	return m.begin(rig.Document{"target": rig.Document{"bootstrap_servers": m.servers()}}, append(args, "--groups", strings.Join(m.groups(), ","), "--topics", m.topic)...)
}

// validate starts a check, as schedules do.
func (m *met) validate() string {
	m.t.Helper()
	d := m.shelf.storage(m.name)
	req := activities.ValidateRequest{BackupID: "h3", Deep: true, Concurrency: 1, Storage: config.Storage{Backend: "s3", Bucket: d["bucket"].(string), Region: d["region"].(string),
		Endpoint: d["endpoint"].(string), PathStyle: true, AccessKey: config.NewSecret("${SHELF_ACCESS}"), SecretKey: config.NewSecret("${SHELF_SECRET}"), Prefix: m.name}}
	run, err := m.temporal.ExecuteWorkflow(m.ctx, client.StartWorkflowOptions{ID: "validate/" + m.name, TaskQueue: m.queue,
		TypedSearchAttributes: temporalservice.Registration{}.Start(temporalservice.Attributes{Kind: "validate", BackupID: "h3"})}, workflows.Validate, req)
	m.must(err)
	return run.GetID()
}

// onRepository runs a command on the repository.
func (m *met) onRepository(args ...string) *rig.Outcome {
	m.t.Helper()
	return m.run("carol", append(args, "--config", m.file(rig.Document{}))...)
}

// wantBackups checks that so many of the first two backups are there, and that
// what is there is whole.
func (m *met) wantBackups(older int, out *rig.Outcome) {
	m.t.Helper()
	var list struct {
		Backups []struct {
			ID    string `json:"backup_id"`
			State string `json:"state"`
		} `json:"backups"`
	}
	m.must(m.onRepository("list", "--output", "json").JSON(&list))
	var complete []string
	for _, b := range list.Backups {
		if b.State == "COMPLETE" {
			complete = append(complete, b.ID)
		}
	}
	if len(complete) != older+1 || complete[older] != "h3" {
		m.t.Errorf("there are %v, want h3 and %d more: %s", complete, older, out)
	}
	for _, id := range complete {
		m.wantCode(m.onRepository("validate", "--deep", "--backup-id", id), 0)
	}
}

func (m *met) snapshots() int {
	m.t.Helper()
	var list struct {
		Snapshots []json.RawMessage `json:"snapshots"`
	}
	m.must(m.onRepository("offset-rollback", "list", "--output", "json").JSON(&list))
	return len(list.Snapshots)
}

// wantCommitted checks what a group has committed on the four partitions of a
// topic; -1: nothing.
func (m *met) wantCommitted(group, topic string, want int64) {
	m.t.Helper()
	all, err := m.adm.FetchOffsets(m.ctx, group)
	m.must(err)
	for p := range int32(4) {
		at := int64(-1)
		if o, ok := all.Lookup(topic, p); ok {
			at = o.At
		}
		if at != want {
			m.t.Errorf("%s is at %d of %s/%d, want %d", group, at, topic, p, want)
		}
	}
}

// commit commits an offset of all partitions of the topic for groups.
func (o *operator) commit(topic string, at int64, groups ...string) {
	o.t.Helper()
	var os kadm.Offsets
	for p := range int32(4) {
		os.AddOffset(topic, p, at, -1)
	}
	errs := make([]error, len(groups))
	var wg sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i, g := range groups {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			// The coordinator may hear of a new topic a little later than others.
			for errs[i] = kerr.UnknownTopicOrPartition; errors.Is(errs[i], kerr.UnknownTopicOrPartition) && o.ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
				errs[i] = o.adm.CommitAllOffsets(o.ctx, g, os)
			}
		})
	}
	wg.Wait()
	o.must(errors.Join(errs...))
}

// ground makes the backups, and commits offsets of the groups of operations with
// these names, and of more groups.
func (o *operator) ground(names []string, more ...string) *ground {
	o.t.Helper()
	all := &ground{repository: filepath.Join(o.dir, o.queue), topic: "met-" + o.queue, group: "met-" + o.queue + "-shop"}
	_, err := o.adm.CreateTopic(o.ctx, 4, 1, nil, all.topic)
	o.must(err)
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner())}, o.opts...)...)
	o.must(err)
	defer cl.Close()
	w := o.worker()
	storage := rig.Document{"backend": "filesystem", "path": all.repository}
	servers := bed.Bed(o.t).Bootstrap
	for i := range 3 {
		var records []*kgo.Record
		for n := range 4 * metRecords {
			records = append(records, &kgo.Record{Topic: all.topic, Partition: int32(n % 4), Value: fmt.Appendf(nil, "record %d of %d", n, i)})
		}
		o.must(cl.ProduceSync(o.ctx, records...).FirstErr())
		o.commit(all.topic, 7, all.group)
		file, err := o.rig.File(rig.Document{"backup_id": fmt.Sprintf("h%d", i+1), "storage": storage,
			"source": rig.Document{"bootstrap_servers": servers, "topics": rig.Document{"include": []string{all.topic}}}, "backup": rig.Document{"merge_segments": 0}})
		o.must(err)
		o.wantCode(o.run("carol", "backup", "--config", file), 0)
	}
	var groups []string
	for _, n := range names {
		groups = append(groups, (&met{name: n}).groups()...)
	}
	groups = append(groups, more...)
	o.commit(all.topic, atSnapshot, groups...)
	out := o.run("carol", "offset-rollback", "snapshot", "--path", all.repository, "--bootstrap-servers", servers, "--groups-matching", "met-*")
	o.wantCode(out, 0)
	all.snapshot = regexp.MustCompile(`snapshot-\d{8}-\d{6}`).FindString(out.Out)
	o.commit(all.topic, atFirst, groups...)
	o.must(w.Stop())
	all.location = func(name string) rig.Document {
		return rig.Document{"backend": "filesystem", "path": all.repository + "-" + name}
	}
	return all
}

// Every operation is paused in each of its phases, and completes; and it is
// cancelled in each of them, and says what was done and what was not.
func TestEachPhase(t *testing.T) {
	o := newOperator(t, 8*time.Minute)
	type run struct {
		kind, cancel int // cancel: the place, -1 for the one that is paused everywhere
		name         string
	}
	var runs []run
	var names []string
	for k := range operations {
		at := operations[k].cancelled
		for n := range operations[k].places {
			if operations[k].cancelled == nil {
				at = append(at, n)
			}
		}
		for _, n := range append([]int{-1}, at...) {
			name := operations[k].kind + "-paused"
			if n >= 0 {
				name = fmt.Sprintf("%s-cancelled-%d", operations[k].kind, n)
			}
			runs, names = append(runs, run{k, n, name}), append(names, name)
		}
	}
	all := o.ground(names)
	s := o.shelf()
	all.location = s.storage
	for _, n := range names {
		if !strings.HasPrefix(n, "backup-") {
			o.must(os.CopyFS(filepath.Join(s.store.BucketDir(), n), os.DirFS(all.repository)))
		}
	}

	// They are started while there is no worker: so each is held from its
	// first request on.
	var started, ended sync.WaitGroup
	working := make(chan struct{})
	slots := make(chan struct{}, 4)
	started.Add(len(runs))
	for i, r := range runs {
		ended.Go(func() {
			t.Run(r.name, func(t *testing.T) {
				m := &met{operator: o.on(t), shelf: s, ground: all, name: r.name}
				slots <- struct{}{}
				op := operations[r.kind]
				func() {
					defer started.Done()
					defer func() { <-slots }()
					m.id = op.start(m)
				}()
				at := 0
				if r.cancel >= 0 {
					at = r.cancel
				}
				h := s.hold(m.name, m.id, op.places[at])
				<-working
				if r.cancel >= 0 {
					m.cancel(h, i)
					op.stopped(m, r.cancel, m.run("carol", "watch", m.id))
					return
				}
				for n := range op.places {
					m.pause(h, n)
					if n+1 < len(op.places) {
						h = s.hold(m.name, m.id, op.places[n+1])
					} else {
						s.release(m.name)
					}
					m.resume(n)
				}
				out := m.run("carol", "watch", m.id)
				m.wantCode(out, 0)
				op.completed(m, out)
			})
		})
	}
	started.Wait()
	w, err := o.rig.StartWorker(o.ctx, rig.WorkerOptions{TaskQueue: o.queue, Transfers: 40})
	o.must(err)
	t.Cleanup(func() { o.must(w.Kill()) })
	close(working)
	ended.Wait()
}

// pause pauses an operation that is held: by turns from the command line and
// as the Web UI sends it.
func (m *met) pause(h *hold, turn int) {
	m.t.Helper()
	m.awaitHeld(h)
	if turn%2 == 0 {
		m.wantCode(m.run("dave", "pause", m.id, "--reason", "peak hours"), 0)
	} else {
		m.must(m.temporal.SignalWorkflow(m.ctx, m.id, "", workflows.SignalPause, nil))
	}
	p := m.awaitState(m.id, workflows.Paused)
	if turn%2 == 0 && (p.Control.By != "dave" || p.Control.Reason != "peak hours") {
		m.t.Errorf("paused by %+v", p.Control)
	}
	m.awaitListed("paused")
}

func (m *met) resume(turn int) {
	m.t.Helper()
	if turn%2 == 0 {
		m.must(m.temporal.SignalWorkflow(m.ctx, m.id, "", workflows.SignalResume, workflows.Control{By: "dave"}))
	} else {
		m.wantCode(m.run("dave", "resume", m.id), 0)
	}
}

// cancel cancels an operation that is held, in one of three ways.
func (m *met) cancel(h *hold, turn int) {
	m.t.Helper()
	m.awaitHeld(h)
	switch turn % 3 {
	case 0:
		m.wantCode(m.run("dave", "cancel", m.id, "--reason", "wrong cluster"), 0)
	case 1:
		m.must(m.temporal.SignalWorkflow(m.ctx, m.id, "", workflows.SignalCancel, nil))
	default:
		m.must(m.temporal.CancelWorkflow(m.ctx, m.id, ""))
	}
	m.awaitCancelled(turn%3 == 0)
}

// awaitCancelled waits until a cancelled operation has stopped what it was at,
// and lets its requests pass from then on: those of the compensation too.
func (m *met) awaitCancelled(named bool) {
	m.t.Helper()
	p := m.await(m.id, "being cancelled", func(p workflows.Progress) bool {
		return p.State == workflows.Undoing || p.State == workflows.Cancelled
	})
	if c := p.Cancel; named && (c == nil || c.By != "dave" || c.Reason != "wrong cluster") {
		m.t.Errorf("cancelled by %+v", c)
	}
	m.release(m.name)
}

// awaitListed waits until the operation is found by its state.
func (m *met) awaitListed(state string) {
	m.t.Helper()
	var list struct {
		Operations []struct {
			WorkflowID string `json:"workflow_id"`
			State      string `json:"state"`
		} `json:"operations"`
	}
	for {
		m.must(m.run("carol", "operations", "--state", state, "--output", "json").JSON(&list))
		for _, o := range list.Operations {
			if o.WorkflowID == m.id && o.State == state {
				return
			}
		}
		select {
		case <-m.ctx.Done():
			m.t.Fatalf("%s is not among those that are %s: %+v", m.id, state, slices.Clip(list.Operations))
		case <-time.After(200 * time.Millisecond):
		}
	}
}
