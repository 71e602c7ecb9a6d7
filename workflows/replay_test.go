package workflows

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
)

var record = flag.String("record", "", "record the histories in testdata/histories whose names match this regular expression anew, on an embedded server (make server)")

const histories = "testdata/histories"

// recorded are the workflows of which histories are kept. Every workflow that
// a worker offers belongs here.
var recorded = []any{Backup, Continuous, Restore, Prune, Validate, Scheduled, Notify,
	OffsetReset, OffsetRollback, BulkOffsetReset, OffsetSnapshot, DeleteOffsetSnapshot}

func replayer() worker.WorkflowReplayer {
	r := worker.NewWorkflowReplayer()
	for _, w := range recorded {
		r.RegisterWorkflow(w)
	}
	return r
}

// Workflows that are running somewhere must go on with the code as it is now.
func TestHistoriesReplay(t *testing.T) {
	if *record != "" {
		recordHistories(t)
	}
	files, err := filepath.Glob(histories + "/*.json")
	if err != nil {
		t.Fatal(err)
	}
	replayed := map[string]bool{}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			h := readHistory(t, file)
			defer fewCheckpoints(strings.TrimSuffix(filepath.Base(file), ".json"))()
			replayed[h.Events[0].GetWorkflowExecutionStartedEventAttributes().GetWorkflowType().GetName()] = true
			if err := replayer().ReplayWorkflowHistory(nolog{}, h); err != nil {
				t.Errorf("%v\nWorkflows that run now would be stuck: see \"Change a workflow\" in docs/CONTRIBUTING.md", err)
			}
		})
	}
	for _, w := range recorded {
		if name := functionName(w); !replayed[name] {
			t.Errorf("there is no history of %s; record one, see docs/CONTRIBUTING.md", name)
		}
	}
}

// A replay notices code that does other things than the history says.
func TestReplayNoticesAnotherWorkflow(t *testing.T) {
	h := readHistory(t, histories+"/restore.json")
	h.Events[0].GetWorkflowExecutionStartedEventAttributes().WorkflowType.Name = "Backup"
	if err := replayer().ReplayWorkflowHistory(nolog{}, h); err == nil {
		t.Error("a restore's history was replayed by Backup")
	}
}

func readHistory(t *testing.T, file string) *historypb.History {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	h, err := client.HistoryFromJSON(strings.NewReader(string(data)), client.HistoryJSONOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// scenario is one operation of which the history is kept.
type scenario struct {
	name     string // of the file
	workflow any
	request  any
	// set prepares the activities, and do acts on the operation once it runs.
	set func(*recording)
	do  func(*recording)
}

var scenarios = []scenario{
	{name: "backup", workflow: Backup, request: backupRequest()},
	{name: "restore", workflow: Restore, request: restoreRequest()},
	{name: "restore-approved", workflow: Restore, request: gatedRestore(), do: func(r *recording) {
		r.await(Waiting)
		r.update(Approve, Answer{By: "carol", Plan: digestA}) // refused
		r.update(Approve, Answer{By: "alice", Plan: digestA, Reason: "looks right"})
	}},
	{name: "restore-approved-by-signal", workflow: Restore, request: gatedRestore(), do: func(r *recording) {
		r.await(Waiting)
		r.signal(Approve, "not an object")
		r.signal(Approve, Answer{By: "alice", Plan: digestA})
	}},
	{name: "restore-planned-again", workflow: Restore, request: gatedRestore(), set: func(r *recording) { r.digests = []string{digestA, digestB} }, do: func(r *recording) {
		r.await(Waiting)
		r.update(Approve, Answer{By: "alice", Plan: digestA})
		r.until("a second question", func(p Progress) bool { return p.Approval.Round == 2 })
		r.update(Approve, Answer{By: "bob", Plan: digestB})
	}},
	{name: "restore-rejected", workflow: Restore, request: gatedRestore(), do: func(r *recording) {
		r.await(Waiting)
		r.update(Reject, Answer{By: "bob", Reason: "wrong cluster"})
	}},
	{name: "restore-reminded-then-approved", workflow: Restore, request: gated("remind"), do: func(r *recording) {
		r.until("two reminders", func(p Progress) bool { return p.Approval != nil && p.Approval.Reminders == 2 })
		r.update(Approve, Answer{By: "alice", Plan: digestA})
	}},
	{name: "restore-timed-out", workflow: Restore, request: gated("fail")},
	{name: "restore-paused", workflow: Restore, request: restoreRequest(), set: func(r *recording) {
		r.hang("RestorePart 1", func() { r.signal(SignalPause, Control{By: "dave", Reason: "peak hours"}) })
	}, do: func(r *recording) {
		r.await(Paused)
		r.signal(SignalResume, nil)
	}},
	{name: "restore-paused-in-a-step", workflow: Restore, request: restoreRequest(), set: func(r *recording) {
		r.hang("ResetOffsets", func() { r.signal(SignalPause, nil) })
	}, do: func(r *recording) {
		r.await(Paused)
		r.signal(SignalResume, nil)
	}},
	{name: "restore-cancelled", workflow: Restore, request: restoreRequest(), set: func(r *recording) {
		r.hang("RestorePart 1", func() { r.signal(SignalCancel, Control{By: "dave", Reason: "wrong cluster"}) })
	}},
	{name: "restore-cancelled-by-request", workflow: Restore, request: restoreRequest(), set: func(r *recording) {
		r.hang("ResetOffsets", func() { r.cancel() })
	}},
	{name: "restore-failed", workflow: Restore, request: restoreRequest(), set: func(r *recording) { r.refuse("ResetOffsets") }},
	{name: "backup-paused-and-cancelled", workflow: Backup, request: backupRequest(), set: func(r *recording) {
		r.hang("CopyPart 0", func() { r.signal(SignalPause, nil) })
	}, do: func(r *recording) {
		r.await(Paused)
		r.cancel()
	}},
	{name: "backup-approved", workflow: Backup, request: gatedBackup(), do: func(r *recording) {
		r.await(Waiting)
		r.update(Approve, Answer{By: "alice", Plan: digestA})
	}},
	{name: "continuous", workflow: Continuous, request: continuousBackup(), do: func(r *recording) {
		r.until("a backup", func(p Progress) bool { return p.RecoveryPoint != nil })
		r.signal(SignalCancel, Control{By: "dave"})
	}},
	{name: "continuous-cancelled-while-completing", workflow: Continuous, request: continuousBackup(), set: func(r *recording) {
		r.meanwhile("CompleteBackup", r.cancel)
	}},
	{name: continuesAsNew, workflow: Continuous, request: continuousBackup(), set: func(r *recording) {
		r.hang("FollowPart 1", func() { r.signal(SignalPause, Control{By: "dave"}) })
	}, do: func(r *recording) {
		r.await(Paused)
		r.refuse("PlanBackup")
		r.signal(SignalResume, nil)
		r.until("a failed backup", func(p Progress) bool { return len(p.Notes) > 0 })
		r.nextRun()
		r.signal(SignalCancel, Control{By: "dave"})
	}},
	{name: "offset-reset", workflow: OffsetReset, request: activities.OffsetRequest{}},
	{name: "offset-reset-approved", workflow: OffsetReset, request: gatedReset(), do: func(r *recording) {
		r.await(Waiting)
		r.update(Approve, Answer{By: "alice", Plan: digestA})
	}},
	{name: "offset-reset-put-back", workflow: OffsetReset, request: activities.OffsetRequest{}, set: func(r *recording) { r.refuse("ApplyOffsets forward 1") }},
	{name: "offset-reset-cancelled", workflow: OffsetReset, request: activities.OffsetRequest{}, set: func(r *recording) {
		r.hang("VerifyOffsets forward 0", func() { r.cancel() })
	}},
	{name: "offset-reset-paused", workflow: OffsetReset, request: activities.OffsetRequest{}, set: func(r *recording) {
		r.hang("ApplyOffsets forward 0", func() { r.signal(SignalPause, nil) })
	}, do: func(r *recording) {
		r.await(Paused)
		r.signal(SignalResume, nil)
	}},
	{name: "offset-rollback", workflow: OffsetRollback, request: activities.OffsetRequest{}},
	{name: "offset-reset-bulk", workflow: BulkOffsetReset, request: activities.OffsetRequest{}},
	{name: "offset-reset-bulk-cancelled", workflow: BulkOffsetReset, request: activities.OffsetRequest{}, set: func(r *recording) {
		r.hang("ApplyOffsets forward 0", func() { r.signal(SignalCancel, Control{By: "dave"}) })
	}},
	{name: "offset-snapshot", workflow: OffsetSnapshot, request: activities.SnapshotRequest{}},
	{name: "offset-snapshot-delete", workflow: DeleteOffsetSnapshot, request: activities.DeleteSnapshotRequest{}},
	{name: "offset-snapshot-delete-approved", workflow: DeleteOffsetSnapshot, request: gatedDeletion(), do: func(r *recording) {
		r.await(Waiting)
		r.update(Approve, Answer{By: "alice", Plan: digestA})
	}},
	{name: "prune", workflow: Prune, request: activities.PruneRequest{}},
	{name: "prune-approved-and-paused", workflow: Prune, request: gatedPrune(), set: func(r *recording) {
		r.hang("Sweep", func() { r.signal(SignalPause, nil) })
	}, do: func(r *recording) {
		r.await(Waiting)
		r.update(Approve, Answer{By: "alice", Plan: digestA})
		r.await(Paused)
		r.signal(SignalResume, nil)
	}},
	{name: "prune-cancelled", workflow: Prune, request: activities.PruneRequest{}, set: func(r *recording) {
		r.hang("DropBackups", func() { r.cancel() })
	}},
	{name: "validate", workflow: Validate, request: activities.ValidateRequest{BackupID: "b"}},
	{name: "validate-newest", workflow: Validate, request: activities.ValidateRequest{}},
	{name: "validate-paused", workflow: Validate, request: activities.ValidateRequest{BackupID: "b"}, set: func(r *recording) {
		r.hang("ValidateBackup", func() { r.signal(SignalPause, nil) })
	}, do: func(r *recording) {
		r.await(Paused)
		r.signal(SignalResume, nil)
	}},
	{name: "scheduled", workflow: Scheduled, request: scheduledBackup()},
	{name: "notify", workflow: Notify, request: activities.NotifyRequest{}},
}

// continuesAsNew is a continuous backup that was paused, failed to make its
// second backup, and continued as new after it.
const continuesAsNew = "continuous-paused-and-continued-as-new"

// fewCheckpoints makes a continuous backup continue as new soon, in the scenario of that
// name, until the function that it returns is called.
func fewCheckpoints(scenario string) (restore func()) {
	before := runCheckpoints
	if scenario == continuesAsNew {
		runCheckpoints = 2
	}
	return func() { runCheckpoints = before }
}

func gated(onTimeout string) activities.RestoreRequest {
	r := gatedRestore()
	r.Approval.Timeout, r.Approval.OnTimeout = config.Duration(time.Second), onTimeout
	return r
}

func continuousBackup() ContinuousRequest {
	r := ContinuousRequest{BackupRequest: backupRequest()}
	r.Options.CheckpointInterval = config.Duration(2 * time.Second)
	return r
}

func gatedReset() (r activities.OffsetRequest) {
	r.Requester, r.Approval = "carol", approval()
	return r
}

func gatedPrune() (r activities.PruneRequest) {
	r.Requester, r.Approval = "carol", approval()
	return r
}

func gatedDeletion() (r activities.DeleteSnapshotRequest) {
	r.Requester, r.Approval = "carol", approval()
	return r
}

func scheduledBackup() ScheduledRequest {
	b := backupRequest()
	b.BackupID = "nightly-{{date}}"
	return ScheduledRequest{Schedule: "nightly", Place: "folder", PlaceID: "folder-1", Backup: &b}
}

// recording is one operation that runs on a real server.
type recording struct {
	*fakes
	t     *testing.T
	ctx   context.Context
	c     client.Client
	id    string
	first string // id of its first run, which is saved
}

func recordHistories(t *testing.T) {
	binary, err := filepath.Abs("../bin/" + temporalservice.ServerBinary)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	server, err := temporalservice.StartServer(ctx, temporalservice.ServerOptions{Binary: binary, StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop(context.Background())
	c, err := client.Dial(client.Options{HostPort: server.Address, Logger: nolog{}, Identity: "recorder"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := os.MkdirAll(histories, 0o755); err != nil {
		t.Fatal(err)
	}
	which, err := regexp.Compile(*record)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scenarios {
		if !which.MatchString(s.name) {
			continue
		}
		r := &recording{fakes: newFakes(t), t: t, ctx: ctx, c: c, id: s.name}
		restore := fewCheckpoints(s.name)
		if s.set != nil {
			s.set(r)
		}
		r.run(s)
		restore()
		r.save()
	}
}

// run runs a scenario with a worker of its own, and checks that it is what it
// should be: replayed at once.
func (r *recording) run(s scenario) {
	o := worker.Options{MaxHeartbeatThrottleInterval: 100 * time.Millisecond}
	for _, queue := range []string{s.name, activities.TransferQueue(s.name), activities.FollowQueue(s.name)} {
		w := worker.New(r.c, queue, o)
		for _, fn := range recorded {
			w.RegisterWorkflow(fn)
		}
		r.register(w)
		if err := w.Start(); err != nil {
			r.t.Fatal(err)
		}
		defer w.Stop()
	}
	attributes := temporalservice.Registration{}.Start(temporalservice.Attributes{Kind: "recorded", Requester: "carol"})
	run, err := r.c.ExecuteWorkflow(r.ctx, client.StartWorkflowOptions{ID: s.name, TaskQueue: s.name, TypedSearchAttributes: attributes}, s.workflow, s.request)
	if err != nil {
		r.t.Fatal(err)
	}
	r.first = run.GetRunID()
	if s.do != nil {
		s.do(r)
	}
	err = run.Get(r.ctx, nil)
	if r.ctx.Err() != nil {
		r.t.Fatalf("%s does not end: %v", s.name, err)
	}
	r.t.Logf("%s: %v", s.name, err)
}

func (r *recording) save() {
	h := &historypb.History{}
	events := r.c.GetWorkflowHistory(r.ctx, r.id, r.first, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		e, err := events.Next()
		if err != nil {
			r.t.Fatal(err)
		}
		strip(e)
		h.Events = append(h.Events, e)
	}
	data, err := protojson.MarshalOptions{Multiline: true, Indent: " "}.Marshal(h)
	if err == nil {
		err = os.WriteFile(filepath.Join(histories, r.id+".json"), append(data, '\n'), 0o644)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// strip removes what names the machine that recorded.
func strip(e *historypb.HistoryEvent) {
	if q := e.GetWorkflowTaskScheduledEventAttributes().GetTaskQueue(); q.GetNormalName() != "" {
		q.Name = q.NormalName // a worker's own queue has its host's name
	}
	m := e.ProtoReflect()
	attributes := m.Descriptor().Oneofs().ByName("attributes")
	field := m.WhichOneof(attributes)
	if field == nil {
		return
	}
	inner := m.Mutable(field).Message()
	if f := inner.Descriptor().Fields().ByName("identity"); f != nil {
		inner.Clear(f)
	}
	if f := inner.Descriptor().Fields().ByName("binary_checksum"); f != nil {
		inner.Clear(f)
	}
}

func (r *recording) must(err error) {
	if err != nil {
		r.t.Errorf("%s: %v", r.id, err)
	}
}

func (r *recording) signal(name string, payload any) {
	r.must(r.c.SignalWorkflow(r.ctx, r.id, "", name, payload))
}
func (r *recording) cancel() { r.must(r.c.CancelWorkflow(r.ctx, r.id, "")) }

// update sends an answer, which may be refused.
func (r *recording) update(name string, a Answer) {
	h, err := r.c.UpdateWorkflow(r.ctx, client.UpdateWorkflowOptions{WorkflowID: r.id, UpdateName: name, Args: []any{a}, WaitForStage: client.WorkflowUpdateStageCompleted})
	if err == nil {
		err = h.Get(r.ctx, nil)
	}
	r.t.Logf("%s: %s by %s: %v", r.id, name, a.By, err)
}

// nextRun waits until the operation has continued as new.
func (r *recording) nextRun() {
	for {
		d, err := r.c.DescribeWorkflowExecution(r.ctx, r.id, "")
		if err == nil && d.GetWorkflowExecutionInfo().GetExecution().GetRunId() != r.first {
			return
		}
		select {
		case <-r.ctx.Done():
			r.t.Fatalf("%s: it does not continue as new: %v", r.id, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (r *recording) await(s State) {
	r.until(string(s), func(p Progress) bool { return p.State == s })
}

func (r *recording) until(what string, ready func(Progress) bool) {
	for {
		v, err := r.c.QueryWorkflow(r.ctx, r.id, "", QueryProgress)
		var p Progress
		if err == nil && v.Get(&p) == nil && ready(p) {
			return
		}
		select {
		case <-r.ctx.Done():
			r.t.Fatalf("%s: not %s: %+v, %v", r.id, what, p, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// functionName is the workflow type of a workflow function.
func functionName(fn any) string {
	name := runtime.FuncForPC(reflect.ValueOf(fn).Pointer()).Name()
	return name[strings.LastIndex(name, ".")+1:]
}

type nolog struct{}

var _ log.Logger = nolog{}

func (nolog) Debug(string, ...any) {}
func (nolog) Info(string, ...any)  {}
func (nolog) Warn(string, ...any)  {}
func (nolog) Error(string, ...any) {}
