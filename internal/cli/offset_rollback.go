package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/storage"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
)

// snapshotFlags name a snapshot. The groups captured with a backup are one too.
func snapshotFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "snapshot-id", Aliases: []string{"s"}, Usage: "Id of the snapshot. In its place --backup-id takes the groups captured with a backup.", Category: inGroups},
	}
}

func (p *program) offsetRollbackCommand() *cli.Command {
	return &cli.Command{
		Name:  "offset-rollback",
		Usage: "Keep the committed offsets of consumer groups, and put them back",
		Subcommands: []*cli.Command{
			{
				Name: "snapshot", Usage: "Take a snapshot",
				Flags: slices.Concat(launchFlags(), []cli.Flag{pathFlag,
					&cli.StringFlag{Name: "description", Usage: "What it is for.", Category: inOperation}}, groupFlags(), offsetSettings.flags),
				Action: func(c *cli.Context) error { return p.takeSnapshot(c, false) },
			},
			{
				Name: "list", Usage: "List snapshots, the newest first",
				Flags: readFlags("text, json, yaml or csv."), Action: p.listSnapshots,
			},
			{
				Name: "show", Usage: "Show what is in a snapshot",
				Flags: slices.Concat(readFlags("text, json, yaml or csv."), []cli.Flag{backupIDFlag}, snapshotFlags()), Action: p.showSnapshot,
			},
			{
				Name: "rollback", Usage: "Put the offsets of a snapshot back",
				Description: "Shows what it changes, starts the workflow OffsetRollback and follows it: plan, snapshot of the state\n" +
					"before, apply, verify by reading back. Partitions that had no committed offset have none afterwards.\n" +
					"--groups and --topics limit it. With --dry-run it shows what would be changed and changes nothing.",
				Flags: slices.Concat(launchFlags(), []cli.Flag{pathFlag,
					&cli.BoolFlag{Name: "dry-run", Usage: "Show the plan and change nothing.", Category: inOperation},
					&cli.StringFlag{Name: "on-out-of-range", Usage: "What to do with an offset that the log does not hold any more: fail, clamp, earliest, latest.", Value: offsets.FailOutOfRange, Category: inOperation},
				}, snapshotFlags(), groupFlags(), setFlags(), retryFlags(), offsetSettings.flags),
				Action: p.rollback,
			},
			{
				Name: "verify", Usage: "See whether the offsets on the cluster are those of a snapshot",
				Description: "Exit code 3 when some are not.",
				Flags:       slices.Concat([]cli.Flag{configFlag, pathFlag, outputFlag("text, json, yaml or csv.")}, snapshotFlags(), groupFlags(), offsetSettings.flags),
				Action:      p.verifySnapshot,
			},
			{
				Name: "delete", Usage: "Delete a snapshot",
				Flags: slices.Concat(launchFlags(), []cli.Flag{pathFlag}, snapshotFlags(), offsetSettings.flags), Action: p.deleteSnapshot,
			},
		},
	}
}

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

func (p *program) deleteSnapshot(c *cli.Context) error {
	doc, err := p.offsetDocument(c, false, true)
	if err != nil {
		return err
	}
	if err := checkSecrets(doc); err != nil {
		return err
	}
	id := c.String("snapshot-id")
	if id == "" {
		return usage("say which snapshot with --snapshot-id")
	}
	err = p.onRepository(c.Context, doc, func(repo *repository.Repository) error {
		_, err := offsets.FindSnapshot(c.Context, repo, id)
		return err
	})
	if err != nil {
		return err
	}
	req := activities.DeleteSnapshotRequest{Requested: requested(c, doc), Storage: doc.Storage, ID: id}
	where := storage.Describe(doc.Storage)
	return p.launch(c, operation{
		taskQueue: doc.Temporal.TaskQueue,
		requested: req.Requested, id: "offset-snapshot-delete/" + id + "/" + slug(storage.Identity(doc.Storage)), kind: snapshotDeleteKind, request: req,
		summary: "Delete " + id, details: markdown("Snapshot", id, "Repository", where, "Requested by", req.Requester),
		attributes: temporalservice.Attributes{Kind: snapshotDeleteKind.name, Repository: where},
	})
}

// onRepository opens the repository of a document.
func (p *program) onRepository(ctx context.Context, doc *config.Document, fn func(*repository.Repository) error) error {
	bucket, err := storage.Open(ctx, doc.Storage)
	if err != nil {
		return err
	}
	defer bucket.Close()
	repo, err := repository.Open(ctx, bucket)
	if err != nil {
		return fmt.Errorf("%s: %w", storage.Describe(doc.Storage), err)
	}
	return fn(repo)
}

// rollbackRequest is what rollback and verify are about.
func (p *program) rollbackRequest(c *cli.Context, doc *config.Document) (offsets.Request, error) {
	r := offsets.Request{Snapshot: c.String("snapshot-id"), OnOutOfRange: c.String("on-out-of-range")}
	var err error
	switch {
	case r.Snapshot == "" && doc.BackupID == "":
		return r, usage("say which snapshot with --snapshot-id (`kafka-backup offset-rollback list` shows them), or which backup with --backup-id")
	case r.Snapshot == "":
		r.BackupID, r.Rollback = doc.BackupID, true
	case c.IsSet("backup-id"):
		return r, usage("--snapshot-id and --backup-id exclude each other")
	}
	doc.BackupID = r.BackupID
	doc.Restore.ConsumerGroups = nil // all of the snapshot
	if r.Groups, err = p.selection(c, doc); err != nil {
		return r, err
	}
	if c.IsSet("topics") {
		if r.Topics, err = offsets.ParseTopics(joined(c, "topics")); err != nil {
			return r, &exitError{ExitUsage, fmt.Errorf("--topics: %w", err)}
		}
	}
	return r, nil
}

func (p *program) rollback(c *cli.Context) error {
	doc, err := p.offsetDocument(c, true, true)
	if err != nil {
		return err
	}
	r, err := p.rollbackRequest(c, doc)
	if err != nil {
		return err
	}
	plan, err := p.makePlan(c.Context, doc, r)
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		format, err := outputFormat(c, render.Text, render.JSON, render.YAML)
		if err != nil {
			return err
		}
		return render.Write(p.Out, format, plan)
	}
	if plan.Totals.Partitions <= 200 {
		if err := plan.Text(p.Err); err != nil {
			return err
		}
	} else {
		p.say("%s committed offsets of %s groups are to be changed; --dry-run shows them.", render.Count(plan.Totals.Changes()), render.Count(int64(plan.Totals.Groups)))
	}
	request, err := p.setRequest(c, doc, r)
	if err != nil {
		return err
	}
	if request.Description == "" {
		request.Description = "Before rollback to " + plan.Source
	}
	return p.launchReset(c, doc, offsetRollbackKind, request)
}

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
	r.OnOutOfRange = offsets.FailOutOfRange
	plan, err := p.makePlan(c.Context, doc, r)
	if err != nil {
		return err
	}
	v := verification{Source: plan.Source, ClusterID: plan.ClusterID, Groups: plan.Totals.Groups, Partitions: plan.Totals.Partitions, Differences: []difference{}}
	for i := range plan.Groups {
		g := &plan.Groups[i]
		for j := range g.Topics {
			for _, row := range g.Topics[j].Rows {
				switch row.Action {
				case offsets.Unchanged:
					v.Match++
				default:
					v.Differences = append(v.Differences, difference{g.Group, g.Topics[j].Topic, row.Partition, known(row.Wanted), known(row.Current), row.Why})
				}
			}
		}
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
		_, err := fmt.Fprintf(w, "All %s committed offsets of %s groups match.\n", render.Count(v.Match), render.Count(int64(v.Groups)))
		return err
	}
	table := render.Table{Header: []string{"Group", "Topic", "Partition", "Snapshot", "Current"}}
	for _, d := range v.Differences {
		table.Add(d.Group, d.Topic, d.Partition, optional(d.Snapshot, "-"), optional(d.Current, "-"))
	}
	if err := table.Write(w); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s of %s committed offsets differ.\n", render.Count(int64(len(v.Differences))), render.Count(v.Partitions))
	return err
}

// Records implements render.Rows.
func (v verification) Records() ([]string, [][]string) {
	var rows [][]string
	for _, d := range v.Differences {
		rows = append(rows, []string{d.Group, d.Topic, strconv.Itoa(int(d.Partition)), optional(d.Snapshot, ""), optional(d.Current, ""), d.Why})
	}
	return []string{"group", "topic", "partition", "snapshot_offset", "current_offset", "why"}, rows
}

func (p *program) listSnapshots(c *cli.Context) error {
	format, err := outputFormat(c, render.Text, render.JSON, render.YAML, render.CSV)
	if err != nil {
		return err
	}
	return p.read(c, func(ctx context.Context, r *opened) error {
		list, err := offsets.ListSnapshots(ctx, r.Repository)
		if err != nil {
			return err
		}
		v := snapshotList{Snapshots: []listedSnapshot{}}
		for _, l := range list {
			s := listedSnapshot{ID: l.ID}
			if l.Err != nil {
				s.Error = l.Err.Error()
			} else {
				s.CreatedAt, s.ClusterID, s.Groups, s.Partitions, s.Description, s.Requester = l.Snapshot.CreatedAt, l.Snapshot.ClusterID, l.Snapshot.Groups, l.Snapshot.Partitions, l.Snapshot.Description, l.Snapshot.Requester
			}
			v.Snapshots = append(v.Snapshots, s)
		}
		return render.Write(p.Out, format, v)
	})
}

type snapshotList struct {
	Snapshots []listedSnapshot `json:"snapshots"`
}

type listedSnapshot struct {
	ID          string    `json:"snapshot_id"`
	CreatedAt   time.Time `json:"created_at,omitzero"`
	ClusterID   string    `json:"cluster_id,omitempty"`
	Groups      int       `json:"groups"`
	Partitions  int64     `json:"partitions"`
	Description string    `json:"description,omitempty"`
	Requester   string    `json:"requester,omitempty"`
	Error       string    `json:"error,omitempty"`
}

// Text implements render.Value.
func (l snapshotList) Text(w io.Writer) error {
	if err := render.Title(w, "Offset Snapshots"); err != nil {
		return err
	}
	table := render.Table{Header: []string{"ID", "Created", "Groups", "Description"}}
	for _, s := range l.Snapshots {
		if s.Error != "" {
			table.Add(s.ID, "-", "-", s.Error)
			continue
		}
		table.Add(s.ID, render.Time(s.CreatedAt), s.Groups, s.Description)
	}
	if err := table.Write(w); err != nil {
		return err
	}
	if len(l.Snapshots) == 0 {
		_, err := fmt.Fprintln(w, "There are none.")
		return err
	}
	return nil
}

// Records implements render.Rows.
func (l snapshotList) Records() ([]string, [][]string) {
	var rows [][]string
	for _, s := range l.Snapshots {
		rows = append(rows, []string{s.ID, render.Time(s.CreatedAt), s.ClusterID, strconv.Itoa(s.Groups), strconv.FormatInt(s.Partitions, 10), s.Description, s.Requester, s.Error})
	}
	return []string{"snapshot_id", "created_at", "cluster_id", "groups", "partitions", "description", "requester", "error"}, rows
}

// marshalPlain is json.Marshal without escapes for HTML.
func marshalPlain(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return b.Bytes(), err
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
