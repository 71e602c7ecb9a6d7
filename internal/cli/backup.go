package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/storage"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
)

func (p *program) backupCommand() *cli.Command {
	return &cli.Command{
		Name:  "backup",
		Usage: "Back up topics, their configurations and the consumer groups' offsets",
		Description: "Starts the workflow backup/<backup-id>/<repository> and follows it. Started again while it\n" +
			"runs, the command follows the running one. A backup that was cancelled or failed, started again\n" +
			"under the same backup id, goes on with what it has copied.\n\n" +
			"With --continuous (or backup.continuous) it starts the workflow continuous/<backup-id>/<repository>, which\n" +
			"follows the topics and makes a backup <backup-id>-<date>-<time> every --checkpoint-interval until it is\n" +
			"cancelled. The backup id may have placeholders then, as in orders-{{date}}-{{time}}.",
		Flags:  append(launchFlags(), backupSettings.flags...),
		Action: p.backup,
	}
}

func (p *program) backup(c *cli.Context) error {
	doc, err := backupSettings.load(c, config.ForBackup)
	if err != nil {
		return err
	}
	if err := checkSecrets(doc); err != nil {
		return err
	}
	if doc.Backup.Continuous {
		return p.backupContinuously(c, doc)
	}
	if doc.BackupID == "" {
		doc.BackupID = "backup-" + time.Now().UTC().Format("20060102-150405")
	}
	if doc.BackupID, err = config.ExpandBackupID(doc.BackupID, time.Now().UTC(), "manual"); err != nil {
		return usage("backup id: %v", err)
	}
	where := storage.Describe(doc.Storage)
	servers := strings.Join(doc.Source.BootstrapServers, ",")
	req := requested(c, doc)
	return p.launch(c, operation{
		requested: req,
		taskQueue: doc.Temporal.TaskQueue,
		id:        "backup/" + doc.BackupID + "/" + slug(storage.Identity(doc.Storage)),
		kind:      backupKind,
		request:   activities.BackupRequest{Requested: req, BackupID: doc.BackupID, Source: doc.Source, Storage: doc.Storage, Options: doc.Backup},
		summary:   fmt.Sprintf("Back up %s to %s as %s", servers, where, doc.BackupID),
		details: markdown("Backup", doc.BackupID, "From", servers, "Topics", filterText(doc.Source.Topics),
			"To", where, "Requested by", req.Requester),
		attributes: temporalservice.Attributes{Kind: backupKind.name, BackupID: doc.BackupID, Repository: where,
			Topics: doc.Source.Topics.Include},
	})
}

// filterText says in words which topics a filter selects.
func filterText(f config.TopicFilter) string {
	text := "all"
	if len(f.Include) > 0 {
		text = strings.Join(f.Include, ", ")
	}
	if len(f.Exclude) > 0 {
		text += " without " + strings.Join(f.Exclude, ", ")
	}
	return text
}

// markdown is a list of names and values for the Web UI.
func markdown(pairs ...string) string {
	var b strings.Builder
	for i := 0; i+1 < len(pairs); i += 2 {
		fmt.Fprintf(&b, "- **%s**: `%s`\n", pairs[i], strings.ReplaceAll(pairs[i+1], "`", "'"))
	}
	return b.String()
}

// backupReport is the report of a backup.
type backupReport struct{ activities.BackupReport }

func (backupReport) code() int { return ExitDone }

// Text implements render.Value.
func (r backupReport) Text(w io.Writer) error {
	if err := render.Title(w, "Backup: %s", r.BackupID); err != nil {
		return err
	}
	gaps := ""
	if r.Gaps > 0 {
		gaps = render.Count(int64(r.Gaps)) + " (see `kafka-backup show-offset-mapping`)"
	}
	err := render.Fields(w,
		"Cluster", r.ClusterID,
		"Previous backup", r.Previous,
		"Topics", render.Number(r.Topics, "topic")+", "+render.Number(r.Total.Partitions, "partition"),
		"Consumer groups", render.Count(int64(r.Groups)),
		"Records", fmt.Sprintf("%s (%s new)", render.Count(r.Total.Records), render.Count(r.New.Records)),
		"Bytes", fmt.Sprintf("%s (%s new)", render.Bytes(r.Total.Bytes), render.Bytes(r.New.Bytes)),
		"Stored", fmt.Sprintf("%s (%s new)", render.Bytes(r.Stored), render.Bytes(r.NewStored)),
		"Gaps", gaps,
		"Took", took(r.StartedAt, r.FinishedAt, r.New.Bytes),
		"Approval", decisionText(r.Approval),
	)
	if err != nil {
		return err
	}
	return warnings(w, r.Warnings)
}

// took says how long something took and how fast it was.
func took(from, to time.Time, bytes int64) string {
	if from.IsZero() || to.IsZero() {
		return ""
	}
	d := to.Sub(from)
	if d <= 0 || bytes == 0 {
		return render.Duration(d)
	}
	return render.Duration(d) + " (" + render.Rate(float64(bytes)/d.Seconds()) + ")"
}

func warnings(w io.Writer, all []string) error {
	for _, text := range all {
		if _, err := fmt.Fprintf(w, "Warning: %s\n", render.Cell(text)); err != nil {
			return err
		}
	}
	return nil
}
