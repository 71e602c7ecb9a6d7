package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/render"
)

// offsetReport is the report of an operation that sets offsets.
type offsetReport struct{ activities.OffsetReport }

func (r offsetReport) code() int {
	if r.Partly() {
		return ExitPartly
	}
	return ExitDone
}

// changedJSON is a row of a report for machines: null where there is no offset.
type changedJSON struct {
	Group     string         `json:"group"`
	Topic     string         `json:"topic"`
	Partition int32          `json:"partition"`
	From      *int64         `json:"from"`
	To        *int64         `json:"to"`
	Action    offsets.Action `json:"action"`
	Why       string         `json:"why,omitempty"`
}

// failureJSON is what could not be set, for machines: so too.
type failureJSON struct {
	Group       string `json:"group"`
	Topic       string `json:"topic"`
	Partition   int32  `json:"partition"`
	Offset      *int64 `json:"offset"`
	LeaderEpoch *int32 `json:"leader_epoch"`
	Code        string `json:"code"`
	Error       string `json:"error"`
}

// MarshalJSON implements json.Marshaler.
func (r offsetReport) MarshalJSON() ([]byte, error) {
	rows := func(changed []offsets.Changed) []changedJSON {
		list := make([]changedJSON, len(changed))
		for i, c := range changed {
			list[i] = changedJSON{c.Group, c.Topic, c.Partition, known(c.From), known(c.To), c.Action, c.Why}
		}
		return list
	}
	failures := make([]failureJSON, len(r.Failures))
	for i, f := range r.Failures {
		failures[i] = failureJSON{f.Group, f.Topic, f.Partition, known(f.Offset), known(f.LeaderEpoch), f.Code, f.Error}
	}
	return render.Marshal(struct {
		activities.OffsetReport
		Failures []failureJSON `json:"failures"`
		Rows     []changedJSON `json:"changed"`
		Skipped  []changedJSON `json:"skipped"`
	}{r.OffsetReport, failures, rows(r.Rows), rows(r.Skipped)})
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
	err := render.Fields(w, "Cluster", r.ClusterID, "Targets", r.Source, "Consumer groups", groups,
		"Partitions set", fmt.Sprintf("%s, of which %s read back", render.Count(s.Changed), render.Count(r.Verified)),
		"Unchanged", nonzero(t.Unchanged), "Skipped", nonzero(t.Skip), "Out of range", nonzero(t.OutOfRange), "Cannot be set", nonzero(t.Failed), "Failed", nonzero(s.Failed), "Retries", nonzero(s.Retries),
		"Snapshot before", r.SnapshotID, "Approval", decisionText(r.Approval),
		"Rate", rate, "Latency", latency, "Took", took(r.StartedAt, r.FinishedAt, 0), "Report", r.Key)
	if err != nil {
		return err
	}
	set := render.Table{Name: "Set", Header: []string{"Group", "Topic", "Partition", "Before", "After", "Action"}}
	for _, c := range r.Rows {
		set.Add(c.Group, c.Topic, c.Partition, dash(c.From), dash(c.To), c.Action)
	}
	if err := writeCut(w, set, r.Verified-int64(len(r.Rows)), r.PlanKey); err != nil {
		return err
	}
	return r.bad(w)
}

// writeCut writes a table, if it has rows, how many more there are, and where
// all are.
func writeCut(w io.Writer, t render.Table, more int64, key string) error {
	if len(t.Rows) == 0 {
		return nil
	}
	if err := t.Write(w); err != nil || more <= 0 {
		return err
	}
	_, err := fmt.Fprintf(w, "and %s more; all are in %s\n", render.Count(more), key)
	return err
}

// bad writes what was not done.
func (r offsetReport) bad(w io.Writer) error {
	byError := render.Table{Name: "Failures by error", Header: []string{"Error", "Partitions"}}
	for _, e := range r.Summary.ByError() {
		byError.Add(e.Code, e.Count)
	}
	failed := render.Table{Name: "Failed", Header: []string{"Group", "Topic", "Partition", "Error"}}
	for _, f := range r.Failures {
		failed.Add(f.Group, f.Topic, f.Partition, f.Error)
	}
	groups := render.Table{Name: "Groups of which nothing was set", Header: []string{"Group", "Why"}}
	for _, b := range r.Blocked {
		groups.Add(b.Group, b.Why)
	}
	left := render.Table{Name: "Left out", Header: []string{"Group", "Topic", "Partition", "Why"}}
	for _, s := range r.Skipped {
		left.Add(s.Group, s.Topic, s.Partition, s.Why)
	}
	for _, t := range []struct {
		render.Table
		more int64
	}{{byError, 0}, {failed, r.More.Failures}, {groups, r.More.Blocked}, {left, r.More.Skipped}} {
		if err := writeCut(w, t.Table, t.more, r.Key); err != nil {
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
