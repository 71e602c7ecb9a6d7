package cli

import (
	"slices"

	"github.com/urfave/cli/v2"
)

func (p *program) snapshotGroupsCommand() *cli.Command {
	return &cli.Command{
		Name:  "snapshot-groups",
		Usage: "Take a snapshot of the committed offsets of all consumer groups of a cluster",
		Description: "The same as offset-rollback snapshot, of all groups unless some are named. What it takes is listed,\n" +
			"shown, rolled back to and verified with offset-rollback.",
		Flags: slices.Concat(launchFlags(), []cli.Flag{pathFlag,
			&cli.StringFlag{Name: "description", Usage: "What it is for.", Category: inOperation}}, groupFlags(), offsetSettings.flags),
		Action: func(c *cli.Context) error { return p.takeSnapshot(c, true) },
	}
}
