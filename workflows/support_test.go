package workflows

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/prune"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
)

// fakes are activities that say that they were called, and do more where a
// test wants it.
type fakes struct {
	// digests are those of the plans, by round; the last one stays.
	digests []string
	// on is called once when an activity of that name begins; what it returns
	// is done in its place. Names are those in calls.
	on map[string]func(ctx context.Context) error

	// What the activities that set offsets say instead of that all is well; nil:
	// it is.
	applied  func(round int) activities.OffsetsApplied
	verified func(last bool) activities.OffsetsVerified
	undone   func(round int) activities.OffsetsUndone

	mu    sync.Mutex
	calls []string
	over  chan struct{}
	// stopped is closed when the workflow stops an activity: Temporal's test
	// environment does not end the activity's context.
	stopped chan struct{}
}

func newFakes(t *testing.T) *fakes {
	f := &fakes{digests: []string{digestA}, on: map[string]func(context.Context) error{}, over: make(chan struct{}), stopped: make(chan struct{})}
	t.Cleanup(func() { close(f.over) })
	return f
}

// world is Temporal's test environment with such activities.
type world struct {
	*testsuite.TestWorkflowEnvironment
	*fakes
	t *testing.T
}

const (
	digestA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	digestB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

func newWorld(t *testing.T) *world {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	w := &world{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment(), fakes: newFakes(t), t: t}
	stop := sync.OnceFunc(func() { close(w.stopped) })
	w.SetOnActivityCanceledListener(func(*activity.Info) { stop() })
	w.SetTestTimeout(time.Minute)
	w.SetWorkerOptions(worker.Options{DeadlockDetectionTimeout: time.Minute}) // however busy the machine is
	w.register(w)
	return w
}

// register registers the activities of all operations.
func (w *fakes) register(in worker.ActivityRegistry) {
	act := func(name string, fn any) { in.RegisterActivityWithOptions(fn, activity.RegisterOptions{Name: name}) }
	act("RunningParts", func(context.Context) (activities.RunningParts, error) { return activities.RunningParts{}, nil })

	act("PlanRestore", func(ctx context.Context, _ activities.RestoreRequest, round int) (activities.RestorePlan, error) {
		p := activities.RestorePlan{Key: fmt.Sprintf("plan-%d", round), Digest: w.digests[min(round, len(w.digests)-1)], Groups: 2, Parts: 3,
			Total: activities.Amount{Records: 300, Bytes: 3000, Partitions: 3}}
		p.Proposal = activities.Proposal{Key: p.Key, Digest: p.Digest, Summary: "restore it"}
		return p, w.do(ctx, "PlanRestore")
	})
	act("PrepareTargets", func(ctx context.Context, _ activities.RestoreRequest, p activities.RestorePlan) (activities.RestoreTargets, error) {
		return activities.RestoreTargets{Created: 2}, w.do(ctx, "PrepareTargets "+p.Key)
	})
	act("RestorePart", func(ctx context.Context, _ activities.RestoreRequest, _ activities.RestorePlan, part int) (activities.Amount, error) {
		return activities.Amount{Records: 100, Bytes: 1000, Partitions: 1}, w.do(ctx, fmt.Sprintf("RestorePart %d", part))
	})
	act("MapOffsets", func(ctx context.Context, _ activities.RestoreRequest, _ activities.RestorePlan) (activities.RestoredRecords, error) {
		return activities.RestoredRecords{Total: activities.Amount{Records: 300}, Mapping: "mapping"}, w.do(ctx, "MapOffsets")
	})
	act("ReleaseTargets", func(ctx context.Context, _ activities.RestoreRequest, _ activities.RestorePlan, failed bool) (activities.ReleasedTargets, error) {
		return activities.ReleasedTargets{}, w.do(ctx, fmt.Sprintf("ReleaseTargets failed=%v", failed))
	})
	act("PlanGroupOffsets", func(ctx context.Context, _ activities.RestoreRequest, _ activities.RestorePlan) (activities.OffsetPlan, error) {
		return activities.OffsetPlan{Name: "reset", Shards: 6 /* one part */, Totals: offsets.Totals{Groups: 2, Set: 6}}, w.do(ctx, "PlanGroupOffsets")
	})

	act("PlanBackup", func(ctx context.Context, _ activities.BackupRequest) (activities.BackupPlan, error) {
		return activities.BackupPlan{Key: "plan", Digest: digestA, Parts: 3, Topics: 1, Total: activities.Amount{Records: 300, Bytes: 3000, Partitions: 3}}, w.do(ctx, "PlanBackup")
	})
	act("ProposeBackup", func(ctx context.Context, _ activities.BackupRequest, round int) (activities.BackupPlan, error) {
		return activities.BackupPlan{Key: fmt.Sprintf("plan-%d", round), Digest: w.digests[min(round, len(w.digests)-1)], Parts: 3, Topics: 1}, w.do(ctx, "ProposeBackup")
	})
	act("BeginBackup", func(ctx context.Context, _ activities.BackupRequest, p activities.BackupPlan) (activities.BackupPlan, error) {
		return p, w.do(ctx, "BeginBackup "+p.Key)
	})
	act("CopyPart", func(ctx context.Context, _ activities.BackupRequest, _ activities.BackupPlan, part int) (activities.Amount, error) {
		return activities.Amount{Records: 100}, w.do(ctx, fmt.Sprintf("CopyPart %d", part))
	})
	act("CompleteBackup", func(ctx context.Context, req activities.BackupRequest, _ activities.BackupPlan) (activities.BackupReport, error) {
		return activities.BackupReport{BackupID: req.BackupID, Manifest: "manifest"}, w.do(ctx, "CompleteBackup")
	})

	act("PlanPrune", func(ctx context.Context, _ activities.PruneRequest, round int) (activities.PrunePlan, error) {
		return activities.PrunePlan{Key: fmt.Sprintf("plan-%d", round), Drop: 1, Keep: 2, Proposal: activities.Proposal{Digest: digestA, Summary: "remove a backup"}}, w.do(ctx, "PlanPrune")
	})
	act("DropBackups", func(ctx context.Context, _ activities.PruneRequest, _ activities.PrunePlan) (activities.PruneDropped, error) {
		return activities.PruneDropped{Dropped: 1}, w.do(ctx, "DropBackups")
	})
	act("ReleaseBackups", func(ctx context.Context, _ activities.PruneRequest) error { return w.do(ctx, "ReleaseBackups") })
	act("Sweep", func(ctx context.Context, _ activities.PruneRequest, _ prune.Amount) (prune.Swept, error) {
		return prune.Swept{}, w.do(ctx, "Sweep")
	})
	act("ValidateBackup", func(ctx context.Context, _ activities.ValidateRequest, _ repository.Checked) (activities.ValidateReport, error) {
		return activities.ValidateReport{}, w.do(ctx, "ValidateBackup")
	})
	act("NewestBackup", func(ctx context.Context, _ config.Storage) (string, error) {
		return "newest", w.do(ctx, "NewestBackup")
	})
	act("FreeBackupID", func(ctx context.Context, _ config.Storage, base string, n int) (string, error) {
		return activities.NumberedID(base, n), w.do(ctx, "FreeBackupID")
	})
	act("FollowPart", func(ctx context.Context, _ activities.BackupRequest, _ activities.BackupPlan, part int, _ time.Time) (activities.Followed, error) {
		return activities.Followed{Amount: activities.Amount{Records: 1}, At: time.Now()}, w.do(ctx, fmt.Sprintf("FollowPart %d", part))
	})
	act("MeasureLag", func(ctx context.Context, _ activities.BackupRequest, p activities.RecoveryPoint) (activities.RecoveryPoint, error) {
		return p, w.do(ctx, "MeasureLag")
	})

	act("PlanOffsets", func(ctx context.Context, _ activities.OffsetRequest, number int, _ bool) (activities.OffsetPlan, error) {
		p := activities.OffsetPlan{Name: "plan", Shards: 12 /* two parts of six */, Totals: offsets.Totals{Groups: 2, Set: 6}}
		p.Proposal = activities.Proposal{Key: fmt.Sprintf("plan-%d", number), Digest: digestA, Summary: "set 6 offsets"}
		return p, w.do(ctx, "PlanOffsets")
	})
	act("ActiveGroups", func(ctx context.Context, _ activities.OffsetRequest, _ activities.OffsetPlan) (string, error) {
		return "", w.do(ctx, "ActiveGroups")
	})
	act("SnapshotPlanned", func(ctx context.Context, _ activities.OffsetRequest, _ activities.OffsetPlan, _ time.Time) (activities.OffsetsSeen, error) {
		return activities.OffsetsSeen{Snapshot: "snapshot-1"}, w.do(ctx, "SnapshotPlanned")
	})
	act("ApplyOffsets", func(ctx context.Context, _ activities.OffsetRequest, _ activities.OffsetPlan, shards offsets.Shards, round int) (activities.OffsetsApplied, error) {
		did := activities.OffsetsApplied{Changed: 3}
		if w.applied != nil {
			did = w.applied(round)
		}
		return did, w.do(ctx, fmt.Sprintf("ApplyOffsets %d", shards.From/6))
	})
	act("VerifyOffsets", func(ctx context.Context, _ activities.OffsetRequest, _ activities.OffsetPlan, shards offsets.Shards, last bool) (activities.OffsetsVerified, error) {
		did := activities.OffsetsVerified{Checked: 3}
		if w.verified != nil {
			did = w.verified(last)
		}
		return did, w.do(ctx, fmt.Sprintf("VerifyOffsets %d", shards.From/6))
	})
	act("PutOffsetsBack", func(ctx context.Context, _ activities.OffsetRequest, _ activities.OffsetPlan, shards offsets.Shards, round int) (activities.OffsetsUndone, error) {
		did := activities.OffsetsUndone{PutBack: 3}
		if w.undone != nil {
			did = w.undone(round)
		}
		return did, w.do(ctx, fmt.Sprintf("PutOffsetsBack %d", shards.From/6))
	})
	act("ReportOffsets", func(ctx context.Context, _ activities.OffsetRequest, _ activities.OffsetPlan, _ string) (activities.OffsetReport, error) {
		return activities.OffsetReport{Report: offsets.Report{GroupsDone: 2, Verified: 6}, Key: "report"}, w.do(ctx, "ReportOffsets")
	})
	act("TakeSnapshot", func(ctx context.Context, _ activities.SnapshotRequest, _ time.Time) (activities.SnapshotReport, error) {
		return activities.SnapshotReport{ID: "snapshot-1"}, w.do(ctx, "TakeSnapshot")
	})
	act("PlanDeletion", func(ctx context.Context, _ activities.DeleteSnapshotRequest) (activities.Proposal, error) {
		return activities.Proposal{Digest: digestA, Summary: "delete snapshot-1"}, w.do(ctx, "PlanDeletion")
	})
	act("DeleteSnapshot", func(ctx context.Context, _ activities.DeleteSnapshotRequest) (activities.SnapshotReport, error) {
		return activities.SnapshotReport{ID: "snapshot-1", Deleted: true}, w.do(ctx, "DeleteSnapshot")
	})
	act("Deliver", func(ctx context.Context, _ activities.NotifyRequest, channel string) error {
		return w.do(ctx, "Deliver "+channel)
	})
}

func (w *fakes) do(ctx context.Context, name string) error {
	w.mu.Lock()
	w.calls = append(w.calls, name)
	on := w.on[name]
	delete(w.on, name)
	w.mu.Unlock()
	if on == nil {
		return nil
	}
	return on(ctx)
}

// hang makes an activity, the first time that it begins, do something and then
// not return before it is stopped.
func (w *fakes) hang(name string, do func()) {
	w.on[name] = func(ctx context.Context) error {
		do()
		for {
			activity.RecordHeartbeat(ctx) // its answer ends ctx
			select {
			case <-w.stopped:
			case <-w.over:
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
				continue
			}
			return temporal.NewCanceledError()
		}
	}
}

// refuse makes an activity fail for good.
func (w *fakes) refuse(name string) {
	w.on[name] = func(context.Context) error {
		return temporal.NewNonRetryableApplicationError("it does not work", activities.Refused, nil)
	}
}

// count is how many calls begin with a name.
func (w *fakes) count(name string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.calls {
		if strings.HasPrefix(c, name) {
			n++
		}
	}
	return n
}

func (w *fakes) called(name string) bool { return w.count(name) > 0 }

// wantCalls compares the calls made, those of parts sorted.
func (w *world) wantCalls(want ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.calls, want) {
		w.t.Errorf("activities:\n  %q\nwant:\n  %q", w.calls, want)
	}
}

func (w *world) progress() Progress {
	w.t.Helper()
	var p Progress
	value, err := w.QueryWorkflow(QueryProgress)
	if err == nil {
		err = value.Get(&p)
	}
	if err != nil {
		w.t.Fatalf("query: %v", err)
	}
	return p
}

// indexed is what a workflow has set its search attributes to.
type indexed struct {
	states    []string
	approvals []string
	last      map[temporal.SearchAttributeKeyKeyword]string
}

// indexed gives the workflow search attributes and writes down what becomes of them.
func (w *world) indexed() *indexed {
	w.t.Helper()
	if err := w.SetTypedSearchAttributesOnStart(temporal.NewSearchAttributes(temporalservice.KeyKind.ValueSet("restore"))); err != nil {
		w.t.Fatal(err)
	}
	in := &indexed{last: map[temporal.SearchAttributeKeyKeyword]string{}}
	w.OnUpsertTypedSearchAttributes(mock.Anything).Run(func(args mock.Arguments) {
		a := args.Get(0).(temporal.SearchAttributes)
		if s, ok := a.GetKeyword(temporalservice.KeyState); ok {
			in.states = append(in.states, s)
		}
		if s, ok := a.GetKeyword(temporalservice.KeyApproval); ok {
			in.approvals = append(in.approvals, s)
		}
		for _, k := range []temporal.SearchAttributeKeyKeyword{temporalservice.KeyState, temporalservice.KeyApproval, temporalservice.KeyApprover} {
			if s, ok := a.GetKeyword(k); ok {
				in.last[k] = s
			}
		}
	})
	return in
}

// after does something when the workflow has run for a time.
func (w *world) after(d time.Duration, do func()) { w.RegisterDelayedCallback(do, d) }

// given is what became of an update.
type given struct {
	accepted, rejected, completed bool
	err                           error
	decision                      activities.Decision
}

// give sends an answer as an update. Call it from after.
func (w *world) give(name string, a Answer) *given {
	g := new(given)
	w.UpdateWorkflow(name, "", &testsuite.TestUpdateCallback{
		OnAccept: func() { g.accepted = true },
		OnReject: func(err error) { g.rejected, g.err = true, err },
		OnComplete: func(v any, err error) {
			g.completed, g.err = true, err
			if d, ok := v.(activities.Decision); ok {
				g.decision = d
			}
		},
	}, a)
	return g
}

func approval() config.Approval {
	return config.Approval{Required: true, Approvers: []string{"alice", "bob", "carol"}, FourEyes: true, Timeout: config.Duration(time.Hour), OnTimeout: "fail"}
}

func restoreRequest() activities.RestoreRequest {
	r := activities.RestoreRequest{BackupID: "b"}
	r.Requester = "carol"
	r.Options.MaxConcurrentParts = 1
	return r
}

func gatedRestore() activities.RestoreRequest {
	r := restoreRequest()
	r.Approval = approval()
	return r
}
