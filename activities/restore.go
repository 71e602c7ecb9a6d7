package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/restore"
)

// RestoreRequest is what to restore, where to, and how.
type RestoreRequest struct {
	Requested
	BackupID string         `json:"backup_id"`
	Target   config.Cluster `json:"target"`
	Storage  config.Storage `json:"storage"`
	Options  config.Restore `json:"options"`
}

// Planned is the request without what the plan holds: what may be long.
func (r RestoreRequest) Planned() RestoreRequest {
	r.Approval.Approvers = nil
	o := &r.Options
	o.Topics, o.Partitions, o.ExcludePartitions, o.TopicMapping = config.TopicFilter{}, nil, nil, nil
	o.TopicConfig, o.PartitionCount, o.ConsumerGroups = nil, nil, nil
	return r
}

// RestorePlan is a planned restore. The plan itself is in the repository.
type RestorePlan struct {
	Key       string `json:"key"`
	Digest    string `json:"digest"`
	ClusterID string `json:"cluster_id"` // of the target
	Topics    int    `json:"topics"`
	Create    int    `json:"create"` // topics to be created
	Groups    int    `json:"groups"` // consumer groups whose offsets are to be set
	Parts     int    `json:"parts"`
	Total     Amount `json:"total"`
	// Warnings are what a person should know before it is carried out.
	Warnings []string `json:"warnings,omitempty"`
	Proposal Proposal `json:"proposal"` // as it is put to an approver
	// TopicNames and GroupNames are the first names of what is written to, at
	// most [MaxProposalRows] of each.
	TopicNames []string `json:"topic_names,omitempty"`
	GroupNames []string `json:"group_names,omitempty"`
}

// RestoreReport is what a restore did.
type RestoreReport struct {
	BackupID   string    `json:"backup_id"`
	ClusterID  string    `json:"cluster_id"`
	DryRun     bool      `json:"dry_run,omitempty"`
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`
	Topics     int       `json:"topics"`
	Created    int       `json:"topics_created"`
	Total      Amount    `json:"total"`
	// Plan, Mapping and Report are keys of objects in the repository.
	Plan    string `json:"plan"`
	Mapping string `json:"mapping,omitempty"`
	// Groups whose offsets were set and read back; Failed those that could
	// not be, with the reason (a few; all are in the report object).
	Groups       int           `json:"groups"`
	GroupOffsets int           `json:"group_offsets"` // committed offsets set
	Failed       []GroupFailed `json:"groups_failed,omitempty"`
	Warnings     []string      `json:"warnings,omitempty"`
	// Approval is who approved it; nil where no approval was required.
	Approval *Decision `json:"approval,omitempty"`
}

// Partly tells whether something that was asked for is missing.
func (r *RestoreReport) Partly() bool { return len(r.Failed) > 0 }

// Reset adds what became of the groups' committed offsets.
func (r *RestoreReport) Reset(did *OffsetReport) {
	r.Groups, r.GroupOffsets = did.GroupsDone, int(did.Verified+did.Totals.Unchanged)
	r.Warnings = append(r.Warnings, did.Warnings...)
	for _, b := range did.Blocked {
		r.Failed = append(r.Failed, GroupFailed{Group: b.Group, Error: b.Why})
	}
	for _, f := range did.Failures {
		r.Failed = append(r.Failed, GroupFailed{Group: f.Group, Topic: f.Topic, Partition: f.Partition, Error: f.Error})
	}
	for _, s := range did.Skipped {
		r.Warnings = append(r.Warnings, fmt.Sprintf("group %s, topic %s partition %d: %s", s.Group, s.Topic, s.Partition, s.Why))
	}
}

// GroupFailed is a consumer group whose offsets could not be set.
type GroupFailed struct {
	Group     string `json:"group"`
	Topic     string `json:"topic,omitempty"`
	Partition int32  `json:"partition"`
	Error     string `json:"error"`
}

// Restore are the activities of the Restore workflow.
type Restore struct{}

// Report begins the report of a restore that follows the plan.
func (p *RestorePlan) Report(req RestoreRequest) RestoreReport {
	return RestoreReport{BackupID: req.BackupID, ClusterID: p.ClusterID, Topics: p.Topics, Plan: p.Key, Warnings: p.Warnings}
}

// RestoreTargets are the target topics, ready to be filled.
type RestoreTargets struct {
	Created int `json:"created"` // topics that this restore created
}

// RestoredRecords is the outcome of the restore phase.
type RestoredRecords struct {
	Created  int      `json:"created"`
	Total    Amount   `json:"total"`
	Mapping  string   `json:"mapping"` // key of the offset mapping
	Warnings []string `json:"warnings,omitempty"`
}

// ReleasedTargets says what putting the topic configurations back brings.
type ReleasedTargets struct {
	Warnings []string `json:"warnings,omitempty"`
	// Created is how many topics that a failed restore created are there still,
	// Deleted how many of them were deleted, as was configured.
	Created int `json:"created,omitempty"`
	Deleted int `json:"deleted,omitempty"`
	// Kept are those that were not, and why.
	Kept []string `json:"kept,omitempty"`
}

// PlanRestore decides what is restored where, checks all that can be checked,
// and writes the plan. It changes nothing on the target. Each round plans anew.
func (*Restore) PlanRestore(ctx context.Context, req RestoreRequest, round int) (RestorePlan, error) {
	return step(ctx, true, func(ctx context.Context) (RestorePlan, error) {
		cluster, repo, done, err := open(ctx, req.Target, req.Storage, repository.Open)
		if err != nil {
			return RestorePlan{}, err
		}
		defer done()
		e := activity.GetInfo(ctx).WorkflowExecution
		run := e.RunID
		if round > 0 {
			run = fmt.Sprintf("%s-%d", run, round)
		}
		plan, _, err := restore.MakePlan(ctx, cluster, repo, restore.Request{
			WorkflowID: e.ID, RunID: run, BackupID: req.BackupID, Options: req.Options,
		}, !req.Options.DryRun)
		if err != nil {
			return RestorePlan{}, err
		}
		return summary(plan), nil
	})
}

func summary(plan *restore.Plan) RestorePlan {
	s := RestorePlan{
		Key: plan.Key(), Digest: plan.Substance(), ClusterID: plan.ClusterID, Topics: len(plan.Topics), Groups: len(plan.Groups),
		Parts: len(plan.Parts), Total: Amount{Records: plan.Records, Bytes: plan.Bytes, Partitions: plan.Partitions},
		Warnings: plan.Warnings[:min(len(plan.Warnings), maxWarnings)],
	}
	for i := range plan.Topics {
		if !plan.Topics[i].Exists {
			s.Create++
		}
	}
	for i := range plan.Topics[:min(len(plan.Topics), MaxProposalRows)] {
		s.TopicNames = append(s.TopicNames, plan.Topics[i].Target)
	}
	s.GroupNames = plan.Groups[:min(len(plan.Groups), MaxProposalRows)]
	s.Proposal = s.proposal(plan)
	return s
}

// proposal is the plan as it is put to an approver.
func (s *RestorePlan) proposal(plan *restore.Plan) Proposal {
	p := Proposal{
		Key: s.Key, Digest: s.Digest, Warnings: s.Warnings[:min(len(s.Warnings), MaxProposalRows)],
		Summary: fmt.Sprintf("restore %s (%d to be created), %s, %s, into cluster %s", render.Number(s.Topics, "topic"), s.Create,
			render.Number(s.Total.Records, "record"), render.Bytes(s.Total.Bytes), s.ClusterID),
		Facts: []Fact{
			{"Backup", plan.BackupID}, {"From cluster", plan.SourceClusterID}, {"Into cluster", s.ClusterID},
			{"Topics", fmt.Sprintf("%s, %s of them to be created", render.Count(int64(s.Topics)), render.Count(int64(s.Create)))},
			{"Partitions", render.Count(s.Total.Partitions)}, {"Records", render.Count(s.Total.Records)}, {"Bytes", render.Bytes(s.Total.Bytes)},
		},
	}
	topics := Table{Name: "Topics", Header: []string{"In the backup", "In the target", "State", "Partitions", "Records", "Bytes"}}
	for i := range plan.Topics {
		t := &plan.Topics[i]
		what := "to be created"
		if t.Exists {
			what = "exists"
		}
		topics.Add(t.Source, t.Target, what, fmt.Sprint(t.Partitions), render.Count(t.Records), render.Bytes(t.Bytes))
	}
	p.Tables = []Table{topics}
	if s.Groups > 0 {
		p.Summary += fmt.Sprintf(", and set the offsets of %s", render.Number(s.Groups, "consumer group"))
		groups := Table{Name: "Consumer groups whose offsets are set", Header: []string{"Group"}}
		for _, g := range plan.Groups {
			groups.Add(g)
		}
		p.Tables = append(p.Tables, groups)
	}
	return p
}

// maxWarnings is how many warnings go into a workflow's history; all are in
// the repository.
const maxWarnings = 50

// PrepareTargets creates the target topics, holds retention and compaction
// off, takes the restore's producer id and fixes where each partition begins.
func (*Restore) PrepareTargets(ctx context.Context, req RestoreRequest, plan RestorePlan) (RestoreTargets, error) {
	return planned(ctx, req, plan, func(ctx context.Context, cluster *kafka.Cluster, repo *repository.Repository, p *restore.Plan, _ repository.ObjectRef) (RestoreTargets, error) {
		targets, err := restore.Prepare(ctx, cluster, repo, p)
		if err != nil {
			return RestoreTargets{}, err
		}
		return RestoreTargets{Created: targets.Created()}, nil
	})
}

// RestorePart produces one part of the plan.
func (*Restore) RestorePart(ctx context.Context, req RestoreRequest, plan RestorePlan, part int) (Amount, error) {
	return transferring(ctx, func(ctx context.Context, report func(Watermark)) (Amount, error) {
		cluster, repo, done, err := open(ctx, req.Target, req.Storage, repository.Open)
		if err != nil {
			return Amount{}, err
		}
		defer done()
		p, _, err := restore.ReadPlan(ctx, repo, plan.Key)
		if err != nil {
			return Amount{}, err
		}
		filler := restore.Filler{
			Cluster: cluster, Repository: repo, Options: req.Options,
			Share: 1 / float64(max(1, min(req.Options.MaxConcurrentParts, plan.Parts))),
			Report: func(p restore.Progress) {
				w := Watermark{Done: Amount(p.Done)}
				for _, l := range p.Lagging {
					w.Lagging = append(w.Lagging, Lag(l))
				}
				report(w)
			},
		}
		did, err := filler.Fill(ctx, p, part)
		return Amount(did), err
	})
}

// MapOffsets checks that every part has a result, and that the target holds
// what they say, and writes the offset mapping.
func (*Restore) MapOffsets(ctx context.Context, req RestoreRequest, plan RestorePlan) (RestoredRecords, error) {
	return planned(ctx, req, plan, func(ctx context.Context, cluster *kafka.Cluster, repo *repository.Repository, p *restore.Plan, ref repository.ObjectRef) (RestoredRecords, error) {
		if err := restore.CheckFilled(ctx, cluster, repo, p); err != nil {
			return RestoredRecords{}, err
		}
		m, key, err := restore.MakeMapping(ctx, repo, p, ref)
		if err != nil {
			return RestoredRecords{}, err
		}
		return RestoredRecords{Total: Amount{Records: m.Records, Bytes: m.Bytes, Partitions: m.Partitions}, Mapping: key}, nil
	})
}

// ReleaseTargets puts the captured topic configurations back. After a failure
// it also deletes the topics that the restore created, if so configured.
func (*Restore) ReleaseTargets(ctx context.Context, req RestoreRequest, plan RestorePlan, failed bool) (ReleasedTargets, error) {
	return planned(ctx, req, plan, func(ctx context.Context, cluster *kafka.Cluster, repo *repository.Repository, p *restore.Plan, _ repository.ObjectRef) (ReleasedTargets, error) {
		// First put back, then delete: of the topics some may have been there before.
		warnings, err := restore.Release(ctx, cluster, repo, p)
		released := ReleasedTargets{Warnings: warnings[:min(len(warnings), maxWarnings)]}
		if !failed {
			return released, err
		}
		if !req.Options.DeleteCreatedTopics {
			created, cerr := restore.Created(ctx, cluster, repo, p)
			if released.Created = len(created); len(created) > 0 && err != nil {
				err = fmt.Errorf("%w (%s that this restore created stay as they are)", err, render.Number(len(created), "topic"))
			}
			return released, errors.Join(err, cerr)
		}
		n, kept, derr := restore.DeleteCreated(ctx, cluster, repo, p)
		if derr == nil {
			released.Deleted = n
		}
		if n > 0 && len(kept) == 0 {
			released.Warnings = nil // they were about topics that are no more
		}
		for _, k := range kept[:min(len(kept), maxWarnings)] {
			released.Kept = append(released.Kept, k.String())
		}
		return released, errors.Join(err, derr)
	})
}

// OffsetReset is the reset of the groups' offsets at the end of a restore.
func (r *RestoreRequest) OffsetReset() OffsetRequest {
	return OffsetRequest{Requested: Requested{Requester: r.Requester}, Target: r.Target, Storage: r.Storage, Offsets: offsets.Request{BestEffort: true}}
}

// PlanGroupOffsets translates the groups' offsets through the mapping, and makes
// that the plan of what is set.
func (*Restore) PlanGroupOffsets(ctx context.Context, req RestoreRequest, plan RestorePlan) (OffsetPlan, error) {
	return planned(ctx, req, plan, func(ctx context.Context, cluster *kafka.Cluster, repo *repository.Repository, p *restore.Plan, _ repository.ObjectRef) (OffsetPlan, error) {
		reset := offsets.Request{BackupID: p.BackupID, Restore: p.MappingKey(), Groups: offsets.Selection{Names: p.Groups}, BestEffort: true, OnOutOfRange: offsets.ClampOutOfRange}
		const name = "reset"
		e := activity.GetInfo(ctx).WorkflowExecution
		var err error
		if reset.Earlier, err = offsets.ReadEarlier(ctx, repo, e.ID, e.RunID, name); err != nil {
			return OffsetPlan{}, err
		}
		made, ref, err := offsetFolder(ctx, repo).StorePlan(ctx, name, func(emit func(*offsets.Shard) error) (*offsets.Plan, error) {
			return reset.Plan(ctx, cluster, repo, emit)
		})
		if err != nil {
			return OffsetPlan{}, err
		}
		return offsetPlan(made, ref, name), nil
	})
}

// planned runs a short activity that follows a restore's plan.
func planned[T any](ctx context.Context, req RestoreRequest, plan RestorePlan, do func(context.Context, *kafka.Cluster, *repository.Repository, *restore.Plan, repository.ObjectRef) (T, error)) (T, error) {
	return step(ctx, false, func(ctx context.Context) (T, error) {
		var none T
		cluster, repo, done, err := open(ctx, req.Target, req.Storage, repository.Open)
		if err != nil {
			return none, err
		}
		defer done()
		p, ref, err := restore.ReadPlan(ctx, repo, plan.Key)
		if err != nil {
			return none, err
		}
		return do(ctx, cluster, repo, p, ref)
	})
}
