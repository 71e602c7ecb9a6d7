package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

func (p *program) describeCommand() *cli.Command {
	return &cli.Command{
		Name:        "describe",
		Usage:       "Describe a backup: its topics with their configurations, and its consumer groups",
		Description: "Text shows each group's number of committed offsets; json and yaml hold the offsets themselves.",
		Flags:       append(readFlags("text, json or yaml."), backupIDFlag),
		Action:      p.describe,
	}
}

func (p *program) describe(c *cli.Context) error {
	format, err := outputFormat(c, render.Text, render.JSON, render.YAML)
	if err != nil {
		return err
	}
	return p.read(c, func(ctx context.Context, r *opened) error {
		m, err := r.manifest(ctx)
		if err != nil {
			return err
		}
		topics, err := r.topics(ctx, m)
		if err != nil {
			return err
		}
		d := description{Manifest: m, Topics: make([]describedTopic, len(topics))}
		for i, t := range topics {
			d.Topics[i] = describedTopic{Topic: t.Name, ID: t.ID, PartitionCount: t.PartitionCount, ReplicationFactor: t.ReplicationFactor, Config: t.Config}
			for _, part := range t.Partitions {
				d.Topics[i].Records += part.Records
				d.Topics[i].Bytes += part.Bytes
				d.Topics[i].Gaps += len(part.Gaps)
			}
		}
		if m.Groups != nil {
			if d.Captures, err = captures(ctx, r, m); err != nil {
				return err
			}
		}
		return render.Write(p.Out, format, d)
	})
}

func captures(ctx context.Context, r *opened, m *repository.Manifest) ([]repository.GroupsCapture, error) {
	g, err := r.ReadGroups(ctx, m)
	if err != nil {
		return nil, err
	}
	return g.Captures, nil
}

// description is a backup in full.
type description struct {
	*repository.Manifest
	Topics   []describedTopic           `json:"topics"`
	Captures []repository.GroupsCapture `json:"captured_groups,omitempty"`
}

type describedTopic struct {
	Topic             string            `json:"topic"`
	ID                string            `json:"id"`
	PartitionCount    int               `json:"partition_count"`
	ReplicationFactor int               `json:"replication_factor"`
	Records           int64             `json:"records"`
	Bytes             int64             `json:"bytes"`
	Gaps              int               `json:"gaps"`
	Config            map[string]string `json:"config,omitempty"`
}

// Text implements render.Value.
func (d description) Text(w io.Writer) error {
	if err := render.Title(w, "Backup: %s", d.BackupID); err != nil {
		return err
	}
	t := d.Totals
	span := ""
	if t.Records > 0 {
		span = render.Milli(t.MinBaseTimestamp) + " to " + render.Milli(t.MaxTimestamp)
	}
	err := render.Fields(w,
		"Created", render.Time(d.CreatedAt),
		"Finished", render.Time(d.FinishedAt),
		"Cluster", d.ClusterID,
		"Previous backup", render.List(d.Previous, 5),
		"Workflow", d.WorkflowID,
		"Made by", "kafka-backup "+d.ToolVersion,
		"Records", fmt.Sprintf("%s (%s new)", render.Count(t.Records), render.Count(t.NewRecords)),
		"Bytes", fmt.Sprintf("%s (%s new)", render.Bytes(t.Bytes), render.Bytes(t.NewBytes)),
		"Stored", fmt.Sprintf("%s (%s new) in %s", render.Bytes(t.StoredBytes), render.Bytes(t.NewStoredBytes), render.Number(t.Segments, "segment")),
		"Batch timestamps", span,
	)
	if err != nil {
		return err
	}
	topics := render.Table{Name: "Topics", Header: []string{"Topic", "Partitions", "Replicas", "Records", "Bytes", "Gaps", "Configuration"}}
	for _, t := range d.Topics {
		topics.Add(t.Topic, t.PartitionCount, t.ReplicationFactor, render.Count(t.Records), render.Bytes(t.Bytes), t.Gaps, configText(t.Config))
	}
	if err := topics.Write(w); err != nil {
		return err
	}
	for _, c := range d.Captures {
		groups := render.Table{Name: fmt.Sprintf("Consumer groups at the %s, %s", c.At, render.Time(c.Time)),
			Header: []string{"Group", "Type", "State", "Committed Offsets"}}
		for _, g := range c.Groups {
			groups.Add(g.Group, g.Type, g.State, len(g.Offsets))
		}
		if err := groups.Write(w); err != nil {
			return err
		}
	}
	return warnings(w, d.Warnings)
}

func configText(c map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(c)) {
		parts = append(parts, name+"="+c[name])
	}
	return strings.Join(parts, " ")
}
