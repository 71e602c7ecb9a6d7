package offsets

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

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
	// Seen is when the groups were last seen as the plan found them. What was seen
	// longer ago than fresh is looked at again before it is changed.
	Seen time.Time
	// LeftOut are groups that nothing is changed of, and why.
	LeftOut map[string]string
}

// fresh is how long what was seen of a group may be trusted. A group whose
// consumers start meanwhile refuses to be changed by itself; one whose consumers
// also have stopped again does not.
const fresh = 10 * time.Second

func (r *Run) outcomeKey(shard, round int) string {
	return r.Folder.key("%s/forward-%05d-%02d.json.zst", r.Name, shard, round)
}

// Shards are some shards of a plan: From is the first, To the one after the last.
type Shards struct {
	From int `json:"from"`
	To   int `json:"to"`
}

// All are all shards of the plan.
func (r *Run) All() Shards { return Shards{0, len(r.Plan.Shards)} }

// Groups are the groups of the plan that are not blocked.
func (r *Run) Groups(ctx context.Context) ([]string, error) {
	var names []string
	for s, err := range r.Plan.EachShard(ctx, r.Folder.Repository) {
		if err != nil {
			return nil, err
		}
		for g := range s.open() {
			names = append(names, g.Group)
		}
	}
	return names, nil
}

// CheckUnmoved is [CheckUnmoved] for all shards of the plan.
func (r *Run) CheckUnmoved(ctx context.Context, ranges bool) error {
	for s, err := range r.Plan.EachShard(ctx, r.Folder.Repository) {
		if err != nil {
			return err
		}
		if err := CheckUnmoved(ctx, r.Cluster, s, ranges); err != nil {
			return err
		}
	}
	return nil
}

func (r *Run) leftOutKey() string { return r.Folder.key("%s/left-out.json.zst", r.Name) }

// WriteLeftOut records which groups are left out, and why, unless an earlier
// attempt did, and returns how many they are.
func (r *Run) WriteLeftOut(ctx context.Context, why map[string]string) (int, error) {
	_, err := adopt(ctx, r.Folder.Repository, r.leftOutKey(), &why)
	return len(why), err
}

// ReadLeftOut reads what WriteLeftOut recorded into LeftOut.
func (r *Run) ReadLeftOut(ctx context.Context) error {
	_, err := r.recorded(ctx, r.leftOutKey(), &r.LeftOut)
	return err
}

// work is what a round has to do in a shard.
type work struct {
	shard   int
	changes []GroupChanges
	// Found before anything is sent: what is not to be changed, and what could
	// not be looked at.
	failed, open []Failure
}

// Apply makes the changes of shards, and returns their outcomes in their order,
// nil for one that has nothing to do in this round. Round 0 makes all changes; a
// later one those that the one before left open. While the requests of a shard
// are in flight the next one is read and begun.
func (r *Run) Apply(ctx context.Context, shards Shards, round int, a Applier) ([]*Outcome, error) {
	outcomes := make([]*Outcome, shards.To-shards.From)
	slots := a.slots()
	ready := make(chan work)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(ready)
		for shard := shards.From; shard < shards.To; shard++ {
			w, done, err := r.todo(ctx, shard, round)
			if err != nil {
				return err
			}
			outcomes[shard-shards.From] = done
			if w == nil {
				continue
			}
			a.Cluster.FindCoordinators(ctx, groupsOf(w.changes))
			select {
			case ready <- *w:
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
				o.Failed, o.Open = append(o.Failed, w.failed...), append(o.Open, w.open...)
				sortFailures(o.Failed)
				sortFailures(o.Open)
				outcomes[w.shard-shards.From] = o
				_, err = adopt(ctx, r.Folder.Repository, r.outcomeKey(w.shard, round), o)
				return err
			})
		}
		return nil
	})
	return outcomes, g.Wait()
}

// todo is what a round is to change in a shard, nil for nothing, and what became
// of it if it was carried out before.
func (r *Run) todo(ctx context.Context, shard, round int) (*work, *Outcome, error) {
	done, err := r.outcomes(ctx, shard)
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
	}
	s, err := r.Plan.ReadShard(ctx, r.Folder.Repository, shard)
	if err != nil {
		return nil, nil, err
	}
	w := &work{shard: shard, changes: s.Forward()}
	if round > 0 {
		w.changes = regroup(done[round-1].Open)
	}
	r.leaveOut(w)
	if time.Since(r.Seen) > fresh {
		err = r.lookAgain(ctx, s, w)
	}
	return w, nil, err
}

// leaveOut takes out of what is to be done the groups that are left out.
func (r *Run) leaveOut(w *work) {
	w.changes = slices.DeleteFunc(w.changes, func(g GroupChanges) bool {
		why, out := r.LeftOut[g.Group]
		if out {
			for _, c := range g.Changes {
				w.failed = append(w.failed, Failure{Group: g.Group, Change: c, Code: "ERROR", Error: why})
			}
		}
		return out
	})
}

// lookAgain takes out of what is to be done the places where somebody else has
// committed since, and those that cannot be looked at.
func (r *Run) lookAgain(ctx context.Context, s *Shard, w *work) error {
	now, err := readCommitted(ctx, r.Cluster, groupsOf(w.changes))
	if err != nil {
		return err
	}
	rows := s.rowsByPlace()
	var still []GroupChanges
	for _, g := range w.changes {
		keep := GroupChanges{Group: g.Group}
		for _, c := range g.Changes {
			at := groupPartition{g.Group, c.Topic, c.Partition}
			if bad := now.failed[g.Group]; bad != nil && transient(bad) {
				w.open = append(w.open, failure(g.Group, c, bad))
			} else if bad != nil {
				w.failed = append(w.failed, failure(g.Group, c, bad))
			} else if found := now.at(at); rows[at].owner(found) == somebody {
				w.failed = append(w.failed, failure(g.Group, c, &MovedOnError{Was: rows[at].before(), Is: found}))
			} else {
				keep.Changes = append(keep.Changes, c)
			}
		}
		if len(keep.Changes) > 0 {
			still = append(still, keep)
		}
	}
	w.changes = still
	return nil
}

func groupsOf(changes []GroupChanges) []string {
	names := make([]string, len(changes))
	for i := range changes {
		names[i] = changes[i].Group
	}
	return names
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

// recorded reads what a step recorded, if it was carried out.
func (r *Run) recorded(ctx context.Context, key string, v any) (bool, error) {
	data, err := r.Folder.Repository.Read(ctx, key)
	if errors.Is(err, repository.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, unpack(key, data, v)
}

// outcomes reads what the rounds of a shard became.
func (r *Run) outcomes(ctx context.Context, shard int) ([]*Outcome, error) {
	var all []*Outcome
	for {
		o := new(Outcome)
		found, err := r.recorded(ctx, r.outcomeKey(shard, len(all)), o)
		if err != nil || !found {
			return all, err
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
