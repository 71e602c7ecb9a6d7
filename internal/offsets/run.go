package offsets

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

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

// Shards are some shards of a plan: From is the first, To the one after the last.
type Shards struct {
	From int `json:"from"`
	To   int `json:"to"`
}

// All are all shards of the plan.
func (r *Run) All() Shards { return Shards{0, len(r.Plan.Shards)} }

// Apply makes the changes of shards, and returns their outcomes in their order,
// nil for one that has nothing to do in this round. Round 0 makes all changes; a
// later one those that the one before left open. While the requests of a shard
// are in flight the next one is read and begun.
func (r *Run) Apply(ctx context.Context, shards Shards, round int, d Direction, a Applier) ([]*Outcome, error) {
	type work struct {
		shard   int
		changes []GroupChanges
	}
	outcomes := make([]*Outcome, shards.To-shards.From)
	slots := a.slots()
	ready := make(chan work)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(ready)
		for shard := shards.From; shard < shards.To; shard++ {
			changes, done, err := r.todo(ctx, shard, round, d)
			if err != nil {
				return err
			}
			outcomes[shard-shards.From] = done
			if len(changes) == 0 && (done != nil || round > 0) {
				continue
			}
			a.Cluster.FindCoordinators(ctx, groupsOf(changes))
			select {
			case ready <- work{shard, changes}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	g.Go(func() error {
		for w := range ready {
			run := a.begin(ctx, slots, w.changes)
			g.Go(func() error {
				o, err := run.outcome(ctx)
				if err != nil {
					return err
				}
				outcomes[w.shard-shards.From] = o
				_, err = adopt(ctx, r.Folder.Repository, r.outcomeKey(d, w.shard, round), o)
				return err
			})
		}
		return nil
	})
	return outcomes, g.Wait()
}

// todo is what a round is to change in a shard, or what became of it if it was
// carried out before.
func (r *Run) todo(ctx context.Context, shard, round int, d Direction) ([]GroupChanges, *Outcome, error) {
	done, err := r.outcomes(ctx, shard, d)
	if err != nil {
		return nil, nil, err
	}
	switch n := len(done); {
	case n > round:
		return nil, done[round], nil
	case n > 0 && len(done[n-1].Open) == 0:
		return nil, nil, nil
	case n < round:
		return nil, nil, fmt.Errorf("shard %d: what became of round %d is not in the repository", shard, n)
	case n > 0:
		return regroup(done[n-1].Open), nil, nil
	}
	s, err := r.Plan.ReadShard(ctx, r.Folder.Repository, shard)
	if err != nil {
		return nil, nil, err
	}
	return s.to(d), nil, nil
}

func groupsOf(changes []GroupChanges) []string {
	names := make([]string, len(changes))
	for i := range changes {
		names[i] = changes[i].Group
	}
	return names
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

// Verify reads the changes of shards back, and returns how many it checked and
// which do not show. Of those forward, it leaves out what failed, which is known
// not to show. Back it checks all: what could not be put back may never have
// been set.
func (r *Run) Verify(ctx context.Context, shards Shards, d Direction) (checked int64, wrong []Failure, err error) {
	all := make([]verified, shards.To-shards.From)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2) // one is read while the other waits for the cluster
	for i := range all {
		g.Go(func() (err error) {
			all[i], err = r.verify(ctx, shards.From+i, d)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return 0, nil, err
	}
	for _, v := range all {
		checked, wrong = checked+v.Checked, append(wrong, v.Wrong...)
	}
	return checked, wrong, nil
}

func (r *Run) verify(ctx context.Context, shard int, d Direction) (v verified, err error) {
	s, err := r.Plan.ReadShard(ctx, r.Folder.Repository, shard)
	if err != nil {
		return v, err
	}
	done, err := r.outcomes(ctx, shard, d)
	if err != nil {
		return v, err
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
		if d == Forward && len(left) > 0 {
			g.Changes = slices.DeleteFunc(g.Changes, func(c Change) bool {
				_, failed := left[place{g.Group, c.Topic, c.Partition}]
				return failed
			})
		}
		if len(g.Changes) > 0 {
			changes = append(changes, g)
			v.Checked += int64(len(g.Changes))
		}
	}
	if v.Wrong, err = Verify(ctx, r.Cluster, changes); err != nil {
		return v, err
	}
	for i, w := range v.Wrong {
		if f, failed := left[place{w.Group, w.Topic, w.Partition}]; failed {
			v.Wrong[i] = f // why it could not be put back says more
		}
	}
	_, err = adopt(ctx, r.Folder.Repository, r.Folder.key("%s/%s-%05d-verified.json.zst", r.Name, d, shard), &v)
	return v, err
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
	More       More      `json:"more,omitzero"`
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
	short.More = More{Failures: int64(max(0, len(rep.Failures)-maxFailures)), Blocked: int64(max(0, len(rep.Blocked)-maxFailures)), Skipped: int64(max(0, len(rep.Skipped)-maxFailures))}
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
