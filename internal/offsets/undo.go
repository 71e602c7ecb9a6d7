package offsets

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// Undone is what became of putting committed offsets back, in one try.
type Undone struct {
	// PutBack counts those that were as the plan had set them, and read back as
	// they were before.
	PutBack int64 `json:"put_back"`
	// Left hold neither what was there before nor what the plan had set:
	// somebody else has committed it since, and it stays.
	Left []Failure `json:"left,omitempty"`
	// Failed cannot be put back; Open may be, on another try: the coordinator is
	// away, the group has active members.
	Failed []Failure `json:"failed,omitempty"`
	Open   []Failure `json:"open,omitempty"`
}

func (u *Undone) add(o *Undone) {
	u.PutBack += o.PutBack
	u.Left = append(u.Left, o.Left...)
	u.Failed = append(u.Failed, o.Failed...)
	u.Open = append(u.Open, o.Open...)
}

func (u *Undone) sort() {
	sortFailures(u.Left)
	sortFailures(u.Failed)
	sortFailures(u.Open)
}

func (r *Run) undoneKey(shard, round int) string {
	return r.Folder.key("%s/back-%05d-%02d.json.zst", r.Name, shard, round)
}

// PutBack undoes the changes of shards: what is as the plan sets it becomes what
// was committed when the plan was made, and is read back. It goes by what is
// committed now and not by what was recorded, so that it also undoes what an
// attempt sent that died before it could say so; and it touches nothing else.
func (r *Run) PutBack(ctx context.Context, shards Shards, round int, a Applier) (*Undone, error) {
	all := make([]Undone, shards.To-shards.From)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2) // one is read while the other waits for the cluster
	for i := range all {
		g.Go(func() (err error) {
			all[i], err = r.putBack(ctx, shards.From+i, round, a)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	sum := new(Undone)
	for i := range all {
		sum.add(&all[i])
	}
	return sum, nil
}

func (r *Run) putBack(ctx context.Context, shard, round int, a Applier) (u Undone, err error) {
	if found, err := r.recorded(ctx, r.undoneKey(shard, round), &u); err != nil || found {
		return u, err
	}
	s, err := r.Plan.ReadShard(ctx, r.Folder.Repository, shard)
	if err != nil {
		return u, err
	}
	if u, err = s.putBack(ctx, a); err != nil {
		return u, err
	}
	_, err = adopt(ctx, r.Folder.Repository, r.undoneKey(shard, round), &u)
	return u, err
}

// putBack is [Run.PutBack] of one shard.
func (s *Shard) putBack(ctx context.Context, a Applier) (u Undone, err error) {
	rows := s.rowsByPlace()
	// look reads what is committed in places, and gives those that are as the plan
	// sets them to ours, and those that are as they were before to others.
	look := func(places []GroupChanges, ours func(group string, c Change, now Committed), others func()) error {
		now, err := readCommitted(ctx, a.Cluster, groupsOf(places))
		if err != nil {
			return err
		}
		for _, g := range places {
			for _, c := range g.Changes {
				if bad := now.failed[g.Group]; bad != nil {
					u.fail(failure(g.Group, c, bad))
					continue
				}
				at := groupPartition{g.Group, c.Topic, c.Partition}
				switch found := now.at(at); rows[at].owner(found) {
				case us:
					ours(g.Group, c, found)
				case nobody:
					others()
				case somebody:
					u.Left = append(u.Left, failure(g.Group, c, &MovedOnError{Was: c.committed(), Is: found}))
				}
			}
		}
		return nil
	}
	var set []GroupChanges
	err = look(s.back(), func(group string, c Change, _ Committed) {
		if n := len(set); n == 0 || set[n-1].Group != group {
			set = append(set, GroupChanges{Group: group})
		}
		set[len(set)-1].Changes = append(set[len(set)-1].Changes, c)
	}, func() {})
	if err != nil {
		return u, err
	}
	if len(set) > 0 {
		did, err := a.Apply(ctx, set)
		if err != nil {
			return u, err
		}
		why := map[groupPartition]Failure{}
		for _, f := range append(did.Failed, did.Open...) {
			why[groupPartition{f.Group, f.Topic, f.Partition}] = f
		}
		err = look(set, func(group string, c Change, now Committed) {
			if f, known := why[groupPartition{group, c.Topic, c.Partition}]; known {
				u.fail(f)
			} else {
				u.Open = append(u.Open, failure(group, c, &MismatchError{Want: c.committed(), Got: now}))
			}
		}, func() { u.PutBack++ })
		if err != nil {
			return u, err
		}
	}
	u.sort()
	return u, nil
}

// fail notes what could not be put back just now, or for good.
func (u *Undone) fail(f Failure) {
	if mayReturn(f.cause) {
		u.Open = append(u.Open, f)
	} else {
		u.Failed = append(u.Failed, f)
	}
}

// undone adds up what was put back of a shard in all rounds; nil: it was not
// undone. What could not be, or was left, is as the last round found it.
func (r *Run) undone(ctx context.Context, shard int) (*Undone, error) {
	var sum *Undone
	for round := 0; ; round++ {
		var u Undone
		found, err := r.recorded(ctx, r.undoneKey(shard, round), &u)
		if err != nil || !found {
			return sum, err
		}
		if sum != nil {
			u.PutBack += sum.PutBack
		}
		sum = &u
	}
}
