package cli

import "github.com/urfave/cli/v2"

func (p *program) threePhaseRestoreCommand() *cli.Command {
	return &cli.Command{
		Name:  "three-phase-restore",
		Usage: "Restore a backup and set the consumer groups' offsets, in one",
		Description: "Phase 1 collects what is in the backup and in the target, phase 2 restores the records, phase 3\n" +
			"sets the committed offsets of restore.consumer_groups (or of all captured groups) through the offset\n" +
			"mapping and reads them back. It is restore with reset_consumer_offsets: true.",
		Flags:  append(launchFlags(), restoreSettings.flags...),
		Action: func(c *cli.Context) error { return p.restore(c, true) },
	}
}
