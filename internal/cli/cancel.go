package cli

import (
	"context"

	"github.com/urfave/cli/v2"
)

func (p *program) cancelCommand() *cli.Command {
	return &cli.Command{
		Name:      "cancel",
		Usage:     "End an operation in order",
		ArgsUsage: "WORKFLOW-ID",
		Description: "It stops at a record boundary, puts back what it holds off or has changed half, and reports what was\n" +
			"done. The command does not wait for that: `watch` does. The same operation, started again, goes on.",
		Flags:  temporalFlags(),
		Action: p.cancel,
	}
}

func (p *program) cancel(c *cli.Context) error {
	return p.withWorkflow(c, func(ctx context.Context, conn *connection, id string) error {
		if err := running(ctx, conn, id); err != nil {
			return err
		}
		if err := conn.CancelWorkflow(ctx, id, ""); err != nil {
			return noWorkflow(conn, id, err)
		}
		p.say("Cancelling %s. Wait for its end with `kafka-backup watch %s`.", id, quote(id))
		return nil
	})
}
