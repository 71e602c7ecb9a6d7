package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

func (p *program) holdCommand() *cli.Command {
	name := &cli.StringFlag{Name: "name", Aliases: []string{"n"}, Usage: "Name of the hold; a backup may have several.", Value: "hold", Category: inOperation}
	return &cli.Command{
		Name:        "hold",
		Usage:       "Keep a backup from being pruned",
		Description: "A hold is an object in the repository: it counts for whoever prunes, from wherever, until it is removed.",
		Subcommands: []*cli.Command{
			{Name: "add", Usage: "Hold a backup", Action: p.holdAdd, Flags: append(readFlags("text, json or yaml."), backupIDFlag, name, personFlag("by"),
				&cli.StringFlag{Name: "reason", Usage: "Why, for the others who look at it.", Category: inOperation})},
			{Name: "list", Usage: "List the holds", Action: p.holdList, Flags: append(readFlags("text, json, yaml or csv."), backupIDFlag)},
			{Name: "remove", Usage: "Remove a hold", Action: p.holdRemove, Flags: append(readFlags("text, json or yaml."), backupIDFlag, name)},
		},
	}
}

func (p *program) holdAdd(c *cli.Context) error {
	format, err := outputFormat(c, render.Text, render.JSON, render.YAML)
	if err != nil {
		return err
	}
	return p.read(c, func(ctx context.Context, r *opened) error {
		if _, err := r.manifest(ctx); err != nil {
			return err
		}
		h := repository.Hold{BackupID: r.backupID, Name: c.String("name"), Reason: c.String("reason"), By: person(c, "by"), CreatedAt: time.Now().UTC().Truncate(time.Second)}
		err := r.AddHold(ctx, h)
		switch {
		case errors.Is(err, repository.ErrExists):
			return fmt.Errorf("backup %q has a hold %q already; choose another --name", h.BackupID, h.Name)
		case errors.Is(err, repository.ErrID):
			return &exitError{ExitUsage, err}
		case err != nil:
			return err
		}
		return render.Write(p.Out, format, holdList{r.where, []heldBackup{held(h)}})
	})
}

func (p *program) holdRemove(c *cli.Context) error {
	format, err := outputFormat(c, render.Text, render.JSON, render.YAML)
	if err != nil {
		return err
	}
	return p.read(c, func(ctx context.Context, r *opened) error {
		if r.backupID == "" {
			return usage("say which backup with --backup-id")
		}
		err := r.RemoveHold(ctx, r.backupID, c.String("name"))
		switch {
		case errors.Is(err, repository.ErrNotFound):
			return fmt.Errorf("backup %q has no hold %q; `kafka-backup hold list` shows them", r.backupID, c.String("name"))
		case errors.Is(err, repository.ErrID):
			return &exitError{ExitUsage, err}
		case err != nil:
			return err
		}
		left, err := r.Holds(ctx, r.backupID)
		if err != nil {
			return err
		}
		return render.Write(p.Out, format, holdsOf(r.where, left))
	})
}

func (p *program) holdList(c *cli.Context) error {
	format, err := outputFormat(c, render.Text, render.JSON, render.YAML, render.CSV)
	if err != nil {
		return err
	}
	return p.read(c, func(ctx context.Context, r *opened) error {
		backupID := ""
		if c.IsSet("backup-id") {
			backupID = r.backupID
		}
		holds, err := r.Holds(ctx, backupID)
		if err != nil {
			return err
		}
		return render.Write(p.Out, format, holdsOf(r.where, holds))
	})
}

// holdList are holds as they are shown.
type holdList struct {
	Repository string       `json:"repository"`
	Holds      []heldBackup `json:"holds"`
}

type heldBackup struct {
	BackupID  string    `json:"backup_id"`
	Name      string    `json:"name"`
	By        string    `json:"by,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	CreatedAt time.Time `json:"created_at"`
}

func held(h repository.Hold) heldBackup {
	return heldBackup{h.BackupID, h.Name, h.By, h.Reason, h.CreatedAt.UTC()}
}

func holdsOf(where string, holds []repository.Hold) holdList {
	l := holdList{Repository: where, Holds: make([]heldBackup, len(holds))}
	for i, h := range holds {
		l.Holds[i] = held(h)
	}
	return l
}

// Text implements render.Value.
func (l holdList) Text(w io.Writer) error {
	if err := render.Title(w, "Holds: %s", l.Repository); err != nil {
		return err
	}
	if len(l.Holds) == 0 {
		_, err := fmt.Fprintln(w, "There are none.")
		return err
	}
	table := render.Table{Header: []string{"Backup ID", "Hold", "Since", "By", "Reason"}}
	for _, h := range l.Holds {
		table.Add(h.BackupID, h.Name, render.Time(h.CreatedAt), h.By, h.Reason)
	}
	return table.Write(w)
}

// Records implements render.Rows.
func (l holdList) Records() ([]string, [][]string) {
	var rows [][]string
	for _, h := range l.Holds {
		rows = append(rows, []string{h.BackupID, h.Name, render.Time(h.CreatedAt), h.By, h.Reason})
	}
	return []string{"backup_id", "name", "created_at", "by", "reason"}, rows
}
