package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
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
