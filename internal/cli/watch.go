package cli

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/render"
)

func (p *program) watchCommand() *cli.Command {
	return &cli.Command{
		Name:        "watch",
		Usage:       "Follow an operation to its end",
		ArgsUsage:   "WORKFLOW-ID",
		Description: "Shows its progress and then its report; of one that has ended, the report alone.",
		Flags: append([]cli.Flag{outputFlag("Report as text, json or yaml; with json, progress is JSON lines on stderr.")},
			temporalFlags()...),
		Action: p.watch,
	}
}

func (p *program) watch(c *cli.Context) error {
	return p.withExecution(c, func(ctx context.Context, conn *connection, info *workflowpb.WorkflowExecutionInfo, format render.Format) error {
		id, runID := info.GetExecution().GetWorkflowId(), info.GetExecution().GetRunId()
		show := p.newDisplay(format)
		defer show.close()
		run, k := conn.GetWorkflow(ctx, id, runID), kindOf(info.GetType().GetName())
		f := &follower{conn: conn, id: id, queue: info.GetTaskQueue(), display: show}
		if info.GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
			f.display = quiet{show}
		} else {
			show.started(started{"attached", id, runID, conn.profile.WorkflowURL(id, runID)})
		}
		return p.finish(ctx, f, run, k, format)
	})
}

// quiet is a display that shows no progress.
type quiet struct{ display }

func (quiet) show(*view) {}

// withWorkflow calls fn with the workflow id that the command line names.
func (p *program) withWorkflow(c *cli.Context, fn func(ctx context.Context, conn *connection, id string) error) error {
	if c.NArg() != 1 || c.Args().First() == "" {
		return usage("say which operation: %s WORKFLOW-ID (`kafka-backup operations` lists them)", c.Command.FullName())
	}
	conn, err := p.connect(c.Context, c)
	if err != nil {
		return err
	}
	defer conn.Close()
	return fn(c.Context, conn, c.Args().First())
}

// withExecution calls fn with the newest run of the workflow that the command
// line names, and the format that it asks for.
func (p *program) withExecution(c *cli.Context, fn func(ctx context.Context, conn *connection, info *workflowpb.WorkflowExecutionInfo, format render.Format) error) error {
	format, err := outputFormat(c, render.Text, render.JSON, render.YAML)
	if err != nil {
		return err
	}
	return p.withWorkflow(c, func(ctx context.Context, conn *connection, id string) error {
		d, err := conn.DescribeWorkflowExecution(ctx, id, "")
		if err != nil {
			return noWorkflow(conn, id, err)
		}
		return fn(ctx, conn, d.GetWorkflowExecutionInfo(), format)
	})
}

// noWorkflow says in plain words that there is no such workflow.
func noWorkflow(conn *connection, id string, err error) error {
	var missing *serviceerror.NotFound
	if errors.As(err, &missing) {
		return &failure{Type: activities.NotFound, Message: "there is no operation " + id + " in " + conn.profile.String() +
			"; `kafka-backup operations` lists them"}
	}
	return err
}
