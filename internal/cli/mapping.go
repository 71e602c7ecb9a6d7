package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

func (p *program) showOffsetMappingCommand() *cli.Command {
	return &cli.Command{
		Name:  "show-offset-mapping",
		Usage: "Show which offsets of each partition a backup holds",
		Description: "Offsets are the source's. Where records are missing (retention removed them before they were\n" +
			"read, or the log was truncated) or were left out (aborted transactions), that is shown too.\n" +
			"Reads the index of the backup and no data.",
		Flags: append(readFlags("text, json, yaml or csv."), backupIDFlag,
			&cli.StringFlag{Name: "restore", Usage: "Workflow id of a restore: show which source offsets became which target offsets.", Category: inOperation}),
		Action: p.showOffsetMapping,
	}
}

func (p *program) showOffsetMapping(c *cli.Context) error {
	format, err := outputFormat(c, render.Text, render.JSON, render.YAML, render.CSV)
	if err != nil {
		return err
	}
	return p.read(c, func(ctx context.Context, r *opened) error {
		if c.IsSet("restore") {
			m, err := r.restoreMapping(ctx, c.String("restore"))
			if err != nil {
				return err
			}
			return render.Write(p.Out, format, m)
		}
		m, err := r.manifest(ctx)
		if err != nil {
			return err
		}
		topics, err := r.topics(ctx, m)
		if err != nil {
			return err
		}
		return render.Write(p.Out, format, newMapping(m.BackupID, topics))
	})
}

// mapping is what a backup holds of each partition.
type mapping struct {
	BackupID string         `json:"backup_id"`
	Topics   []mappingTopic `json:"topics"`
}

type mappingTopic struct {
	Topic      string             `json:"topic"`
	Partitions []mappingPartition `json:"partitions"`
}

// mappingPartition: offsets are the source's; first and last are null when
// there are no records. Times are milliseconds since 1970.
type mappingPartition struct {
	Partition   int32  `json:"partition"`
	FirstOffset *int64 `json:"first_offset"`
	LastOffset  *int64 `json:"last_offset"`
	Records     int64  `json:"record_count"`
	Bytes       int64  `json:"bytes"`
	LogStart    int64  `json:"log_start_offset"` // when the backup was planned
	End         int64  `json:"end_offset"`       // exclusive: the next backup begins here
	// MinTimestamp is the smallest base timestamp of a batch, MaxTimestamp the
	// largest timestamp of a record; null when there are no records.
	MinTimestamp   *int64           `json:"min_timestamp"`
	MaxTimestamp   *int64           `json:"max_timestamp"`
	AbortedRecords int64            `json:"aborted_records"`
	ControlBatches int64            `json:"control_batches"`
	LogStartMoved  bool             `json:"log_start_moved"`
	Gaps           []repository.Gap `json:"gaps,omitempty"`
}

func newMapping(backupID string, topics []repository.Topic) mapping {
	m := mapping{BackupID: backupID, Topics: make([]mappingTopic, len(topics))}
	for i, t := range topics {
		mt := mappingTopic{Topic: t.Name, Partitions: make([]mappingPartition, len(t.Partitions))}
		for j := range t.Partitions {
			p := &t.Partitions[j]
			mp := mappingPartition{Partition: p.Partition, Records: p.Records, Bytes: p.Bytes, LogStart: p.LogStart, End: p.End,
				AbortedRecords: p.LeftOut.AbortedRecords, ControlBatches: p.LeftOut.ControlBatches, Gaps: p.Gaps}
			if p.Records > 0 {
				mp.FirstOffset, mp.LastOffset = &p.FirstOffset, &p.LastOffset
				mp.MinTimestamp, mp.MaxTimestamp = &p.MinBaseTimestamp, &p.MaxTimestamp
			}
			for _, g := range p.Gaps {
				mp.LogStartMoved = mp.LogStartMoved || g.Reason == repository.GapLogStartMoved
			}
			mt.Partitions[j] = mp
		}
		m.Topics[i] = mt
	}
	return m
}

// Text implements render.Value: the table of each topic, and then, where there
// is something to say, the times and what is missing.
func (m mapping) Text(w io.Writer) error {
	if err := render.Title(w, "Offset Mapping: %s", m.BackupID); err != nil {
		return err
	}
	times := render.Table{Name: "Batch timestamps", Header: []string{"Topic", "Partition", "Earliest Base", "Latest"}}
	leftOut := render.Table{Name: "Left out", Header: []string{"Topic", "Partition", "Aborted Records", "Control Batches"}}
	gaps := render.Table{Name: "Gaps", Header: []string{"Topic", "Partition", "From Offset", "To Offset", "Reason"}}
	for _, t := range m.Topics {
		table := render.Table{Name: "Topic: " + t.Topic, Header: []string{"Partition", "First Offset", "Last Offset", "Record Count"}}
		for _, p := range t.Partitions {
			table.Add(p.Partition, optional(p.FirstOffset, "-"), optional(p.LastOffset, "-"), p.Records)
			if p.MinTimestamp != nil {
				times.Add(t.Topic, p.Partition, render.Milli(*p.MinTimestamp), render.Milli(*p.MaxTimestamp))
			}
			if p.AbortedRecords > 0 || p.ControlBatches > 0 {
				leftOut.Add(t.Topic, p.Partition, p.AbortedRecords, p.ControlBatches)
			}
			for _, g := range p.Gaps {
				gaps.Add(t.Topic, p.Partition, g.From, g.To-1, strings.ReplaceAll(g.Reason, "_", " "))
			}
		}
		if err := table.Write(w); err != nil {
			return err
		}
	}
	for _, table := range []*render.Table{&times, &leftOut, &gaps} {
		if len(table.Rows) == 0 {
			continue
		}
		if err := table.Write(w); err != nil {
			return err
		}
	}
	return nil
}

// Records implements render.Rows: one row a partition.
func (m mapping) Records() ([]string, [][]string) {
	header := []string{"topic", "partition", "first_offset", "last_offset", "record_count", "bytes", "log_start_offset", "end_offset",
		"min_timestamp", "max_timestamp", "aborted_records", "control_batches", "log_start_moved", "gaps"}
	var rows [][]string
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	for _, t := range m.Topics {
		for _, p := range t.Partitions {
			var gaps []string
			for _, g := range p.Gaps {
				gaps = append(gaps, fmt.Sprintf("%d-%d %s", g.From, g.To-1, g.Reason))
			}
			rows = append(rows, []string{t.Topic, number(int64(p.Partition)), optional(p.FirstOffset, ""), optional(p.LastOffset, ""),
				number(p.Records), number(p.Bytes), number(p.LogStart), number(p.End), optional(p.MinTimestamp, ""), optional(p.MaxTimestamp, ""),
				number(p.AbortedRecords), number(p.ControlBatches), strconv.FormatBool(p.LogStartMoved), strings.Join(gaps, "; ")})
		}
	}
	return header, rows
}
