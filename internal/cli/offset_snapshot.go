package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/storage"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
)

func (p *program) takeSnapshot(c *cli.Context, all bool) error {
	doc, err := p.offsetDocument(c, true, true)
	if err != nil {
		return err
	}
	if err := checkSecrets(doc); err != nil {
		return err
	}
	req := activities.SnapshotRequest{Requested: requested(c, doc), Target: doc.Target, Storage: doc.Storage, Description: c.String("description")}
	if req.Groups, err = p.selection(c, doc); err != nil {
		return err
	}
	if req.Groups.Empty() {
		if !all {
			return usage("say whose offsets with --groups a,b (or --groups-file, --groups-matching, --all-groups)")
		}
		req.Groups.All = true
	}
	if c.IsSet("topics") {
		if req.Topics, err = offsets.ParseTopics(joined(c, "topics")); err != nil {
			return &exitError{ExitUsage, fmt.Errorf("--topics: %w", err)}
		}
	}
	where, servers := storage.Describe(doc.Storage), strings.Join(doc.Target.BootstrapServers, ",")
	data, err := json.Marshal(req)
	if err != nil {
		return err
	}
	return p.launch(c, operation{
		taskQueue: doc.Temporal.TaskQueue,
		requested: req.Requested,
		// Each is another one: the moment is what it is about.
		id:         fmt.Sprintf("offset-snapshot/%s/%s-%s", slug(servers), time.Now().UTC().Format("20060102-150405.000"), digest(where+string(data))),
		kind:       offsetSnapshotKind,
		request:    req,
		summary:    "Snapshot of committed offsets on " + servers,
		details:    markdown("Cluster", servers, "Repository", where, "Description", req.Description, "Requested by", req.Requester),
		attributes: temporalservice.Attributes{Kind: offsetSnapshotKind.name, Repository: where, Groups: req.Groups.Names},
	})
}

// snapshotReport is the report of taking or deleting a snapshot.
type snapshotReport struct{ activities.SnapshotReport }

func (snapshotReport) code() int { return ExitDone }

// Text implements render.Value.
func (r snapshotReport) Text(w io.Writer) error {
	if r.Deleted {
		if _, err := fmt.Fprintf(w, "Deleted %s.\n", r.ID); err != nil {
			return err
		}
		return render.Fields(w, "Approval", decisionText(r.Approval))
	}
	if err := render.Title(w, "Offset Snapshot: %s", r.ID); err != nil {
		return err
	}
	if err := render.Fields(w, "Created", render.Time(r.CreatedAt), "Cluster", r.ClusterID, "Groups", render.Count(int64(r.Groups)),
		"Committed offsets", render.Count(r.Partitions), "Description", r.Description); err != nil {
		return err
	}
	return warnings(w, r.Warnings)
}
