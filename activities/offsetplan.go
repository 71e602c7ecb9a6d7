package activities

import (
	"context"
	"fmt"
	"strconv"

	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// offsetPlan is a stored plan, without what is put to an approver.
func offsetPlan(p *offsets.Plan, ref repository.ObjectRef, name string) OffsetPlan {
	return OffsetPlan{Ref: ref, Name: name, ClusterID: p.ClusterID, Shards: len(p.Shards), Totals: p.Totals, SeenAt: p.CreatedAt}
}

// describePlan is the plan as it is put to an approver, and which of its groups
// have active members, or why it is refused.
func describePlan(ctx context.Context, repo *repository.Repository, p *offsets.Plan, ref repository.ObjectRef, name string, bestEffort bool) (OffsetPlan, *offsets.ActiveError, error) {
	t := p.Totals
	d := offsetPlan(p, ref, name)
	table := Table{Name: "Committed offsets", Header: []string{"Group", "Topic", "Partition", "Current", "Target", "Action"}}
	var bad, active []offsets.GroupPlan // a few of each
	for n := range p.Shards {
		if n > 0 && len(table.Rows) == MaxProposalRows && t.Blocked == 0 && t.OutOfRange == 0 && t.Failed == 0 {
			break
		}
		s, err := p.ReadShard(ctx, repo, n)
		if err != nil {
			return d, nil, err
		}
		for i := range s.Groups {
			g := &s.Groups[i]
			isActive := g.Kind == offsets.BlockedActive
			if isActive && len(active) < maxBad {
				active = append(active, *g)
			}
			if (g.BadRows() || g.Blocked != "" && !isActive) && len(bad) < maxBad {
				bad = append(bad, *g)
			}
			for j := range g.Topics {
				for k := range g.Topics[j].Rows {
					if r := &g.Topics[j].Rows[k]; r.Action.Changes() && len(table.Rows) < MaxProposalRows {
						table.Add(g.Group, g.Topics[j].Topic, strconv.Itoa(int(r.Partition)), place(r.Current), place(r.Target), string(r.Action))
					}
				}
			}
		}
	}
	table.More = int(t.Changes()) - len(table.Rows)
	d.Proposal = Proposal{Key: ref.Key, Digest: p.Changes,
		Summary: fmt.Sprintf("set %s committed offsets of %s consumer groups on cluster %s, from %s", render.Count(t.Changes()), render.Count(int64(t.Groups-t.Blocked)), p.ClusterID, p.Source),
		Facts: []Fact{{"Unchanged", render.Count(t.Unchanged)}, {"Left out", render.Count(t.Skip)}, {"Out of range", render.Count(t.OutOfRange)},
			{"Lag before", render.Count(t.LagBefore)}, {"Lag after", render.Count(t.LagAfter)}},
		Tables: []Table{table}, Warnings: p.Warnings[:min(len(p.Warnings), 20)],
	}
	if err := offsets.Refusal(t, bad); err != nil && !bestEffort {
		return d, nil, err
	}
	return d, offsets.Active(t, active), nil
}

// maxBad is how many groups are looked at that stand against a plan.
const maxBad = 20

func place(offset int64) string {
	if offset < 0 {
		return "-"
	}
	return strconv.FormatInt(offset, 10)
}
