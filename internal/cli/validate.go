package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

func (p *program) validateCommand() *cli.Command {
	return &cli.Command{
		Name:  "validate",
		Usage: "Check that a backup is whole",
		Description: "Checks that every object is there and is what was written. With --deep every block is read: its\n" +
			"hash, each batch's CRC, and whether the index tells the truth. Exit code 1 when anything is wrong.",
		Flags: append(readFlags("text, json or yaml."), backupIDFlag,
			&cli.BoolFlag{Name: "deep", Usage: "Read and check all data.", Category: inOperation},
			&cli.IntFlag{Name: "concurrency", Usage: "Segments read beside each other.", Value: 4, Category: inOperation}),
		Action: p.validate,
	}
}

func (p *program) validate(c *cli.Context) error {
	format, err := outputFormat(c, render.Text, render.JSON, render.YAML)
	if err != nil {
		return err
	}
	if c.Int("concurrency") < 1 {
		return usage("--concurrency must be 1 or more")
	}
	return p.read(c, func(ctx context.Context, r *opened) error {
		if r.backupID == "" {
			return usage("say which backup with --backup-id")
		}
		last := time.Now()
		o := repository.ValidateOptions{Deep: c.Bool("deep"), Concurrency: c.Int("concurrency"), Progress: func(v *repository.Report) {
			if time.Since(last) < lineEvery {
				return
			}
			last = time.Now()
			p.say("%s, %s checked, %s", render.Number(v.Objects, "object"), render.Bytes(v.Bytes), render.Number(v.ProblemCount, "problem"))
		}}
		report, err := r.Validate(ctx, r.backupID, o)
		if repository.IsNotFound(err) {
			return r.unknown(ctx)
		}
		if err != nil {
			return err
		}
		if err := render.Write(p.Out, format, validation{report}); err != nil {
			return err
		}
		if !report.OK() {
			return told(ExitFailed)
		}
		return nil
	})
}

type validation struct{ *repository.Report }

// Text implements render.Value.
func (v validation) Text(w io.Writer) error {
	if err := render.Title(w, "Validation: %s", v.BackupID); err != nil {
		return err
	}
	depth := "documents and indexes"
	records := ""
	if v.Deep {
		depth, records = "all data", render.Count(v.Records)
	}
	err := render.Fields(w,
		"Checked", depth,
		"Objects", fmt.Sprintf("%s (%s)", render.Count(v.Objects), render.Number(v.Segments, "segment")),
		"Partitions", render.Count(v.Partitions),
		"Blocks", render.Count(v.Blocks),
		"Records", records,
		"Bytes read", render.Bytes(v.Bytes),
	)
	if err != nil {
		return err
	}
	if v.OK() {
		_, err := fmt.Fprintln(w, "Nothing is wrong.")
		return err
	}
	table := render.Table{Name: render.Number(v.ProblemCount, "problem"), Header: []string{"Kind", "Object", "Topic", "Partition", "Offset", "Detail"}}
	for _, p := range v.Problems {
		partition, offset := "", ""
		if p.Topic != "" {
			partition = fmt.Sprint(p.Partition)
		}
		if p.Offset >= 0 {
			offset = fmt.Sprint(p.Offset)
		}
		table.Add(p.Kind, p.Key, p.Topic, partition, offset, p.Detail)
	}
	return table.Write(w)
}

// validateReport is the report of a check that a worker made.
type validateReport struct{ activities.ValidateReport }

func (validateReport) code() int { return ExitDone }

// Text implements render.Value.
func (r validateReport) Text(w io.Writer) error { return validation{&r.Report}.Text(w) }
