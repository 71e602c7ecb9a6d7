package cli

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/workflows"
)

var (
	offsetResetKind    = kind{"offset-reset", workflows.OffsetReset, "OffsetReset", resultOf[offsetReport]}
	bulkResetKind      = kind{"offset-reset-bulk", workflows.BulkOffsetReset, "BulkOffsetReset", resultOf[offsetReport]}
	offsetRollbackKind = kind{"offset-rollback", workflows.OffsetRollback, "OffsetRollback", resultOf[offsetReport]}
	offsetSnapshotKind = kind{"offset-snapshot", workflows.OffsetSnapshot, "OffsetSnapshot", resultOf[snapshotReport]}
	snapshotDeleteKind = kind{"offset-snapshot-delete", workflows.DeleteOffsetSnapshot, "DeleteOffsetSnapshot", resultOf[snapshotReport]}
)

// planView is a plan as it is printed.
type planView struct {
	*offsets.Plan
	Groups []offsets.GroupPlan
}

// planJSON is a plan for machines, row by row.
type planJSON struct {
	offsets.Plan
	Groups []planGroup `json:"groups"`
}

type planGroup struct {
	Group   string           `json:"group"`
	Type    string           `json:"type"`
	State   string           `json:"state"`
	Blocked string           `json:"blocked,omitempty"`
	Members []offsets.Member `json:"members,omitempty"`
	Rows    []planRow        `json:"partitions"`
}

type planRow struct {
	Topic   string `json:"topic"`
	TopicID string `json:"topic_id,omitempty"`
	offsets.Row
	LagBefore *int64 `json:"lag_before"`
	LagAfter  *int64 `json:"lag_after"`
}

// machine is the plan for JSON and YAML.
func (v *planView) machine() planJSON {
	j := planJSON{Plan: *v.Plan, Groups: []planGroup{}}
	for i := range v.Groups {
		g := &v.Groups[i]
		pg := planGroup{Group: g.Group, Type: g.Type, State: g.State, Blocked: g.Blocked, Members: g.Members, Rows: []planRow{}}
		for j := range g.Topics {
			for _, r := range g.Topics[j].Rows {
				pg.Rows = append(pg.Rows, planRow{g.Topics[j].Topic, g.Topics[j].TopicID, r, known(r.LagBefore()), known(r.LagAfter())})
			}
		}
		j.Groups = append(j.Groups, pg)
	}
	return j
}

// MarshalJSON implements json.Marshaler.
func (v *planView) MarshalJSON() ([]byte, error) { return render.Marshal(v.machine()) }

func known(n int64) *int64 {
	if n < 0 {
		return nil
	}
	return &n
}

// dash writes an offset, and - where there is none.
func dash(n int64) string {
	if n < 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

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
	count := func(n int64) string {
		if n == 0 {
			return ""
		}
		return render.Count(n)
	}
	err := render.Fields(w, "Targets", v.Source, "Unchanged", count(t.Unchanged), "Skipped", count(t.Skip), "Out of range", count(t.OutOfRange), "Cannot be set", count(t.Failed), "Clamped", count(t.Clamped),
		"Lag", fmt.Sprintf("%s before, %s after", render.Count(t.LagBefore), render.Count(t.LagAfter)))
	if err != nil {
		return err
	}
	return warnings(w, v.Warnings)
}

// Records implements render.Rows.
func (v *planView) Records() ([]string, [][]string) {
	header := []string{"group", "topic", "partition", "current", "target", "action", "lag_before", "lag_after", "log_start", "log_end", "why"}
	number := func(n int64) string {
		if n < 0 {
			return ""
		}
		return strconv.FormatInt(n, 10)
	}
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
				rows = append(rows, []string{g.Group, g.Topics[j].Topic, strconv.Itoa(int(r.Partition)), number(r.Current), number(r.Target), string(r.Action),
					number(r.LagBefore()), number(r.LagAfter()), number(r.Start), number(r.End), why})
			}
		}
	}
	return header, rows
}

// offsetReport is the report of an operation that sets offsets.
type offsetReport struct{ activities.OffsetReport }

func (r offsetReport) code() int {
	if r.Partly() {
		return ExitPartly
	}
	return ExitDone
}

// Text implements render.Value.
func (r offsetReport) Text(w io.Writer) error {
	if err := render.Title(w, "Offset Reset"); err != nil {
		return err
	}
	s, t := &r.Summary, &r.Totals
	groups := fmt.Sprintf("%s done", render.Count(int64(r.GroupsDone)))
	if r.GroupsBad > 0 {
		groups += fmt.Sprintf(", %s failed", render.Count(int64(r.GroupsBad)))
	}
	latency := ""
	if l := s.Latency; l != nil {
		latency = fmt.Sprintf("p50 %.1f ms, p90 %.1f ms, p99 %.1f ms, max %.1f ms", l.P50, l.P90, l.P99, l.Max)
	}
	rate := ""
	if r.Rate > 0 {
		rate = fmt.Sprintf("%s partitions/s", render.Count(int64(r.Rate)))
	}
	positive := func(n int64) string {
		if n == 0 {
			return ""
		}
		return render.Count(n)
	}
	err := render.Fields(w, "Cluster", r.ClusterID, "Targets", r.Source, "Consumer groups", groups,
		"Partitions set", fmt.Sprintf("%s, of which %s read back", render.Count(s.Changed), render.Count(r.Verified)),
		"Unchanged", positive(t.Unchanged), "Skipped", positive(t.Skip), "Out of range", positive(t.OutOfRange), "Cannot be set", positive(t.Failed), "Failed", positive(s.Failed), "Retries", positive(s.Retries),
		"Snapshot before", r.SnapshotID, "Approval", decisionText(r.Approval),
		"Rate", rate, "Latency", latency, "Took", took(r.StartedAt, r.FinishedAt, 0), "Report", r.Key)
	if err != nil {
		return err
	}
	if len(r.Rows) > 0 {
		table := render.Table{Name: "Set", Header: []string{"Group", "Topic", "Partition", "Before", "After", "Action"}}
		for _, c := range r.Rows {
			table.Add(c.Group, c.Topic, c.Partition, dash(c.From), dash(c.To), c.Action)
		}
		if err := table.Write(w); err != nil {
			return err
		}
		if more := t.Changes() - int64(len(r.Rows)); more > 0 {
			if _, err := fmt.Fprintf(w, "and %s more\n", render.Count(more)); err != nil {
				return err
			}
		}
	}
	return r.bad(w)
}

// bad writes what was not done.
func (r offsetReport) bad(w io.Writer) error {
	var tables []render.Table
	if len(r.Summary.Errors) > 0 {
		t := render.Table{Name: "Failures by error", Header: []string{"Error", "Partitions"}}
		for _, e := range r.Summary.ByError() {
			t.Add(e.Code, e.Count)
		}
		tables = append(tables, t)
	}
	if len(r.Failures) > 0 {
		t := render.Table{Name: "Failed", Header: []string{"Group", "Topic", "Partition", "Error"}}
		for _, f := range r.Failures {
			t.Add(f.Group, f.Topic, f.Partition, f.Error)
		}
		tables = append(tables, t)
	}
	if len(r.Blocked) > 0 {
		t := render.Table{Name: "Groups of which nothing was set", Header: []string{"Group", "Why"}}
		for _, b := range r.Blocked {
			t.Add(b.Group, b.Why)
		}
		tables = append(tables, t)
	}
	if len(r.Skipped) > 0 {
		t := render.Table{Name: "Left out", Header: []string{"Group", "Topic", "Partition", "Why"}}
		for _, s := range r.Skipped {
			t.Add(s.Group, s.Topic, s.Partition, s.Why)
		}
		tables = append(tables, t)
	}
	for i := range tables {
		if err := tables[i].Write(w); err != nil {
			return err
		}
	}
	blocked := map[string]bool{}
	for _, b := range r.Blocked {
		blocked[b.Group] = true
	}
	return warnings(w, slices.DeleteFunc(slices.Clone(r.Warnings), func(text string) bool {
		name, _, _ := strings.Cut(strings.TrimPrefix(text, "group "), ":")
		name, _, _ = strings.Cut(name, " (")
		return blocked[name] // said above
	}))
}
