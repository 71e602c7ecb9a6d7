package offsets

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// Seal makes a file of a plan.
func (s SavedPlan) Seal() ([]byte, error) {
	s.Plan.Format, s.Plan.Version = formatPlan, repository.FormatVersion
	return repository.Seal(s)
}

// OpenPlan reads a file that Seal has made; name is for the error, a
// [*RequestError]: a file that was edited is none.
func OpenPlan(name string, data []byte) (*SavedPlan, error) {
	s := new(SavedPlan)
	var corrupt *repository.CorruptError
	if err := repository.Unseal(name, data, s); errors.As(err, &corrupt) {
		return nil, wrong("%s: %s; it must be as offset-reset plan --save has written it", name, corrupt.Detail)
	} else if err != nil {
		return nil, err
	}
	switch p := &s.Plan; {
	case p.Format != formatPlan:
		return nil, wrong("%s: its format is %q and not %q: it is no plan that offset-reset plan --save has written", name, p.Format, formatPlan)
	case p.Version < 1 || p.Version > repository.FormatVersion:
		return nil, wrong("%s: it has version %d, and this program reads up to %d: use a newer kafka-backup, or make the plan anew", name, p.Version, repository.FormatVersion)
	}
	return s, nil
}

// AdoptPlan takes over a plan that was saved, if it was made for the cluster. It
// stays as it is, but for which of its groups have active members: that is
// looked at now. name tells plans of one run apart. Errors: [*RequestError] for
// another cluster's, those of package kafka.
func (f Folder) AdoptPlan(ctx context.Context, name string, ref repository.ObjectRef, cluster *kafka.Cluster) (*Plan, repository.ObjectRef, error) {
	saved := new(Plan)
	if err := f.Repository.GetDocument(ctx, ref, saved); err != nil {
		return nil, ref, err
	}
	if saved.ClusterID != cluster.ID() {
		return nil, ref, wrong("the plan was made for cluster %s, and this is cluster %s", saved.ClusterID, cluster.ID())
	}
	return f.StorePlan(ctx, name, func(emit func(*Shard) error) (*Plan, error) {
		plan := *saved
		plan.Totals, plan.Warnings = Totals{}, slices.Clone(saved.Warnings)
		sum := sha256.New()
		fmt.Fprintf(sum, "%q\n", plan.ClusterID)
		for s, err := range saved.EachShard(ctx, f.Repository) {
			if err != nil {
				return nil, err
			}
			if err := plan.lookForMembers(ctx, cluster, s); err != nil {
				return nil, err
			}
			for i := range s.Groups {
				plan.Totals.add(&s.Groups[i])
				s.Groups[i].sum(sum)
			}
			if err := emit(s); err != nil {
				return nil, err
			}
		}
		plan.Changes = hex.EncodeToString(sum.Sum(nil))
		return &plan, nil
	})
}

// lookForMembers blocks the groups of a shard that have active members now, and
// unblocks those that had.
func (p *Plan) lookForMembers(ctx context.Context, cluster *kafka.Cluster, s *Shard) error {
	var names []string
	may := func(g *GroupPlan) bool { return g.Blocked == "" || g.Kind == BlockedActive }
	for i := range s.Groups {
		if may(&s.Groups[i]) {
			names = append(names, s.Groups[i].Group)
		}
	}
	members, err := cluster.DescribeGroups(ctx, names)
	if err != nil {
		return err
	}
	for i := range s.Groups {
		g := &s.Groups[i]
		if !may(g) {
			continue
		}
		if g.Kind == BlockedActive {
			stale := activeWarning(g)
			p.Warnings = slices.DeleteFunc(p.Warnings, func(w string) bool { return w == stale })
			g.Blocked, g.Kind, g.Members, g.MemberCount = "", "", nil, 0
		}
		now := members[g.Group]
		if g.State != Missing && now.State != "" {
			g.State = now.State
		}
		if len(now.Members) > 0 {
			g.block(now)
			p.warn(activeWarning(g))
		}
	}
	return nil
}

// block says that a group has active members.
func (g *GroupPlan) block(now kafka.GroupMembers) {
	g.Blocked, g.Kind = "it has active members", BlockedActive
	g.Members, g.MemberCount = membersOf(now), len(now.Members)
}

func activeWarning(g *GroupPlan) string {
	return describeActive(g) + " is active; its offsets can be set only when all of its members have stopped"
}
