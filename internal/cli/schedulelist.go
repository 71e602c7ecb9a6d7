package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"golang.org/x/sync/errgroup"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/schedule"
	"github.com/kafka-backup/kafka-backup/workflows"
)

// scheduleView is a schedule as it is shown.
type scheduleView struct {
	ID             string          `json:"id"`
	Kind           string          `json:"kind"`
	When           schedule.When   `json:"when"`
	Repository     string          `json:"repository"`
	Paused         bool            `json:"paused"`
	Note           string          `json:"note,omitempty"`
	Overlap        string          `json:"overlap"`
	CatchUpWindow  config.Duration `json:"catch_up_window"`
	PauseOnFailure bool            `json:"pause_on_failure"`
	RunsLeft       *int            `json:"runs_left,omitempty"` // nil: no limit
	Runs           int             `json:"runs"`
	Skipped        int             `json:"skipped"` // because another run was not finished
	Missed         int             `json:"missed"`  // later than the catch-up window
	Last           *scheduledRun   `json:"last,omitempty"`
	// LastEnded is the run that ended last, where Last has not.
	LastEnded *scheduledRun `json:"last_ended,omitempty"`
	MadeBy    string        `json:"made_by,omitempty"` // or changed last
	NextRuns  []time.Time   `json:"next_runs"`
	// Recent runs, the newest first; only where one schedule is shown.
	Recent        []scheduledRun              `json:"recent,omitempty"`
	Configuration *workflows.ScheduledRequest `json:"configuration,omitempty"`
}

// scheduledRun is one run of a schedule.
type scheduledRun struct {
	At         time.Time `json:"at"` // as the schedule says
	StartedAt  time.Time `json:"started_at"`
	EndedAt    time.Time `json:"ended_at,omitzero"`
	WorkflowID string    `json:"workflow_id"`
	RunID      string    `json:"run_id"`
	// Operation is the workflow id of what was started; empty when it could
	// not be, or is not known any more.
	Operation string `json:"operation,omitempty"`
	// Status is running, succeeded, failed, cancelled, terminated, timedout, or
	// unknown when the service has forgotten the run.
	Status string `json:"status"`
	Error  string `json:"error,omitempty"`
}

// state is active, paused or finished.
func (v *scheduleView) state() string {
	switch {
	case v.Paused:
		return "paused"
	case len(v.NextRuns) == 0:
		return "finished"
	}
	return "active"
}

func viewSchedule(id string, d *client.ScheduleDescription, req *workflows.ScheduledRequest) *scheduleView {
	s := d.Schedule
	v := &scheduleView{ID: id, Kind: req.Kind(), When: req.When, Repository: req.Place, Paused: s.State.Paused, Note: s.State.Note,
		Overlap: schedule.OverlapName(s.Policy.Overlap), CatchUpWindow: config.Duration(s.Policy.CatchupWindow), PauseOnFailure: s.Policy.PauseOnFailure, MadeBy: req.Requested().Requester,
		Runs: d.Info.NumActions, Skipped: d.Info.NumActionsSkippedOverlap, Missed: d.Info.NumActionsMissedCatchupWindow, NextRuns: d.Info.NextActionTimes}
	if s.State.LimitedActions {
		v.RunsLeft = &s.State.RemainingActions
		if s.State.RemainingActions == 0 {
			v.NextRuns = nil
		}
	}
	return v
}

// ended tells whether a run has ended, as far as is known.
func (r *scheduledRun) ended() bool { return r.Status != "running" }

// ran takes in a run of the schedule; the newest come first.
func (v *scheduleView) ran(r scheduledRun) {
	switch {
	case v.Last == nil:
		v.Last = &r
	case !v.Last.ended() && v.LastEnded == nil && r.ended():
		v.LastEnded = &r
	}
}

// result is how the newest run ended, or how the one before did while it runs.
func (v *scheduleView) result() string {
	switch {
	case v.Last == nil:
		return ""
	case v.LastEnded != nil:
		return v.Last.Status + ", before " + v.LastEnded.Status
	}
	return v.Last.Status
}

// run looks up how a run of a schedule ended; with why, also the error.
func (conn *connection) scheduledRun(ctx context.Context, a client.ScheduleActionResult, why bool) (scheduledRun, error) {
	r := scheduledRun{At: a.ScheduleTime.UTC(), StartedAt: a.ActualTime.UTC(), Status: "unknown"}
	if a.StartWorkflowResult == nil {
		return r, nil
	}
	r.WorkflowID, r.RunID = a.StartWorkflowResult.WorkflowID, a.StartWorkflowResult.FirstExecutionRunID
	d, err := conn.DescribeWorkflowExecution(ctx, r.WorkflowID, r.RunID)
	var forgotten *serviceerror.NotFound
	if errors.As(err, &forgotten) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	info := d.GetWorkflowExecutionInfo()
	r.Status = statusText(info.GetStatus())
	r.Operation = keyword(info.GetMemo().GetFields()[workflows.MemoOperation])
	if t := info.GetCloseTime(); t != nil {
		r.EndedAt = t.AsTime()
	}
	switch info.GetStatus() {
	case enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		r.Status = "succeeded"
	case enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING:
	default:
		if why {
			if err := conn.GetWorkflow(ctx, r.WorkflowID, r.RunID).Get(ctx, nil); err != nil {
				r.Error = explain(err).Error()
			}
		}
	}
	return r, nil
}

func (p *program) scheduleList(c *cli.Context) error {
	ctx := c.Context
	format, err := outputFormat(c, render.Text, render.JSON, render.YAML, render.CSV)
	if err != nil {
		return err
	}
	if c.Args().Present() {
		return usage("unexpected argument %q", c.Args().First())
	}
	conn, err := p.connect(ctx, c)
	if err != nil {
		return err
	}
	defer conn.Close()
	it, err := conn.ScheduleClient().List(ctx, client.ScheduleListOptions{})
	if err != nil {
		return err
	}
	var ids []string
	for it.HasNext() {
		entry, err := it.Next()
		if err != nil {
			return err
		}
		if entry.WorkflowType.Name == workflows.ScheduledType {
			ids = append(ids, entry.ID)
		}
	}
	views := make([]*scheduleView, len(ids))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, id := range ids {
		g.Go(func() error {
			h := conn.ScheduleClient().GetHandle(gctx, id)
			d, req, err := ours(gctx, h)
			var gone *serviceerror.NotFound
			var others *notOurs
			if errors.As(err, &gone) || errors.As(err, &others) {
				return nil // deleted meanwhile, or somebody else's
			}
			if err != nil {
				return err
			}
			v := viewSchedule(id, d, req)
			for _, a := range slices.Backward(d.Info.RecentActions) {
				run, err := conn.scheduledRun(gctx, a, false)
				if err != nil {
					return err
				}
				if v.ran(run); run.ended() {
					break
				}
			}
			views[i] = v
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	list := scheduleList{Namespace: conn.profile.Namespace, Schedules: []*scheduleView{}}
	for _, v := range views {
		if v != nil {
			list.Schedules = append(list.Schedules, v)
		}
	}
	return render.Write(p.Out, format, list)
}

type scheduleList struct {
	Namespace string          `json:"namespace"`
	Schedules []*scheduleView `json:"schedules"`
}

// Text implements render.Value.
func (l scheduleList) Text(w io.Writer) error {
	if err := render.Title(w, "Schedules: %s", l.Namespace); err != nil {
		return err
	}
	table := render.Table{Header: []string{"Schedule", "Kind", "When", "State", "Last Run", "Result", "Next Run"}}
	for _, v := range l.Schedules {
		last, result, next := "", "", ""
		if v.Last != nil {
			last, result = render.Time(v.Last.At), v.result()
		}
		if len(v.NextRuns) > 0 && !v.Paused {
			next = render.Time(v.NextRuns[0])
		}
		table.Add(v.ID, v.Kind, v.When.String(), v.state(), last, result, next)
	}
	if err := table.Write(w); err != nil {
		return err
	}
	if len(l.Schedules) == 0 {
		_, err := fmt.Fprintln(w, "There are none.")
		return err
	}
	return nil
}

// Records implements render.Rows.
func (l scheduleList) Records() ([]string, [][]string) {
	header := []string{"schedule", "kind", "when", "repository", "state", "runs", "skipped", "missed", "last_run", "last_result", "last_operation", "next_run", "ended_run", "ended_result"}
	var rows [][]string
	for _, v := range l.Schedules {
		last := v.Last
		if last == nil {
			last = &scheduledRun{}
		}
		ended := v.LastEnded
		if ended == nil && last.ended() {
			ended = last
		} else if ended == nil {
			ended = &scheduledRun{}
		}
		next := ""
		if len(v.NextRuns) > 0 {
			next = render.Time(v.NextRuns[0])
		}
		rows = append(rows, []string{v.ID, v.Kind, v.When.String(), v.Repository, v.state(), strconv.Itoa(v.Runs), strconv.Itoa(v.Skipped),
			strconv.Itoa(v.Missed), render.Time(last.At), last.Status, last.Operation, next, render.Time(ended.At), ended.Status})
	}
	return header, rows
}

func (p *program) scheduleDescribe(c *cli.Context) error {
	format, err := outputFormat(c, render.Text, render.JSON, render.YAML)
	if err != nil {
		return err
	}
	return p.onSchedule(c, func(ctx context.Context, conn *connection, h client.ScheduleHandle) error {
		d, req, err := ours(ctx, h)
		if err != nil {
			return err
		}
		v := viewSchedule(h.GetID(), d, req)
		v.Configuration = req
		for i := len(d.Info.RecentActions) - 1; i >= 0; i-- {
			run, err := conn.scheduledRun(ctx, d.Info.RecentActions[i], true)
			if err != nil {
				return err
			}
			v.Recent = append(v.Recent, run)
			v.ran(run)
		}
		return render.Write(p.Out, format, v)
	})
}

// Text implements render.Value.
func (v *scheduleView) Text(w io.Writer) error {
	if err := render.Title(w, "Schedule: %s", v.ID); err != nil {
		return err
	}
	left, next, template := "", "", ""
	if v.RunsLeft != nil {
		left = strconv.Itoa(*v.RunsLeft)
	}
	for i, t := range v.NextRuns[:min(len(v.NextRuns), 3)] {
		if i > 0 {
			next += ", "
		}
		next += render.Time(t)
	}
	if r := v.Configuration; r != nil && r.Backup != nil {
		template = r.Backup.BackupID
	}
	err := render.Fields(w,
		"Runs", v.Kind,
		"Repository", v.Repository,
		"Backup ids", template,
		"When", v.When.String(),
		"State", v.state(),
		"Note", v.Note,
		"Made or changed by", v.MadeBy,
		"Overlap", v.Overlap,
		"Catch-up window", v.CatchUpWindow.String(),
		"Pause on failure", strconv.FormatBool(v.PauseOnFailure),
		"Runs left", left,
		"Started", fmt.Sprintf("%s, %d skipped, %d missed", render.Number(v.Runs, "run"), v.Skipped, v.Missed),
		"Next", next,
	)
	if err != nil || len(v.Recent) == 0 {
		return err
	}
	table := render.Table{Name: "Latest runs", Header: []string{"At", "Result", "Took", "Operation", "Error"}}
	for _, r := range v.Recent {
		took, operation := "", r.Operation
		if !r.EndedAt.IsZero() {
			took = render.Duration(r.EndedAt.Sub(r.StartedAt))
		}
		if operation == "" {
			operation = r.WorkflowID
		}
		table.Add(render.Time(r.At), r.Status, took, operation, r.Error)
	}
	return table.Write(w)
}
