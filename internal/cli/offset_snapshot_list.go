package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/render"
)

func (p *program) listSnapshots(c *cli.Context) error {
	format, err := outputFormat(c, render.Text, render.JSON, render.YAML, render.CSV)
	if err != nil {
		return err
	}
	return p.read(c, func(ctx context.Context, r *opened) error {
		list, err := offsets.ListSnapshots(ctx, r.Repository)
		if err != nil {
			return err
		}
		v := snapshotList{Snapshots: []listedSnapshot{}}
		for _, l := range list {
			s := listedSnapshot{ID: l.ID}
			if l.Err != nil {
				s.Error = l.Err.Error()
			}
			if l.Snapshot != nil {
				s.CreatedAt, s.ClusterID, s.Groups, s.Partitions, s.Description, s.Requester = l.Snapshot.CreatedAt, l.Snapshot.ClusterID, l.Snapshot.Groups, l.Snapshot.Partitions, l.Snapshot.Description, l.Snapshot.Requester
			}
			v.Snapshots = append(v.Snapshots, s)
		}
		return render.Write(p.Out, format, v)
	})
}

type snapshotList struct {
	Snapshots []listedSnapshot `json:"snapshots"`
}

type listedSnapshot struct {
	ID          string    `json:"snapshot_id"`
	CreatedAt   time.Time `json:"created_at,omitzero"`
	ClusterID   string    `json:"cluster_id,omitempty"`
	Groups      int       `json:"groups"`
	Partitions  int64     `json:"partitions"`
	Description string    `json:"description,omitempty"`
	Requester   string    `json:"requester,omitempty"`
	Error       string    `json:"error,omitempty"`
}

// Text implements render.Value.
func (l snapshotList) Text(w io.Writer) error {
	if err := render.Title(w, "Offset Snapshots"); err != nil {
		return err
	}
	table := render.Table{Header: []string{"ID", "Created", "Groups", "Description"}}
	for _, s := range l.Snapshots {
		if s.Error != "" {
			table.Add(s.ID, "-", "-", "DAMAGED: "+s.Error)
			continue
		}
		table.Add(s.ID, render.Time(s.CreatedAt), s.Groups, s.Description)
	}
	if err := table.Write(w); err != nil {
		return err
	}
	if len(l.Snapshots) == 0 {
		_, err := fmt.Fprintln(w, "There are none.")
		return err
	}
	return nil
}

// Records implements render.Rows.
func (l snapshotList) Records() ([]string, [][]string) {
	var rows [][]string
	for _, s := range l.Snapshots {
		rows = append(rows, []string{s.ID, render.Time(s.CreatedAt), s.ClusterID, strconv.Itoa(s.Groups), strconv.FormatInt(s.Partitions, 10), s.Description, s.Requester, s.Error})
	}
	return []string{"snapshot_id", "created_at", "cluster_id", "groups", "partitions", "description", "requester", "error"}, rows
}
