package offsets

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/restore"
)

// Request says whose offsets are set, and to what.
//
// Targets come from the snapshot if one is named, from the strategy if there is
// one, and otherwise from the captured offsets of the backup: through the
// mapping of the restore that is named or else of the newest restore of the
// backup into the cluster, and as they are when there is no such restore.
type Request struct {
	BackupID string `json:"backup_id,omitempty"`
	// Restore is the workflow id of a restore, or the key of its mapping.
	Restore      string      `json:"restore,omitempty"`
	Snapshot     string      `json:"snapshot_id,omitempty"`
	Strategy     *Strategy   `json:"strategy,omitempty"`
	Groups       Selection   `json:"groups"`
	Topics       TopicFilter `json:"topics,omitempty"`
	OnOutOfRange string      `json:"on_out_of_range,omitempty"`
	// Rollback: the captured offsets of the backup are a snapshot. They are put
	// back into the topics they were taken from, and into no others.
	Rollback bool `json:"rollback,omitempty"`
	// BestEffort: what cannot be done does not keep the rest from being done.
	BestEffort bool `json:"best_effort,omitempty"`
	// Earlier is what earlier runs of the same operation have set; nil: nothing.
	Earlier Earlier `json:"-"`
	// Inputs holds what is too large for a message: it replaces Groups.Names and
	// Strategy.File. See [Request.Shrink].
	Inputs *repository.ObjectRef `json:"inputs,omitempty"`
}

// inputs is what Request.Inputs refers to.
type inputs struct {
	Names []string     `json:"names,omitempty"`
	File  []FileTarget `json:"file,omitempty"`
}

// maxInline is how many names and targets a request holds itself.
const maxInline = 500

// Shrink moves long lists of a request into the repository, so that it can be
// sent. The object is named by its content: the same request stays the same.
func (r *Request) Shrink(ctx context.Context, repo *repository.Repository) error {
	in := inputs{Names: r.Groups.Names}
	if r.Strategy != nil {
		in.File = r.Strategy.File
	}
	if len(in.Names)+len(in.File) <= maxInline {
		return nil
	}
	data, err := pack(in)
	if err != nil {
		return err
	}
	ref, _, _, err := repo.Adopt(ctx, repository.OperationsPrefix+"offset-inputs/"+digest(data)+".json.zst", data, typeZstd)
	if err != nil {
		return err
	}
	r.Inputs, r.Groups.Names = &ref, nil
	if r.Strategy != nil && r.Strategy.File != nil {
		s := *r.Strategy
		s.File = []FileTarget{}
		r.Strategy = &s
	}
	return nil
}

// expand is the reverse of Shrink.
func (r *Request) expand(ctx context.Context, repo *repository.Repository) error {
	if r.Inputs == nil {
		return nil
	}
	var in inputs
	if err := read(ctx, repo, *r.Inputs, &in); err != nil {
		return fmt.Errorf("read the names of the groups: %w", err)
	}
	r.Groups.Names = in.Names
	if r.Strategy != nil && in.File != nil {
		s := *r.Strategy
		s.File = in.File
		r.Strategy = &s
	}
	return nil
}

// Plan makes the plan that the request asks for, and gives its shards to emit.
// repo may be nil where neither a backup nor a snapshot is named.
func (r Request) Plan(ctx context.Context, cluster *kafka.Cluster, repo *repository.Repository, emit func(*Shard) error) (*Plan, error) {
	if err := r.expand(ctx, repo); err != nil {
		return nil, err
	}
	if err := r.Strategy.check(); err != nil {
		return nil, err
	}
	r.Strategy = r.Strategy.From(time.Now())
	p := &Planner{Cluster: cluster, Groups: r.Groups, Topics: r.Topics, OnOutOfRange: r.OnOutOfRange, BestEffort: r.BestEffort, Earlier: r.Earlier}
	head := Plan{BackupID: r.BackupID, Snapshot: r.Snapshot}
	var err error
	switch {
	case r.Snapshot != "":
		p.Rollback = true
		p.Source, err = r.snapshot(ctx, cluster, repo)
	case r.BackupID != "":
		p.Rollback = r.Rollback
		p.Source, err = r.backup(ctx, cluster, repo, &head)
	case r.Strategy.Empty():
		err = wrong("say where to: name a backup (--backup-id), a snapshot, or one of --to-earliest, --to-latest, --to-offset, --to-datetime, --shift-by, --by-duration, --from-file")
	default:
		p.Source = r.explicit(cluster, nil)
	}
	if err != nil {
		return nil, err
	}
	if p.Groups.Empty() {
		switch {
		case r.Snapshot != "" || r.Rollback:
			p.Groups.All = true
		case r.Strategy != nil && len(r.Strategy.File) > 0 && r.Strategy.File[0].Group != "":
			for _, t := range r.Strategy.File {
				p.Groups.Names = append(p.Groups.Names, t.Group)
			}
			slices.Sort(p.Groups.Names)
			p.Groups.Names = slices.Compact(p.Groups.Names)
		default:
			return nil, wrong("say whose offsets: name groups with --groups a,b")
		}
	}
	if text := r.unused(p.Groups); text != "" {
		head.warn(text)
	}
	plan, err := p.Plan(ctx, emit)
	if err != nil {
		return nil, err
	}
	plan.Format, plan.Version = formatPlan, repository.FormatVersion
	plan.BackupID, plan.Snapshot, plan.Mapping = head.BackupID, head.Snapshot, head.Mapping
	if p.Rollback || !r.Strategy.Empty() { // what is committed now counts
		text, err := hidden(ctx, cluster)
		if err != nil {
			return nil, err
		}
		if text != "" {
			head.warn(text)
		}
	}
	plan.Warnings = append(head.Warnings, plan.Warnings...)
	plan.Warnings = plan.Warnings[:min(len(plan.Warnings), maxWarnings)]
	return plan, nil
}

// explicit is the source of the request's strategy; capture may be nil.
func (r *Request) explicit(cluster *kafka.Cluster, capture *repository.GroupsCapture) *Explicit {
	return &Explicit{Cluster: cluster, Strategy: *r.Strategy, Capture: capture, Topics: r.Topics, Named: r.Groups.Names}
}

// unused says which lines of a file are of no use, since their groups, topics or
// partitions are not selected; "" when there are none.
func (r *Request) unused(groups Selection) string {
	if r.Strategy == nil {
		return ""
	}
	named := map[string]bool{}
	for _, n := range groups.Names {
		named[n] = true
	}
	lines := 0
	var of []string
	for _, t := range r.Strategy.File {
		what := "group " + t.Group
		if t.Group == "" || named[t.Group] || groups.matches(t.Group) {
			if r.Topics.Match(t.Topic, t.Partition) {
				continue
			}
			what = fmt.Sprintf("%s:%d", t.Topic, t.Partition)
		}
		if lines++; len(of) < 5 && !slices.Contains(of, what) {
			of = append(of, what)
		}
	}
	if lines == 0 {
		return ""
	}
	return fmt.Sprintf("%d lines of --from-file are left out, since what they are about is not selected: %s", lines, strings.Join(of, ", "))
}

// hidden says that the cluster may hide something; "" when it does not.
func hidden(ctx context.Context, cluster *kafka.Cluster) (string, error) {
	all, err := cluster.SeesAll(ctx)
	if err != nil || all {
		return "", err
	}
	return cmp.Or(cluster.Principal(), "the user") + " is no super user: groups that it may not DESCRIBE, and groups' committed offsets on topics that it may not DESCRIBE, " +
		"are hidden by the brokers, without a word, and would not be in here", nil
}

func (r *Request) snapshot(ctx context.Context, cluster *kafka.Cluster, repo *repository.Repository) (Source, error) {
	s, err := FindSnapshot(ctx, repo, r.Snapshot)
	if err != nil {
		return nil, err
	}
	if s.ClusterID != cluster.ID() {
		return nil, wrong("%s was taken of cluster %s, and this is cluster %s: its offsets mean nothing here", s.ID, s.ClusterID, cluster.ID())
	}
	source := &FromSnapshot{Repository: repo, Snapshot: s}
	return source, source.Load(ctx)
}

func (r *Request) backup(ctx context.Context, cluster *kafka.Cluster, repo *repository.Repository, head *Plan) (Source, error) {
	m, err := repo.ReadManifest(ctx, r.BackupID)
	if err != nil {
		return nil, err
	}
	groups, err := repo.ReadGroups(ctx, m)
	if err != nil {
		return nil, err
	}
	capture := groups.Last()
	if !r.Strategy.Empty() {
		return r.explicit(cluster, capture), nil
	}
	if capture == nil || len(capture.Groups) == 0 {
		return nil, wrong("no consumer group was captured with backup %s; use an explicit strategy: --to-earliest, --to-latest, --to-offset, --to-datetime", r.BackupID)
	}
	same := m.ClusterID == cluster.ID()
	if r.Rollback {
		if !same {
			return nil, wrong("backup %s was made of cluster %s, and this is cluster %s: use offset-reset, which goes through the offset mapping of a restore", r.BackupID, m.ClusterID, cluster.ID())
		}
		topics := map[string]string{}
		for shard, err := range repo.Shards(ctx, m, 2) {
			if err != nil {
				return nil, err
			}
			for i := range shard.Topics {
				topics[shard.Topics[i].Name] = shard.Topics[i].ID
			}
		}
		return &Captured{Capture: capture, BackupID: r.BackupID, SameCluster: true, Topics: topics}, nil
	}
	var mapping *restore.Mapping
	if r.Restore != "" {
		if mapping, head.Mapping, err = restore.FindMapping(ctx, repo, r.Restore); err != nil {
			return nil, err
		}
		if mapping.ClusterID != cluster.ID() || mapping.BackupID != r.BackupID {
			return nil, wrong("%s restored backup %s into cluster %s, and this is about backup %s and cluster %s", mapping.WorkflowID,
				mapping.BackupID, mapping.ClusterID, r.BackupID, cluster.ID())
		}
	} else if mapping, head.Mapping, err = restore.LatestMapping(ctx, repo, r.BackupID, cluster.ID()); err != nil {
		return nil, err
	}
	if mapping != nil {
		t, err := restore.NewTranslator(ctx, repo, mapping)
		if err != nil {
			return nil, err
		}
		return &Mapped{Capture: capture, Translator: t, Restore: cmp.Or(mapping.WorkflowID, head.Mapping)}, nil
	}
	if !same {
		head.warn(fmt.Sprintf("no restore of backup %s into this cluster is in the repository: the captured offsets are used as they are, and mean the same records only if the topics hold them at the same offsets", r.BackupID))
	}
	return &Captured{Capture: capture, BackupID: r.BackupID, SameCluster: same}, nil
}
