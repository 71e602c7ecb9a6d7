package cli

import (
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/render"
)

// snapshotFlags name a snapshot. The groups captured with a backup are one too.
func snapshotFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "snapshot-id", Aliases: []string{"s"}, Usage: "Id of the snapshot. In its place --backup-id takes the groups captured with a backup.", Category: inGroups},
	}
}

func (p *program) offsetRollbackCommand() *cli.Command {
	return &cli.Command{
		Name:  "offset-rollback",
		Usage: "Keep the committed offsets of consumer groups, and put them back",
		Subcommands: []*cli.Command{
			{
				Name: "snapshot", Usage: "Take a snapshot",
				Flags: slices.Concat(launchFlags(), []cli.Flag{pathFlag,
					&cli.StringFlag{Name: "description", Usage: "What it is for.", Category: inOperation}}, groupFlags(), offsetSettings.flags),
				Action: func(c *cli.Context) error { return p.takeSnapshot(c, false) },
			},
			{
				Name: "list", Usage: "List snapshots, the newest first",
				Flags: readFlags("text, json, yaml or csv."), Action: p.listSnapshots,
			},
			{
				Name: "show", Usage: "Show what is in a snapshot",
				Flags: slices.Concat(readFlags("text, json, yaml or csv."), []cli.Flag{backupIDFlag}, snapshotFlags()), Action: p.showSnapshot,
			},
			{
				Name: "rollback", Usage: "Put the offsets of a snapshot back",
				Description: "Shows what it changes, starts the workflow OffsetRollback and follows it: plan, snapshot of the state\n" +
					"before, apply, verify by reading back. Partitions that had no committed offset have none afterwards\n" +
					"(with --backup-id those of the topics in the backup; others are left as they are).\n" +
					"--groups and --topics limit it. With --dry-run it shows what would be changed and changes nothing.",
				Flags: slices.Concat(launchFlags(), []cli.Flag{pathFlag,
					&cli.BoolFlag{Name: "dry-run", Usage: "Show the plan and change nothing.", Category: inOperation},
					&cli.StringFlag{Name: "on-out-of-range", Usage: "What to do with an offset that the log does not hold any more: fail, clamp, earliest, latest.", Value: offsets.FailOutOfRange, Category: inOperation},
				}, snapshotFlags(), groupFlags(), setFlags(), retryFlags(), offsetSettings.flags),
				Action: p.rollback,
			},
			{
				Name: "verify", Usage: "See whether the offsets on the cluster are those of a snapshot",
				Description: "Exit code 3 when some are not.",
				Flags:       slices.Concat([]cli.Flag{configFlag, pathFlag, outputFlag("text, json, yaml or csv.")}, snapshotFlags(), groupFlags(), offsetSettings.flags),
				Action:      p.verifySnapshot,
			},
			{
				Name: "delete", Usage: "Delete a snapshot",
				Flags: slices.Concat(launchFlags(), []cli.Flag{pathFlag}, snapshotFlags(), offsetSettings.flags), Action: p.deleteSnapshot,
			},
		},
	}
}

// noSnapshot is said where none is named. The backup of a configuration file is
// not meant: nobody asked for its groups.
func noSnapshot() error {
	return usage("say which snapshot with --snapshot-id (`kafka-backup offset-rollback list` shows them), or, for the groups captured with a backup, which one with --backup-id")
}

// rollbackRequest is what rollback and verify are about.
func (p *program) rollbackRequest(c *cli.Context, doc *config.Document) (offsets.Request, error) {
	r := offsets.Request{Snapshot: c.String("snapshot-id")}
	var err error
	if r.OnOutOfRange, err = onOutOfRange(c); err != nil {
		return r, err
	}
	switch {
	case r.Snapshot == "" && c.String("backup-id") == "":
		return r, noSnapshot()
	case r.Snapshot == "":
		r.BackupID, r.Rollback = doc.BackupID, true
	case c.IsSet("backup-id"):
		return r, usage("--snapshot-id and --backup-id exclude each other")
	}
	doc.BackupID = r.BackupID
	doc.Restore.ConsumerGroups = nil // all of the snapshot
	if r.Groups, err = p.selection(c, doc); err != nil {
		return r, err
	}
	if c.IsSet("topics") {
		if r.Topics, err = offsets.ParseTopics(joined(c, "topics")); err != nil {
			return r, &exitError{ExitUsage, fmt.Errorf("--topics: %w", err)}
		}
	}
	return r, nil
}

func (p *program) rollback(c *cli.Context) error {
	doc, err := p.offsetDocument(c, true, true)
	if err != nil {
		return err
	}
	r, err := p.rollbackRequest(c, doc)
	if err != nil {
		return err
	}
	plan, err := p.makePlan(c.Context, doc, r)
	if err != nil {
		return err
	}
	format, err := outputFormat(c, render.Text, render.JSON, render.YAML)
	if err != nil {
		return err
	}
	switch {
	case c.Bool("dry-run"):
		return render.Write(p.Out, format, plan)
	case format != render.Text: // stderr has lines of JSON then
	case plan.Totals.Partitions <= 200:
		if err := plan.Text(p.Err); err != nil {
			return err
		}
	default:
		p.say("%s committed offsets of %s groups are to be changed; --dry-run shows them.", render.Count(plan.Totals.Changes()), render.Count(int64(plan.Totals.Groups)))
	}
	request, err := p.setRequest(c, doc, r)
	if err != nil {
		return err
	}
	if request.Description == "" {
		request.Description = "Before rollback to " + plan.Source
	}
	return p.launchReset(c, doc, offsetRollbackKind, request)
}
