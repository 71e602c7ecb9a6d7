package workflows

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/notify"
)

var record = flag.String("record", "", "record the histories in testdata/histories whose names match this regular expression anew, on an embedded server (make server)")

const histories = "testdata/histories"

// recorded are the workflows of which histories are kept. Every workflow that
// a worker offers belongs here.
var recorded = []any{Backup, Continuous, Restore, Prune, Validate, Scheduled, Notify,
	OffsetReset, OffsetRollback, BulkOffsetReset, OffsetSnapshot, DeleteOffsetSnapshot}

// replay replays a history under the id that it was recorded with: what an
// operation starts is named by it.
func replay(h *historypb.History) error {
	r := worker.NewWorkflowReplayer()
	for _, w := range recorded {
		r.RegisterWorkflow(w)
	}
	begun := h.Events[0].GetWorkflowExecutionStartedEventAttributes()
	return r.ReplayWorkflowHistoryWithOptions(nolog{}, h, worker.ReplayWorkflowHistoryOptions{
		OriginalExecution: workflow.Execution{ID: begun.GetWorkflowId(), RunID: begun.GetOriginalExecutionRunId()},
	})
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
			replayed[h.Events[0].GetWorkflowExecutionStartedEventAttributes().GetWorkflowType().GetName()] = true
			defer continued(file)()
			if err := replay(h); err != nil {
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

// What a worker offers and what histories are kept of is the same.
func TestHistoriesAreKeptOfAllWorkflows(t *testing.T) {
	files, err := filepath.Glob("../internal/worker/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	offered := regexp.MustCompile(`RegisterWorkflow\w*\((?:workflows\.(\w+))?`)
	var have, want []string
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range offered.FindAllStringSubmatch(string(source), -1) {
			want = append(want, m[1])
		}
	}
	for _, w := range recorded {
		have = append(have, functionName(w))
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Errorf("histories are kept of %q, a worker offers %q", have, want)
	}
}

// A replay notices code that does other things than the history says.
func TestReplayNoticesAnotherWorkflow(t *testing.T) {
	h := readHistory(t, histories+"/restore.json")
	h.Events[0].GetWorkflowExecutionStartedEventAttributes().WorkflowType.Name = "Backup"
	if err := replay(h); err == nil {
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
	{name: "restore-approved-without-a-worker", workflow: Restore, request: gatedFor(4*time.Second, "fail"), do: func(r *recording) {
		r.await(Waiting)
		r.whileAway(func() { r.signal(Approve, Answer{By: "alice", Plan: digestA}) })
	}},
	{name: "restore-rejected-without-a-worker", workflow: Restore, request: gatedFor(4*time.Second, "proceed"), do: func(r *recording) {
		r.await(Waiting)
		r.whileAway(func() { r.signal(Reject, Answer{By: "bob", Reason: "wrong cluster"}) })
	}},
	{name: "restore-cancelled-without-a-worker", workflow: Restore, request: gatedFor(4*time.Second, "fail"), do: func(r *recording) {
		r.await(Waiting)
		r.whileAway(func() { r.signal(SignalCancel, Control{By: "dave"}) })
	}},
	{name: "restore-paused", workflow: Restore, request: restoreRequest(), set: func(r *recording) {
		r.hang("RestorePart 1", func() { r.signal(SignalPause, Control{By: "dave", Reason: "peak hours"}) })
	}, do: func(r *recording) {
		r.await(Paused)
		r.signal(SignalResume, nil)
	}},
	{name: "restore-paused-in-a-step", workflow: Restore, request: restoreRequest(), set: func(r *recording) {
		r.hang("ApplyOffsets 0", func() { r.signal(SignalPause, nil) })
	}, do: func(r *recording) {
		r.await(Paused)
		r.signal(SignalResume, nil)
	}},
	{name: "restore-paused-while-draining", workflow: Restore, request: restoreRequest(), set: func(r *recording) {
		r.drain("RestorePart 1", func() { r.signal(SignalPause, nil) })
	}, do: func(r *recording) {
		r.await(Paused)
		r.signal(SignalResume, nil)
	}},
	{name: "restore-paused-while-draining-in-a-step", workflow: Restore, request: restoreRequest(), set: func(r *recording) {
		r.drain("ApplyOffsets 0", func() { r.signal(SignalPause, nil) })
	}, do: func(r *recording) {
		r.await(Paused)
		r.signal(SignalResume, nil)
	}},
	{name: "restore-resumed-while-pausing", workflow: Restore, request: restoreRequest(), set: func(r *recording) {
		r.hang("ApplyOffsets 0", func() { r.signal(SignalPause, nil); r.signal(SignalResume, nil) })
	}},
	{name: "restore-paused-while-finishing", workflow: Restore, request: restoreRequest(), set: func(r *recording) {
		r.meanwhile("ReleaseTargets failed=false", func() { r.signal(SignalPause, nil) })
	}, do: func(r *recording) {
		r.await(Paused)
		r.signal(SignalResume, nil)
	}},
	{name: "restore-cancelled-while-draining", workflow: Restore, request: restoreRequest(), set: func(r *recording) {
		r.drain("RestorePart 1", func() { r.signal(SignalCancel, Control{By: "dave"}) })
	}},
	{name: "restore-cancelled", workflow: Restore, request: restoreRequest(), set: func(r *recording) {
		r.hang("RestorePart 1", func() { r.signal(SignalCancel, Control{By: "dave", Reason: "wrong cluster"}) })
	}},
	{name: "restore-cancelled-by-request", workflow: Restore, request: restoreRequest(), set: func(r *recording) {
		r.hang("ApplyOffsets 0", func() { r.cancel() })
	}},
	{name: "restore-failed", workflow: Restore, request: restoreRequest(), set: func(r *recording) { r.refuse("ApplyOffsets 0") }},
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
	{name: continuedAsNew + "-paused", workflow: Continuous, request: continuousBackup(), do: func(r *recording) {
		r.backups(2)
		r.whileAway(func() { r.signal(SignalPause, Control{By: "dave"}) })
		r.await(Paused)
		r.cancel()
	}},
	{name: continuedAsNew + "-cancelled", workflow: Continuous, request: continuousBackup(), do: func(r *recording) {
		r.backups(2)
		r.whileAway(func() { r.signal(SignalCancel, Control{By: "dave"}) })
	}},
	{name: continuedAsNew + "-cancelled-by-request", workflow: Continuous, request: continuousBackup(), do: func(r *recording) {
		r.backups(2)
		r.whileAway(func() { r.cancel() })
	}},
	{name: "continuous-cancelled-while-completing", workflow: Continuous, request: continuousBackup(), set: func(r *recording) {
		r.meanwhile("CompleteBackup", r.cancel)
	}},
	{name: continuedAsNew + "-after-a-failure", workflow: Continuous, request: continuousBackup(), set: func(r *recording) {
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
	{name: "offset-reset-put-back", workflow: OffsetReset, request: activities.OffsetRequest{}, set: func(r *recording) { r.refuse("ApplyOffsets 1") }},
	{name: "offset-reset-cancelled", workflow: OffsetReset, request: activities.OffsetRequest{}, set: func(r *recording) {
		r.hang("VerifyOffsets 0", func() { r.cancel() })
	}},
	{name: "offset-reset-paused", workflow: OffsetReset, request: activities.OffsetRequest{}, set: func(r *recording) {
		r.hang("ApplyOffsets 0", func() { r.signal(SignalPause, nil) })
	}, do: func(r *recording) {
		r.await(Paused)
		r.signal(SignalResume, nil)
	}},
	{name: "offset-reset-in-rounds", workflow: OffsetReset, request: activities.OffsetRequest{}, set: func(r *recording) { r.applied = openFor(2) }},
	{name: "offset-reset-cancelled-between-rounds", workflow: OffsetReset, request: activities.OffsetRequest{}, set: func(r *recording) { r.applied = openFor(1) }, do: func(r *recording) {
		r.until("a pause between rounds", func(Progress) bool { return r.count("ApplyOffsets") == 2 && r.timers() >= 2 })
		r.cancel()
	}},
	{name: "offset-rollback", workflow: OffsetRollback, request: activities.OffsetRequest{}},
	{name: "offset-reset-bulk", workflow: BulkOffsetReset, request: activities.OffsetRequest{}},
	{name: "offset-reset-bulk-cancelled", workflow: BulkOffsetReset, request: activities.OffsetRequest{}, set: func(r *recording) {
		r.hang("ApplyOffsets 0", func() { r.signal(SignalCancel, Control{By: "dave"}) })
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
	{name: "notify-channels", workflow: Notify, request: activities.NotifyRequest{Notifications: told(), Event: notify.Event{Event: config.OnFailure, Kind: "restore"}}, set: func(r *recording) {
		r.refuse("Deliver webhook")
	}},
	{name: "restore-waiting-and-failure-told", workflow: Restore, request: toldRestore(), set: func(r *recording) { r.refuse("MapOffsets") }, do: func(r *recording) {
		r.await(Waiting)
		r.update(Approve, Answer{By: "alice", Plan: digestA})
	}},
	{name: "backup-success-told", workflow: Backup, request: toldBackup()},
}

// told tells everything to two channels.
func told() config.Notifications {
	all := []string{config.OnFailure, config.OnSuccess, config.OnWaiting}
	return config.Notifications{Slack: config.Slack{URL: config.NewSecret("${SLACK}"), On: all}, Webhook: config.Webhook{URL: config.NewSecret("${HOOK}"), On: all}}
}

func toldRestore() activities.RestoreRequest {
	r := gatedRestore()
	r.Notifications = told()
	return r
}

func toldBackup() activities.BackupRequest {
	r := backupRequest()
	r.Notifications = told()
	return r
}

// continuedAsNew begins the names of histories of a run that is about to be
// continued as new.
const continuedAsNew = "continuous-at-its-end"

// continued has continuous backups continued as new after the second backup,
// where a history wants it so.
func continued(name string) (undo func()) {
	always := runCheckpoints
	if strings.Contains(name, continuedAsNew) {
		runCheckpoints = 2
	}
	return func() { runCheckpoints = always }
}

func gated(onTimeout string) activities.RestoreRequest { return gatedFor(time.Second, onTimeout) }

func gatedFor(timeout time.Duration, onTimeout string) activities.RestoreRequest {
	r := gatedRestore()
	r.Approval.Timeout, r.Approval.OnTimeout = config.Duration(timeout), onTimeout
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
