package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"go.temporal.io/sdk/client"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/workflows"
)

func (p *program) approveCommand() *cli.Command {
	return &cli.Command{
		Name:      "approve",
		Usage:     "Let the plan of an operation be carried out",
		ArgsUsage: "WORKFLOW-ID",
		Description: "`operations --waiting` lists what waits, with the plans. --plan is the digest shown there, so that nothing\n" +
			"is approved that was not looked at: a plan that has changed meanwhile has another. The operation goes on at once.",
		Flags:  answerFlags(),
		Action: func(c *cli.Context) error { return p.answer(c, workflows.Approve) },
	}
}

func (p *program) rejectCommand() *cli.Command {
	return &cli.Command{
		Name:        "reject",
		Usage:       "End an operation that waits for approval; it has changed nothing",
		ArgsUsage:   "WORKFLOW-ID",
		Description: "With --plan only if that plan still is the one that waits.",
		Flags:       answerFlags(),
		Action:      func(c *cli.Context) error { return p.answer(c, workflows.Reject) },
	}
}

func answerFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "plan", Usage: "Digest of the plan, or at least its first 8 characters.", Category: inOperation},
	}, controlFlags()...)
}

// answerTimeout is how long an answer waits for a worker that takes it.
const answerTimeout = 30 * time.Second

// answer approves or rejects.
func (p *program) answer(c *cli.Context, name string) error {
	return p.withWorkflow(c, func(ctx context.Context, conn *connection, id string) error {
		id, err := running(ctx, conn, id)
		if err != nil {
			return err
		}
		a := workflows.Answer{By: person(c, "by"), Plan: c.String("plan"), Reason: c.String("reason")}
		if a.Plan == "" && name == workflows.Approve {
			return p.whichPlan(ctx, conn, id)
		}
		ctx, stop := context.WithTimeout(ctx, answerTimeout)
		defer stop()
		handle, err := conn.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
			WorkflowID: id, UpdateName: name, Args: []any{a}, WaitForStage: client.WorkflowUpdateStageCompleted,
		})
		var decision activities.Decision
		if err == nil {
			err = handle.Get(ctx, &decision)
		}
		if err != nil {
			return unanswered(ctx, c.Context, err)
		}
		p.say("%s: %s. Follow it with `kafka-backup watch %s`.", id, decisionText(&decision), offsets.Quote(id))
		return nil
	})
}

// unanswered says why an answer does not count.
func unanswered(ctx, parent context.Context, err error) error {
	if ctx.Err() != nil && parent.Err() == nil {
		return &failure{Type: activities.Unreachable, Message: fmt.Sprintf(
			"no worker took the answer within %s, so it may not count; `kafka-backup operations show` says whether it does", render.Duration(answerTimeout))}
	}
	if parent.Err() != nil {
		return parent.Err()
	}
	return explain(err)
}

// whichPlan shows the plan that waits and asks to name it.
func (p *program) whichPlan(ctx context.Context, conn *connection, id string) error {
	progress, err := askProgress(ctx, conn, id, "")
	if err != nil {
		return explain(err)
	}
	q := progress.Approval
	if progress.State != workflows.Waiting && (q == nil || q.Decision != nil) {
		return &failure{Type: workflows.NotWaiting, Message: "operation " + id + " does not wait for approval"}
	}
	p.say("%s", questionText(id, q))
	return usage("name the plan that you approve: --plan %s", shortDigest(q.Plan.Digest))
}

// askProgress queries an operation once.
func askProgress(ctx context.Context, conn *connection, id, runID string) (*workflows.Progress, error) {
	ctx, stop := context.WithTimeout(ctx, lookTimeout)
	defer stop()
	value, err := conn.QueryWorkflow(ctx, id, runID, workflows.QueryProgress)
	if err != nil {
		return nil, err
	}
	p := new(workflows.Progress)
	return p, value.Get(p)
}

// requested is the part of a request that says who asked for the operation and
// who must approve it.
func requested(c *cli.Context, doc *config.Document) activities.Requested {
	return activities.Requested{Requester: person(c, "requester"), Approval: doc.Approval, Notifications: doc.Notifications.Used()}
}

// shortDigest is enough of a digest to name a plan by.
func shortDigest(digest string) string { return digest[:min(len(digest), 12)] }

// decisionText says in one line what became of the question for approval.
func decisionText(d *activities.Decision) string {
	if d == nil {
		return ""
	}
	text := string(d.Outcome)
	if d.By != "" {
		text += " by " + d.By
	}
	text += " at " + render.Time(d.At) + ", plan " + shortDigest(d.Plan)
	if d.Reason != "" {
		text += " (" + d.Reason + ")"
	}
	return text
}

// questionText is a plan that waits for approval, with how to answer.
func questionText(id string, q *workflows.Question) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Waiting for approval until %s, then: %s\n", render.Time(q.Until), q.Timeout)
	writePlan(&b, q)
	digest := shortDigest(q.Plan.Digest)
	fmt.Fprintf(&b, "\nApprove it with `kafka-backup approve %s --plan %s --reason WHY`, or reject it with `kafka-backup reject %s --reason WHY`.",
		offsets.Quote(id), digest, offsets.Quote(id))
	return b.String()
}

// writePlan writes a plan as it is put to approvers.
func writePlan(w io.Writer, q *workflows.Question) error {
	plan := &q.Plan
	who := "anybody"
	if len(q.Approvers) > 0 {
		who = strings.Join(q.Approvers, ", ")
	}
	if q.FourEyes {
		who += ", not the requester"
	}
	fields := []string{"Plan", shortDigest(plan.Digest) + ": " + plan.Summary}
	for _, f := range plan.Facts {
		fields = append(fields, f.Name, f.Value)
	}
	fields = append(fields, "Requested by", q.Requester, "May approve", who, "Whole plan", plan.Key)
	if q.Round > 1 {
		fields = append(fields, "Asked", fmt.Sprintf("for the %d. time: what the plan found has changed since", q.Round))
	}
	errs := []error{render.Fields(w, fields...)}
	for _, t := range plan.Tables {
		table := render.Table{Name: t.Name, Header: t.Header}
		for _, row := range t.Rows {
			table.Rows = append(table.Rows, row)
		}
		errs = append(errs, table.Write(w))
		if t.More > 0 {
			_, err := fmt.Fprintf(w, "and %s more\n", render.Count(int64(t.More)))
			errs = append(errs, err)
		}
	}
	for _, r := range q.Refused {
		_, err := fmt.Fprintf(w, "Refused: %s\n", render.Cell(r))
		errs = append(errs, err)
	}
	return errors.Join(append(errs, warnings(w, plan.Warnings))...)
}

// announce shows each plan that is put to approvers, once.
func (f *follower) announce() {
	q := f.progress.Approval
	if q == nil || q.Decision != nil || q.Round <= f.announced {
		return
	}
	f.announced = q.Round
	f.display.note("%s", questionText(f.id, q))
}

// decided tells whether the operation, when it was looked at last, no longer
// needed an approval.
func (f *follower) decided() bool {
	return f.progress.Approval != nil && f.progress.Approval.Decision != nil
}

// askedWithin is how long a detached command waits for the plan.
const askedWithin = 30 * time.Second

// untilAsked waits until the operation waits for approval or needs none any
// more, for a time. It returns false when the operation has ended.
func (f *follower) untilAsked(ctx context.Context) bool {
	ctx, stop := context.WithTimeout(ctx, askedWithin)
	defer stop()
	for {
		if f.ask(ctx) == nil {
			f.announce()
			switch f.progress.State {
			case workflows.Failed, workflows.Cancelled, workflows.Finished:
				return false
			}
			if f.progress.Approval != nil {
				return true
			}
		}
		select {
		case <-ctx.Done():
			f.display.note("Its plan is not ready yet; it will wait for approval then.")
			return true
		case <-time.After(lookEvery / 4):
		}
	}
}
