package offsets

import (
	"context"
	"fmt"

	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// Report is what a run did. The whole of it is in the folder as report.json.
type Report struct {
	Format     string    `json:"format"`
	Version    int       `json:"version"`
	PlanKey    string    `json:"plan"`
	Plan       string    `json:"plan_digest"`
	ClusterID  string    `json:"cluster_id"`
	Source     string    `json:"source"`
	BackupID   string    `json:"backup_id,omitempty"`
	SnapshotID string    `json:"snapshot_id,omitempty"` // of the state before
	Totals     Totals    `json:"totals"`
	Summary    Summary   `json:"summary"`
	Seconds    float64   `json:"apply_seconds"` // from the first change sent to the last answered
	Rate       float64   `json:"partitions_per_second"`
	Verified   int64     `json:"verified"` // changes that read back as they were set
	GroupsDone int       `json:"groups_done"`
	GroupsBad  int       `json:"groups_failed"`
	Failures   []Failure `json:"failures,omitempty"`
	// Undone is what was put back, and what could not be; nil: it was not undone.
	Undone   *Undone   `json:"undone,omitempty"`
	Blocked  []Blocked `json:"groups_blocked,omitempty"`
	Rows     []Changed `json:"changed,omitempty"`
	Skipped  []Changed `json:"skipped,omitempty"`
	Warnings []string  `json:"warnings,omitempty"`
	More     More      `json:"more,omitzero"`
}

// More is how many entries the lists of a report lack that are in the report in
// the repository.
type More struct {
	Failures int64 `json:"failures"`
	Blocked  int64 `json:"groups_blocked"`
	Skipped  int64 `json:"skipped"`
}

// Blocked is a group of which nothing could be changed.
type Blocked struct {
	Group string `json:"group"`
	Kind  string `json:"kind"`
	Why   string `json:"why"`
}

// Changed is a row of a report.
type Changed struct {
	Group     string `json:"group"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	From      int64  `json:"from"`
	To        int64  `json:"to"`
	Action    Action `json:"action"`
	Why       string `json:"why,omitempty"`
}

const formatReport = "kafka-backup/offset-report"

// Limits of lists in a report that goes through a workflow's history.
const (
	maxFailures = 50
	maxRows     = 100
)

// Report puts together what became of all shards, and writes it. The lists of
// the one it returns are cut; those in the repository are whole, but for the
// rows of changes, which are in the plan.
func (r *Run) Report(ctx context.Context, planRef repository.ObjectRef, snapshotID string) (*Report, string, error) {
	p := r.Plan
	rep := &Report{Format: formatReport, Version: repository.FormatVersion, PlanKey: planRef.Key, Plan: p.Changes, ClusterID: p.ClusterID,
		Source: p.Source, BackupID: p.BackupID, SnapshotID: snapshotID, Totals: p.Totals, Warnings: p.Warnings}
	for n := range p.Shards {
		s, err := p.ReadShard(ctx, r.Folder.Repository, n)
		if err != nil {
			return nil, "", err
		}
		if err := r.addShard(ctx, rep, n, s); err != nil {
			return nil, "", err
		}
	}
	if rep.Seconds = rep.Summary.Ended.Sub(rep.Summary.Began).Seconds(); rep.Seconds > 0 {
		rep.Rate = float64(rep.Summary.Changed) / rep.Seconds
	}
	key := r.Folder.key("%s/report.json", r.Name)
	if _, _, err := repository.AdoptDocument(ctx, r.Folder.Repository, key, rep); err != nil {
		return nil, "", err
	}
	short := *rep
	more := func(n int) int64 { return int64(max(0, n-maxFailures)) }
	short.More = More{more(len(rep.Failures)), more(len(rep.Blocked)), more(len(rep.Skipped))}
	short.Failures = cut(short.Failures, maxFailures)
	short.Blocked = cut(short.Blocked, maxFailures)
	short.Rows = cut(short.Rows, maxRows)
	short.Skipped = cut(short.Skipped, maxFailures)
	if u := rep.Undone; u != nil {
		short.Undone = &Undone{u.PutBack, cut(u.Left, maxFailures), cut(u.Failed, maxFailures), cut(u.Open, maxFailures)}
	}
	return &short, key, nil
}

func cut[T any](list []T, n int) []T { return list[:min(len(list), n)] }

func (r *Run) addShard(ctx context.Context, rep *Report, n int, s *Shard) error {
	bad, failedAt := map[string]bool{}, map[groupPartition]bool{}
	fail := func(failed []Failure) {
		rep.Failures = append(rep.Failures, failed...)
		for _, f := range failed {
			bad[f.Group], failedAt[groupPartition{f.Group, f.Topic, f.Partition}] = true, true
		}
	}
	done, err := r.outcomes(ctx, n)
	if err != nil {
		return err
	}
	for i, o := range done {
		last := i == len(done)-1
		if err := rep.Summary.Add(o, last); err != nil {
			return err
		}
		fail(o.Failed)
		if last {
			fail(o.Open)
		}
	}
	var v Verified
	if found, err := r.recorded(ctx, r.verifiedKey(n), &v); err != nil {
		return err
	} else if found {
		rep.Verified += v.Checked - int64(len(v.Wrong))
		rep.Summary.Fail(v.Wrong)
		fail(v.Wrong)
	}
	undone, err := r.undone(ctx, n)
	if err != nil {
		return err
	}
	if undone != nil {
		if rep.Undone == nil {
			rep.Undone = new(Undone)
		}
		rep.Undone.add(undone)
	}
	for i := range s.Groups {
		g := &s.Groups[i]
		switch {
		case g.Blocked != "":
			rep.Blocked = append(rep.Blocked, Blocked{g.Group, g.Kind, blockedText(g)})
			rep.GroupsBad++
		case bad[g.Group] || g.Bad():
			rep.GroupsBad++
		default:
			rep.GroupsDone++
		}
		for j := range g.Topics {
			for _, row := range g.Topics[j].Rows {
				c := Changed{g.Group, g.Topics[j].Topic, row.Partition, row.Current, row.Target, row.Action, row.Why}
				switch {
				case row.Action == OutOfRange:
					c.Why = fmt.Sprintf("offset %d is out of range (current: %d-%d)", row.Wanted, row.Start, row.End)
					rep.Skipped = append(rep.Skipped, c)
				case row.Action == Skip || row.Action == Failed:
					rep.Skipped = append(rep.Skipped, c)
				case row.Action.Changes() && g.Blocked == "" && len(rep.Rows) < maxRows && !failedAt[groupPartition{g.Group, c.Topic, c.Partition}]:
					rep.Rows = append(rep.Rows, c)
				}
			}
		}
	}
	return nil
}

func blockedText(g *GroupPlan) string {
	if g.Kind == BlockedActive {
		return "it has active members: " + describeActive(g)
	}
	return g.Blocked
}
