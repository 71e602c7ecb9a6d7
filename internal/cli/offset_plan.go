package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/render"
)

// makePlan makes a plan in this process.
func (p *program) makePlan(ctx context.Context, doc *config.Document, r offsets.Request) (*planView, error) {
	v := &planView{}
	err := p.withCluster(ctx, doc, func(cluster *kafka.Cluster, repo *opened) (err error) {
		v.Plan, err = r.Plan(ctx, cluster, repositoryOf(repo), func(s *offsets.Shard) error {
			v.Groups = append(v.Groups, s.Groups...)
			return nil
		})
		return err
	})
	return v, err
}

// plannedOffsets makes the plan that the command asks for, in this process.
func (p *program) plannedOffsets(c *cli.Context) (*config.Document, *planView, error) {
	doc, err := p.offsetDocument(c, true, false)
	if err != nil {
		return nil, nil, err
	}
	r, err := p.offsetRequest(c, doc)
	if err != nil {
		return nil, nil, err
	}
	v, err := p.makePlan(c.Context, doc, r)
	return doc, v, err
}

func (p *program) planOffsets(c *cli.Context) error {
	format, err := outputFormat(c, render.Text, render.JSON, render.YAML, render.CSV)
	if err != nil {
		return err
	}
	_, v, err := p.plannedOffsets(c)
	if err != nil {
		return err
	}
	if file := c.String("save"); file != "" {
		data, err := offsets.SavedPlan{Plan: *v.Plan, Groups: v.Groups}.Seal()
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			return err
		}
		p.say("Saved as %s. Carry it out with `kafka-backup offset-reset execute --plan %s` and the same --path and --bootstrap-servers.", file, offsets.Quote(file))
	}
	return render.Write(p.Out, format, v)
}

// planView is a plan as it is printed.
type planView struct {
	*offsets.Plan
	Groups []offsets.GroupPlan
}

// planJSON is a plan for machines, row by row: null where there is no offset.
type planJSON struct {
	*offsets.Plan
	Groups []planGroup `json:"groups"`
}

type planGroup struct {
	Group       string           `json:"group"`
	Type        string           `json:"type"`
	State       string           `json:"state"`
	Blocked     string           `json:"blocked,omitempty"`
	Kind        string           `json:"blocked_kind,omitempty"`
	MemberCount int              `json:"member_count"`
	Members     []offsets.Member `json:"members,omitempty"`
	Notes       []string         `json:"notes,omitempty"`
	Rows        []planRow        `json:"partitions"`
}

type planRow struct {
	Topic           string         `json:"topic"`
	TopicID         string         `json:"topic_id,omitempty"`
	Partition       int32          `json:"partition"`
	Current         *int64         `json:"current"`
	Target          *int64         `json:"target"`
	Wanted          *int64         `json:"wanted"`
	Start           *int64         `json:"log_start"`
	End             *int64         `json:"log_end"`
	Action          offsets.Action `json:"action"`
	Why             string         `json:"why,omitempty"`
	CurrentEpoch    *int32         `json:"current_leader_epoch"`
	Epoch           *int32         `json:"leader_epoch"`
	CurrentMetadata string         `json:"current_metadata,omitempty"`
	Metadata        string         `json:"metadata,omitempty"`
	LagBefore       *int64         `json:"lag_before"`
	LagAfter        *int64         `json:"lag_after"`
}

// machine is the plan for JSON and YAML.
func (v *planView) machine() planJSON {
	j := planJSON{Plan: v.Plan, Groups: []planGroup{}}
	for i := range v.Groups {
		g := &v.Groups[i]
		pg := planGroup{g.Group, g.Type, g.State, g.Blocked, g.Kind, g.MemberCount, g.Members, g.Notes, []planRow{}}
		for j := range g.Topics {
			t := &g.Topics[j]
			for k := range t.Rows {
				r := &t.Rows[k]
				row := planRow{t.Topic, t.TopicID, r.Partition, known(r.Current), known(r.Target), known(r.Wanted), known(r.Start), known(r.End),
					r.Action, r.Why, known(r.CurrentEpoch), known(r.Epoch), r.CurrentMetadata, r.Metadata, known(r.LagBefore()), known(r.LagAfter())}
				if r.Action == offsets.OutOfRange || r.Action == offsets.Clamped {
					row.Wanted = &r.Wanted // as far below 0 as it may be
				}
				pg.Rows = append(pg.Rows, row)
			}
		}
		j.Groups = append(j.Groups, pg)
	}
	return j
}

// MarshalJSON implements json.Marshaler.
func (v *planView) MarshalJSON() ([]byte, error) { return render.Marshal(v.machine()) }

// Text implements render.Value.
func (v *planView) Text(w io.Writer) error {
	title := "Offset Reset Plan"
	if v.Snapshot != "" {
		title = "Offset Rollback Plan: " + v.Snapshot
	}
	if err := render.Title(w, "%s", title); err != nil {
		return err
	}
	for i := range v.Groups {
		g := &v.Groups[i]
		table := render.Table{Name: "Consumer Group: " + g.Group, Header: []string{"Topic", "Partition", "Current", "Target", "Action", "Lag Before", "Lag After"}}
		var remarks []string
		if g.Blocked != "" {
			remarks = append(remarks, "Cannot be reset: "+g.Blocked)
			for _, m := range g.Members {
				remarks = append(remarks, "  member "+m.String())
			}
			if more := g.MemberCount - len(g.Members); more > 0 {
				remarks = append(remarks, fmt.Sprintf("  and %s more", render.Number(more, "member")))
			}
		}
		for j := range g.Topics {
			t := &g.Topics[j]
			for k := range t.Rows {
				r := &t.Rows[k]
				table.Add(t.Topic, r.Partition, dash(r.Current), dash(r.Target), r.Action, dash(r.LagBefore()), dash(r.LagAfter()))
				switch {
				case r.Action == offsets.OutOfRange:
					remarks = append(remarks, fmt.Sprintf("%s partition %d: offset %d is out of range (current: %d-%d)", t.Topic, r.Partition, r.Wanted, r.Start, r.End))
				case r.Action == offsets.Clamped:
					remarks = append(remarks, fmt.Sprintf("%s partition %d: offset %d was out of range (current: %d-%d)", t.Topic, r.Partition, r.Wanted, r.Start, r.End))
				case r.Why != "":
					remarks = append(remarks, fmt.Sprintf("%s partition %d: %s", t.Topic, r.Partition, r.Why))
				}
			}
		}
		if err := table.Write(w); err != nil {
			return err
		}
		for n, line := range remarks {
			if n == 20 {
				line = fmt.Sprintf("and %d more remarks", len(remarks)-n)
			}
			if _, err := fmt.Fprintln(w, render.Cell(line)); err != nil {
				return err
			}
			if n == 20 {
				break
			}
		}
	}
	t := &v.Totals
	if _, err := fmt.Fprintf(w, "Total partitions to reset: %d\n", t.Changes()); err != nil {
		return err
	}
	err := render.Fields(w, "Targets", v.Source, "Unchanged", nonzero(t.Unchanged), "Skipped", nonzero(t.Skip), "Out of range", nonzero(t.OutOfRange), "Cannot be set", nonzero(t.Failed), "Clamped", nonzero(t.Clamped),
		"Lag", fmt.Sprintf("%s before, %s after", render.Count(t.LagBefore), render.Count(t.LagAfter)))
	if err != nil {
		return err
	}
	return warnings(w, v.Warnings)
}

// Records implements render.Rows.
func (v *planView) Records() ([]string, [][]string) {
	header := []string{"group", "topic", "partition", "current", "target", "action", "lag_before", "lag_after", "log_start", "log_end", "why"}
	var rows [][]string
	for i := range v.Groups {
		g := &v.Groups[i]
		for j := range g.Topics {
			for k := range g.Topics[j].Rows {
				r := &g.Topics[j].Rows[k]
				why := r.Why
				if g.Blocked != "" {
					why = g.Blocked
				}
				rows = append(rows, []string{g.Group, g.Topics[j].Topic, strconv.Itoa(int(r.Partition)), blank(r.Current), blank(r.Target), string(r.Action),
					blank(r.LagBefore()), blank(r.LagAfter()), blank(r.Start), blank(r.End), why})
			}
		}
	}
	return header, rows
}
