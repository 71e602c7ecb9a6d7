package cli

import (
	"context"

	"github.com/urfave/cli/v2"
	enumspb "go.temporal.io/api/enums/v1"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/workflows"
)

func (p *program) pauseCommand() *cli.Command {
	return &cli.Command{
		Name:        "pause",
		Usage:       "Stop an operation for a while; it keeps its position",
		ArgsUsage:   "WORKFLOW-ID",
		Description: "What is in work is stopped at a safe point within seconds. `resume` goes on from there.",
		Flags:       controlFlags(),
		Action: func(c *cli.Context) error {
			return p.signal(c, workflows.SignalPause, "Pausing %s. Go on with `kafka-backup resume %s`.")
		},
	}
}

func controlFlags() []cli.Flag {
	return append([]cli.Flag{
		personFlag("by"),
		&cli.StringFlag{Name: "reason", Usage: "Why, for the others who look at it.", Category: inOperation},
	}, temporalFlags()...)
}

// signal sends pause, resume or cancel to a running operation.
func (p *program) signal(c *cli.Context, name, message string) error {
	return p.withWorkflow(c, func(ctx context.Context, conn *connection, id string) error {
		id, err := running(ctx, conn, id)
		if err != nil {
			return err
		}
		err = conn.SignalWorkflow(ctx, id, "", name, workflows.Control{By: person(c, "by"), Reason: c.String("reason")})
		if err != nil {
			return noWorkflow(conn, id, err)
		}
		p.say(message, id, offsets.Quote(id))
		return nil
	})
}

// running makes sure that an operation has not ended. Of a run of a schedule it
// is the operation that it has started, whose id is returned, that is meant.
func running(ctx context.Context, conn *connection, id string) (string, error) {
	d, err := conn.DescribeWorkflowExecution(ctx, id, "")
	if err != nil {
		return id, noWorkflow(conn, id, err)
	}
	if s := d.GetWorkflowExecutionInfo().GetStatus(); s != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return id, &failure{Type: activities.NotFound, Message: "operation " + id + " has ended: " + statusText(s)}
	}
	if info := d.GetWorkflowExecutionInfo(); info.GetType().GetName() == workflows.ScheduledType {
		if operation := keyword(info.GetMemo().GetFields()[workflows.MemoOperation]); operation != "" {
			return running(ctx, conn, operation)
		}
	}
	return id, nil
}
