package workflows

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/config"
)

// runs are the operations and the activities in which a pause or a cancel can
// meet them, in order.
var runs = []struct {
	name     string
	workflow any
	request  any
	steps    []string
}{
	{"restore", Restore, restoreRequest(), []string{"PlanRestore", "PrepareTargets plan-0", "RestorePart 1", "MapOffsets", "PlanGroupOffsets", "SnapshotPlanned", "ApplyOffsets 0", "VerifyOffsets 0", "ReportOffsets"}},
	{"backup", Backup, backupRequest(), []string{"PlanBackup", "CopyPart 1", "CompleteBackup"}},
	{"prune", Prune, activities.PruneRequest{}, []string{"PlanPrune", "DropBackups", "Sweep"}},
	{"offset-reset", OffsetReset, activities.OffsetRequest{}, []string{"PlanOffsets", "SnapshotPlanned", "ApplyOffsets 0", "VerifyOffsets 0", "ReportOffsets"}},
	{"offset-snapshot", OffsetSnapshot, activities.SnapshotRequest{}, []string{"TakeSnapshot"}},
	{"offset-snapshot-delete", DeleteOffsetSnapshot, activities.DeleteSnapshotRequest{}, []string{"PlanDeletion", "DeleteSnapshot"}},
	{"offset-rollback", OffsetRollback, activities.OffsetRequest{}, []string{"PlanOffsets", "ApplyOffsets 1"}},
	{"offset-reset-bulk", BulkOffsetReset, activities.OffsetRequest{}, []string{"SnapshotPlanned", "VerifyOffsets 1"}},
	{"validate", Validate, activities.ValidateRequest{BackupID: "b"}, []string{"ValidateBackup"}},
}

func backupRequest() activities.BackupRequest {
	r := activities.BackupRequest{BackupID: "b"}
	r.Options.MaxConcurrentParts = 1
	return r
}

// A pause stops what is in work, nothing begins while it lasts, and afterwards
// it is done again and the operation completes.
func TestPauseInEachPhase(t *testing.T) {
	for _, run := range runs {
		for _, step := range run.steps {
			t.Run(run.name+" "+step, func(t *testing.T) {
				w := newWorld(t)
				var during Progress
				var calls int
				w.hang(step, func() { w.SignalWorkflow(SignalPause, Control{By: "dave", Reason: "peak hours"}) })
				w.after(30*time.Hour, func() {
					during, calls = w.progress(), len(w.calls)
					w.SignalWorkflow(SignalResume, Control{By: "dave"})
				})
				w.ExecuteWorkflow(run.workflow, run.request)
				if err := w.GetWorkflowError(); err != nil {
					t.Fatal(err)
				}
				if during.State != Paused || during.Control == nil || during.Control.By != "dave" || during.Control.Reason != "peak hours" {
					t.Errorf("while paused: %s, %+v", during.State, during.Control)
				}
				if w.count(step) != 2 || !slices.Contains(w.calls[:calls], step) || !slices.Contains(w.calls[calls:], step) {
					t.Errorf("%s was stopped at call %d of %q", step, calls, w.calls)
				}
				if p := w.progress(); p.State != Finished {
					t.Errorf("at the end it is %s", p.State)
				}
			})
		}
	}
}

// A resume that comes before what was in work has stopped is no failure: it is
// done again.
func TestResumeWhilePausing(t *testing.T) {
	for _, run := range runs {
		for _, step := range run.steps {
			t.Run(run.name+" "+step, func(t *testing.T) {
				w := newWorld(t)
				w.hang(step, func() {
					w.SignalWorkflow(SignalPause, Control{By: "dave"})
					w.SignalWorkflow(SignalResume, Control{By: "dave"})
				})
				w.ExecuteWorkflow(run.workflow, run.request)
				if err := w.GetWorkflowError(); err != nil {
					t.Fatal(err)
				}
				if n := w.count(step); n != 2 {
					t.Errorf("%s was begun %d times: %q", step, n, w.calls)
				}
				if w.called("ReleaseTargets failed=true") || w.called("PutOffsetsBack 0") {
					t.Errorf("something was put back: %q", w.calls)
				}
				if p := w.progress(); p.State != Finished || p.Control != nil {
					t.Errorf("at the end it is %s, %+v", p.State, p.Control)
				}
			})
		}
	}
}

// What is no failure of an activity that was told to stop, and what is one.
func TestStoppedByUs(t *testing.T) {
	retryable := temporal.NewApplicationError("the worker is shutting down; another one goes on", activities.Transient)
	final := temporal.NewNonRetryableApplicationError("it does not work", activities.Refused, nil)
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"ended":                               {nil, false},
		"stopped":                             {temporal.NewCanceledError(), true},
		"its worker died":                     {temporal.NewHeartbeatTimeoutError(), true},
		"its worker died, after another try":  {temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_HEARTBEAT, final), true},
		"would be tried again":                {retryable, true},
		"would not be tried again":            {final, false},
		"a failure whose cause is the cancel": {temporal.NewNonRetryableApplicationError("could not put it back", activities.UndoFailed, temporal.NewCanceledError()), false},
		"something else":                      {errors.New("something else"), false},
	} {
		if got := stoppedByUs(true, c.err); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
		if c.err != nil && stoppedByUs(true, fmt.Errorf("part 1: %w", c.err)) != c.want {
			t.Errorf("%s, of a part: %v", name, !c.want)
		}
		if stoppedByUs(false, c.err) {
			t.Errorf("%s: stopped, and was not told to", name)
		}
	}
}

// The configurations are put back in any case; a pause meanwhile holds what
// comes after, and a cancel leaves it out.
func TestPauseWhileFinishing(t *testing.T) {
	w := newWorld(t)
	in := w.indexed()
	var during Progress
	w.meanwhile("ReleaseTargets failed=false", func() { w.SignalWorkflow(SignalPause, Control{By: "dave"}) })
	w.after(30*time.Hour, func() {
		during = w.progress()
		if w.called("PlanGroupOffsets") || !w.called("ReleaseTargets") {
			t.Errorf("while it is paused: %q", w.calls)
		}
		w.SignalWorkflow(SignalResume, nil)
	})
	w.ExecuteWorkflow(Restore, restoreRequest())
	w.report()
	if during.State != Paused || during.Control == nil || during.Control.By != "dave" {
		t.Errorf("after the pause: %s, %+v", during.State, during.Control)
	}
	if got, want := strings.Join(in.states, " "), "running finishing pausing paused running finished"; got != want {
		t.Errorf("states: %s, want %s", got, want)
	}
}

func TestCancelWhileFinishing(t *testing.T) {
	w := newWorld(t)
	w.meanwhile("ReleaseTargets failed=false", func() { w.SignalWorkflow(SignalCancel, Control{By: "dave"}) })
	w.ExecuteWorkflow(Restore, restoreRequest())
	if err := w.GetWorkflowError(); !canceled(err) {
		t.Errorf("error is %v, want a cancellation", err)
	}
	if w.called("PlanGroupOffsets") || w.called("ReleaseTargets failed=true") {
		t.Errorf("after the cancel: %q", w.calls)
	}
}

// A pause that has nothing left to hold leaves no trace.
func TestPauseWhileUndoing(t *testing.T) {
	w := newWorld(t)
	in := w.indexed()
	w.refuse("ApplyOffsets 0")
	w.meanwhile("PutOffsetsBack 0", func() { w.SignalWorkflow(SignalPause, nil) })
	w.ExecuteWorkflow(Restore, restoreRequest())
	if p := w.progress(); p.State != Failed || p.Control != nil {
		t.Errorf("at the end it is %s, %+v", p.State, p.Control)
	}
	if last := in.states[len(in.states)-1]; last != string(Failed) || !slices.Contains(in.states, string(Undoing)) {
		t.Errorf("states: %q", in.states)
	}
}

// Nor does one that comes while the end is told.
func TestPauseWhileTheEndIsTold(t *testing.T) {
	w := newWorld(t)
	in := w.indexed()
	w.RegisterWorkflow(Notify)
	w.SetOnChildWorkflowStartedListener(func(*workflow.Info, workflow.Context, converter.EncodedValues) {
		w.SignalWorkflow(SignalPause, Control{By: "dave"})
		w.SignalWorkflow(SignalCancel, Control{By: "dave"})
	})
	req := restoreRequest()
	req.Notifications = config.Notifications{Slack: config.Slack{URL: config.NewSecret("${SLACK}"), On: []string{config.OnSuccess}}}
	w.ExecuteWorkflow(Restore, req)
	w.report()
	if p := w.progress(); p.State != Finished || p.Control != nil || p.Cancel != nil {
		t.Errorf("at the end it is %s, paused by %+v, cancelled by %+v", p.State, p.Control, p.Cancel)
	}
	if last := in.states[len(in.states)-1]; last != string(Finished) {
		t.Errorf("states: %q", in.states)
	}
}

// What is noted does not grow without bounds.
func TestNotesAreBounded(t *testing.T) {
	var o operation
	for n := range 3 * maxNotes {
		o.note("note %d", n)
	}
	if len(o.Notes) != maxNotes || o.Notes[maxNotes-1] != fmt.Sprintf("note %d", 3*maxNotes-1) {
		t.Errorf("%d notes, the last is %q", len(o.Notes), o.Notes[len(o.Notes)-1])
	}
}

// A cancel stops what is in work, puts back what is to be put back, begins
// nothing else, and says what was done and what was not; a second cancel does
// not stop the putting back.
func TestCancelInEachPhase(t *testing.T) {
	cancels := map[string]func(*world){
		"request": func(w *world) { w.CancelWorkflow() },
		"signal":  func(w *world) { w.SignalWorkflow(SignalCancel, Control{By: "dave", Reason: "wrong cluster"}) },
	}
	for _, run := range runs {
		for i, step := range run.steps {
			for how, cancel := range cancels {
				t.Run(run.name+" "+step+" "+how, func(t *testing.T) {
					w := newWorld(t)
					w.hang(step, func() { cancel(w) })
					again := func() { w.CancelWorkflow(); cancel(w); w.SignalWorkflow(SignalPause, nil) }
					w.meanwhile("ReleaseTargets failed=true", again)
					w.meanwhile("PutOffsetsBack 0", again)
					w.ExecuteWorkflow(run.workflow, run.request)
					var c *temporal.CanceledError
					if err := w.GetWorkflowError(); !errors.As(err, &c) {
						t.Fatalf("error is %v, want a cancellation", err)
					}
					var left Left
					if err := c.Details(&left); err != nil {
						t.Fatal(err)
					}
					if how == "signal" && (left.By == nil || left.By.By != "dave" || left.By.Reason != "wrong cluster") {
						t.Errorf("cancelled by %+v", left.By)
					}
					if len(left.NotDone) == 0 || left.Phase == "" {
						t.Errorf("it does not say what was not done: %+v", left)
					}
					w.wantNone(run.steps[i+1:])
					w.wantOffsetsPutBack(step, left)
					if released := w.called("ReleaseBackups"); released != (step == "DropBackups") {
						t.Errorf("marks taken off: %v: %q", released, w.calls)
					}
					if run.name == "restore" {
						w.wantPutBack(i, left)
					}
					if p := w.progress(); p.State != Cancelled {
						t.Errorf("at the end it is %s", p.State)
					}
				})
			}
		}
	}
}

// wantNone checks that no further step was begun after a cancel; but for the
// report, which is also made of what was undone.
func (w *world) wantNone(later []string) {
	w.t.Helper()
	for _, step := range later {
		if w.called(step) && (step != "ReportOffsets" || !w.called("PutOffsetsBack 0")) {
			w.t.Errorf("%s was begun after the cancel: %q", step, w.calls)
		}
	}
}

// wantPutBack checks what a restore that was cancelled in its step i put back.
func (w *world) wantPutBack(i int, left Left) {
	w.t.Helper()
	released, want := w.count("ReleaseTargets"), 0
	if i >= 1 {
		want = 1
	}
	if released != want {
		w.t.Errorf("the topic configurations were put back %d times, want %d: %q", released, want, w.calls)
	}
	if failed := w.called("ReleaseTargets failed=true"); failed != (i >= 1 && i <= 3) {
		w.t.Errorf("ReleaseTargets was told failed=%v: %q", failed, w.calls)
	}
	if i >= 2 && len(left.Did) == 0 {
		w.t.Errorf("it does not say what stays: %+v", left)
	}
}

// wantOffsetsPutBack checks that what was set is put back, and reported, when a
// step is stopped or fails in which offsets are set or read back, and only then.
func (w *world) wantOffsetsPutBack(step string, left Left) {
	w.t.Helper()
	want := strings.HasPrefix(step, "ApplyOffsets") || strings.HasPrefix(step, "VerifyOffsets")
	if back := w.called("PutOffsetsBack 0"); back != want {
		w.t.Errorf("offsets put back: %v: %q", back, w.calls)
	}
	if want && (!strings.Contains(strings.Join(left.Undid, "\n"), "all committed offsets are as they were (snapshot-1)") || !w.called("ReportOffsets")) {
		w.t.Errorf("it does not say that the offsets were put back: %+v", left)
	}
}

// meanwhile does something while an activity is in work, which then goes on
// to its end.
func (w *fakes) meanwhile(name string, do func()) {
	w.on[name] = func(ctx context.Context) error {
		do()
		return nil
	}
}

// A pause and a cancel while the plan waits for approval.
func TestPauseWhileWaiting(t *testing.T) {
	w := newWorld(t)
	var paused, approved Progress
	w.after(time.Minute, func() { w.SignalWorkflow(SignalPause, Control{By: "dave"}) })
	w.after(2*time.Minute, func() {
		paused = w.progress()
		w.give(Approve, Answer{By: "alice", Plan: digestA})
	})
	w.after(3*time.Minute, func() {
		approved = w.progress()
		if w.called("PrepareTargets") {
			t.Error("it went on although it is paused")
		}
		w.SignalWorkflow(SignalResume, nil)
	})
	w.ExecuteWorkflow(Restore, gatedRestore())
	w.report()
	if paused.State != Paused || !paused.Approval.waiting() {
		t.Errorf("paused: %s %+v", paused.State, paused.Approval)
	}
	if approved.State != Paused || approved.Approval.Decision == nil {
		t.Errorf("approved while paused: %s %+v", approved.State, approved.Approval)
	}
}

func TestCancelWhileWaiting(t *testing.T) {
	w := newWorld(t)
	w.after(time.Minute, func() { w.CancelWorkflow() })
	w.ExecuteWorkflow(Restore, gatedRestore())
	var left Left
	var c *temporal.CanceledError
	if err := w.GetWorkflowError(); !errors.As(err, &c) || c.Details(&left) != nil {
		t.Fatalf("error is %v", err)
	}
	if fmt.Sprint(left.NotDone) != "[nothing was changed]" || left.Phase != "collect" {
		t.Errorf("left: %+v", left)
	}
	w.wantCalls("PlanRestore")
}

func TestCancelWhilePaused(t *testing.T) {
	for _, run := range runs {
		for i, step := range run.steps {
			t.Run(run.name+" "+step, func(t *testing.T) {
				w := newWorld(t)
				w.hang(step, func() { w.SignalWorkflow(SignalPause, nil) })
				w.after(time.Hour, func() { w.CancelWorkflow() })
				w.ExecuteWorkflow(run.workflow, run.request)
				if err := w.GetWorkflowError(); !canceled(err) {
					t.Errorf("error is %v, want a cancellation", err)
				}
				if n := w.count(step); n != 1 {
					t.Errorf("%s was begun %d times", step, n)
				}
				w.wantNone(run.steps[i+1:])
			})
		}
	}
}

// A failure in each step says so, puts back what is to be put back, and does
// not look like a cancel.
func TestFailureInEachPhase(t *testing.T) {
	for _, run := range runs {
		for i, step := range run.steps {
			t.Run(run.name+" "+step, func(t *testing.T) {
				w := newWorld(t)
				w.refuse(step)
				w.ExecuteWorkflow(run.workflow, run.request)
				err := w.GetWorkflowError()
				if kind := rootOf(err).Type(); kind != activities.Refused && kind != activities.NotSet {
					t.Errorf("error is %v", err)
				}
				p := w.progress()
				if p.State != Failed || len(p.Left.NotDone) == 0 {
					t.Errorf("at the end it is %s and leaves %+v", p.State, p.Left)
				}
				w.wantOffsetsPutBack(step, p.Left)
				if run.name == "restore" {
					w.wantPutBack(i, p.Left)
				}
			})
		}
	}
}

// rootOf is the application error at the bottom.
func rootOf(err error) (root *temporal.ApplicationError) {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if app, ok := e.(*temporal.ApplicationError); ok {
			root = app
		}
	}
	return root
}

// Offsets that cannot be put back are said so, with the snapshot's name.
func TestUndoFails(t *testing.T) {
	for name, how := range map[string]func(*world){
		"after a failure": func(w *world) { w.refuse("ApplyOffsets 0") },
		"after a cancel":  func(w *world) { w.hang("ApplyOffsets 0", func() { w.CancelWorkflow() }) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			how(w)
			w.refuse("PutOffsetsBack 0")
			w.ExecuteWorkflow(Restore, restoreRequest())
			wantType(t, w.GetWorkflowError(), "UndoFailed")
			if p := w.progress(); p.State != Failed || !strings.Contains(fmt.Sprint(p.Left.NotDone), "snapshot") {
				t.Errorf("it is %s and does not name the snapshot: %+v", p.State, p.Left)
			}
		})
	}
}
