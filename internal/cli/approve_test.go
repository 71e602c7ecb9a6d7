package cli

import (
	"context"
	"strings"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
	"github.com/kafka-backup/kafka-backup/workflows"
)

const testPlan = "3da35d57bc58e1a04dd27f2f5ae8a17a"

// waitingProgress is a restore that waits for approval.
func waitingProgress() *workflows.Progress {
	return &workflows.Progress{Kind: "restore", Phase: "collect", Phases: []string{"collect", "restore", "reset"}, State: workflows.Waiting,
		Approval: &workflows.Question{
			Plan: activities.Proposal{Key: "operations/x/plan.json", Digest: testPlan, Summary: "restore 2 topics",
				Facts:    []activities.Fact{{Name: "Bytes", Value: "1.0 MiB"}},
				Tables:   []activities.Table{{Name: "Topics", Header: []string{"In the target", "State"}, Rows: [][]string{{"orders", "to be created"}}, More: 3}},
				Warnings: []string{"careful"}},
			Until: testTime.Add(4 * time.Hour), Timeout: "fail", Round: 2, Requester: "carol", Approvers: []string{"alice", "bob"}, FourEyes: true,
			Refused: []string{"approve by mallory does not count: mallory is not among the approvers"},
		}}
}

func TestApproveAndReject(t *testing.T) {
	t.Setenv(userVariable, "alice")
	for _, name := range []string{"approve", "reject"} {
		f := newFakeService()
		r := runProgram(t, f.install, name, "restore/x", "--plan", testPlan[:12], "--reason", "looked at it")
		if r.code != ExitDone || len(f.answers) != 1 || f.answers[0] != (workflows.Answer{By: "alice", Plan: testPlan[:12], Reason: "looked at it"}) {
			t.Errorf("%s: code %d, answers %+v, %q", name, r.code, f.answers, r.err)
		}
		if want := "restore/x: " + map[string]string{"approve": "approved", "reject": "rejected"}[name] + " by alice"; !strings.Contains(r.err, want) {
			t.Errorf("%s says %q, want %q", name, r.err, want)
		}
		f = newFakeService()
		f.refusal = temporal.NewNonRetryableApplicationError("mallory is not among the approvers (alice, bob)", workflows.NotApprover, nil)
		r = runProgram(t, f.install, name, "restore/x", "--plan", testPlan, "--by", "mallory")
		if r.code != ExitFailed || f.answers[0].By != "mallory" || !strings.Contains(r.err, "mallory is not among the approvers (alice, bob)") {
			t.Errorf("%s refused: code %d, %q", name, r.code, r.err)
		}
		f = newFakeService()
		f.status = enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
		if r := runProgram(t, f.install, name, "restore/x", "--plan", testPlan); r.code != ExitFailed || len(f.answers) != 0 || !strings.Contains(r.err, "has ended: completed") {
			t.Errorf("%s of one that has ended: code %d, %q", name, r.code, r.err)
		}
	}
	f := newFakeService()
	if r := runProgram(t, f.install, "reject", "restore/x"); r.code != ExitDone || len(f.answers) != 1 {
		t.Errorf("reject without a plan: code %d, %q", r.code, r.err)
	}
}

// Nothing is approved that was not looked at.
func TestApproveWithoutAPlanShowsIt(t *testing.T) {
	f := newFakeService()
	f.progress = waitingProgress()
	r := runProgram(t, f.install, "approve", "restore/x")
	if r.code != ExitUsage || len(f.answers) != 0 {
		t.Errorf("code %d, answers %+v", r.code, f.answers)
	}
	for _, want := range []string{"restore 2 topics", "1.0 MiB", "to be created", "and 3 more", "alice, bob, not the requester", "Warning: careful", "--plan " + testPlan[:12]} {
		if !strings.Contains(r.err, want) {
			t.Errorf("it does not say %q: %s", want, r.err)
		}
	}
	f.progress.State, f.progress.Approval = workflows.Running, nil
	if r := runProgram(t, f.install, "approve", "restore/x"); r.code != ExitFailed || !strings.Contains(r.err, "does not wait for approval") {
		t.Errorf("code %d, %q", r.code, r.err)
	}
}

// A command that ends while its operation waits ends with a code of its own.
func TestExitWhileWaiting(t *testing.T) {
	gated := restoreConfig + "approval: {required: true, approvers: [alice]}\n"
	f := newFakeService()
	f.progress = waitingProgress()
	r := runProgram(t, f.install, "restore", "--config", write(t, gated), "--detach", "--requester", "carol")
	if r.code != ExitWaiting || !strings.Contains(r.err, "kafka-backup approve restore/nightly/") {
		t.Errorf("detached: code %d, %q", r.code, r.err)
	}
	req := f.request.(activities.RestoreRequest)
	if req.Requester != "carol" || !req.Approval.Required || req.Approval.OnTimeout != "fail" || len(req.Approval.Approvers) != 1 {
		t.Errorf("asked for with %+v", req.Requested)
	}
	if who, _ := f.started[0].TypedSearchAttributes.GetKeyword(temporalservice.KeyRequester); who != "carol" {
		t.Errorf("requester in the search attributes: %q", who)
	}

	f = newFakeService()
	f.progress = waitingProgress()
	f.progress.Approval.Decision = &activities.Decision{Outcome: activities.Approved, By: "alice"}
	f.progress.State = workflows.Running
	if r := runProgram(t, f.install, "restore", "--config", write(t, gated), "--detach"); r.code != ExitDone {
		t.Errorf("detached after the approval: code %d, %q", r.code, r.err)
	}

	for _, state := range []workflows.State{workflows.Waiting, workflows.Paused} {
		ctx, interrupt := context.WithCancel(context.Background())
		f = newFakeService()
		f.progress = waitingProgress()
		f.progress.State = state
		p := newProgram(Streams{Out: &strings.Builder{}, Err: &writes{on: "Waiting for approval", do: interrupt}})
		f.install(p)
		if code := p.run(ctx, []string{"restore", "--config", write(t, gated)}); code != ExitWaiting {
			t.Errorf("interrupted while it waits and is %s: code %d", state, code)
		}
	}
}

// writes calls do when a text is written.
type writes struct {
	on string
	do func()
}

func (w *writes) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.on) {
		w.do()
	}
	return len(p), nil
}

func TestCancelledSaysWhatIsLeft(t *testing.T) {
	left := workflows.Left{Phase: "restore", By: &workflows.Control{By: "dave", Reason: "wrong cluster"},
		Did: []string{"40 of at most 100 records are restored"}, Undid: []string{"the topic configurations are as they were"}, NotDone: []string{"offsets"}}
	f := newFakeService().ended(nil, temporal.NewCanceledError(left))
	r := runProgram(t, f.install, "backup", "--config", write(t, backupConfig))
	if r.code != ExitFailed {
		t.Errorf("code %d", r.code)
	}
	for _, want := range []string{"cancelled in phase restore by dave: wrong cluster", "  done, and stays: 40 of at most 100", "  put back: the topic configurations", "  not done: offsets"} {
		if !strings.Contains(r.err, want) {
			t.Errorf("it does not say %q: %s", want, r.err)
		}
	}
}

func TestOperationsByStateClusterAndTime(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--waiting"}, `KafkaBackupKind IS NOT NULL AND ExecutionStatus = "Running" AND KafkaBackupApproval = "waiting"`},
		{[]string{"--state", "paused"}, `KafkaBackupKind IS NOT NULL AND ExecutionStatus = "Running" AND KafkaBackupState IN ("paused", "pausing")`},
		{[]string{"--state", "cancelled", "--kind", "restore"}, `KafkaBackupKind IS NOT NULL AND KafkaBackupKind = "restore" AND ExecutionStatus = "Canceled"`},
		{[]string{"--cluster", `a"b`}, `KafkaBackupKind IS NOT NULL AND KafkaBackupCluster = "a\"b"`},
		{[]string{"--since", "2024-12-01T10:00:00Z", "--until", "2024-12-02T10:00:00+02:00"},
			`KafkaBackupKind IS NOT NULL AND StartTime >= "2024-12-01T10:00:00Z" AND StartTime <= "2024-12-02T08:00:00Z"`},
	} {
		f := newFakeService()
		f.listed = []*workflowpb.WorkflowExecutionInfo{{Execution: &commonpb.WorkflowExecution{WorkflowId: "w"}, Type: &commonpb.WorkflowType{Name: "Restore"}}}
		f.progress = waitingProgress()
		if r := runProgram(t, f.install, append([]string{"operations"}, c.args...)...); r.code != ExitDone || f.query != c.want {
			t.Errorf("%q: code %d %s, query\n  %s\nwant\n  %s", c.args, r.code, r.err, f.query, c.want)
		}
	}
	for _, wrong := range [][]string{{"--state", "lost"}, {"--since", "yesterday"}} {
		if r := runProgram(t, newFakeService().install, append([]string{"operations"}, wrong...)...); r.code != ExitUsage {
			t.Errorf("%q: code %d, %q", wrong, r.code, r.err)
		}
	}
}

func listedWaiting(t *testing.T) *workflowpb.WorkflowExecutionInfo {
	t.Helper()
	fields := map[string]*commonpb.Payload{}
	for key, value := range map[temporal.SearchAttributeKeyKeyword]string{
		temporalservice.KeyKind: "restore", temporalservice.KeyApproval: "waiting", temporalservice.KeyState: "waiting", temporalservice.KeyRequester: "carol", temporalservice.KeyCluster: "dr",
	} {
		p, err := converter.GetDefaultDataConverter().ToPayload(value)
		if err != nil {
			t.Fatal(err)
		}
		fields[key.GetName()] = p
	}
	return &workflowpb.WorkflowExecutionInfo{Execution: &commonpb.WorkflowExecution{WorkflowId: "restore/x", RunId: "run-1"},
		Type: &commonpb.WorkflowType{Name: "Restore"}, Status: enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, SearchAttributes: &commonpb.SearchAttributes{IndexedFields: fields}}
}

func TestWaitingShowsThePlans(t *testing.T) {
	f := newFakeService()
	f.listed = []*workflowpb.WorkflowExecutionInfo{listedWaiting(t)}
	f.progress = waitingProgress()
	r := runProgram(t, f.install, "operations", "--waiting")
	for _, want := range []string{"waiting", "Plan:", testPlan[:12] + ": restore 2 topics", "Refused: approve by mallory", "for the 2. time"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("it does not show %q: %s", want, r.out)
		}
	}
	f.progress = nil // no worker answers
	if r := runProgram(t, f.install, "operations", "--waiting"); r.code != ExitDone || !strings.Contains(r.out, "Its plan cannot be read now: no poller seen") {
		t.Errorf("code %d, %s", r.code, r.out)
	}
}

func TestShowAnOperation(t *testing.T) {
	f := newFakeService()
	f.typeName, f.progress = "Restore", waitingProgress()
	r := runProgram(t, f.install, "operations", "show", "restore/x")
	for _, want := range []string{"Operation: restore/x", "waiting", "Approval", testPlan[:12], "alice, bob, not the requester"} {
		if r.code != ExitDone || !strings.Contains(r.out, want) {
			t.Errorf("code %d; it does not show %q: %s", r.code, want, r.out)
		}
	}

	report := activities.RestoreReport{BackupID: "nightly", Approval: &activities.Decision{Outcome: activities.Approved, By: "alice", Plan: testPlan, At: testTime, Reason: "fine"}}
	f = newFakeService().ended(report, nil)
	f.typeName, f.status = "Restore", enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
	r = runProgram(t, f.install, "operations", "show", "restore/x") // no worker answers
	if r.code != ExitDone || !strings.Contains(r.out, "approved by alice") || !strings.Contains(r.out, "Restore: nightly") {
		t.Errorf("code %d: %s%s", r.code, r.out, r.err)
	}
	if r := runProgram(t, f.install, "operations", "show", "restore/x", "-o", "json"); r.code != ExitDone || !strings.Contains(r.out, `"by": "alice"`) {
		t.Errorf("code %d: %s%s", r.code, r.out, r.err)
	}

	f = newFakeService().ended(nil, temporal.NewCanceledError(workflows.Left{Phase: "restore", NotDone: []string{"much"}}))
	f.typeName, f.status = "Restore", enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED
	if r := runProgram(t, f.install, "operations", "show", "restore/x"); r.code != ExitDone || !strings.Contains(r.out, "cancelled in phase restore") || !strings.Contains(r.out, "not done: much") {
		t.Errorf("code %d: %s%s", r.code, r.out, r.err)
	}
	if r := runProgram(t, f.install, "operations", "show", "missing"); r.code != ExitFailed {
		t.Errorf("missing: code %d, %q", r.code, r.err)
	}
}
