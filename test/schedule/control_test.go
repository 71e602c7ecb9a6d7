package schedule

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.temporal.io/sdk/client"

	"github.com/kafka-backup/kafka-backup/internal/cli"
	"github.com/kafka-backup/kafka-backup/workflows"
)

// A backup that was rejected leaves its id free: the corrected configuration is
// planned, and what has changed since a plan was shown is shown before it counts.
func TestRejectedBackupLeavesItsIDFree(t *testing.T) {
	b := newBed(t)
	b.work()
	gate := "approval: {required: true, timeout: 1h}\n"
	start := func(flags ...string) (id string) {
		t.Helper()
		r := b.command(append([]string{"backup", "--config", b.config("free", gate), "--task-queue", b.queue, "--detach", "--output", "json"}, flags...)...)
		var started struct {
			WorkflowID string `json:"workflow_id"`
		}
		if err := json.Unmarshal([]byte(strings.SplitN(r.err, "\n", 2)[0]), &started); err != nil || r.code != cli.ExitWaiting {
			t.Fatalf("%v: %v", err, r)
		}
		return started.WorkflowID
	}
	waiting := func(id string, round int) string {
		t.Helper()
		return b.until(id, "the question", func(p workflows.Progress) bool { return p.State == workflows.Waiting && p.Approval.Round == round }).Approval.Plan.Digest
	}
	id := start()
	b.must("reject", id, "--plan", waiting(id, 1), "--by", "alice")
	b.until(id, "the end", func(p workflows.Progress) bool { return p.State == workflows.Failed })

	id = start("--topics-exclude", "x-*")
	first := waiting(id, 1)
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.kafka.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 1, 1, nil, "late"); err != nil {
		t.Fatal(err)
	}
	b.produce(5)
	b.must("approve", id, "--plan", first, "--by", "alice")
	second := waiting(id, 2)
	b.must("approve", id, "--plan", second, "--by", "alice")
	if p := b.until(id, "the end", func(p workflows.Progress) bool { return p.State == workflows.Finished }); p.Done.Records != 15 {
		t.Errorf("%d records, want also those that came after it was planned", p.Done.Records)
	}
}

// The operation of a schedule is controlled by way of its run, too: by commands,
// and by signals as the Web UI sends them. Who made the schedule does not
// approve what it does.
func TestControlByTheRunOfASchedule(t *testing.T) {
	b := newBed(t)
	b.work()
	conf := b.config("gated-{{time}}", "approval: {required: true, four_eyes: true, timeout: 1h}\n")
	b.must("schedule", "create", "gated", "--config", conf, "--every", "100d", "--requester", "carol", "--task-queue", b.queue)
	if r := b.must("schedule", "describe", "gated"); !strings.Contains(r.out, "carol") {
		t.Errorf("who made it: %v", r)
	}
	b.must("schedule", "trigger", "gated")
	s := b.await("gated", "its operation", func(s scheduled) bool { return len(s.Recent) == 1 && s.Recent[0].Operation != "" })
	run, operation := s.Recent[0].WorkflowID, s.Recent[0].Operation
	waiting := b.until(operation, "the question", func(p workflows.Progress) bool { return p.State == workflows.Waiting })
	digest := waiting.Approval.Plan.Digest

	for _, id := range []string{run, operation} {
		if r := b.command("approve", id, "--plan", digest, "--by", "carol"); r.code != cli.ExitFailed || !strings.Contains(r.err, "carol asked for the operation") {
			t.Errorf("approved by the one who made the schedule: %v", r)
		}
	}
	if r := b.must("pause", run, "--by", "dave"); !strings.Contains(r.err, "Pausing "+operation) {
		t.Errorf("%v", r)
	}
	b.until(operation, "the pause", func(p workflows.Progress) bool { return p.State == workflows.Paused && p.Control.By == "dave" })
	signal := func(name string, arg any) {
		t.Helper()
		if err := b.client.SignalWorkflow(t.Context(), run, "", name, arg); err != nil {
			t.Fatal(err)
		}
	}
	signal(workflows.SignalResume, nil)
	b.until(operation, "the resume", func(p workflows.Progress) bool { return p.State == workflows.Waiting })
	signal(workflows.Approve, workflows.Answer{By: "alice", Plan: digest})
	if s = b.ran("gated", 1); s.Last.Status != "succeeded" {
		t.Errorf("the run: %+v", s.Last)
	}
	if r := b.must("operations", "--kind", "backup"); !strings.Contains(r.out, "schedule gated (carol)") {
		t.Errorf("operations: %v", r)
	}

	// Whoever changed it last is the one who asked; the queue stays, whatever the shell says.
	t.Setenv("KAFKA_BACKUP_TASK_QUEUE", "elsewhere")
	b.must("schedule", "update", "gated", "--note", "mine", "--requester", "mallory")
	b.must("schedule", "trigger", "gated")
	s = b.await("gated", "its second operation", func(s scheduled) bool { return len(s.Recent) == 2 && s.Recent[0].Operation != "" })
	if p := b.until(s.Recent[0].Operation, "the question", func(p workflows.Progress) bool { return p.State == workflows.Waiting }); p.Approval.Requester != "mallory" {
		t.Errorf("asked by %s", p.Approval.Requester)
	}
	if r := b.must("schedule", "list"); !strings.Contains(r.out, "running, before succeeded") {
		t.Errorf("list: %v", r)
	}
	b.must("cancel", s.Recent[0].WorkflowID)
	if s = b.ran("gated", 2); s.Last.Status != "cancelled" {
		t.Errorf("the run: %+v", s.Last)
	}

	b.must("schedule", "update", "gated", "--config", b.config("gated-{{time}}", "temporal: {task_queue: berlin}\n"))
	d, err := b.client.ScheduleClient().GetHandle(t.Context(), "gated").Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Schedule.Action.(*client.ScheduleWorkflowAction).TaskQueue; got != "berlin" {
		t.Errorf("the queue is %q", got)
	}
}
