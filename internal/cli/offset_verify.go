package cli

import (
	"fmt"
	"io"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/render"
)

func (p *program) verifySnapshot(c *cli.Context) error {
	format, err := outputFormat(c, render.Text, render.JSON, render.YAML, render.CSV)
	if err != nil {
		return err
	}
	doc, err := p.offsetDocument(c, true, true)
	if err != nil {
		return err
	}
	r, err := p.rollbackRequest(c, doc)
	if err != nil {
		return err
	}
	var found *offsets.Comparison
	err = p.withCluster(c.Context, doc, func(cluster *kafka.Cluster, repo *opened) (err error) {
		found, err = r.Compare(c.Context, cluster, repositoryOf(repo))
		return err
	})
	if err != nil {
		return err
	}
	v := verification{Source: found.Source, ClusterID: found.ClusterID, Groups: found.Groups, Partitions: found.Partitions,
		Match: found.Partitions - int64(len(found.Differences)), Differences: []difference{}, Warnings: found.Warnings}
	for _, d := range found.Differences {
		v.Differences = append(v.Differences, difference{d.Group, d.Topic, d.Partition, known(d.Snapshot), known(d.Current), d.Why})
	}
	if err := render.Write(p.Out, format, v); err != nil {
		return err
	}
	if len(v.Differences) > 0 {
		return told(ExitPartly)
	}
	return nil
}

// verification is how a cluster compares with a snapshot.
type verification struct {
	Source      string       `json:"snapshot"`
	ClusterID   string       `json:"cluster_id"`
	Groups      int          `json:"groups"`
	Partitions  int64        `json:"partitions"`
	Match       int64        `json:"match"`
	Differences []difference `json:"differences"`
	Warnings    []string     `json:"warnings,omitempty"`
}

type difference struct {
	Group     string `json:"group"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Snapshot  *int64 `json:"snapshot_offset"`
	Current   *int64 `json:"current_offset"`
	Why       string `json:"why,omitempty"`
}

// Text implements render.Value.
func (v verification) Text(w io.Writer) error {
	if err := render.Title(w, "Offset Verification: %s", v.Source); err != nil {
		return err
	}
	if len(v.Differences) == 0 {
		if _, err := fmt.Fprintf(w, "All %s committed offsets of %s groups match.\n", render.Count(v.Match), render.Count(int64(v.Groups))); err != nil {
			return err
		}
		return warnings(w, v.Warnings)
	}
	table := render.Table{Header: []string{"Group", "Topic", "Partition", "Snapshot", "Current", "Why"}}
	for _, d := range v.Differences {
		table.Add(d.Group, d.Topic, d.Partition, optional(d.Snapshot, "-"), optional(d.Current, "-"), d.Why)
	}
	if err := table.Write(w); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "%s of %s committed offsets differ.\n", render.Count(int64(len(v.Differences))), render.Count(v.Partitions)); err != nil {
		return err
	}
	return warnings(w, v.Warnings)
}

// Records implements render.Rows.
func (v verification) Records() ([]string, [][]string) {
	var rows [][]string
	for _, d := range v.Differences {
		rows = append(rows, []string{d.Group, d.Topic, strconv.Itoa(int(d.Partition)), optional(d.Snapshot, ""), optional(d.Current, ""), d.Why})
	}
	return []string{"group", "topic", "partition", "snapshot_offset", "current_offset", "why"}, rows
}
