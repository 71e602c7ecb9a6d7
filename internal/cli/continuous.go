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
	"github.com/kafka-backup/kafka-backup/workflows"
)

// backupContinuously starts or attaches to a continuous backup.
func (p *program) backupContinuously(c *cli.Context, doc *config.Document) error {
	if doc.BackupID == "" {
		doc.BackupID = "continuous"
	}
	where := storage.Describe(doc.Storage)
	servers := strings.Join(doc.Source.BootstrapServers, ",")
	every := doc.Backup.CheckpointInterval.String()
	req := requested(c, doc)
	// Placeholders stay: each backup fills them in.
	name := strings.Trim(strings.NewReplacer("{{", "", "}}", "", " ", "").Replace(doc.BackupID), "-")
	return p.launch(c, operation{
		requested: req,
		taskQueue: doc.Temporal.TaskQueue,
		id:        "continuous/" + name + "/" + slug(storage.Identity(doc.Storage)),
		kind:      continuousKind,
		request: workflows.ContinuousRequest{BackupRequest: activities.BackupRequest{
			Requested: req, BackupID: doc.BackupID, Source: doc.Source, Storage: doc.Storage, Options: doc.Backup,
		}},
		summary: fmt.Sprintf("Back up %s to %s as %s, every %s", servers, where, doc.BackupID, every),
		details: markdown("Backups", doc.BackupID, "Every", every, "From", servers, "Topics", filterText(doc.Source.Topics),
			"To", where, "Requested by", req.Requester),
		attributes: temporalservice.Attributes{Kind: continuousKind.name, BackupID: name, Repository: where,
			Topics: doc.Source.Topics.Include},
	})
}

// continuousReport is what a continuous backup has made.
type continuousReport struct{ workflows.ContinuousReport }

func (continuousReport) code() int { return ExitDone }

// Text implements render.Value.
func (r continuousReport) Text(w io.Writer) error {
	if err := render.Title(w, "Continuous backup"); err != nil {
		return err
	}
	return render.Fields(w,
		"Backups made", render.Count(int64(r.Checkpoints)),
		"Last backup", r.Last.BackupID,
		"Recovery point", render.Time(r.Last.At),
		"Approval", decisionText(r.Approval),
	)
}

// recoveryPoint says how far a continuous backup is behind its source, now.
func recoveryPoint(p *activities.RecoveryPoint, now time.Time) string {
	if p == nil {
		return ""
	}
	text := "recovery point " + render.Duration(max(now.Sub(p.At), 0).Truncate(time.Second)) + " ago"
	if !p.MeasuredAt.IsZero() {
		text += ", " + render.Number(p.Lag, "record") + " behind"
		if age := now.Sub(p.MeasuredAt); age >= 15*time.Second { // nobody counts while it is paused
			text += " when it was counted " + render.Duration(age.Truncate(time.Second)) + " ago"
		}
	}
	return text + " (" + p.BackupID + ")"
}
