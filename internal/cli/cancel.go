package cli

import (
	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/workflows"
)

func (p *program) cancelCommand() *cli.Command {
	return &cli.Command{
		Name:      "cancel",
		Usage:     "End an operation in order",
		ArgsUsage: "WORKFLOW-ID",
		Description: "It stops at a record boundary, puts back what it holds off or has changed half, and reports what was\n" +
			"done. The command does not wait for that: `watch` does. The same operation, started again, goes on.",
		Flags: controlFlags(),
		Action: func(c *cli.Context) error {
			return p.signal(c, workflows.SignalCancel, "Cancelling %s. Wait for its end with `kafka-backup watch %s`.")
		},
	}
}
