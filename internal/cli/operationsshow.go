package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/workflows"
)

func (p *program) operationsShowCommand() *cli.Command {
	return &cli.Command{
		Name:        "show",
		Usage:       "Show one operation: its plan, who approved it, its progress, and its report",
		ArgsUsage:   "WORKFLOW-ID",
		Description: "Of one that has ended too; the plan and the progress need a worker that answers.",
		Flags:       append([]cli.Flag{outputFlag("text, json or yaml.")}, temporalFlags()...),
		Action:      p.showOperation,
	}
}

func (p *program) showOperation(c *cli.Context) error {
	return p.withExecution(c, func(ctx context.Context, conn *connection, info *workflowpb.WorkflowExecutionInfo, format render.Format) error {
		id, runID := info.GetExecution().GetWorkflowId(), info.GetExecution().GetRunId()
		var err error
		s := shownOperation{listedOperation: listedExecution(info, conn.profile), now: time.Now()}
		if s.Progress, err = askProgress(ctx, conn, id, runID); err != nil {
			s.Progress, s.Error = nil, explain(err).Message
		}
		if info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
			s.Running, _ = activities.ReadRunningParts(ctx, conn.Client, id, runID) // the rest is worth showing without it
			return render.Write(p.Out, format, s)
		}
		report, err := kindOf(info.GetType().GetName()).result(ctx, conn.GetWorkflow(ctx, id, runID))
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			s.Failure = explain(err)
			if s.Failure.Left == nil && s.Progress != nil {
				s.Failure.Left = &s.Progress.Left
			}
		} else {
			s.Report = report
		}
		return render.Write(p.Out, format, s)
	})
}

// shownOperation is all that is known of one operation.
type shownOperation struct {
	listedOperation
	Progress *workflows.Progress     `json:"progress,omitempty"` // nil when no worker answers
	Running  activities.RunningParts `json:"running_parts,omitzero"`
	Report   outcome                 `json:"report,omitempty"`
	Failure  *failure                `json:"failure,omitempty"`

	now time.Time
}

// Text implements render.Value.
func (s shownOperation) Text(w io.Writer) error {
	if err := render.Title(w, "Operation: %s", s.WorkflowID); err != nil {
		return err
	}
	ended := ""
	if !s.EndedAt.IsZero() {
		ended = render.Time(s.EndedAt)
	}
	fields := []string{"Kind", s.Kind, "State", s.stateText(), "Run", s.RunID, "Started", render.Time(s.StartedAt), "Ended", ended,
		"Took", operationList{now: s.now}.took(s.listedOperation), "Requested by", s.Requester, "Cluster", s.Cluster, "Web UI", s.URL}
	errs := []error{render.Fields(w, fields...)}
	say := func(format string, args ...any) {
		_, err := fmt.Fprintf(w, format+"\n", args...)
		errs = append(errs, err)
	}
	if p := s.Progress; p != nil {
		errs = append(errs, s.progressText(w, p))
	} else if s.Error != "" {
		say("Its plan and progress cannot be read now: %s", s.Error)
	}
	if f := s.Failure; f != nil {
		say("\n%s", f.Message)
		for _, line := range leftLines(f.Left) {
			say("  %s", render.Cell(line))
		}
	}
	if s.Report != nil {
		say("")
		errs = append(errs, s.Report.Text(w))
	}
	return errors.Join(errs...)
}

// stateText is the state in words, as precise as it is known.
func (s shownOperation) stateText() string {
	text := s.state()
	if s.Progress != nil && s.Status == "running" {
		text = string(s.Progress.State)
	}
	if s.Phase != "" && s.Status == "running" {
		text += ", phase " + s.Phase
	}
	return text
}

func (s shownOperation) progressText(w io.Writer, p *workflows.Progress) error {
	var errs []error
	if q := p.Approval; q != nil {
		_, err := fmt.Fprintln(w, "\nApproval")
		errs = append(errs, err)
		if q.Decision != nil {
			errs = append(errs, render.Fields(w, "Decision", decisionText(q.Decision), "By way of", q.Decision.Via))
		} else {
			errs = append(errs, render.Fields(w, "Waiting until", render.Time(q.Until), "Then", q.Timeout))
		}
		errs = append(errs, writePlan(w, q))
	}
	if s.Status == "running" {
		f := follower{progress: *p}
		v := f.view(s.Running)
		_, err := fmt.Fprintf(w, "\nProgress\n  %s\n", render.Cell(v.line()))
		errs = append(errs, err)
	}
	for _, n := range p.Notes {
		_, err := fmt.Fprintf(w, "note: %s\n", render.Cell(n))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
