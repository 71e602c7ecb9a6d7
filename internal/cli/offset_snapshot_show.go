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

func (p *program) showSnapshot(c *cli.Context) error {
	format, err := outputFormat(c, render.Text, render.JSON, render.YAML, render.CSV)
	if err != nil {
		return err
	}
	return p.read(c, func(ctx context.Context, r *opened) error {
		id := c.String("snapshot-id")
		switch {
		case id == "" && c.String("backup-id") == "":
			return noSnapshot()
		case id != "" && c.IsSet("backup-id"):
			return usage("--snapshot-id and --backup-id exclude each other")
		}
		v, err := r.snapshot(ctx, id)
		if err != nil {
			return err
		}
		return render.Write(p.Out, format, v)
	})
}

// snapshot reads a snapshot, or without an id the groups captured with the backup.
func (r *opened) snapshot(ctx context.Context, id string) (*snapshotView, error) {
	v := &snapshotView{Groups: []shownGroup{}}
	if id == "" {
		m, err := r.manifest(ctx)
		if err != nil {
			return nil, err
		}
		groups, err := r.ReadGroups(ctx, m)
		if err != nil {
			return nil, err
		}
		v.ID, v.ClusterID, v.Description = m.BackupID, m.ClusterID, "groups captured with the backup"
		if last := groups.Last(); last != nil {
			v.CreatedAt = last.Time
			for _, g := range last.Groups {
				s := shownGroup{Group: g.Group, Type: g.Type, State: g.State, Offsets: []shownOffset{}}
				for _, o := range g.Offsets {
					one := shownOffset{o.Topic, o.TopicID, o.Partition, o.Offset, known(o.LeaderEpoch), ""}
					if o.Metadata != nil {
						one.Metadata = *o.Metadata
					}
					s.Offsets = append(s.Offsets, one)
				}
				v.Groups = append(v.Groups, s)
			}
		}
		return v, nil
	}
	s, err := offsets.FindSnapshot(ctx, r.Repository, id)
	if err != nil {
		return nil, err
	}
	v.ID, v.ClusterID, v.Description, v.CreatedAt, v.Requester = s.ID, s.ClusterID, s.Description, s.CreatedAt, s.Requester
	for n := range s.Parts {
		part, err := s.ReadPart(ctx, r.Repository, n)
		if err != nil {
			return nil, err
		}
		for _, g := range part.Groups {
			one := shownGroup{Group: g.Group, Type: g.Type, State: g.State, Offsets: []shownOffset{}}
			for _, t := range g.Topics {
				for i := range t.Partitions {
					o := shownOffset{t.Topic, t.TopicID, t.Partitions[i], t.Offsets[i], known(t.LeaderEpochs[i]), ""}
					if t.Metadata != nil {
						o.Metadata = t.Metadata[i]
					}
					one.Offsets = append(one.Offsets, o)
				}
			}
			v.Groups = append(v.Groups, one)
		}
	}
	return v, nil
}

// snapshotView is a snapshot as it is printed.
type snapshotView struct {
	ID          string       `json:"snapshot_id"`
	CreatedAt   time.Time    `json:"created_at"`
	ClusterID   string       `json:"cluster_id"`
	Description string       `json:"description,omitempty"`
	Requester   string       `json:"requester,omitempty"`
	Groups      []shownGroup `json:"groups"`
}

type shownGroup struct {
	Group   string        `json:"group"`
	Type    string        `json:"type"`
	State   string        `json:"state"`
	Offsets []shownOffset `json:"offsets"`
}

type shownOffset struct {
	Topic       string `json:"topic"`
	TopicID     string `json:"topic_id,omitempty"`
	Partition   int32  `json:"partition"`
	Offset      int64  `json:"offset"`
	LeaderEpoch *int32 `json:"leader_epoch"` // null: none was committed
	Metadata    string `json:"metadata,omitempty"`
}

// Text implements render.Value.
func (v *snapshotView) Text(w io.Writer) error {
	if err := render.Title(w, "Offset Snapshot: %s", v.ID); err != nil {
		return err
	}
	if err := render.Fields(w, "Created", render.Time(v.CreatedAt), "Cluster", v.ClusterID, "Description", v.Description, "Taken by", v.Requester); err != nil {
		return err
	}
	for _, g := range v.Groups {
		table := render.Table{Name: fmt.Sprintf("Consumer Group: %s (%s, %s)", g.Group, g.Type, g.State), Header: []string{"Topic", "Partition", "Offset", "Leader Epoch", "Metadata"}}
		for _, o := range g.Offsets {
			table.Add(o.Topic, o.Partition, o.Offset, optional(o.LeaderEpoch, "-"), o.Metadata)
		}
		if err := table.Write(w); err != nil {
			return err
		}
		if len(g.Offsets) == 0 {
			if _, err := fmt.Fprintln(w, "No committed offsets."); err != nil {
				return err
			}
		}
	}
	return nil
}

// Records implements render.Rows.
func (v *snapshotView) Records() ([]string, [][]string) {
	var rows [][]string
	for _, g := range v.Groups {
		for _, o := range g.Offsets {
			rows = append(rows, []string{g.Group, o.Topic, strconv.Itoa(int(o.Partition)), strconv.FormatInt(o.Offset, 10), optional(o.LeaderEpoch, ""), o.Metadata})
		}
	}
	return []string{"group", "topic", "partition", "offset", "leader_epoch", "metadata"}, rows
}
