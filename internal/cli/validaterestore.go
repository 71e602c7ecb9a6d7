package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/restore"
	"github.com/kafka-backup/kafka-backup/internal/storage"
)

// PlannedRestore is what a restore would do.
type PlannedRestore struct {
	BackupID        string            `json:"backup_id"`
	SourceClusterID string            `json:"source_cluster_id"`
	ClusterID       string            `json:"cluster_id"`
	TimeWindowStart *int64            `json:"time_window_start,omitempty"` // ms since 1970
	TimeWindowEnd   *int64            `json:"time_window_end,omitempty"`
	TopicsToCreate  int               `json:"topics_to_create"`
	Total           activities.Amount `json:"total"` // at most, where a time window cuts
	Topics          []PlannedTopic    `json:"topics"`
	ConsumerGroups  []string          `json:"consumer_groups"` // whose offsets would be set
	Warnings        []string          `json:"warnings,omitempty"`
	// Problems are why the restore would be refused; empty means it can start.
	Problems []string `json:"problems,omitempty"`
}

// PlannedTopic is what a restore would do with one topic.
type PlannedTopic struct {
	Source            string            `json:"source"`
	Target            string            `json:"target"`
	SourcePartitions  int32             `json:"source_partitions"`
	Partitions        int32             `json:"partitions"` // of the target
	ReplicationFactor int16             `json:"replication_factor"`
	Create            bool              `json:"create"`
	Rekey             bool              `json:"rekey"` // records are placed by their keys
	Records           int64             `json:"records"`
	Bytes             int64             `json:"bytes"`
	Config            map[string]string `json:"config,omitempty"` // of a created topic
}

// planRestore plans a restore in this process. It changes nothing, neither the
// target nor the repository.
func planRestore(ctx context.Context, r activities.RestoreRequest) (PlannedRestore, error) {
	planned := PlannedRestore{BackupID: r.BackupID}
	bucket, err := storage.Open(ctx, r.Storage)
	if err != nil {
		return planned, err
	}
	defer bucket.Close()
	repo, err := repository.Open(ctx, bucket)
	if err != nil {
		return planned, fmt.Errorf("%s: %w", storage.Describe(r.Storage), err)
	}
	opened := &opened{repo, storage.Describe(r.Storage), r.BackupID}
	if _, err := opened.manifest(ctx); err != nil {
		return planned, err
	}
	cluster, err := kafka.Connect(ctx, r.Target)
	if err != nil {
		return planned, err
	}
	defer cluster.Close()
	id, err := restoreID(r)
	if err != nil {
		return planned, err
	}
	plan, _, err := restore.MakePlan(ctx, cluster, repo, restore.Request{WorkflowID: id, BackupID: r.BackupID, Options: r.Options}, false)
	var refused *restore.PlanError
	if errors.As(err, &refused) {
		planned.ClusterID = cluster.ID()
		for i := range refused.Problems {
			planned.Problems = append(planned.Problems, refused.Problems[i].String())
		}
		return planned, nil
	}
	if err != nil {
		return planned, err
	}
	planned.SourceClusterID, planned.ClusterID = plan.SourceClusterID, plan.ClusterID
	planned.TimeWindowStart, planned.TimeWindowEnd = plan.Start, plan.End
	planned.Total = activities.Amount{Records: plan.Records, Bytes: plan.Bytes, Partitions: plan.Partitions}
	planned.ConsumerGroups, planned.Warnings = plan.Groups, plan.Warnings
	for _, t := range plan.Topics {
		if !t.Exists {
			planned.TopicsToCreate++
		}
		planned.Topics = append(planned.Topics, PlannedTopic{Source: t.Source, Target: t.Target, SourcePartitions: t.SourcePartitions,
			Partitions: t.Partitions, ReplicationFactor: t.ReplicationFactor, Create: !t.Exists, Rekey: t.Rekey,
			Records: t.Records, Bytes: t.Bytes, Config: t.Config})
	}
	return planned, nil
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
	return p.dryRun(c, doc)
}

// dryRun plans a restore and prints the plan.
func (p *program) dryRun(c *cli.Context, doc *config.Document) error {
	format, err := outputFormat(c, render.Text, render.JSON, render.YAML)
	if err != nil {
		return err
	}
	plan, err := p.plan(c.Context, restoreRequest(doc))
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
	if len(r.Problems) > 0 {
		if err := render.Fields(w, "Target cluster", r.ClusterID); err != nil {
			return err
		}
		for _, text := range r.Problems {
			if _, err := fmt.Fprintf(w, "Problem: %s\n", render.Cell(text)); err != nil {
				return err
			}
		}
		_, err := fmt.Fprintln(w, "This restore would be refused. Nothing was changed.")
		return err
	}
	groups := "left alone"
	if n := len(r.ConsumerGroups); n > 0 {
		groups = fmt.Sprint(n) + " to be set: " + strings.Join(r.ConsumerGroups[:min(n, 10)], ", ")
		if n > 10 {
			groups += ", ..."
		}
	}
	err := render.Fields(w,
		"Source cluster", r.SourceClusterID,
		"Target cluster", r.ClusterID,
		"Topics", fmt.Sprintf("%d (%d to be created)", len(r.Topics), r.TopicsToCreate),
		"Time window", window(r.TimeWindowStart, r.TimeWindowEnd),
		"Records", render.Count(r.Total.Records),
		"Bytes", render.Bytes(r.Total.Bytes),
		"Consumer groups", groups,
	)
	if err != nil {
		return err
	}
	table := render.Table{Name: "Topics", Header: []string{"Topic", "Target", "Partitions", "Records", "Bytes", "Action"}}
	for _, t := range r.Topics {
		action := "FILL"
		if t.Create {
			action = "CREATE"
		}
		partitions := fmt.Sprint(t.Partitions)
		if t.Rekey {
			partitions, action = fmt.Sprintf("%d -> %d", t.SourcePartitions, t.Partitions), action+", BY KEY"
		}
		table.Add(t.Source, t.Target, partitions, render.Count(t.Records), render.Bytes(t.Bytes), action)
	}
	if err := table.Write(w); err != nil {
		return err
	}
	if err := warnings(w, r.Warnings); err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, "Nothing stands against this restore. Nothing was changed.")
	return err
}

// window writes a time window; empty when there is none.
func window(start, end *int64) string {
	text := func(t *int64, open string) string {
		if t == nil {
			return open
		}
		return render.Milli(*t)
	}
	if start == nil && end == nil {
		return ""
	}
	return text(start, "the beginning") + " to " + text(end, "the end")
}
