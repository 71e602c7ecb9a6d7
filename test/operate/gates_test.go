package operate

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"

	"github.com/kafka-backup/kafka-backup/test/rig"
	"github.com/kafka-backup/kafka-backup/workflows"
)

// ways are the ways in which the question for approval ends.
var ways = map[string]struct {
	approval rig.Document
	// answer answers the question, once it was put.
	answer func(m *met, p workflows.Progress)
	code   int // of the command that follows
	words  []string
	done   bool // it was carried out
}{
	"update": {fourEyes(nil), func(m *met, p workflows.Progress) {
		m.wantCode(m.run("carol", "approve", m.id, "--plan", plan(p)), 1, "somebody else must approve")
		m.wantCode(m.run("alice", "approve", m.id, "--plan", plan(p), "--reason", "reviewed twice"), 0)
		m.awaitFound(`KafkaBackupApproval = "approved" AND KafkaBackupApprover = "alice" AND KafkaBackupReason = "twice" AND KafkaBackupPlan = "` + plan(p) +
			`" AND KafkaBackupDecidedAt >= "` + p.Approval.AskedAt.Format(time.RFC3339) + `"`)
	}, 0, []string{"approved by alice", "reviewed twice"}, true},
	"signal": {fourEyes(nil), func(m *met, p workflows.Progress) {
		m.must(m.temporal.SignalWorkflow(m.ctx, m.id, "", "approve", map[string]string{"by": "mallory", "plan": plan(p)}))
		m.await(m.id, "a refused answer", func(p workflows.Progress) bool { return len(p.Approval.Refused) == 1 })
		m.must(m.temporal.SignalWorkflow(m.ctx, m.id, "", "approve", map[string]string{"by": "bob", "plan": plan(p)}))
	}, 0, []string{"approved by bob"}, true},
	"reject": {fourEyes(nil), func(m *met, p workflows.Progress) {
		m.wantCode(m.run("bob", "reject", m.id, "--reason", "wrong cluster"), 0)
	}, 1, []string{"rejected by bob: wrong cluster", "nothing was changed"}, false},
	"fail":    {fourEyes(rig.Document{"timeout": "1s"}), nil, 1, []string{"nobody answered within 1s", "nothing was changed"}, false},
	"proceed": {rig.Document{"required": true, "timeout": "1s", "on_timeout": "proceed"}, nil, 0, []string{"proceeded", "nobody answered within 1s"}, true},
	"remind": {fourEyes(rig.Document{"timeout": "1s", "on_timeout": "remind"}), func(m *met, p workflows.Progress) {
		m.await(m.id, "a reminder", func(p workflows.Progress) bool { return p.Approval.Reminders > 0 })
		m.must(m.update(m.id, workflows.Approve, workflows.Answer{By: "alice", Plan: plan(p)}))
	}, 0, []string{"approved by alice"}, true},
	"cancel": {fourEyes(nil), func(m *met, p workflows.Progress) {
		m.wantCode(m.run("dave", "cancel", m.id), 0)
		m.awaitFound(`KafkaBackupApproval = "withdrawn" AND KafkaBackupState = "cancelled"`)
	}, 1, []string{"cancelled in phase plan by dave"}, false},
	"changed": {fourEyes(nil), func(m *met, p workflows.Progress) {
		gates[m.kind()].change(m)
		m.must(m.update(m.id, workflows.Approve, workflows.Answer{By: "alice", Plan: plan(p)}))
		again := m.await(m.id, "asked again", func(p workflows.Progress) bool { return p.Approval.Round == 2 })
		if plan(again) == plan(p) {
			m.t.Error("the second plan has the digest of the first")
		}
		if err := m.update(m.id, workflows.Approve, workflows.Answer{By: "alice", Plan: plan(p)}); err == nil {
			m.t.Error("the plan of before was approved")
		}
		m.must(m.update(m.id, workflows.Approve, workflows.Answer{By: "bob", Plan: plan(again)}))
	}, 0, []string{"approved by bob"}, true},
}

// gates are the kinds of operations that can wait for approval, beside the
// restore, and the ways in which each is answered.
var gates = map[string]struct {
	ways   []string
	change func(m *met) // changes what the plan has found
	check  func(m *met, way string, done bool, out *rig.Outcome)
}{
	"prune": {
		[]string{"update", "signal", "reject", "fail", "proceed", "remind", "cancel", "changed"},
		func(m *met) {
			m.wantCode(m.onRepository("hold", "add", "--backup-id", "h1", "--name", "audit", "--reason", "case 7"), 0)
		},
		func(m *met, way string, done bool, out *rig.Outcome) {
			left := 2
			if done {
				left = 0
			}
			if way == "changed" {
				left = 1 // the one that is held
			}
			m.wantBackups(left, out)
		},
	},
	"offset-reset":      {[]string{"update", "remind", "changed"}, moveGroup, resetChecked(3 * metRecords)},
	"offset-reset-bulk": {[]string{"signal", "reject", "changed"}, moveGroup, resetChecked(3 * metRecords)},
	"offset-rollback":   {[]string{"update", "signal", "reject", "fail", "proceed", "remind", "cancel", "changed"}, moveGroup, resetChecked(atSnapshot)},
	"offset-snapshot-delete": {[]string{"signal", "reject"}, nil, func(m *met, _ string, done bool, out *rig.Outcome) {
		if n := m.snapshots(); (n == 0) != done {
			m.t.Errorf("there are %d snapshots: %s", n, out)
		}
	}},
	"backup": {[]string{"update", "reject"}, nil, func(m *met, _ string, done bool, out *rig.Outcome) {
		code := 1
		if done {
			code = 0
		}
		m.wantCode(m.onRepository("describe", "--backup-id", m.name), code)
	}},
}

// moveGroup has a group go on while the plan waits.
func moveGroup(m *met) { m.commit(m.topic, atFirst+1, m.groups()[0]) }

func resetChecked(to int64) func(*met, string, bool, *rig.Outcome) {
	return func(m *met, _ string, done bool, out *rig.Outcome) {
		want := to
		if !done {
			want = atFirst
		}
		m.wantCommitted(m.groups()[1], m.topic, want)
	}
}

// kind is the kind of operation that this is.
func (m *met) kind() string {
	kind, _, _ := strings.Cut(m.name, ".")
	return kind
}

// awaitFound waits until the operation is found by a query of the Web UI.
func (m *met) awaitFound(query string) {
	m.t.Helper()
	for {
		n, err := m.temporal.CountWorkflow(m.ctx, &workflowservice.CountWorkflowExecutionsRequest{Query: `WorkflowId = "` + m.id + `" AND ` + query})
		m.must(err)
		if n.GetCount() == 1 {
			return
		}
		select {
		case <-m.ctx.Done():
			m.t.Fatalf("%s is not found by %s", m.id, query)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Every kind of change can be made to wait for approval, and is carried out
// exactly when somebody who may has approved it, or time has where it may.
func TestEachGate(t *testing.T) {
	o := newOperator(t, 8*time.Minute)
	type run struct{ kind, way, name string }
	var runs []run
	var names []string
	for kind, g := range gates {
		for _, way := range g.ways {
			name := kind + "." + way
			runs, names = append(runs, run{kind, way, name}), append(names, name)
		}
	}
	all := o.ground(names)
	o.worker()
	var ended sync.WaitGroup
	slots := make(chan struct{}, 6)
	for _, r := range runs {
		ended.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			t.Run(r.name, func(t *testing.T) {
				way := ways[r.way]
				m := &met{operator: o.on(t), ground: all, name: r.name, approval: way.approval}
				if r.kind != "backup" {
					m.must(os.CopyFS(fmt.Sprint(m.location(m.name)["path"]), os.DirFS(all.repository)))
				}
				for i := range operations {
					if operations[i].kind == r.kind {
						m.id = operations[i].start(m)
					}
				}
				if way.answer != nil {
					way.answer(m, m.await(m.id, "the question", func(p workflows.Progress) bool { return p.Approval != nil }))
				}
				out := m.run("carol", "watch", m.id)
				m.wantCode(out, way.code, way.words...)
				gates[r.kind].check(m, r.way, way.done, out)
			})
		})
	}
	ended.Wait()
}
