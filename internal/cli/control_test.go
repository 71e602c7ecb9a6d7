package cli

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
	"github.com/kafka-backup/kafka-backup/workflows"
)

func TestControl(t *testing.T) {
	for _, c := range []struct {
		args   []string
		signal string
	}{
		{[]string{"pause", "backup/x", "--reason", "peak hours"}, "pause backup/x"},
		{[]string{"resume", "backup/x"}, "resume backup/x"},
		{[]string{"cancel", "backup/x"}, "cancel backup/x"},
	} {
		f := newFakeService()
		r := runProgram(t, f.install, c.args...)
		if r.code != ExitDone || len(f.signals) != 1 || f.signals[0] != c.signal || !strings.Contains(r.err, "backup/x") {
			t.Errorf("%q: code %d, sent %q, %q", c.args, r.code, f.signals, r.err)
		}
		if c.args[0] == "pause" && (f.control.Reason != "peak hours" || f.control.By != requester()) {
			t.Errorf("control %+v", f.control)
		}
		ended := newFakeService()
		ended.status = enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
		if r := runProgram(t, ended.install, c.args...); r.code != ExitFailed || len(ended.signals) != 0 || !strings.Contains(r.err, "operation backup/x has ended: completed") {
			t.Errorf("%q of one that has ended: code %d, %q", c.args, r.code, r.err)
		}
		if r := runProgram(t, f.install, c.args[0], "missing"); r.code != ExitFailed || !strings.Contains(r.err, "there is no operation missing in 127.0.0.1:7233") {
			t.Errorf("%s missing: code %d, %q", c.args[0], r.code, r.err)
		}
	}
}

// Of a run of a schedule it is the operation that it has started which is meant.
func TestControlOfARunOfASchedule(t *testing.T) {
	p, err := converter.GetDefaultDataConverter().ToPayload("backup/nightly-1/x")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pause", "resume", "cancel", "reject"} {
		f := newFakeService()
		f.scheduled = map[string]*commonpb.Memo{
			"schedule/nightly-1": {Fields: map[string]*commonpb.Payload{workflows.MemoOperation: p}},
			"schedule/nightly-2": nil, // it has not started any
		}
		if r := runProgram(t, f.install, name, "schedule/nightly-1"); r.code != ExitDone || !strings.Contains(r.err, "backup/nightly-1/x") {
			t.Errorf("%s: code %d, %q", name, r.code, r.err)
		}
		if name == "reject" {
			continue
		}
		runProgram(t, f.install, name, "schedule/nightly-2")
		if want := []string{name + " backup/nightly-1/x", name + " schedule/nightly-2"}; !slices.Equal(f.signals, want) {
			t.Errorf("sent %q, want %q", f.signals, want)
		}
	}
}

func TestWatch(t *testing.T) {
	f := newFakeService().ended(testReport, nil)
	r := runProgram(t, f.install, "watch", "backup/x")
	if r.code != ExitDone || !strings.Contains(r.out, "Backup: nightly") || !strings.Contains(r.err, "Running already: workflow backup/x") {
		t.Errorf("code %d, %q, %q", r.code, r.out, r.err)
	}
	f = newFakeService().ended(testReport, nil)
	f.status = enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
	if r := runProgram(t, f.install, "watch", "backup/x"); r.code != ExitDone || r.err != "" || !strings.Contains(r.out, "Backup: nightly") {
		t.Errorf("ended: code %d, %q, %q", r.code, r.out, r.err)
	}
	f = newFakeService().ended(map[string]int{"n": 1}, nil)
	f.typeName = "SomethingNew"
	if r := runProgram(t, f.install, "watch", "x"); r.code != ExitDone || r.out != "n: 1\n" {
		t.Errorf("unknown type: code %d, %q, %q", r.code, r.out, r.err)
	}
	f = newFakeService().ended("just text", nil)
	f.typeName = "SomethingNew"
	if r := runProgram(t, f.install, "watch", "x", "-o", "json"); r.code != ExitDone || r.out != "\"just text\"\n" {
		t.Errorf("unknown type: code %d, %q, %q", r.code, r.out, r.err)
	}
	if r := runProgram(t, f.install, "watch", "missing"); r.code != ExitFailed {
		t.Errorf("missing: code %d, %q", r.code, r.err)
	}
}

func TestOperations(t *testing.T) {
	keyword := func(s string) *commonpb.Payload {
		p, err := converter.GetDefaultDataConverter().ToPayload(s)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	f := newFakeService()
	for i, id := range []string{"backup/nightly/s3", "restore/nightly/dr/1234"} {
		f.listed = append(f.listed, &workflowpb.WorkflowExecutionInfo{
			Execution: &commonpb.WorkflowExecution{WorkflowId: id, RunId: fmt.Sprint("run-", i)},
			Type:      &commonpb.WorkflowType{Name: []string{"Backup", "Restore"}[i]},
			StartTime: timestamppb.New(testTime), CloseTime: timestamppb.New(testTime.Add(90 * time.Second)),
			Status: enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED,
			SearchAttributes: &commonpb.SearchAttributes{IndexedFields: map[string]*commonpb.Payload{
				temporalservice.KeyPhase.GetName(): keyword("complete"), temporalservice.KeyRequester.GetName(): keyword("ann@host")}},
		})
	}
	for golds, args := range map[string][]string{"operations.txt": nil, "operations.csv": {"-o", "csv"}, "operations.json": {"-o", "json"}} {
		r := runProgram(t, f.install, append([]string{"operations"}, args...)...)
		if r.code != ExitDone || r.err != "" {
			t.Errorf("code %d, %q", r.code, r.err)
		}
		golden(t, golds, r.out)
	}
	if r := runProgram(t, f.install, "operations", "--kind", "backup", "--backup-id", `a"b`, "--running"); r.code != ExitDone {
		t.Errorf("code %d, %q", r.code, r.err)
	}
	if want := `KafkaBackupKind IS NOT NULL AND KafkaBackupKind = "backup" AND KafkaBackupID = "a\"b" AND ExecutionStatus = "Running"`; f.query != want {
		t.Errorf("query %s, want %s", f.query, want)
	}
	if r := runProgram(t, f.install, "operations", "--limit", "1", "-o", "csv"); strings.Count(r.out, "\n") != 2 {
		t.Errorf("limit 1: %s", r.out)
	}
}

// The bars must never hold a command up, whatever they are shown.
func TestBarsEnd(t *testing.T) {
	var b bytes.Buffer
	d := newBars(&b)
	d.started(started{"started", "backup/x", "run", "http://ui/"})
	d.show(&view{Time: time.Now(), Waiting: "no worker polls"})
	for i := range 3 {
		d.show(&view{Time: time.Now(), Phase: "copy", Phases: []string{"plan", "copy", "complete"}, State: workflows.Running, Parts: 2,
			Done: activities.Amount{Records: int64(10 * i)}, Total: activities.Amount{Records: 20}, Notes: []string{"a note"}})
	}
	d.note("a %s", "message")
	d.show(&view{Time: time.Now(), Phase: "complete", State: workflows.Finished})
	d.close()
	d.close()
	d.note("after")
	for _, want := range []string{"Started workflow backup/x\nWeb UI: http://ui/\n", "note: a note", "a message", "after\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in %q", want, b.String())
		}
	}
	if strings.Count(b.String(), "note: a note") != 1 {
		t.Errorf("the note is not there once: %q", b.String())
	}
}
