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
	back := s.back()
	now, err := readCommitted(ctx, a.Cluster, groupsOf(back))
	if err != nil {
		return u, err
	}
	rows := s.rowsByPlace()
	var ours []GroupChanges
	for _, g := range back {
		set := GroupChanges{Group: g.Group}
		for _, c := range g.Changes {
			at := groupPartition{g.Group, c.Topic, c.Partition}
			if bad := now.failed[g.Group]; bad != nil {
				u.fail(failure(g.Group, c, bad))
				continue
			}
			switch found := now.at(at); rows[at].owner(found) {
			case us:
				set.Changes = append(set.Changes, c)
			case somebody:
				u.Left = append(u.Left, failure(g.Group, c, &MovedOnError{Was: c.committed(), Is: found}))
			}
		}
		if len(set.Changes) > 0 {
			ours = append(ours, set)
		}
	}
	if len(ours) == 0 {
		u.sort()
		return u, nil
	}
	did, err := a.Apply(ctx, ours)
	if err != nil {
		return u, err
	}
	why := map[groupPartition]Failure{}
	for _, f := range append(did.Failed, did.Open...) {
		why[groupPartition{f.Group, f.Topic, f.Partition}] = f
	}
	if now, err = readCommitted(ctx, a.Cluster, groupsOf(ours)); err != nil {
		return u, err
	}
	for _, g := range ours {
		for _, c := range g.Changes {
			at := groupPartition{g.Group, c.Topic, c.Partition}
			if bad := now.failed[g.Group]; bad != nil {
				u.fail(failure(g.Group, c, bad))
				continue
			}
			switch found := now.at(at); rows[at].owner(found) {
			case nobody:
				u.PutBack++
			case somebody:
				u.Left = append(u.Left, failure(g.Group, c, &MovedOnError{Was: c.committed(), Is: found}))
			case us:
				if f, known := why[at]; known {
					u.fail(f)
				} else {
					u.Open = append(u.Open, failure(g.Group, c, &MismatchError{Want: c.committed(), Got: found}))
				}
			}
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
