package workflows

import (
	"testing"
	"time"

	"github.com/kafka-backup/kafka-backup/activities"
)

func gatedBackup() activities.BackupRequest {
	r := backupRequest()
	r.Requester, r.Approval = "carol", approval()
	return r
}

// A backup looks at the cluster anew after its approval, and asks again when that
// has changed. It begins with the plan that was made last.
func TestBackupIsPlannedAnewAfterItsApproval(t *testing.T) {
	w := newWorld(t)
	w.digests = []string{digestA, digestB}
	w.after(time.Minute, func() { w.give(Approve, Answer{By: "alice", Plan: digestA}) })
	w.after(2*time.Minute, func() {
		if q := w.progress().Approval; q.Round != 2 || q.Plan.Digest != digestB {
			t.Errorf("the question: %+v", q)
		}
		w.give(Approve, Answer{By: "alice", Plan: digestB})
	})
	w.ExecuteWorkflow(Backup, gatedBackup())
	if err := w.GetWorkflowError(); err != nil {
		t.Fatal(err)
	}
	w.wantCalls("ProposeBackup", "ProposeBackup", "ProposeBackup", "BeginBackup plan-2", "CopyPart 0", "CopyPart 1", "CopyPart 2", "CompleteBackup")
}

// One that is rejected has begun nothing.
func TestRejectedBackupBeginsNothing(t *testing.T) {
	w := newWorld(t)
	w.after(time.Minute, func() { w.give(Reject, Answer{By: "alice"}) })
	w.ExecuteWorkflow(Backup, gatedBackup())
	if w.GetWorkflowError() == nil {
		t.Error("it ends well")
	}
	w.wantCalls("ProposeBackup")
}
