package offsets

import (
	"context"
	"errors"
	"fmt"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// Run carries out a plan that is stored, shard by shard. What becomes of each
// shard is recorded in the folder; a step that was recorded is not done again.
type Run struct {
	Folder  Folder
	Cluster *kafka.Cluster
	Plan    *Plan
	// Name tells the plans of one folder apart.
	Name string
}

// Direction is where to.
type Direction string

// The directions.
const (
	Forward Direction = "forward" // what the plan says
	Back    Direction = "back"    // what was committed when it was made
)

func (s *Shard) to(d Direction) []GroupChanges {
	if d == Back {
		return s.Back()
	}
	return s.Forward()
}

func (r *Run) outcomeKey(d Direction, shard, round int) string {
	return r.Folder.key("%s/%s-%05d-%02d.json.zst", r.Name, d, shard, round)
}

// Apply makes the changes of a shard. Round 0 makes all of them; a later one
// those that the one before left open.
func (r *Run) Apply(ctx context.Context, shard, round int, d Direction, a Applier) (*Outcome, error) {
	key := r.outcomeKey(d, shard, round)
	if o, err := r.outcome(ctx, key); err == nil || !errors.Is(err, repository.ErrNotFound) {
		return o, err
	}
	var changes []GroupChanges
	if round == 0 {
		s, err := r.Plan.ReadShard(ctx, r.Folder.Repository, shard)
		if err != nil {
			return nil, err
		}
		changes = s.to(d)
	} else {
		before, err := r.outcome(ctx, r.outcomeKey(d, shard, round-1))
		if err != nil {
			return nil, err
		}
		changes = regroup(before.Open)
	}
	o, err := a.Apply(ctx, changes)
	if err != nil {
		return nil, err
	}
	_, err = adopt(ctx, r.Folder.Repository, key, o)
	return o, err
}

func (r *Run) outcome(ctx context.Context, key string) (*Outcome, error) {
	data, err := r.Folder.Repository.Read(ctx, key)
	if err != nil {
		return nil, err
	}
	o := new(Outcome)
	return o, unpack(key, data, o)
}

// regroup makes changes of failures, which are sorted by group.
func regroup(failed []Failure) []GroupChanges {
	var all []GroupChanges
	for _, f := range failed {
		if n := len(all); n == 0 || all[n-1].Group != f.Group {
			all = append(all, GroupChanges{Group: f.Group})
		}
		g := &all[len(all)-1]
		g.Changes = append(g.Changes, f.Change)
	}
	return all
}

// outcomes reads what the rounds of a shard became.
func (r *Run) outcomes(ctx context.Context, shard int, d Direction) ([]*Outcome, error) {
	var all []*Outcome
	for {
		o, err := r.outcome(ctx, r.outcomeKey(d, shard, len(all)))
		if errors.Is(err, repository.ErrNotFound) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if all = append(all, o); len(o.Open) == 0 {
			return all, nil
		}
	}
}

// remaining is what rounds of a shard could not change.
func remaining(done []*Outcome) []Failure {
	var left []Failure
	for i, o := range done {
		left = append(left, o.Failed...)
		if i == len(done)-1 {
			left = append(left, o.Open...)
		}
	}
	return left
}

// verified is the record of a verification.
type verified struct {
	Checked int64     `json:"checked"`
	Wrong   []Failure `json:"wrong,omitempty"`
}

// Verify reads the changes of a shard back, and returns how many it checked and
// which do not show. Of those forward, it leaves out what failed, which is known
// not to show. Back it checks all: what could not be put back may never have
// been set.
func (r *Run) Verify(ctx context.Context, shard int, d Direction) (checked int64, wrong []Failure, err error) {
	key := r.Folder.key("%s/%s-%05d-verified.json.zst", r.Name, d, shard)
	s, err := r.Plan.ReadShard(ctx, r.Folder.Repository, shard)
	if err != nil {
		return 0, nil, err
	}
	done, err := r.outcomes(ctx, shard, d)
	if err != nil {
		return 0, nil, err
	}
	type place struct {
		group, topic string
		partition    int32
	}
	left := map[place]Failure{}
	for _, f := range remaining(done) {
		left[place{f.Group, f.Topic, f.Partition}] = f
	}
	var changes []GroupChanges
	for _, g := range s.to(d) {
		kept := g.Changes[:0]
		for _, c := range g.Changes {
			if _, failed := left[place{g.Group, c.Topic, c.Partition}]; !failed || d == Back {
				kept = append(kept, c)
			}
		}
		if g.Changes = kept; len(kept) > 0 {
			changes = append(changes, g)
			checked += int64(len(kept))
		}
	}
	if wrong, err = Verify(ctx, r.Cluster, changes); err != nil {
		return 0, nil, err
	}
	for i, w := range wrong {
		if f, failed := left[place{w.Group, w.Topic, w.Partition}]; failed {
			wrong[i] = f // why it could not be put back says more
		}
	}
	v := verified{checked, wrong}
	_, err = adopt(ctx, r.Folder.Repository, key, &v)
	return v.Checked, v.Wrong, err
}

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
	Blocked    []Blocked `json:"groups_blocked,omitempty"`
	Rows       []Changed `json:"changed,omitempty"`
	Skipped    []Changed `json:"skipped,omitempty"`
	Warnings   []string  `json:"warnings,omitempty"`
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
	short.Failures = cut(short.Failures, maxFailures)
	short.Blocked = cut(short.Blocked, maxFailures)
	short.Rows = cut(short.Rows, maxRows)
	short.Skipped = cut(short.Skipped, maxFailures)
	return &short, key, nil
}

func cut[T any](list []T, n int) []T { return list[:min(len(list), n)] }

func (r *Run) addShard(ctx context.Context, rep *Report, n int, s *Shard) error {
	type place struct {
		group, topic string
		partition    int32
	}
	bad, failedAt := map[string]bool{}, map[place]bool{}
	fail := func(failed []Failure) {
		rep.Failures = append(rep.Failures, failed...)
		for _, f := range failed {
			bad[f.Group], failedAt[place{f.Group, f.Topic, f.Partition}] = true, true
		}
	}
	done, err := r.outcomes(ctx, n, Forward)
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
	key := r.Folder.key("%s/%s-%05d-verified.json.zst", r.Name, Forward, n)
	data, err := r.Folder.Repository.Read(ctx, key)
	if err == nil {
		var v verified
		if err := unpack(key, data, &v); err != nil {
			return err
		}
		rep.Verified += v.Checked - int64(len(v.Wrong))
		rep.Summary.Fail(v.Wrong)
		fail(v.Wrong)
	} else if !errors.Is(err, repository.ErrNotFound) {
		return err
	}
	for i := range s.Groups {
		g := &s.Groups[i]
		switch {
		case g.Blocked != "":
			rep.Blocked = append(rep.Blocked, Blocked{g.Group, g.Kind, blockedText(g)})
			rep.GroupsBad++
		case bad[g.Group]:
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
				case row.Action.Changes() && g.Blocked == "" && len(rep.Rows) < maxRows && !failedAt[place{g.Group, c.Topic, c.Partition}]:
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
