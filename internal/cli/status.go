package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/internal/backup"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

func (p *program) statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "Say how a repository, or one backup in it, stands",
		Description: "Shows the latest complete backup and how old it is, and how far each backup is that is not\n" +
			"complete. With --backup-id, exit code 0 means complete, 3 not complete, 1 damaged or unknown.\n" +
			"Reads the repository alone; `kafka-backup operations` shows what is running.",
		Flags:  append(readFlags("text, json or yaml."), backupIDFlag),
		Action: p.status,
	}
}

func (p *program) status(c *cli.Context) error {
	format, err := outputFormat(c, render.Text, render.JSON, render.YAML)
	if err != nil {
		return err
	}
	return p.read(c, func(ctx context.Context, r *opened) error {
		all, err := r.ListBackups(ctx)
		if err != nil {
			return err
		}
		s := repositoryStatus{Repository: r.where, RepositoryID: r.ID(), CreatedAt: r.Description().CreatedAt.UTC(), now: time.Now()}
		code, asked := ExitFailed, c.IsSet("backup-id")
		for i := range all {
			b := &all[i]
			if asked && b.ID != r.backupID {
				continue
			}
			entry := backupStatus{listedBackup: listed(b)}
			switch entry.State {
			case backupComplete:
				s.Complete++
				s.Latest, code = &entry, ExitDone
				continue
			case backupIncomplete:
				code = ExitPartly
				if entry.Plan, err = planned(ctx, r, b.ID); err != nil {
					return err
				}
			}
			s.Others = append(s.Others, entry)
		}
		if asked && s.Latest == nil && len(s.Others) == 0 {
			return r.unknown(ctx)
		}
		if err := render.Write(p.Out, format, s); err != nil {
			return err
		}
		if !asked {
			code = ExitDone
		}
		return told(code)
	})
}

// repositoryStatus is how a repository stands.
type repositoryStatus struct {
	Repository   string         `json:"repository"`
	RepositoryID string         `json:"repository_id"`
	CreatedAt    time.Time      `json:"created_at"`
	Complete     int            `json:"complete"`
	Latest       *backupStatus  `json:"latest,omitempty"` // complete one
	Others       []backupStatus `json:"not_complete,omitempty"`

	now time.Time
}

type backupStatus struct {
	listedBackup
	Plan *planStatus `json:"plan,omitempty"` // of one that is not complete
}

// planStatus is how far a backup without manifest is.
type planStatus struct {
	CreatedAt  time.Time `json:"created_at"`
	WorkflowID string    `json:"workflow_id,omitempty"`
	Parts      int       `json:"parts"`
	PartsDone  int       `json:"parts_done"`
	Bytes      int64     `json:"bytes"` // to be copied
}

// planned reads how far a backup without manifest is; nil when not even its
// plan is there.
func planned(ctx context.Context, r *opened, id string) (*planStatus, error) {
	var plan backup.Plan
	if _, err := r.ReadDocument(ctx, repository.PlanKey(id), &plan); err != nil {
		if repository.IsNotFound(err) {
			return nil, nil
		}
		return nil, err
	}
	s := &planStatus{CreatedAt: plan.CreatedAt.UTC(), WorkflowID: plan.WorkflowID, Parts: len(plan.Parts), Bytes: plan.Bytes}
	for part := range plan.Parts {
		done, err := r.Exists(ctx, repository.IndexKey(id, part))
		if err != nil {
			return nil, err
		}
		if done {
			s.PartsDone++
		}
	}
	return s, nil
}

// Text implements render.Value.
func (s repositoryStatus) Text(w io.Writer) error {
	if err := render.Title(w, "Status: %s", s.Repository); err != nil {
		return err
	}
	latest := "none"
	if s.Latest != nil {
		latest = fmt.Sprintf("%s of %s (%s ago): %s records, %s", s.Latest.BackupID, render.Time(s.Latest.CreatedAt),
			render.Duration(s.now.Sub(s.Latest.CreatedAt)), render.Count(s.Latest.Totals.Records), render.Bytes(s.Latest.Totals.Bytes))
	}
	err := render.Fields(w,
		"Repository id", s.RepositoryID,
		"Created", render.Time(s.CreatedAt),
		"Complete backups", fmt.Sprint(s.Complete),
		"Latest", latest,
	)
	if err != nil || len(s.Others) == 0 {
		return err
	}
	table := render.Table{Name: "Not complete", Header: []string{"Backup ID", "State", "Planned", "Parts Done", "Workflow"}}
	for _, b := range s.Others {
		switch {
		case b.Plan != nil:
			table.Add(b.BackupID, b.State, render.Time(b.Plan.CreatedAt), fmt.Sprintf("%d of %d", b.Plan.PartsDone, b.Plan.Parts), b.Plan.WorkflowID)
		case b.Error != "":
			table.Add(b.BackupID, b.State, "-", "-", b.Error)
		default:
			table.Add(b.BackupID, b.State, "not yet", "-", "-")
		}
	}
	return table.Write(w)
}
