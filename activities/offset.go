package activities

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// Shards are some shards of a plan of offsets.
type Shards = offsets.Shards

// Tries is how often a partition whose error is transient is tried in one
// round, at most. A further round is another activity, after a durable timer.
const Tries = 4

// OffsetRequest is whose committed offsets to set, to what, and how.
type OffsetRequest struct {
	Requested
	Target  config.Cluster  `json:"target"`
	Storage config.Storage  `json:"storage"`
	Offsets offsets.Request `json:"offsets"`
	// Plan is a plan that was made before and is carried out as it is; nil: one
	// is made.
	Plan *repository.ObjectRef `json:"plan,omitempty"`
	// NoSnapshot: no snapshot is taken. A failure is undone all the same, from
	// the plan.
	NoSnapshot  bool   `json:"no_snapshot,omitempty"`
	Description string `json:"description,omitempty"` // of the snapshot
	// WaitInactive is how long groups with active members are waited for; 0: they
	// are refused.
	WaitInactive time.Duration `json:"wait_inactive,omitempty"`
	// MaxConcurrent is how many requests are in flight at most; 0 means 100.
	// MaxRetries is how often a partition whose error is transient is tried again
	// at most; nil means 20.
	MaxConcurrent int  `json:"max_concurrent,omitempty"`
	MaxRetries    *int `json:"max_retries,omitempty"`
}

// Attempts is how often a partition whose error is transient is tried, 1 or more.
func (r *OffsetRequest) Attempts() int {
	if r.MaxRetries == nil {
		return 21
	}
	return max(0, *r.MaxRetries) + 1
}

// OffsetPlan is a planned change of offsets. The plan itself is in the
// repository.
type OffsetPlan struct {
	Proposal
	Ref       repository.ObjectRef `json:"ref"`
	Name      string               `json:"name"`
	ClusterID string               `json:"cluster_id"`
	Shards    int                  `json:"shards"`
	Totals    offsets.Totals       `json:"totals"`
	// Active says which groups have active members; a few.
	Active string `json:"active,omitempty"`
	// SeenAt is when the groups were last seen as the plan found them.
	SeenAt time.Time `json:"seen_at"`
	// LeftOut is how many groups are left out, as they could not be captured.
	LeftOut int `json:"left_out,omitempty"`
}

// OffsetsApplied is what became of shards in one round.
type OffsetsApplied struct {
	Changed int64  `json:"changed"`
	Failed  int64  `json:"failed"`
	Open    int64  `json:"open"` // to be tried again
	First   string `json:"first,omitempty"`
}

// OffsetsVerified is what reading shards back gave.
type OffsetsVerified struct {
	Checked int64  `json:"checked"`
	Wrong   int64  `json:"wrong"`
	Open    int64  `json:"open"` // could not be read, to be tried again
	First   string `json:"first,omitempty"`
}

// OffsetsSeen is the state of the groups just before the first of their offsets
// is changed.
type OffsetsSeen struct {
	Snapshot string    `json:"snapshot_id,omitempty"` // empty: none was taken
	At       time.Time `json:"at"`
	LeftOut  int       `json:"left_out,omitempty"` // groups that could not be captured, and are not changed
}

// OffsetsUndone is what became of putting shards back.
type OffsetsUndone struct {
	PutBack int64  `json:"put_back"`
	Left    int64  `json:"left"`   // somebody else has committed since
	Failed  int64  `json:"failed"` // cannot be put back
	Open    int64  `json:"open"`   // to be tried again
	First   string `json:"first,omitempty"`
	// FirstLeft is the first of those left.
	FirstLeft string `json:"first_left,omitempty"`
}

// OffsetReport is what an operation on offsets did.
type OffsetReport struct {
	offsets.Report
	Key        string    `json:"report,omitempty"` // of the whole report
	Approval   *Decision `json:"approval,omitempty"`
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`
}

// Partly tells whether something that was asked for was not done.
func (r *OffsetReport) Partly() bool {
	t := &r.Totals
	return r.Summary.Failed > 0 || t.Blocked > 0 || t.OutOfRange > 0 || t.Failed > 0 || t.Skip > 0
}

// SnapshotRequest is what to take a snapshot of.
type SnapshotRequest struct {
	Requested
	Target      config.Cluster      `json:"target"`
	Storage     config.Storage      `json:"storage"`
	Groups      offsets.Selection   `json:"groups"`
	Topics      offsets.TopicFilter `json:"topics,omitempty"`
	Description string              `json:"description,omitempty"`
}

// SnapshotReport is a snapshot that was taken or deleted.
type SnapshotReport struct {
	ID          string    `json:"snapshot_id"`
	Key         string    `json:"key,omitempty"`
	CreatedAt   time.Time `json:"created_at,omitzero"`
	ClusterID   string    `json:"cluster_id,omitempty"`
	Groups      int       `json:"groups"`
	Partitions  int64     `json:"partitions"`
	Description string    `json:"description,omitempty"`
	Deleted     bool      `json:"deleted,omitempty"`
	Approval    *Decision `json:"approval,omitempty"`
	Warnings    []string  `json:"warnings,omitempty"`
}

// Offsets are the activities of the workflows that set committed offsets.
type Offsets struct{}

// PlanOffsets makes a plan and writes it. number tells the plans of a run
// apart. It refuses what cannot be carried out as a whole, unless the request
// is for best effort; groups with active members only when refuseActive.
func (*Offsets) PlanOffsets(ctx context.Context, req OffsetRequest, number int, refuseActive bool) (OffsetPlan, error) {
	return step(ctx, true, func(ctx context.Context) (OffsetPlan, error) {
		cluster, repo, done, err := open(ctx, req.Target, req.Storage, repository.Open)
		if err != nil {
			return OffsetPlan{}, err
		}
		defer done()
		folder := offsetFolder(ctx, repo)
		name := strconv.Itoa(number)
		var plan *offsets.Plan
		var ref repository.ObjectRef
		if req.Plan != nil {
			plan, ref, err = folder.AdoptPlan(ctx, name, *req.Plan, cluster)
		} else if req.Offsets.Strategy, err = folder.Fix(ctx, req.Offsets.Strategy); err == nil {
			plan, ref, err = folder.StorePlan(ctx, name, func(emit func(*offsets.Shard) error) (*offsets.Plan, error) {
				return req.Offsets.Plan(ctx, cluster, repo, emit)
			})
		}
		if err != nil {
			return OffsetPlan{}, err
		}
		p, active, err := describePlan(ctx, repo, plan, ref, name, req.Offsets.BestEffort)
		if err != nil || active == nil {
			return p, err
		}
		if p.Active = active.Who(); req.Offsets.BestEffort || !refuseActive {
			return p, nil
		}
		active.Waited = req.WaitInactive > 0
		return p, active
	})
}

func offsetFolder(ctx context.Context, repo *repository.Repository) offsets.Folder {
	e := activity.GetInfo(ctx).WorkflowExecution
	return offsets.OperationFolder(repo, e.ID, e.RunID)
}

// run opens what an operation on offsets needs, and reads its plan.
func (r *OffsetRequest) run(ctx context.Context, plan OffsetPlan) (*offsets.Run, func(), error) {
	cluster, repo, done, err := open(ctx, r.Target, r.Storage, repository.Open)
	if err != nil {
		return nil, nil, err
	}
	p := new(offsets.Plan)
	if err := repo.GetDocument(ctx, plan.Ref, p); err != nil {
		done()
		return nil, nil, err
	}
	run := &offsets.Run{Folder: offsetFolder(ctx, repo), Cluster: cluster, Plan: p, Name: plan.Name, Seen: plan.SeenAt}
	if plan.LeftOut > 0 {
		if err := run.ReadLeftOut(ctx); err != nil {
			done()
			return nil, nil, err
		}
	}
	return run, done, nil
}

// ActiveGroups counts the groups of a plan that have active members now, and
// says which.
func (*Offsets) ActiveGroups(ctx context.Context, req OffsetRequest, plan OffsetPlan) (string, error) {
	return step(ctx, false, func(ctx context.Context) (string, error) {
		run, done, err := req.run(ctx, plan)
		if err != nil {
			return "", err
		}
		defer done()
		active, err := run.StillActive(ctx)
		if err != nil || active == nil {
			return "", err
		}
		return active.Who(), nil
	})
}

// SnapshotPlanned takes a snapshot of the groups of a plan, and makes sure that
// the cluster is still as the plan found it. at is what the snapshot's id is
// made from. For best effort, groups that cannot be captured are left out, and
// those that have moved since are found when it is their turn.
func (*Offsets) SnapshotPlanned(ctx context.Context, req OffsetRequest, plan OffsetPlan, at time.Time) (OffsetsSeen, error) {
	return step(ctx, false, func(ctx context.Context) (OffsetsSeen, error) {
		run, done, err := req.run(ctx, plan)
		if err != nil {
			return OffsetsSeen{}, err
		}
		defer done()
		seen := OffsetsSeen{At: plan.SeenAt}
		names, err := run.Groups(ctx)
		if err != nil {
			return seen, err
		}
		if !req.Offsets.BestEffort {
			seen.At = time.Now()
			if err := run.CheckUnmoved(ctx, req.Plan != nil); err != nil {
				return seen, err
			}
		}
		if req.NoSnapshot {
			return seen, nil
		}
		snapshot := offsets.SnapshotRequest{Groups: offsets.Selection{Names: names}, Missing: true, Description: req.Description, Requester: req.Requester,
			Operation: operationName(ctx), At: at}
		if req.Offsets.BestEffort {
			snapshot.Uncaptured = map[string]string{}
		}
		s, err := offsets.TakeSnapshot(ctx, run.Cluster, run.Folder.Repository, snapshot)
		if err != nil {
			return seen, err
		}
		seen.Snapshot, seen.LeftOut = s.ID, len(snapshot.Uncaptured)
		if seen.LeftOut > 0 {
			seen.LeftOut, err = run.WriteLeftOut(ctx, snapshot.Uncaptured)
		}
		return seen, err
	})
}

func operationName(ctx context.Context) string {
	e := activity.GetInfo(ctx).WorkflowExecution
	return e.ID + " " + e.RunID
}

func snapshotReport(s *offsets.Snapshot) SnapshotReport {
	return SnapshotReport{ID: s.ID, Key: repository.SnapshotKey(s.ID), CreatedAt: s.CreatedAt, ClusterID: s.ClusterID, Groups: s.Groups,
		Partitions: s.Partitions, Description: s.Description, Warnings: s.Warnings}
}

// ApplyOffsets makes the changes of shards, in a round.
func (*Offsets) ApplyOffsets(ctx context.Context, req OffsetRequest, plan OffsetPlan, shards Shards, round int) (OffsetsApplied, error) {
	return setting(ctx, req, plan, req.Attempts()-round*Tries, func(ctx context.Context, run *offsets.Run, a offsets.Applier) (did OffsetsApplied, err error) {
		outcomes, err := run.Apply(ctx, shards, round, a)
		if err != nil {
			return did, err
		}
		for _, o := range outcomes {
			if o != nil {
				did.Changed, did.Failed, did.Open = did.Changed+o.Changed, did.Failed+int64(len(o.Failed)), did.Open+int64(len(o.Open))
				did.First = cmp.Or(did.First, first(o.Failed, o.Open))
			}
		}
		return did, nil
	})
}

// PutOffsetsBack undoes the changes of shards, in a round.
func (*Offsets) PutOffsetsBack(ctx context.Context, req OffsetRequest, plan OffsetPlan, shards Shards, round int) (OffsetsUndone, error) {
	return setting(ctx, req, plan, Tries, func(ctx context.Context, run *offsets.Run, a offsets.Applier) (OffsetsUndone, error) {
		u, err := run.PutBack(ctx, shards, round, a)
		if err != nil {
			return OffsetsUndone{}, err
		}
		return OffsetsUndone{PutBack: u.PutBack, Left: int64(len(u.Left)), Failed: int64(len(u.Failed)), Open: int64(len(u.Open)),
			First: first(u.Failed, u.Open), FirstLeft: first(u.Left)}, nil
	})
}

// setting runs an activity that sets offsets, and reports how many it has set.
func setting[T any](ctx context.Context, req OffsetRequest, plan OffsetPlan, tries int, do func(context.Context, *offsets.Run, offsets.Applier) (T, error)) (T, error) {
	ctx, cancel := draining(ctx)
	defer cancel()
	report, stop := beating(ctx)
	defer stop()
	did, err := func() (did T, err error) {
		run, done, err := req.run(ctx, plan)
		if err != nil {
			return did, err
		}
		defer done()
		var sum counter
		return do(ctx, run, offsets.Applier{
			Cluster: run.Cluster, Concurrent: req.MaxConcurrent, Tries: max(1, min(Tries, tries)),
			Report: func(n int) { report(Watermark{Done: Amount{Partitions: sum.add(n)}}) },
		})
	}()
	return did, classify(ctx, err, false)
}

// first words the first failure of several lists.
func first(lists ...[]offsets.Failure) string {
	for _, l := range lists {
		if len(l) > 0 {
			f := l[0]
			return fmt.Sprintf("group %s, topic %s partition %d: %s: %s", f.Group, f.Topic, f.Partition, f.Code, f.Error)
		}
	}
	return ""
}

// VerifyOffsets reads shards back. last: what cannot be read now is not read
// again.
func (*Offsets) VerifyOffsets(ctx context.Context, req OffsetRequest, plan OffsetPlan, shards Shards, last bool) (OffsetsVerified, error) {
	return step(ctx, false, func(ctx context.Context) (OffsetsVerified, error) {
		run, done, err := req.run(ctx, plan)
		if err != nil {
			return OffsetsVerified{}, err
		}
		defer done()
		v, err := run.Verify(ctx, shards, last)
		if err != nil {
			return OffsetsVerified{}, err
		}
		return OffsetsVerified{v.Checked, int64(len(v.Wrong)), int64(len(v.Open)), first(v.Wrong, v.Open)}, nil
	})
}

// ReportOffsets puts together what was done.
func (*Offsets) ReportOffsets(ctx context.Context, req OffsetRequest, plan OffsetPlan, snapshotID string) (OffsetReport, error) {
	return step(ctx, false, func(ctx context.Context) (OffsetReport, error) {
		run, done, err := req.run(ctx, plan)
		if err != nil {
			return OffsetReport{}, err
		}
		defer done()
		r, key, err := run.Report(ctx, plan.Ref, snapshotID)
		if err != nil {
			return OffsetReport{}, err
		}
		return OffsetReport{Report: *r, Key: key}, nil
	})
}

// TakeSnapshot takes a snapshot of the offsets of groups.
func (*Offsets) TakeSnapshot(ctx context.Context, req SnapshotRequest, at time.Time) (SnapshotReport, error) {
	return step(ctx, true, func(ctx context.Context) (SnapshotReport, error) {
		cluster, repo, done, err := open(ctx, req.Target, req.Storage, repository.OpenOrCreate)
		if err != nil {
			return SnapshotReport{}, err
		}
		defer done()
		s, err := offsets.TakeSnapshot(ctx, cluster, repo, offsets.SnapshotRequest{
			Groups: req.Groups, Topics: req.Topics, Description: req.Description, Requester: req.Requester, Operation: operationName(ctx), At: at,
		})
		if err != nil {
			return SnapshotReport{}, err
		}
		return snapshotReport(s), nil
	})
}
