package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/render"
)

// Planner plans a restore without changing anything, neither the target nor
// the repository. It is what validate-restore and dry_run call.
//
// SEAM: internal/restore will have it. Until newProgram is given that one, the
// commands say that there is none.
type Planner interface {
	// Plan checks all that can be checked. What stands against the restore is
	// in Problems, all at once; an error means that it could not be looked at.
	Plan(ctx context.Context, request activities.RestoreRequest) (PlannedRestore, error)
}

// PlannedRestore is what a restore would do.
type PlannedRestore struct {
	activities.RestorePlan
	BackupID     string         `json:"backup_id"`
	PlannedTopic []PlannedTopic `json:"topic_plans"`
	// Problems are why the restore would be refused; empty means it can start.
	Problems []string `json:"problems,omitempty"`
}

// PlannedTopic is what a restore would do with one topic.
type PlannedTopic struct {
	Source     string `json:"source"`
	Target     string `json:"target"`
	Partitions int    `json:"partitions"` // of the target
	Create     bool   `json:"create"`
	Records    int64  `json:"records"`
	Bytes      int64  `json:"bytes"`
	Path       string `json:"path"` // "fast": batches as they are, "slow": re-encoded
	Note       string `json:"note,omitempty"`
}

type noPlanner struct{}

func (noPlanner) Plan(context.Context, activities.RestoreRequest) (PlannedRestore, error) {
	return PlannedRestore{}, errors.New("this build cannot plan a restore")
}

func (p *program) validateRestoreCommand() *cli.Command {
	return &cli.Command{
		Name:  "validate-restore",
		Usage: "Say what a restore would do and what stands against it; change nothing",
		Description: "Reads the backup and the target cluster in this process; needs no Temporal service.\n" +
			"Exit code 1 when the restore would be refused.",
		Flags:  append([]cli.Flag{configFlag, outputFlag("Plan as text, json or yaml.")}, restoreSettings.flags...),
		Action: p.validateRestore,
	}
}

func (p *program) validateRestore(c *cli.Context) error {
	doc, err := restoreSettings.load(c, config.ForRestore)
	if err != nil {
		return err
	}
	return p.planRestore(c, doc)
}

// planRestore plans a restore and prints the plan.
func (p *program) planRestore(c *cli.Context, doc *config.Document) error {
	format, err := outputFormat(c, render.Text, render.JSON, render.YAML)
	if err != nil {
		return err
	}
	plan, err := p.planner.Plan(c.Context, restoreRequest(doc))
	if err != nil {
		return err
	}
	if err := render.Write(p.Out, format, plan); err != nil {
		return err
	}
	if len(plan.Problems) > 0 {
		return told(ExitFailed)
	}
	return nil
}

// Text implements render.Value.
func (r PlannedRestore) Text(w io.Writer) error {
	if err := render.Title(w, "Restore Plan: %s", r.BackupID); err != nil {
		return err
	}
	groups := "left alone"
	if r.Groups > 0 {
		groups = render.Count(int64(r.Groups)) + " to be set"
	}
	err := render.Fields(w,
		"Target cluster", r.ClusterID,
		"Topics", fmt.Sprintf("%s (%s to be created)", render.Count(int64(r.Topics)), render.Count(int64(r.Create))),
		"Records", render.Count(r.Total.Records),
		"Bytes", render.Bytes(r.Total.Bytes),
		"Consumer groups", groups,
	)
	if err != nil {
		return err
	}
	table := render.Table{Name: "Topics", Header: []string{"Topic", "Target", "Partitions", "Records", "Bytes", "Action", "Path", "Note"}}
	for _, t := range r.PlannedTopic {
		action := "FILL"
		if t.Create {
			action = "CREATE"
		}
		table.Add(t.Source, t.Target, t.Partitions, t.Records, t.Bytes, action, t.Path, t.Note)
	}
	if err := table.Write(w); err != nil {
		return err
	}
	if err := warnings(w, r.Warnings); err != nil {
		return err
	}
	for _, text := range r.Problems {
		if _, err := fmt.Fprintf(w, "Problem: %s\n", render.Cell(text)); err != nil {
			return err
		}
	}
	if len(r.Problems) == 0 {
		_, err = fmt.Fprintln(w, "Nothing stands against this restore. Nothing was changed.")
	}
	return err
}
