package offsets

import (
	"context"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
)

// Verify reads committed offsets back and returns the changes that they do not
// show, and those of groups that could not be read. The error is that nothing
// could be read.
func Verify(ctx context.Context, cluster *kafka.Cluster, groups []GroupChanges) (wrong, unread []Failure, err error) {
	now, err := readCommitted(ctx, cluster, groupsOf(groups))
	if err != nil {
		return nil, nil, err
	}
	for i := range groups {
		g := groups[i].Group
		bad := now.failed[g]
		for _, c := range groups[i].Changes {
			if bad != nil {
				unread = append(unread, failure(g, c, bad))
			} else if at := now.at(groupPartition{g, c.Topic, c.Partition}); !at.like(c.committed()) {
				wrong = append(wrong, failure(g, c, &MismatchError{Want: c.committed(), Got: at}))
			}
		}
	}
	sortFailures(wrong)
	sortFailures(unread)
	return wrong, unread, nil
}

// Verified is what reading shards back gave.
type Verified struct {
	Checked int64     `json:"checked"`
	Wrong   []Failure `json:"wrong,omitempty"`
	// Open are changes of groups that could not be read; none in a last look,
	// where they are wrong.
	Open []Failure `json:"-"`
}

func (v *Verified) add(o *Verified) {
	v.Checked += o.Checked
	v.Wrong = append(v.Wrong, o.Wrong...)
	v.Open = append(v.Open, o.Open...)
}

// Verify reads the changes of shards back. What could not be set is left out:
// it is known not to show. last: what cannot be read now is not read again.
func (r *Run) Verify(ctx context.Context, shards Shards, last bool) (*Verified, error) {
	all := make([]Verified, shards.To-shards.From)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2) // one is read while the other waits for the cluster
	for i := range all {
		g.Go(func() (err error) {
			all[i], err = r.verify(ctx, shards.From+i, last)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	sum := new(Verified)
	for i := range all {
		sum.add(&all[i])
	}
	return sum, nil
}

func (r *Run) verifiedKey(shard int) string {
	return r.Folder.key("%s/forward-%05d-verified.json.zst", r.Name, shard)
}

func (r *Run) verify(ctx context.Context, shard int, last bool) (v Verified, err error) {
	s, err := r.Plan.ReadShard(ctx, r.Folder.Repository, shard)
	if err != nil {
		return v, err
	}
	done, err := r.outcomes(ctx, shard)
	if err != nil {
		return v, err
	}
	left := map[groupPartition]bool{}
	for _, f := range remaining(done) {
		left[groupPartition{f.Group, f.Topic, f.Partition}] = true
	}
	var changes []GroupChanges
	for _, g := range s.Forward() {
		if len(left) > 0 {
			g.Changes = slices.DeleteFunc(g.Changes, func(c Change) bool { return left[groupPartition{g.Group, c.Topic, c.Partition}] })
		}
		if len(g.Changes) > 0 {
			changes = append(changes, g)
			v.Checked += int64(len(g.Changes))
		}
	}
	if v.Wrong, v.Open, err = Verify(ctx, r.Cluster, changes); err != nil {
		return v, err
	}
	if len(v.Open) > 0 {
		if !last {
			return v, nil
		}
		v.Wrong, v.Open = append(v.Wrong, v.Open...), nil
		sortFailures(v.Wrong)
	}
	_, err = adopt(ctx, r.Folder.Repository, r.verifiedKey(shard), &v)
	return v, err
}
