package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/storage"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
)

func (p *program) restoreCommand() *cli.Command {
	return &cli.Command{
		Name:  "restore",
		Usage: "Restore a backup into a cluster",
		Description: "Starts the workflow restore/<backup-id>/<target>/<digest> and follows it; the digest stands for\n" +
			"what is restored and how. Started again while it runs, the command follows the running one; after a\n" +
			"failure it goes on where the target's logs end. With dry_run nothing is changed, as validate-restore.",
		Flags:  append(launchFlags(), restoreSettings.flags...),
		Action: func(c *cli.Context) error { return p.restore(c, false) },
	}
}

// restore starts a restore; threePhases asks for the reset of offsets too.
func (p *program) restore(c *cli.Context, threePhases bool) error {
	var implied []config.Override
	if threePhases {
		implied = []config.Override{
			{Key: "restore.consumer_group_strategy", Text: "header-based", From: "three-phase-restore", Implied: true},
			{Key: "restore.reset_consumer_offsets", Text: "true", From: "three-phase-restore", Implied: true},
		}
	}
	doc, err := restoreSettings.load(c, config.ForRestore, implied...)
	if err != nil {
		return err
	}
	if doc.Restore.DryRun {
		return p.dryRun(c, doc)
	}
	if err := checkSecrets(doc); err != nil {
		return err
	}
	request := restoreRequest(doc)
	request.Requested = requested(c, doc)
	id, err := restoreID(request)
	if err != nil {
		return err
	}
	where := storage.Describe(doc.Storage)
	servers := strings.Join(doc.Target.BootstrapServers, ",")
	groups := "left alone"
	if doc.Restore.ResetConsumerOffsets {
		if groups = strings.Join(doc.Restore.ConsumerGroups, ", "); groups == "" {
			groups = "all captured"
		}
	}
	return p.launch(c, operation{
		taskQueue: doc.Temporal.TaskQueue,
		requested: request.Requested,
		id:        id,
		kind:      restoreKind,
		request:   request,
		summary:   fmt.Sprintf("Restore %s from %s into %s", doc.BackupID, where, servers),
		details: markdown("Backup", doc.BackupID, "From", where, "Topics", filterText(doc.Restore.Topics),
			"Into", servers, "Consumer groups", groups, "Requested by", request.Requester),
		attributes: temporalservice.Attributes{Kind: restoreKind.name, BackupID: doc.BackupID, Repository: where,
			Topics: doc.Restore.Topics.Include, Groups: doc.Restore.ConsumerGroups},
	})
}

func restoreRequest(doc *config.Document) activities.RestoreRequest {
	return activities.RestoreRequest{BackupID: doc.BackupID, Target: doc.Target, Storage: doc.Storage, Options: doc.Restore}
}

// restoreID is the workflow id of a restore. What only says how fast it goes is
// not part of it: so a restore that failed can be started again with other
// limits and goes on.
func restoreID(r activities.RestoreRequest) (string, error) {
	what := r.Options
	what.DryRun = false
	what.MaxConcurrentParts, what.PartMaxBytes, what.PartMaxPartitions = 0, 0, 0
	what.ProduceMaxBytes, what.ProduceBatchMaxBytes = 0, 0
	what.RateLimitBytesPerSec, what.RateLimitRecordsPerSec = 0, 0
	what.ConsumerGroups = slices.Sorted(slices.Values(what.ConsumerGroups))
	data, err := json.Marshal(what)
	if err != nil {
		return "", err
	}
	servers := slices.Sorted(slices.Values(r.Target.BootstrapServers))
	return fmt.Sprintf("restore/%s/%s/%s", r.BackupID, slug(strings.Join(servers, ",")),
		digest(storage.Identity(r.Storage)+"\n"+string(data))), nil
}

// restoreReport is the report of a restore.
type restoreReport struct{ activities.RestoreReport }

func (r restoreReport) code() int {
	if r.Partly() {
		return ExitPartly
	}
	return ExitDone
}

// Text implements render.Value.
func (r restoreReport) Text(w io.Writer) error {
	if err := render.Title(w, "Restore: %s", r.BackupID); err != nil {
		return err
	}
	groups := ""
	if r.Groups > 0 || len(r.Failed) > 0 {
		groups = fmt.Sprintf("%d set and read back (%s)", r.Groups, render.Number(r.GroupOffsets, "offset"))
	}
	err := render.Fields(w,
		"Cluster", r.ClusterID,
		"Topics", fmt.Sprintf("%s, %s (%s created)", render.Number(r.Topics, "topic"), render.Number(r.Total.Partitions, "partition"), render.Number(r.Created, "topic")),
		"Records", render.Count(r.Total.Records),
		"Bytes", render.Bytes(r.Total.Bytes),
		"Consumer groups", groups,
		"Plan", r.Plan,
		"Offset mapping", r.Mapping,
		"Took", took(r.StartedAt, r.FinishedAt, r.Total.Bytes),
		"Approval", decisionText(r.Approval),
	)
	if err != nil {
		return err
	}
	if len(r.Failed) > 0 {
		table := render.Table{Name: "Offsets that could not be set", Header: []string{"Group", "Topic", "Partition", "Error"}}
		for _, f := range r.Failed {
			partition := ""
			if f.Topic != "" {
				partition = fmt.Sprint(f.Partition)
			}
			table.Add(f.Group, f.Topic, partition, f.Error)
		}
		if err := table.Write(w); err != nil {
			return err
		}
	}
	return warnings(w, r.Warnings)
}
