package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

func (p *program) listCommand() *cli.Command {
	return &cli.Command{
		Name:   "list",
		Usage:  "List the backups in a repository",
		Flags:  readFlags("text, json, yaml or csv."),
		Action: p.list,
	}
}

func (p *program) list(c *cli.Context) error {
	format, err := outputFormat(c, render.Text, render.JSON, render.YAML, render.CSV)
	if err != nil {
		return err
	}
	return p.read(c, func(ctx context.Context, r *opened) error {
		all, err := r.ListBackups(ctx)
		if err != nil {
			return err
		}
		list := backupList{Repository: r.where, Backups: make([]listedBackup, len(all))}
		for i := range all {
			list.Backups[i] = listed(&all[i])
		}
		return render.Write(p.Out, format, list)
	})
}

// The states of a backup in a repository.
const (
	backupComplete   = "COMPLETE"
	backupIncomplete = "INCOMPLETE" // running, or never finished
	backupDamaged    = "DAMAGED"    // its manifest cannot be used
)

type backupList struct {
	Repository string         `json:"repository"`
	Backups    []listedBackup `json:"backups"`
}

// listedBackup is one backup of a list. Of one without manifest only the id
// and the state are known.
type listedBackup struct {
	BackupID   string             `json:"backup_id"`
	State      string             `json:"state"`
	Error      string             `json:"error,omitempty"`
	CreatedAt  time.Time          `json:"created_at,omitzero"`
	FinishedAt time.Time          `json:"finished_at,omitzero"`
	ClusterID  string             `json:"cluster_id,omitempty"`
	Previous   []string           `json:"previous,omitempty"`
	Totals     *repository.Totals `json:"totals,omitempty"`
	Warnings   int                `json:"warnings"`
}

func listed(b *repository.Backup) listedBackup {
	l := listedBackup{BackupID: b.ID, State: backupIncomplete}
	switch m := b.Manifest; {
	case m != nil:
		l.State, l.CreatedAt, l.FinishedAt = backupComplete, m.CreatedAt.UTC(), m.FinishedAt.UTC()
		l.ClusterID, l.Previous, l.Totals, l.Warnings = m.ClusterID, m.Previous, &m.Totals, len(m.Warnings)
	case b.Err != nil:
		l.State, l.Error = backupDamaged, b.Err.Error()
	}
	return l
}

// Text implements render.Value.
func (l backupList) Text(w io.Writer) error {
	if err := render.Title(w, "Backups: %s", l.Repository); err != nil {
		return err
	}
	table := render.Table{Header: []string{"Backup ID", "Created", "Topics", "Partitions", "Records", "Bytes", "New Bytes", "Groups", "State"}}
	var remarks []string
	for _, b := range l.Backups {
		t := b.Totals
		if t == nil {
			table.Add(b.BackupID, "-", "-", "-", "-", "-", "-", "-", b.State)
		} else {
			table.Add(b.BackupID, render.Time(b.CreatedAt), t.Topics, t.Partitions, render.Count(t.Records), render.Bytes(t.Bytes), render.Bytes(t.NewBytes), t.Groups, b.State)
		}
		if b.Error != "" {
			remarks = append(remarks, b.BackupID+": "+b.Error)
		}
		if b.Warnings > 0 {
			remarks = append(remarks, fmt.Sprintf("%s has %s; `kafka-backup describe` shows them", b.BackupID, render.Number(b.Warnings, "warning")))
		}
	}
	if err := table.Write(w); err != nil {
		return err
	}
	if len(l.Backups) == 0 {
		_, err := fmt.Fprintln(w, "There is no backup yet.")
		return err
	}
	return warnings(w, remarks)
}

// Records implements render.Rows.
func (l backupList) Records() ([]string, [][]string) {
	header := []string{"backup_id", "state", "created_at", "finished_at", "cluster_id", "previous", "topics", "partitions",
		"records", "bytes", "stored_bytes", "new_records", "new_bytes", "new_stored_bytes", "gaps", "groups", "warnings", "error"}
	var rows [][]string
	for _, b := range l.Backups {
		t := b.Totals
		if t == nil {
			t = &repository.Totals{}
		}
		number := func(n int64) string {
			if b.Totals == nil {
				return ""
			}
			return strconv.FormatInt(n, 10)
		}
		rows = append(rows, []string{b.BackupID, b.State, render.Time(b.CreatedAt), render.Time(b.FinishedAt), b.ClusterID, strings.Join(b.Previous, " "),
			number(int64(t.Topics)), number(int64(t.Partitions)), number(t.Records), number(t.Bytes), number(t.StoredBytes),
			number(t.NewRecords), number(t.NewBytes), number(t.NewStoredBytes), number(int64(t.Gaps)), number(int64(t.Groups)),
			strconv.Itoa(b.Warnings), b.Error})
	}
	return header, rows
}
