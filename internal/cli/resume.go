package cli

import (
	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/workflows"
)

func (p *program) resumeCommand() *cli.Command {
	return &cli.Command{
		Name:      "resume",
		Usage:     "Let an operation go on that was paused",
		ArgsUsage: "WORKFLOW-ID",
		Flags:     controlFlags(),
		Action: func(c *cli.Context) error {
			return p.signal(c, workflows.SignalResume, "%s goes on. Follow it with `kafka-backup watch %s`.")
		},
	}
}
