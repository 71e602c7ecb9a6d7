package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/storage"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
)

func (p *program) offsetResetCommand() *cli.Command {
	return &cli.Command{
		Name:  "offset-reset",
		Usage: "Set the committed offsets of consumer groups, all or none",
		Subcommands: []*cli.Command{
			{
				Name:  "plan",
				Usage: "Show what would be set; change nothing",
				Description: "Reads the cluster and the repository in this process. With --save FILE the plan can be carried out\n" +
					"later, exactly as it is, by `offset-reset execute --plan FILE`.",
				Flags: slices.Concat([]cli.Flag{configFlag, pathFlag,
					&cli.StringFlag{Name: "save", Usage: "Write the plan to this file too.", Category: inOperation},
					outputFlag("text, json, yaml or csv.")}, groupFlags(), targetFlags(), offsetSettings.flags),
				Action: p.planOffsets,
			},
			{
				Name:  "execute",
				Usage: "Set the offsets",
				Description: "Starts the workflow OffsetReset and follows it: plan, snapshot, apply, verify by reading back. When\n" +
					"an offset cannot be set, all are put back to the snapshot.",
				Flags: slices.Concat(launchFlags(), []cli.Flag{pathFlag,
					&cli.StringFlag{Name: "plan", Usage: "Carry out this plan, saved by offset-reset plan --save; refused when the cluster has changed since.", Category: inOperation}},
					groupFlags(), targetFlags(), setFlags(), retryFlags(), offsetSettings.flags),
				Action: p.executeOffsets,
			},
			{
				Name:  "script",
				Usage: "Write a bash script that sets the offsets with Apache Kafka's kafka-consumer-groups",
				Flags: slices.Concat([]cli.Flag{configFlag, pathFlag,
					&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "File to write; left out: standard output.", Category: inOperation},
					&cli.StringFlag{Name: "command-config", Usage: "Property file that the script gives to the tool (--command-config).", Category: inOperation},
				}, groupFlags(), targetFlags(), offsetSettings.flags),
				Action: p.scriptOffsets,
			},
		},
	}
}

// makePlan makes a plan in this process.
func (p *program) makePlan(ctx context.Context, doc *config.Document, r offsets.Request) (*planView, error) {
	v := &planView{}
	err := p.withCluster(ctx, doc, func(cluster *kafka.Cluster, repo *opened) (err error) {
		v.Plan, err = r.Plan(ctx, cluster, repositoryOf(repo), func(s *offsets.Shard) error {
			v.Groups = append(v.Groups, s.Groups...)
			return nil
		})
		return err
	})
	return v, err
}

// plannedOffsets makes the plan that the command asks for, in this process.
func (p *program) plannedOffsets(c *cli.Context) (*config.Document, *planView, error) {
	doc, err := p.offsetDocument(c, true, false)
	if err != nil {
		return nil, nil, err
	}
	r, err := p.offsetRequest(c, doc)
	if err != nil {
		return nil, nil, err
	}
	v, err := p.makePlan(c.Context, doc, r)
	return doc, v, err
}

func (p *program) planOffsets(c *cli.Context) error {
	format, err := outputFormat(c, render.Text, render.JSON, render.YAML, render.CSV)
	if err != nil {
		return err
	}
	_, v, err := p.plannedOffsets(c)
	if err != nil {
		return err
	}
	if file := c.String("save"); file != "" {
		data, err := offsets.SavedPlan{Plan: *v.Plan, Groups: v.Groups}.Seal()
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			return err
		}
		p.say("Saved as %s. Carry it out with `kafka-backup offset-reset execute --plan %s` and the same --path and --bootstrap-servers.", file, offsets.Quote(file))
	}
	return render.Write(p.Out, format, v)
}

func (p *program) scriptOffsets(c *cli.Context) error {
	doc, v, err := p.plannedOffsets(c)
	if err != nil {
		return err
	}
	if err := offsets.Refusal(v.Plan.Totals, onlyOutOfRange(v.Groups)); err != nil {
		return err
	}
	script := offsets.Script{BackupID: doc.BackupID, Source: v.Plan.Source, BootstrapServers: strings.Join(doc.Target.BootstrapServers, ","),
		CommandConfig: c.String("command-config"), Generated: time.Now()}
	for _, w := range v.Plan.Warnings {
		p.say("Warning: %s", w)
	}
	file := c.String("output")
	if file == "" {
		return script.Write(p.Out, v.Groups)
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if err := script.Write(f, v.Groups); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if v.Plan.Totals.Changes() == 0 {
		p.say("Wrote %s. It sets nothing; the comments in it say why.", file)
		return nil
	}
	p.say("Wrote %s. Stop the consumers, read it, then run it.", file)
	return nil
}

// onlyOutOfRange leaves out why groups are blocked: a script is run later.
func onlyOutOfRange(groups []offsets.GroupPlan) []offsets.GroupPlan {
	var bad []offsets.GroupPlan
	for _, g := range groups {
		if g.Blocked == "" {
			bad = append(bad, g)
		}
	}
	return bad
}

func (p *program) executeOffsets(c *cli.Context) error {
	doc, err := p.offsetDocument(c, true, true)
	if err != nil {
		return err
	}
	if c.IsSet("plan") {
		return p.executePlan(c, doc)
	}
	r, err := p.offsetRequest(c, doc)
	if err != nil {
		return err
	}
	request, err := p.setRequest(c, doc, r)
	if err != nil {
		return err
	}
	return p.launchReset(c, doc, offsetResetKind, request)
}

// executePlan carries out a plan that was saved. The plan goes into the
// repository, where the workflow reads it. Whether groups have active members
// is looked at there: they may have stopped since, or be waited for.
func (p *program) executePlan(c *cli.Context, doc *config.Document) error {
	names := []string{"backup-id"}
	for _, f := range append(groupFlags(), targetFlags()...) {
		names = append(names, f.Names()[0])
	}
	for _, name := range names {
		if c.IsSet(name) {
			return usage("--plan and --%s exclude each other: what is done is in the plan", name)
		}
	}
	file := c.String("plan")
	data, err := os.ReadFile(file)
	if err != nil {
		return &exitError{ExitUsage, fmt.Errorf("--plan: %w", err)}
	}
	saved, err := offsets.OpenPlan(file, data)
	if err != nil {
		return &exitError{ExitUsage, fmt.Errorf("--plan: %w", err)}
	}
	var active *offsets.ActiveError
	if err := offsets.Refusal(saved.Plan.Totals, saved.Groups); err != nil && !errors.As(err, &active) {
		return err
	}
	request, err := p.setRequest(c, doc, offsets.Request{BackupID: saved.Plan.BackupID})
	if err != nil {
		return err
	}
	err = p.onRepository(c.Context, doc, func(repo *repository.Repository) error {
		ref, err := saved.Store(c.Context, repo)
		request.Plan = &ref
		return err
	})
	if err != nil {
		return err
	}
	doc.BackupID = saved.Plan.BackupID
	return p.launchReset(c, doc, offsetResetKind, request)
}

// launchReset starts an operation that sets offsets.
func (p *program) launchReset(c *cli.Context, doc *config.Document, k kind, request activities.OffsetRequest) error {
	if err := checkSecrets(doc); err != nil {
		return err
	}
	if err := p.shrink(c.Context, doc, &request.Offsets); err != nil {
		return err
	}
	request.Target.BootstrapServers = slices.Sorted(slices.Values(request.Target.BootstrapServers)) // their order says nothing
	id, err := offsetID(k.name, request)
	if err != nil {
		return err
	}
	where, servers := storage.Describe(doc.Storage), strings.Join(request.Target.BootstrapServers, ",")
	o := &request.Offsets
	from := "backup " + o.BackupID
	switch {
	case request.Plan != nil:
		from = "plan " + request.Plan.Key
	case o.Snapshot != "":
		from = o.Snapshot
	case !o.Strategy.Empty():
		from = o.Strategy.String()
	}
	groups := strings.Join(slices.Concat(o.Groups.Names, o.Groups.Patterns), ", ")
	if o.Groups.All || groups == "" {
		groups = "all of it"
	}
	if o.Inputs != nil {
		groups = "those in " + o.Inputs.Key
	}
	return p.launch(c, operation{
		taskQueue:  doc.Temporal.TaskQueue,
		requested:  request.Requested,
		id:         id,
		kind:       k,
		request:    request,
		summary:    fmt.Sprintf("%s on %s: %s", k.typeName, servers, from),
		details:    markdown("Consumer groups", groups, "Targets", from, "Cluster", servers, "Repository", where, "Requested by", request.Requester),
		attributes: temporalservice.Attributes{Kind: k.name, BackupID: o.BackupID, Repository: where, Groups: o.Groups.Names},
	})
}

// offsetID is the workflow id of an operation on offsets: the same for the
// same change of the same cluster.
func offsetID(kind string, r activities.OffsetRequest) (string, error) {
	data, err := json.Marshal(struct {
		O offsets.Request
		P *repository.ObjectRef
	}{r.Offsets, r.Plan})
	if err != nil {
		return "", err
	}
	what := r.Offsets.BackupID
	if r.Offsets.Snapshot != "" {
		what = r.Offsets.Snapshot
	}
	if what == "" {
		what = "explicit"
	}
	return fmt.Sprintf("%s/%s/%s/%s", kind, what, slug(strings.Join(r.Target.BootstrapServers, ",")), digest(storage.Identity(r.Storage)+"\n"+string(data))), nil
}

func (p *program) offsetResetBulkCommand() *cli.Command {
	return &cli.Command{
		Name:  "offset-reset-bulk",
		Usage: "Set the committed offsets of many consumer groups, as far as possible",
		Description: "Starts the workflow BulkOffsetReset and follows it. Many partitions go in a request, many requests at\n" +
			"the same time; a partition whose error is transient is tried again alone. One bad partition or group\n" +
			"never stops the rest: the report says what could not be set.",
		Flags: slices.Concat(launchFlags(), []cli.Flag{pathFlag}, groupFlags(), targetFlags(), setFlags(), retryFlags(), offsetSettings.flags),
		Action: func(c *cli.Context) error {
			doc, err := p.offsetDocument(c, true, true)
			if err != nil {
				return err
			}
			r, err := p.offsetRequest(c, doc)
			if err != nil {
				return err
			}
			r.BestEffort = true
			request, err := p.setRequest(c, doc, r)
			if err != nil {
				return err
			}
			return p.launchReset(c, doc, bulkResetKind, request)
		},
	}
}
