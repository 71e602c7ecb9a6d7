package workflows

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
)

// wantType checks that err is an application error of a type.
func wantType(t *testing.T, err error, kind string) {
	t.Helper()
	var app *temporal.ApplicationError
	if !errors.As(err, &app) || app.Type() != kind {
		t.Errorf("error is %v, want one of type %s", err, kind)
	}
}

// report runs a restore to its end and returns its report.
func (w *world) report() activities.RestoreReport {
	w.t.Helper()
	var r activities.RestoreReport
	if err := w.GetWorkflowError(); err != nil {
		w.t.Fatalf("the workflow failed: %v", err)
	}
	if err := w.GetWorkflowResult(&r); err != nil {
		w.t.Fatal(err)
	}
	return r
}

func TestNothingIsChangedBeforeApproval(t *testing.T) {
	w := newWorld(t)
	var waiting Progress
	var before []string
	var g *given
	w.after(10*time.Minute, func() {
		waiting, before = w.progress(), append(before, w.calls...)
		g = w.give(Approve, Answer{By: "alice", Plan: digestA[:12], Reason: "looks right"})
	})
	w.ExecuteWorkflow(Restore, gatedRestore())
	r := w.report()
	if waiting.State != Waiting || !waiting.Approval.waiting() || waiting.Approval.Plan.Digest != digestA {
		t.Errorf("while it waits: %+v", waiting)
	}
	if len(before) != 1 || before[0] != "PlanRestore" {
		t.Errorf("called before the approval: %q", before)
	}
	if !g.accepted || g.err != nil || g.decision.Outcome != activities.Approved {
		t.Errorf("the update: %+v", g)
	}
	d := r.Approval
	if d == nil || d.By != "alice" || d.Reason != "looks right" || d.Plan != digestA || d.Via != "update" || d.At.IsZero() {
		t.Errorf("the report says %+v", d)
	}
	w.wantCalls("PlanRestore", "PlanRestore", "PrepareTargets plan-1", "RestorePart 0", "RestorePart 1", "RestorePart 2", "MapOffsets",
		"ReleaseTargets failed=false", "PlanGroupOffsets", "SnapshotPlanned", "ApplyOffsets 0", "VerifyOffsets 0", "ReportOffsets")
}

func TestNoApprovalRequired(t *testing.T) {
	w := newWorld(t)
	w.ExecuteWorkflow(Restore, restoreRequest())
	if r := w.report(); r.Approval != nil {
		t.Errorf("the report says %+v", r.Approval)
	}
	if n := w.count("PlanRestore"); n != 1 {
		t.Errorf("planned %d times, want once", n)
	}
}

func TestRejected(t *testing.T) {
	w := newWorld(t)
	w.after(time.Minute, func() { w.give(Reject, Answer{By: "bob", Reason: "wrong cluster"}) })
	w.ExecuteWorkflow(Restore, gatedRestore())
	err := w.GetWorkflowError()
	wantType(t, err, activities.NotApproved)
	if !strings.Contains(err.Error(), "rejected by bob: wrong cluster") {
		t.Errorf("the error is %v", err)
	}
	w.wantCalls("PlanRestore")
}

func TestWhatIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		answer Answer
		kind   string
	}{
		"not an approver":                 {Answer{By: "mallory", Plan: digestA}, NotApprover},
		"nobody":                          {Answer{Plan: digestA}, NotApprover},
		"the requester":                   {Answer{By: "carol", Plan: digestA}, FourEyes},
		"the requester, in other letters": {Answer{By: " Carol", Plan: digestA}, FourEyes},
		"another plan":                    {Answer{By: "alice", Plan: digestB}, OtherPlan},
		"no plan":                         {Answer{By: "alice"}, OtherPlan},
		"too short":                       {Answer{By: "alice", Plan: digestA[:7]}, OtherPlan},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var g *given
			w.after(time.Minute, func() { g = w.give(Approve, c.answer) })
			w.ExecuteWorkflow(Restore, gatedRestore())
			if !g.rejected {
				t.Errorf("the update: %+v", g)
			}
			wantType(t, g.err, c.kind)
			wantType(t, w.GetWorkflowError(), activities.ApprovalTimeout)
			w.wantCalls("PlanRestore")
		})
	}
}

func TestBySignal(t *testing.T) {
	w := newWorld(t)
	var refused []string
	w.after(time.Minute, func() {
		w.SignalWorkflow(Approve, "yes please")                                           // not an object
		w.SignalWorkflow(Approve, Answer{By: "carol", Plan: digestA})                     // the requester
		w.SignalWorkflow(Approve, map[string]string{"by": "alice", "plan": digestB[:12]}) // another plan
	})
	w.after(2*time.Minute, func() {
		refused = w.progress().Approval.Refused
		w.SignalWorkflow(Approve, map[string]string{"by": "alice", "plan": digestA[:12], "reason": "from the Web UI"})
	})
	w.ExecuteWorkflow(Restore, gatedRestore())
	d := w.report().Approval
	if d.By != "alice" || d.Via != "signal" || d.Reason != "from the Web UI" {
		t.Errorf("the report says %+v", d)
	}
	if len(refused) != 3 || !strings.Contains(refused[0], "not understood") || !strings.Contains(refused[1], "somebody else must approve") || !strings.Contains(refused[2], "plan that waits") {
		t.Errorf("refused: %q", refused)
	}
}

// A payload that cannot be decoded must not block the signals after it.
func TestSignalsAfterOneThatIsNotUnderstood(t *testing.T) {
	w := newWorld(t)
	var states []State
	w.after(time.Minute, func() { w.SignalWorkflow(SignalPause, []int{1}) })
	w.after(2*time.Minute, func() { states = append(states, w.progress().State); w.SignalWorkflow(SignalResume, nil) })
	w.after(3*time.Minute, func() { states = append(states, w.progress().State); w.SignalWorkflow(SignalPause, nil) })
	w.after(4*time.Minute, func() { states = append(states, w.progress().State); w.SignalWorkflow(SignalResume, Control{By: "x"}) })
	w.after(5*time.Minute, func() { w.give(Approve, Answer{By: "alice", Plan: digestA}) })
	w.ExecuteWorkflow(Restore, gatedRestore())
	w.report()
	if len(states) != 3 || states[0] != Paused || states[1] != Waiting || states[2] != Paused {
		t.Errorf("states: %v", states)
	}
}

func TestTargetChangedBetweenPlanAndApproval(t *testing.T) {
	w := newWorld(t)
	w.digests = []string{digestA, digestB}
	var second Progress
	var stale *given
	w.after(time.Minute, func() { w.give(Approve, Answer{By: "alice", Plan: digestA}) })
	w.after(2*time.Minute, func() {
		second = w.progress()
		stale = w.give(Approve, Answer{By: "bob", Plan: digestA})
	})
	w.after(3*time.Minute, func() { w.give(Approve, Answer{By: "bob", Plan: digestB}) })
	w.ExecuteWorkflow(Restore, gatedRestore())
	d := w.report().Approval
	if second.State != Waiting || second.Approval.Round != 2 || second.Approval.Plan.Digest != digestB {
		t.Errorf("asked again: %+v", second.Approval)
	}
	wantType(t, stale.err, OtherPlan)
	if d.By != "bob" || d.Plan != digestB {
		t.Errorf("the report says %+v", d)
	}
	if !w.called("PrepareTargets plan-2") {
		t.Errorf("not the plan made last was carried out: %q", w.calls)
	}
}

// A target that no plan can be made for any more ends the operation.
func TestTargetChangedSoThatNoPlanIsPossible(t *testing.T) {
	w := newWorld(t)
	w.after(time.Minute, func() {
		w.refuse("PlanRestore")
		w.give(Approve, Answer{By: "alice", Plan: digestA})
	})
	w.ExecuteWorkflow(Restore, gatedRestore())
	wantType(t, w.GetWorkflowError(), activities.Refused)
	w.wantCalls("PlanRestore", "PlanRestore")
}

func TestTimeouts(t *testing.T) {
	t.Run("fail", func(t *testing.T) {
		w := newWorld(t)
		w.ExecuteWorkflow(Restore, gatedRestore())
		wantType(t, w.GetWorkflowError(), activities.ApprovalTimeout)
		w.wantCalls("PlanRestore")
	})
	t.Run("proceed", func(t *testing.T) {
		w := newWorld(t)
		req := gatedRestore()
		req.Approval.OnTimeout, req.Approval.FourEyes = "proceed", false
		w.ExecuteWorkflow(Restore, req)
		if d := w.report().Approval; d.Outcome != activities.Proceeded || d.By != "" || d.Via != "timeout" {
			t.Errorf("the report says %+v", d)
		}
	})
	t.Run("remind", func(t *testing.T) {
		w := newWorld(t)
		req := gatedRestore()
		req.Approval.OnTimeout = "remind"
		req.Notifications = config.Notifications{Slack: config.Slack{URL: config.NewSecret("${SLACK}"), On: []string{config.OnWaiting}}}
		w.RegisterWorkflow(Notify)
		told := 0
		w.SetOnChildWorkflowStartedListener(func(*workflow.Info, workflow.Context, converter.EncodedValues) { told++ })
		var p Progress
		w.after(150*time.Minute, func() {
			p = w.progress()
			w.give(Approve, Answer{By: "alice", Plan: digestA})
		})
		w.ExecuteWorkflow(Restore, req)
		w.report()
		if p.State != Waiting || p.Approval.Reminders != 2 || !p.Approval.Until.After(p.Approval.AskedAt.Add(2*time.Hour)) {
			t.Errorf("after two and a half hours: %+v", p.Approval)
		}
		if told != 3 {
			t.Errorf("told %d times, want once for the question and once for each reminder", told)
		}
	})
}

func TestNobodyCouldApprove(t *testing.T) {
	for name, set := range map[string]func(*activities.Requested){
		"of approvers there is only the requester": func(r *activities.Requested) { r.Approval.Approvers = []string{"Carol"} },
		"it is not known who asked":                func(r *activities.Requested) { r.Requester = " " },
	} {
		w := newWorld(t)
		req := gatedRestore()
		set(&req.Requested)
		w.ExecuteWorkflow(Restore, req)
		err := w.GetWorkflowError()
		wantType(t, err, activities.Configuration)
		if !strings.Contains(err.Error(), name) {
			t.Errorf("error is %v", err)
		}
	}
}

// The attributes say what was decided from the moment on that it was, whatever
// becomes of the operation.
func TestDecisionIsIndexedAtOnce(t *testing.T) {
	approve := func(w *world) { w.give(Approve, Answer{By: "alice", Plan: digestA}) }
	for name, c := range map[string]struct {
		meanwhile func(w *world)
		want      string // approvals and the approver, at the end
	}{
		"planned again":            {approve, "waiting approved alice"},
		"no plan is possible":      {func(w *world) { w.refuse("PlanRestore"); approve(w) }, "waiting approved alice"},
		"cancelled":                {func(w *world) { approve(w); w.CancelWorkflow() }, "waiting approved alice"},
		"rejected":                 {func(w *world) { w.give(Reject, Answer{By: "bob"}) }, "waiting rejected bob"},
		"cancelled while it waits": {func(w *world) { w.CancelWorkflow() }, "waiting withdrawn "},
		"nobody answers":           {func(w *world) {}, "waiting timed-out "},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			in := w.indexed()
			w.after(time.Minute, func() { c.meanwhile(w) })
			w.ExecuteWorkflow(Restore, gatedRestore())
			if got := strings.Join(append(in.approvals, in.last[temporalservice.KeyApprover]), " "); got != c.want {
				t.Errorf("indexed: %s, want %s", got, c.want)
			}
		})
	}
	t.Run("paused", func(t *testing.T) {
		w := newWorld(t)
		in := w.indexed()
		w.after(time.Minute, func() { w.SignalWorkflow(SignalPause, nil) })
		w.after(2*time.Minute, func() { approve(w) })
		w.after(3*time.Minute, func() {
			if got := in.last[temporalservice.KeyApproval]; got != "approved" || w.count("PlanRestore") != 1 {
				t.Errorf("approved while it is paused, it is listed as %q", got)
			}
			w.SignalWorkflow(SignalResume, nil)
		})
		w.ExecuteWorkflow(Restore, gatedRestore())
		w.report()
	})
	t.Run("asked anew", func(t *testing.T) {
		w := newWorld(t)
		w.digests = []string{digestA, digestB}
		in := w.indexed()
		w.after(time.Minute, func() { approve(w) })
		w.after(2*time.Minute, func() {
			if got := in.last[temporalservice.KeyApproval]; got != "waiting" {
				t.Errorf("while the second plan waits: %s", got)
			}
			w.give(Approve, Answer{By: "bob", Plan: digestB})
		})
		w.ExecuteWorkflow(Restore, gatedRestore())
		w.report()
		if got := strings.Join(append(in.approvals, in.last[temporalservice.KeyApprover]), " "); got != "waiting approved waiting approved bob" {
			t.Errorf("indexed: %s", got)
		}
	})
}

// Reminders become rare, however short the time is that was set.
func TestRemindersBecomeRare(t *testing.T) {
	w := newWorld(t)
	req := gatedRestore()
	req.Approval.OnTimeout, req.Approval.Timeout = "remind", config.Duration(time.Second)
	var month, year int
	w.after(30*24*time.Hour, func() { month = w.progress().Approval.Reminders })
	w.after(365*24*time.Hour, func() {
		year = w.progress().Approval.Reminders
		w.give(Approve, Answer{By: "alice", Plan: digestA})
	})
	w.ExecuteWorkflow(Restore, req)
	w.report()
	if month < 30 || month > 150 || year-month < 330 || year-month > 340 {
		t.Errorf("%d reminders in a month, %d in a year", month, year)
	}
}

// Two approvers at once: one answer counts, the other is told so.
func TestTwoAnswersAtOnce(t *testing.T) {
	for _, second := range []string{Approve, Reject} {
		t.Run(second, func(t *testing.T) {
			w := newWorld(t)
			var first, other *given
			w.after(time.Minute, func() {
				first = w.give(Approve, Answer{By: "alice", Plan: digestA})
				other = w.give(second, Answer{By: "bob", Plan: digestA})
			})
			w.ExecuteWorkflow(Restore, gatedRestore())
			if d := w.report().Approval; d.By != "alice" {
				t.Errorf("the report says %+v", d)
			}
			if !first.completed || first.err != nil || !other.rejected {
				t.Errorf("first %+v, second %+v", first, other)
			}
			wantType(t, other.err, Answered)
		})
	}
}

// An approval and a cancel at once: whichever comes first, the operation ends
// cancelled and has changed nothing; an approval after the cancel is refused.
func TestApproveAndCancelAtOnce(t *testing.T) {
	for name, cancel := range map[string]func(*world){
		"request": func(w *world) { w.CancelWorkflow() },
		"signal":  func(w *world) { w.SignalWorkflow(SignalCancel, Control{By: "dave"}) },
	} {
		t.Run(name+" first", func(t *testing.T) {
			w := newWorld(t)
			var g *given
			w.after(time.Minute, func() {
				cancel(w)
				g = w.give(Approve, Answer{By: "alice", Plan: digestA})
			})
			w.ExecuteWorkflow(Restore, gatedRestore())
			if err := w.GetWorkflowError(); !canceled(err) {
				t.Errorf("error is %v, want a cancellation", err)
			}
			if g.accepted {
				t.Errorf("the approval was accepted after the cancel: %+v", g)
			}
			w.wantCalls("PlanRestore")
		})
		t.Run("approval first, then "+name, func(t *testing.T) {
			w := newWorld(t)
			w.after(time.Minute, func() {
				w.give(Approve, Answer{By: "alice", Plan: digestA})
				cancel(w)
			})
			w.ExecuteWorkflow(Restore, gatedRestore())
			if err := w.GetWorkflowError(); !canceled(err) {
				t.Errorf("error is %v, want a cancellation", err)
			}
			if w.called("PrepareTargets") {
				t.Errorf("the target was changed: %q", w.calls)
			}
		})
	}
}

// An approval at the moment that the time ends: one of the two counts.
func TestApproveWhenTimeEnds(t *testing.T) {
	w := newWorld(t)
	var g *given
	w.after(time.Hour, func() { g = w.give(Approve, Answer{By: "alice", Plan: digestA}) })
	w.ExecuteWorkflow(Restore, gatedRestore())
	err := w.GetWorkflowError()
	if g == nil {
		wantType(t, err, activities.ApprovalTimeout) // the workflow was closed already
		return
	}
	if approved := g.completed && g.err == nil; approved != (err == nil) {
		t.Errorf("the approval: %+v; the operation: %v", g, err)
	}
}

// After a timeout that reminds and one that proceeds, an answer is too late
// only in the second case.
func TestApproveAfterTimeout(t *testing.T) {
	w := newWorld(t)
	req := gatedRestore()
	req.Approval.OnTimeout, req.Approval.FourEyes = "proceed", false
	var g *given
	w.hang("RestorePart 0", func() { g = w.give(Reject, Answer{By: "alice", Plan: digestA}); w.SignalWorkflow(SignalCancel, nil) })
	w.ExecuteWorkflow(Restore, req)
	if g == nil || !g.rejected {
		t.Fatalf("the answer: %+v", g)
	}
	wantType(t, g.err, Answered)
}

func TestBackupWaitsForApprovalToo(t *testing.T) {
	w := newWorld(t)
	req := activities.BackupRequest{BackupID: "b"}
	req.Requester, req.Approval, req.Options.MaxConcurrentParts = "carol", approval(), 1
	w.after(time.Minute, func() {
		if w.called("CopyPart") {
			t.Error("copied before the approval")
		}
		w.give(Approve, Answer{By: "alice", Plan: digestA})
	})
	w.ExecuteWorkflow(Backup, req)
	var r activities.BackupReport
	if err := w.GetWorkflowResult(&r); err != nil {
		t.Fatal(err)
	}
	if r.Approval == nil || r.Approval.By != "alice" {
		t.Errorf("the report says %+v", r.Approval)
	}
}
