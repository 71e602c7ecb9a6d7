package operate

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/test/rig"
	"github.com/kafka-backup/kafka-backup/workflows"
)

// fourEyes is an approval by somebody else than carol.
func fourEyes(more rig.Document) rig.Document {
	a := rig.Document{"required": true, "four_eyes": true, "approvers": []string{"alice", "bob", "carol"}}
	for k, v := range more {
		a[k] = v
	}
	return a
}

// plan is the digest that waits, as it is shown.
func plan(p workflows.Progress) string { return p.Approval.Plan.Digest[:12] }

func TestApproveFromTheCommandLine(t *testing.T) {
	o := newOperator(t, 4*time.Minute)
	o.worker()
	r := o.restore("cli-", nil, fourEyes(nil))
	out := o.start("carol", r, 8)
	p := o.awaitState(r.id, workflows.Waiting)
	o.wantCode(out, 8, "Waiting for approval", plan(p), "kafka-backup approve "+r.id+" --plan")
	if got := o.exist(r); len(got) > 0 {
		t.Fatalf("created before the approval: %v", got)
	}

	listed := o.run("alice", "operations", "--waiting")
	o.wantCode(listed, 0, r.id, "waiting", plan(p), "to be created", "cli-orders", "Requested by", "carol")
	var list struct {
		Operations []struct {
			WorkflowID string              `json:"workflow_id"`
			Approval   string              `json:"approval"`
			Requester  string              `json:"requester"`
			Cluster    string              `json:"cluster"`
			Waiting    *workflows.Question `json:"waiting"`
		} `json:"operations"`
	}
	listed = o.run("alice", "operations", "--state", "waiting", "--kind", "restore", "--backup-id", "b1", "--since", "1h", "--output", "json")
	o.must(listed.JSON(&list))
	if n := len(list.Operations); n != 1 || list.Operations[0].Waiting == nil || list.Operations[0].Requester != "carol" || list.Operations[0].Cluster == "" {
		t.Fatalf("%d operations are listed: %s", n, listed)
	}
	byCluster := o.run("alice", "operations", "--cluster", list.Operations[0].Cluster, "--waiting")
	o.wantCode(byCluster, 0, r.id)
	if other := o.run("alice", "operations", "--cluster", "another", "--waiting"); strings.Contains(other.Out, r.id) {
		t.Errorf("an operation on another cluster is listed: %s", other)
	}

	o.wantCode(o.run("alice", "approve", r.id), 2, "--plan "+plan(p), "cli-orders")
	o.wantCode(o.run("carol", "approve", r.id, "--plan", plan(p)), 1, "somebody else must approve")
	o.wantCode(o.run("mallory", "approve", r.id, "--plan", plan(p)), 1, "not among the approvers")
	o.wantCode(o.run("alice", "approve", r.id, "--plan", "0123456789ab"), 1, "plan that waits")
	o.wantCode(o.run("alice", "approve", r.id, "--plan", plan(p), "--reason", "looks right"), 0, "approved by alice")
	o.wantCode(o.run("bob", "watch", r.id), 0, "Approval", "approved by alice", "looks right")
	o.wantCode(o.run("bob", "approve", r.id, "--plan", plan(p)), 1, "has ended")

	shown := o.run("bob", "operations", "show", r.id)
	o.wantCode(shown, 0, "approved by alice", "looks right", plan(p), "cli-orders", "completed", "Offset mapping")
	o.same(r)
}

func TestApproveBySignal(t *testing.T) {
	o := newOperator(t, 3*time.Minute)
	o.worker()
	r := o.restore("sig-", nil, fourEyes(nil), "src-orders")
	o.start("carol", r, 8)
	p := o.awaitState(r.id, workflows.Waiting)
	// As the Web UI and `temporal workflow signal` send it.
	o.must(o.temporal.SignalWorkflow(o.ctx, r.id, "", "approve", map[string]string{"by": "carol", "plan": plan(p)}))
	p = o.await(r.id, "a refused answer", func(p workflows.Progress) bool { return len(p.Approval.Refused) == 1 })
	o.must(o.temporal.SignalWorkflow(o.ctx, r.id, "", "approve", map[string]string{"by": "alice", "plan": plan(p), "reason": "by signal"}))
	var report activities.RestoreReport
	o.must(o.temporal.GetWorkflow(o.ctx, r.id, "").Get(o.ctx, &report))
	if d := report.Approval; d == nil || d.By != "alice" || d.Via != "signal" {
		t.Errorf("the report says %+v", d)
	}
	o.same(r)
}

func TestReject(t *testing.T) {
	o := newOperator(t, 3*time.Minute)
	o.worker()
	r := o.restore("rej-", nil, fourEyes(nil), "src-orders")
	o.start("carol", r, 8)
	o.awaitState(r.id, workflows.Waiting)
	o.wantCode(o.run("bob", "reject", r.id, "--reason", "wrong cluster"), 0, "rejected by bob")
	o.wantCode(o.run("carol", "watch", r.id), 1, "rejected by bob: wrong cluster", "nothing was changed")
	if got := o.exist(r); len(got) > 0 {
		t.Errorf("created: %v", got)
	}
}

// A topic that somebody creates and fills in the target while the plan waits
// makes another plan, which is asked for anew.
func TestTargetChangesWhileThePlanWaits(t *testing.T) {
	o := newOperator(t, 3*time.Minute)
	o.worker()
	r := o.restore("chg-", rig.Document{"existing_topics": "append"}, fourEyes(nil), "src-orders")
	o.start("carol", r, 8)
	first := o.awaitState(r.id, workflows.Waiting)
	_, err := o.adm.CreateTopic(o.ctx, 6, 1, nil, "chg-orders")
	o.must(err)
	cl, err := kgo.NewClient(o.opts...)
	o.must(err)
	defer cl.Close()
	o.must(cl.ProduceSync(o.ctx, &kgo.Record{Topic: "chg-orders", Key: []byte("k"), Value: []byte("before")}).FirstErr())

	o.wantCode(o.run("alice", "approve", r.id, "--plan", plan(first)), 0, "approved by alice")
	second := o.await(r.id, "asked again", func(p workflows.Progress) bool { return p.Approval.Round == 2 })
	if plan(second) == plan(first) {
		t.Fatal("the second plan has the digest of the first")
	}
	o.wantCode(o.run("alice", "approve", r.id, "--plan", plan(first)), 1, "plan that waits")
	o.wantCode(o.run("bob", "approve", r.id, "--plan", plan(second)), 0, "approved by bob")
	var report activities.RestoreReport
	o.must(o.temporal.GetWorkflow(o.ctx, r.id, "").Get(o.ctx, &report))
	if d := report.Approval; d.By != "bob" || d.Plan != second.Approval.Plan.Digest {
		t.Errorf("the report says %+v", d)
	}
}

// Two approvers at once: one answer counts, and the other is told so.
func TestTwoApproversAtOnce(t *testing.T) {
	o := newOperator(t, 3*time.Minute)
	o.worker()
	r := o.restore("two-", nil, fourEyes(nil), "src-orders")
	o.start("carol", r, 8)
	p := o.awaitState(r.id, workflows.Waiting)
	errs := o.atOnce(
		func() error { return o.update(r.id, workflows.Approve, workflows.Answer{By: "alice", Plan: plan(p)}) },
		func() error { return o.update(r.id, workflows.Reject, workflows.Answer{By: "bob", Plan: plan(p)}) },
	)
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Fatalf("both or none counted: %v", errs)
	}
	err := o.temporal.GetWorkflow(o.ctx, r.id, "").Get(o.ctx, nil)
	if (errs[0] == nil) != (err == nil) {
		t.Errorf("approve: %v, reject: %v, and the restore ended with %v", errs[0], errs[1], err)
	}
	if approved := len(o.exist(r)) > 0; approved != (errs[0] == nil) {
		t.Errorf("approve: %v, and topics are there: %v", errs[0], approved)
	}
}

// An approval and a cancel at once: it ends cancelled, and the target was
// changed only if the approval counted.
func TestApproveAndCancelAtOnce(t *testing.T) {
	o := newOperator(t, 3*time.Minute)
	o.worker()
	r := o.restore("can-", rig.Document{"rate_limit_records_per_sec": 20}, fourEyes(nil), "src-load")
	o.start("carol", r, 8)
	p := o.awaitState(r.id, workflows.Waiting)
	errs := o.atOnce(
		func() error { return o.update(r.id, workflows.Approve, workflows.Answer{By: "alice", Plan: plan(p)}) },
		func() error { return o.temporal.CancelWorkflow(o.ctx, r.id, "") },
	)
	o.must(errs[1])
	if err := o.temporal.GetWorkflow(o.ctx, r.id, "").Get(o.ctx, nil); err == nil {
		t.Error("it completed although it was cancelled")
	}
	if s := o.status(r.id); s != enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED {
		t.Errorf("it ended as %v", s)
	}
	if errs[0] != nil && len(o.exist(r)) > 0 {
		t.Errorf("the approval was refused (%v) and the target was changed", errs[0])
	}
}

// An approval that comes when time has decided changes nothing, and whoever
// gives it as an update is told so.
func TestApproveAfterTimeout(t *testing.T) {
	o := newOperator(t, 4*time.Minute)
	o.worker()
	r := o.restore("late-", nil, fourEyes(rig.Document{"timeout": "2s"}), "src-orders")
	o.start("carol", r, 8)
	p := o.awaitState(r.id, workflows.Waiting)
	o.wantCode(o.run("carol", "watch", r.id), 1, "nobody answered within 2s", "nothing was changed")
	late := workflows.Answer{By: "alice", Plan: plan(p)}
	if err := o.update(r.id, workflows.Approve, late); err == nil {
		t.Error("an approval of what has failed counts")
	}
	o.wantCode(o.run("alice", "approve", r.id, "--plan", plan(p)), 1, "has ended")
	if err := o.temporal.SignalWorkflow(o.ctx, r.id, "", workflows.Approve, late); err == nil {
		t.Error("an approval of what has failed is taken")
	}
	if got := o.exist(r); len(got) > 0 {
		t.Errorf("created: %v", got)
	}

	r = o.restore("proceed-", slow, rig.Document{"required": true, "timeout": "2s", "on_timeout": "proceed"}, "src-load")
	o.start("carol", r, 8)
	p = o.await(r.id, "going on by itself", func(p workflows.Progress) bool { return p.Approval != nil && p.Approval.Decision != nil })
	late.Plan = plan(p)
	if err := o.update(r.id, workflows.Approve, late); err == nil || !strings.Contains(err.Error(), "the time for an answer ended at") {
		t.Errorf("the update: %v", err)
	}
	o.must(o.temporal.SignalWorkflow(o.ctx, r.id, "", workflows.Reject, late))
	p = o.await(r.id, "a refused answer", func(p workflows.Progress) bool { return len(p.Approval.Refused) == 1 })
	if !strings.Contains(p.Approval.Refused[0], "the time for an answer ended at") || p.Approval.Decision.Outcome != activities.Proceeded {
		t.Errorf("refused: %q, decided: %+v", p.Approval.Refused, p.Approval.Decision)
	}
	o.wantCode(o.run("dave", "cancel", r.id), 0)
	o.wantCode(o.run("carol", "watch", r.id), 1, "cancelled in phase")
}

// What waits survives the death of everything.
func TestWaitingSurvivesKills(t *testing.T) {
	o := newOperator(t, 4*time.Minute)
	w := o.worker()
	r := o.restore("kill-", nil, fourEyes(nil), "src-orders")
	o.start("carol", r, 8)
	before := o.awaitState(r.id, workflows.Waiting)
	o.must(w.Kill())
	o.must(o.rig.KillServer())
	o.must(o.rig.RestartServer(o.ctx))
	o.worker()
	after := o.awaitState(r.id, workflows.Waiting)
	if plan(after) != plan(before) || !after.Approval.AskedAt.Equal(before.Approval.AskedAt) {
		t.Errorf("another question waits now: %+v", after.Approval)
	}
	o.wantCode(o.run("alice", "approve", r.id, "--plan", plan(before)), 0)
	o.wantCode(o.run("carol", "watch", r.id), 0, "approved by alice")
	o.same(r)
}

// update sends an answer and tells whether it counts.
func (o *operator) update(id, name string, a workflows.Answer) error {
	h, err := o.temporal.UpdateWorkflow(o.ctx, client.UpdateWorkflowOptions{
		WorkflowID: id, UpdateName: name, Args: []any{a}, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err != nil {
		return err
	}
	return h.Get(o.ctx, nil)
}

// atOnce does several things at the same time.
func (o *operator) atOnce(do ...func() error) []error {
	errs := make([]error, len(do))
	begin, stop := context.WithCancel(o.ctx)
	var wg sync.WaitGroup
	for i, fn := range do {
		wg.Go(func() {
			<-begin.Done()
			errs[i] = fn()
		})
	}
	stop()
	wg.Wait()
	return errs
}
