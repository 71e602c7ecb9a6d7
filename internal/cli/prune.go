package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/prune"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/storage"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
)

const inRetention = "Retention"

var pruneSettings = settingsOf(
	section{config.Retention{}, "retention.", "", inRetention, nil},
	section{config.Approval{}, "approval.", "approval-", inApproval, nil},
)

func (p *program) pruneCommand() *cli.Command {
	return &cli.Command{
		Name:  "prune",
		Usage: "Remove backups that a retention policy does not keep, and what no backup needs",
		Description: "Shows what would go, and changes nothing, unless --execute is given: then it starts the workflow\n" +
			"prune/<repository> and follows it. A backup stays when any rule keeps it. The newest backup of each\n" +
			"cluster stays whatever the rules say, and so does one that has a hold, that a running operation uses,\n" +
			"or that an unfinished backup adds to.",
		Flags: append(append([]cli.Flag{
			&cli.StringFlag{Name: "path", Aliases: []string{"p"}, Usage: "Where the repository is: a folder, or a URL (s3://, azblob://, gs://, file://).", Category: inStorage},
			&cli.BoolFlag{Name: "execute", Usage: "Do it.", Category: inOperation},
		}, launchFlags()...), pruneSettings.flags...),
		Action: p.prune,
	}
}

func (p *program) prune(c *cli.Context) error {
	doc, where, err := pruneRequest(c)
	if err != nil {
		return err
	}
	if c.Bool("execute") {
		return p.executePrune(c, doc, where)
	}
	format, err := outputFormat(c, render.Text, render.JSON, render.YAML, render.CSV)
	if err != nil {
		return err
	}
	options, err := activities.PruneOptions(doc.Retention)
	if err != nil {
		return err
	}
	bucket, err := storage.Open(c.Context, where)
	if err != nil {
		return err
	}
	defer bucket.Close()
	repo, err := repository.Open(c.Context, bucket)
	if err != nil {
		return fmt.Errorf("%s: %w", storage.Describe(where), err)
	}
	running, unknown := p.runningOperations(c, storage.Describe(where))
	plan, err := prune.MakePlan(c.Context, repo, options, running)
	if err != nil {
		return err
	}
	if unknown != nil {
		plan.Warnings = append(plan.Warnings, fmt.Sprintf("which operations are running is not known (%v); backups that they use stay all the same when it is executed", unknown))
	}
	return render.Write(p.Out, format, prunePlan{plan, storage.Describe(where)})
}

// pruneRequest is what the flags and the configuration say.
func pruneRequest(c *cli.Context) (*config.Document, config.Storage, error) {
	var where config.Storage
	if c.Args().Present() {
		return nil, where, usage("unexpected argument %q", c.Args().First())
	}
	if !c.IsSet("path") && !c.IsSet("config") {
		return nil, where, usage("say where the repository is, either with --path or with --config")
	}
	set, err := pruneSettings.overrides(c)
	if err != nil {
		return nil, where, err
	}
	doc, err := config.Load(config.ForAnything, c.String("config"), set...)
	if err != nil {
		return nil, where, err
	}
	if c.IsSet("path") {
		if doc.Storage, err = storage.ParseLocation(c.String("path")); err != nil {
			return nil, where, &exitError{ExitUsage, fmt.Errorf("--path: %w", err)}
		}
	}
	if doc.Storage.Backend == "" && doc.Storage.URL == "" {
		return nil, where, usage("%s has no storage section", c.String("config"))
	}
	if doc.Retention.Empty() {
		return nil, where, usage("say which backups to keep: --keep-last, --keep-within, --keep-daily, --keep-weekly or --keep-monthly, or a section retention in the configuration")
	}
	return doc, doc.Storage, absolute(doc)
}

// askTimeout is how long a plan waits for the Temporal service, which it can
// do without.
const askTimeout = 3 * time.Second

// runningOperations asks Temporal which operations use backups now.
func (p *program) runningOperations(c *cli.Context, place string) ([]prune.Operation, error) {
	ctx, stop := context.WithTimeout(c.Context, askTimeout)
	defer stop()
	conn, err := p.connect(ctx, c)
	if err != nil {
		if ctx.Err() != nil {
			err = errors.New("the Temporal service does not answer")
		}
		return nil, err
	}
	defer conn.Close()
	return activities.RunningOperations(ctx, conn.Client, conn.profile.Namespace, place)
}

func (p *program) executePrune(c *cli.Context, doc *config.Document, where config.Storage) error {
	if err := checkSecrets(doc); err != nil {
		return err
	}
	place := storage.Describe(where)
	who := requested(c, doc)
	return p.launch(c, operation{
		taskQueue:  doc.Temporal.TaskQueue,
		id:         "prune/" + slug(storage.Identity(where)),
		kind:       pruneKind,
		request:    activities.PruneRequest{Requested: who, Storage: where, Retention: doc.Retention},
		summary:    "Prune " + place,
		details:    markdown("Repository", place, "Keep", policyText(doc.Retention), "Requested by", who.Requester),
		attributes: temporalservice.Attributes{Kind: pruneKind.name, Repository: place},
		requested:  who,
	})
}

// policyText says a policy in words.
func policyText(r config.Retention) string {
	var parts []string
	for _, rule := range []struct {
		text string
		n    int
	}{{"last", r.KeepLast}, {"daily", r.KeepDaily}, {"weekly", r.KeepWeekly}, {"monthly", r.KeepMonthly}} {
		if rule.n > 0 {
			parts = append(parts, rule.text+" "+strconv.Itoa(rule.n))
		}
	}
	if r.KeepWithin > 0 {
		parts = append(parts, "within "+r.KeepWithin.String())
	}
	text := strings.Join(parts, ", ")
	if r.Backups != "" {
		text += " of " + r.Backups
	}
	return text
}

// prunePlan is what a prune would do.
type prunePlan struct {
	*prune.Plan
	where string
}

// Text implements render.Value.
func (p prunePlan) Text(w io.Writer) error {
	if err := render.Title(w, "Prune plan: %s", p.where); err != nil {
		return err
	}
	table := render.Table{Header: []string{"Backup ID", "Created", "Goes", "Frees", "Kept Because"}}
	for _, e := range p.Backups {
		if len(e.Keep) == 0 {
			table.Add(e.BackupID, render.Time(e.CreatedAt), "yes", render.Bytes(e.Freed.Bytes), "")
		} else {
			table.Add(e.BackupID, render.Time(e.CreatedAt), "no", "", strings.Join(e.Keep, "; "))
		}
	}
	for _, e := range p.Abandoned {
		table.Add(e.BackupID, "never finished", "yes", render.Bytes(e.Freed.Bytes), "")
	}
	if err := table.Write(w); err != nil {
		return err
	}
	if err := warnings(w, p.Warnings); err != nil {
		return err
	}
	drops := len(p.Drops())
	if p.Nothing() {
		_, err := fmt.Fprintf(w, "Every backup stays (%d), and nothing else is to be removed.\n", len(p.Backups))
		return err
	}
	goes := fmt.Sprintf("Backups that go: %d of %d", drops, len(p.Backups))
	if n := len(p.Abandoned); n > 0 {
		goes += ", and " + render.Number(n, "unfinished one")
	}
	_, err := fmt.Fprintf(w, "%s. That frees %s in %s. Nothing has been changed: --execute does it.\n",
		goes, render.Bytes(p.Freed.Bytes), render.Number(p.Freed.Objects, "object"))
	return err
}

// Records implements render.Rows.
func (p prunePlan) Records() ([]string, [][]string) {
	var rows [][]string
	add := func(e prune.Entry, state string) {
		rows = append(rows, []string{e.BackupID, e.ClusterID, render.Time(e.CreatedAt), state, strings.Join(e.Keep, "; "),
			strconv.FormatInt(e.Freed.Objects, 10), strconv.FormatInt(e.Freed.Bytes, 10)})
	}
	for _, e := range p.Backups {
		if len(e.Keep) == 0 {
			add(e, "drop")
		} else {
			add(e, "keep")
		}
	}
	for _, e := range p.Abandoned {
		add(e, "abandoned")
	}
	return []string{"backup_id", "cluster_id", "created_at", "verdict", "because", "freed_objects", "freed_bytes"}, rows
}

// pruneReport is the report of a prune.
type pruneReport struct{ activities.PruneReport }

func (pruneReport) code() int { return ExitDone }

// Text implements render.Value.
func (r pruneReport) Text(w io.Writer) error {
	if err := render.Title(w, "Prune"); err != nil {
		return err
	}
	amount := func(a prune.Amount) string {
		if a.Objects == 0 {
			return ""
		}
		return render.Bytes(a.Bytes) + " in " + render.Number(a.Objects, "object")
	}
	locked := amount(r.Locked)
	if locked != "" && !r.LockedUntil.IsZero() {
		locked += ", the first until " + render.Time(r.LockedUntil)
	}
	freed := amount(r.Freed)
	if freed == "" {
		freed = "nothing"
	}
	abandoned := ""
	if r.Abandoned > 0 {
		abandoned = render.Number(r.Abandoned, "unfinished backup")
	}
	left := ""
	if r.Left > 0 {
		left = "segments of " + render.Number(r.Left, "dropped backup") + " that others use, or that are locked"
	}
	err := render.Fields(w,
		"Dropped", render.Number(r.Dropped, "backup"),
		"Given up", abandoned,
		"Kept", render.Number(r.Keep, "backup"),
		"Freed", freed,
		"Locked by the store", locked,
		"Unfinished writes", amount(r.Unfinished),
		"Left", left,
		"Approval", decisionText(r.Approval),
		"Took", took(r.StartedAt, r.FinishedAt, 0),
	)
	if err != nil {
		return err
	}
	for _, e := range r.PruneDropped.Kept {
		if _, err := fmt.Fprintf(w, "%s was to go and stays: %s\n", e.BackupID, strings.Join(e.Keep, "; ")); err != nil {
			return err
		}
	}
	return warnings(w, r.Warnings)
}
