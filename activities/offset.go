package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// Types of application errors of operations on offsets.
const (
	OutOfRange    = "OutOfRange"    // a target is not in the log
	ActiveMembers = "ActiveMembers" // a group has active members
	PlanMoved     = "PlanMoved"     // the cluster is not as the plan found it
	NotSet        = "NotSet"        // offsets could not be set, and were put back
	UndoFailed    = "UndoFailed"    // ... and could not be put back
)

// Direction is where a change of offsets goes: Forward to the targets, Back to
// what was committed before.
type Direction = offsets.Direction

// The directions.
const (
	Forward = offsets.Forward
	Back    = offsets.Back
)

// Shards are some shards of a plan of offsets.
type Shards = offsets.Shards

// Tries is how often a partition whose error is transient is tried in one
// round. A further round is another activity, after a durable timer.
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
	// MaxConcurrent is how many requests are in flight; 0 means 100. MaxRetries
	// is how often a partition is tried again; nil means 20.
	MaxConcurrent int  `json:"max_concurrent,omitempty"`
	MaxRetries    *int `json:"max_retries,omitempty"`
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
	First   string `json:"first,omitempty"`
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
	return r.Summary.Failed > 0 || r.Totals.Blocked > 0 || r.Totals.OutOfRange > 0 || r.Totals.Failed > 0
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
		return describePlan(ctx, repo, plan, ref, name, req.Offsets.BestEffort, refuseActive)
	})
}

func offsetFolder(ctx context.Context, repo *repository.Repository) offsets.Folder {
	e := activity.GetInfo(ctx).WorkflowExecution
	return offsets.OperationFolder(repo, e.ID, e.RunID)
}

// describePlan is the plan as it is put to an approver, or why it is refused.
func describePlan(ctx context.Context, repo *repository.Repository, p *offsets.Plan, ref repository.ObjectRef, name string, bestEffort, refuseActive bool) (OffsetPlan, error) {
	t := p.Totals
	d := OffsetPlan{Ref: ref, Name: name, ClusterID: p.ClusterID, Shards: len(p.Shards), Totals: t}
	table := Table{Name: "Committed offsets", Header: []string{"Group", "Topic", "Partition", "Current", "Target", "Action"}}
	var bad []offsets.GroupPlan
	for n := range p.Shards {
		if n > 0 && len(table.Rows) == MaxProposalRows && t.Blocked == 0 && t.OutOfRange == 0 && t.Failed == 0 {
			break
		}
		s, err := p.ReadShard(ctx, repo, n)
		if err != nil {
			return d, err
		}
		for i := range s.Groups {
			g := &s.Groups[i]
			if g.Bad() && len(bad) < 20 {
				bad = append(bad, *g)
			}
			for j := range g.Topics {
				for k := range g.Topics[j].Rows {
					if r := &g.Topics[j].Rows[k]; r.Action.Changes() && len(table.Rows) < MaxProposalRows {
						table.Add(g.Group, g.Topics[j].Topic, strconv.Itoa(int(r.Partition)), place(r.Current), place(r.Target), string(r.Action))
					}
				}
			}
		}
	}
	table.More = int(t.Changes()) - len(table.Rows)
	d.Proposal = Proposal{Key: ref.Key, Digest: p.Changes,
		Summary: fmt.Sprintf("set %s committed offsets of %s consumer groups on cluster %s, from %s", render.Count(t.Changes()), render.Count(int64(t.Groups-t.Blocked)), p.ClusterID, p.Source),
		Facts: []Fact{{"Unchanged", render.Count(t.Unchanged)}, {"Left out", render.Count(t.Skip)}, {"Out of range", render.Count(t.OutOfRange)},
			{"Lag before", render.Count(t.LagBefore)}, {"Lag after", render.Count(t.LagAfter)}},
		Tables: []Table{table}, Warnings: p.Warnings[:min(len(p.Warnings), 20)],
	}
	refusal := offsets.Refusal(t, bad)
	var active *offsets.ActiveError
	if errors.As(refusal, &active) {
		d.Active = refusal.Error()
		if !refuseActive {
			return d, nil
		}
	}
	if refusal != nil && !bestEffort {
		return d, refusal
	}
	return d, nil
}

func place(offset int64) string {
	if offset < 0 {
		return "-"
	}
	return strconv.FormatInt(offset, 10)
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
	return &offsets.Run{Folder: offsetFolder(ctx, repo), Cluster: cluster, Plan: p, Name: plan.Name}, done, nil
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
		return offsets.Active(ctx, run)
	})
}

// SnapshotPlanned takes a snapshot of the groups of a plan, and makes sure that
// the cluster is still as the plan found it. at is what the snapshot's id is
// made from.
func (*Offsets) SnapshotPlanned(ctx context.Context, req OffsetRequest, plan OffsetPlan, at time.Time) (SnapshotReport, error) {
	return step(ctx, false, func(ctx context.Context) (SnapshotReport, error) {
		run, done, err := req.run(ctx, plan)
		if err != nil {
			return SnapshotReport{}, err
		}
		defer done()
		var names []string
		for n := range run.Plan.Shards {
			s, err := run.Plan.ReadShard(ctx, run.Folder.Repository, n)
			if err != nil {
				return SnapshotReport{}, err
			}
			for i := range s.Groups {
				if s.Groups[i].Blocked == "" {
					names = append(names, s.Groups[i].Group)
				}
			}
		}
		if !req.Offsets.BestEffort {
			for n := range run.Plan.Shards {
				s, err := run.Plan.ReadShard(ctx, run.Folder.Repository, n)
				if err != nil {
					return SnapshotReport{}, err
				}
				if err := offsets.CheckUnmoved(ctx, run.Cluster, s, req.Plan != nil); err != nil {
					return SnapshotReport{}, err
				}
			}
		}
		var report SnapshotReport
		if !req.NoSnapshot {
			s, err := offsets.TakeSnapshot(ctx, run.Cluster, run.Folder.Repository, offsets.SnapshotRequest{
				Groups: offsets.Selection{Names: names}, Missing: true, Description: req.Description, Requester: req.Requester,
				Operation: operationName(ctx), At: at,
			})
			if err != nil {
				return SnapshotReport{}, err
			}
			report = snapshotReport(s)
		}
		return report, nil
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

// ApplyOffsets makes the changes of shards, or puts back what was there.
func (*Offsets) ApplyOffsets(ctx context.Context, req OffsetRequest, plan OffsetPlan, shards Shards, round int, to offsets.Direction) (OffsetsApplied, error) {
	ctx, cancel := draining(ctx)
	defer cancel()
	report, stop := beating(ctx)
	defer stop()
	did, err := func() (did OffsetsApplied, err error) {
		run, done, err := req.run(ctx, plan)
		if err != nil {
			return did, err
		}
		defer done()
		var sum counter
		outcomes, err := run.Apply(ctx, shards, round, to, offsets.Applier{
			Cluster: run.Cluster, Concurrent: req.MaxConcurrent, Tries: Tries,
			Report: func(n int) { report(Watermark{Done: Amount{Partitions: sum.add(n)}}) },
		})
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

// VerifyOffsets reads shards back.
func (*Offsets) VerifyOffsets(ctx context.Context, req OffsetRequest, plan OffsetPlan, shards Shards, to offsets.Direction) (OffsetsVerified, error) {
	return step(ctx, false, func(ctx context.Context) (OffsetsVerified, error) {
		run, done, err := req.run(ctx, plan)
		if err != nil {
			return OffsetsVerified{}, err
		}
		defer done()
		checked, wrong, err := run.Verify(ctx, shards, to)
		return OffsetsVerified{checked, int64(len(wrong)), first(wrong)}, err
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

// offsetKind is the type of an error of package offsets; "" for others.
func offsetKind(err error) string {
	var (
		rng       *offsets.RangeError
		active    *offsets.ActiveError
		moved     *offsets.MovedError
		notFound  *offsets.GroupNotFoundError
		topic     *offsets.MissingTopicError
		request   *offsets.RequestError
		snapshot  *offsets.NoSnapshotError
		recreated *offsets.RecreatedError
		blocked   *offsets.BlockedError
		app       *temporal.ApplicationError
	)
	switch {
	case errors.As(err, &app):
		return ""
	case errors.As(err, &rng):
		return OutOfRange
	case errors.As(err, &active):
		return ActiveMembers
	case errors.As(err, &moved):
		return PlanMoved
	case errors.As(err, &notFound), errors.As(err, &topic), errors.As(err, &snapshot):
		return NotFound
	case errors.As(err, &request):
		return Configuration
	case errors.As(err, &recreated):
		return TopicRecreated
	case errors.As(err, &blocked):
		if blocked.Kind == offsets.BlockedNoRight {
			return Authorization
		}
		return Refused
	}
	return ""
}

// cluster and repository for the activities of package restore's third phase
// are opened by planned; the run of its plan of offsets is this.
func restoreRun(ctx context.Context, cluster *kafka.Cluster, repo *repository.Repository, key string) (*offsets.Run, error) {
	p, err := offsets.ReadPlan(ctx, repo, key)
	if err != nil {
		return nil, err
	}
	return &offsets.Run{Folder: offsetFolder(ctx, repo), Cluster: cluster, Plan: p, Name: "reset"}, nil
}
