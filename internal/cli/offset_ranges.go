package cli

import (
	"context"
	"io"
	"strconv"

	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/restore"
)

// restoreMapping reads where a restore put the offsets of its backup.
func (r *opened) restoreMapping(ctx context.Context, id string) (*restoreMapping, error) {
	m, key, err := restore.FindMapping(ctx, r.Repository, id)
	if err != nil {
		return nil, err
	}
	if r.backupID != "" && r.backupID != m.BackupID {
		return nil, usage("%s restored backup %s, not %s", m.WorkflowID, m.BackupID, r.backupID)
	}
	ranges, err := m.Ranges(ctx, r.Repository)
	return &restoreMapping{Restore: m.WorkflowID, BackupID: m.BackupID, SourceClusterID: m.SourceClusterID, ClusterID: m.ClusterID, Mapping: key, Ranges: ranges}, err
}

// restoreMapping is which source offsets became which target offsets.
type restoreMapping struct {
	Restore         string          `json:"restore"`
	BackupID        string          `json:"backup_id"`
	SourceClusterID string          `json:"source_cluster_id"`
	ClusterID       string          `json:"cluster_id"`
	Mapping         string          `json:"mapping"`
	Ranges          []restore.Range `json:"ranges"`
}

// rangeJSON is a range for machines: null where there is no number.
type rangeJSON struct {
	Topic       string `json:"topic"`
	Partition   *int32 `json:"partition"`
	First       *int64 `json:"first_offset"`
	Last        *int64 `json:"last_offset"`
	Target      string `json:"target_topic"`
	To          int32  `json:"target_partition"`
	TargetFirst *int64 `json:"target_first_offset"`
	TargetLast  *int64 `json:"target_last_offset"`
	Records     int64  `json:"record_count"`
	Pieces      int    `json:"pieces"`
}

// MarshalJSON implements json.Marshaler.
func (m *restoreMapping) MarshalJSON() ([]byte, error) {
	type fields restoreMapping // without this method
	j := struct {
		*fields
		Ranges []rangeJSON `json:"ranges"`
	}{(*fields)(m), make([]rangeJSON, len(m.Ranges))}
	for i, r := range m.Ranges {
		j.Ranges[i] = rangeJSON{r.Topic, known(r.Partition), known(r.First), known(r.Last), r.Target, r.To, known(r.TargetFirst), known(r.TargetLast), r.Records, r.Pieces}
	}
	return render.Marshal(j)
}

// Text implements render.Value.
func (m *restoreMapping) Text(w io.Writer) error {
	if err := render.Title(w, "Offset Mapping: %s", m.BackupID); err != nil {
		return err
	}
	if err := render.Fields(w, "Restore", m.Restore, "From cluster", m.SourceClusterID, "Into cluster", m.ClusterID); err != nil {
		return err
	}
	for i := 0; i < len(m.Ranges); {
		topic := m.Ranges[i].Topic
		name := "Topic: " + topic
		if m.Ranges[i].Target != topic {
			name += " -> " + m.Ranges[i].Target
		}
		table := render.Table{Name: name, Header: []string{"Partition", "First Offset", "Last Offset", "Target Partition", "Target First", "Target Last", "Record Count"}}
		for ; i < len(m.Ranges) && m.Ranges[i].Topic == topic; i++ {
			r := &m.Ranges[i]
			partition := dash(r.Partition)
			if r.Partition < 0 {
				partition = "by key"
			}
			table.Add(partition, dash(r.First), dash(r.Last), r.To, dash(r.TargetFirst), dash(r.TargetLast), r.Records)
		}
		if err := table.Write(w); err != nil {
			return err
		}
	}
	return nil
}

// Records implements render.Rows.
func (m *restoreMapping) Records() ([]string, [][]string) {
	var rows [][]string
	for _, r := range m.Ranges {
		rows = append(rows, []string{r.Topic, blank(r.Partition), blank(r.First), blank(r.Last), r.Target, blank(r.To),
			blank(r.TargetFirst), blank(r.TargetLast), blank(r.Records), strconv.Itoa(r.Pieces)})
	}
	return []string{"topic", "partition", "first_offset", "last_offset", "target_topic", "target_partition", "target_first_offset", "target_last_offset", "record_count", "pieces"}, rows
}
