package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"

	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
)

func (p *program) operationsCommand() *cli.Command {
	return &cli.Command{
		Name:  "operations",
		Usage: "List operations, the newest first",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "kind", Usage: "Only this kind: backup, restore.", Category: inOperation},
			&cli.StringFlag{Name: "backup-id", Aliases: []string{"b"}, Usage: "Only those that make or use this backup.", Category: inOperation},
			&cli.BoolFlag{Name: "running", Usage: "Only those that have not ended.", Category: inOperation},
			&cli.IntFlag{Name: "limit", Usage: "Most to list.", Value: 50, Category: inOperation},
			outputFlag("text, json, yaml or csv."),
		}, temporalFlags()...),
		Action: p.operations,
	}
}

func (p *program) operations(c *cli.Context) error {
	ctx := c.Context
	format, err := outputFormat(c, render.Text, render.JSON, render.YAML, render.CSV)
	if err != nil {
		return err
	}
	if c.Args().Present() {
		return usage("unexpected argument %q", c.Args().First())
	}
	conn, err := p.connect(ctx, c)
	if err != nil {
		return err
	}
	defer conn.Close()
	registration, err := p.register(ctx, conn.Client, conn.profile.Namespace)
	if err != nil {
		return err
	}
	query, err := operationsQuery(c, registration.Complete())
	if err != nil {
		return err
	}
	list := operationList{Namespace: conn.profile.Namespace, Operations: []listedOperation{}, now: time.Now()}
	limit := c.Int("limit")
	var page []byte
	for len(list.Operations) < limit {
		answer, err := conn.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
			Namespace: conn.profile.Namespace, Query: query, NextPageToken: page, PageSize: int32(min(limit-len(list.Operations), 1000)),
		})
		if err != nil {
			return err
		}
		for _, e := range answer.GetExecutions() {
			list.Operations = append(list.Operations, listedExecution(e, conn.profile))
		}
		if page = answer.GetNextPageToken(); len(page) == 0 {
			break
		}
	}
	return render.Write(p.Out, format, list)
}

// operationsQuery is the visibility query for what the flags ask for. In a
// namespace without the search attributes, operations are known by their type.
func operationsQuery(c *cli.Context, attributes bool) (string, error) {
	var terms []string
	kindName, backupID := c.String("kind"), c.String("backup-id")
	if attributes {
		terms = append(terms, temporalservice.KeyKind.GetName()+" IS NOT NULL")
		if kindName != "" {
			terms = append(terms, temporalservice.KeyKind.GetName()+" = "+literal(kindName))
		}
		if backupID != "" {
			terms = append(terms, temporalservice.KeyBackupID.GetName()+" = "+literal(backupID))
		}
	} else {
		if backupID != "" {
			return "", usage("--backup-id cannot be used: this namespace does not have the search attributes")
		}
		var names []string
		for _, k := range kinds {
			if kindName == "" || kindName == k.name {
				names = append(names, literal(k.typeName))
			}
		}
		if len(names) == 0 {
			return "", usage("unknown kind %q", kindName)
		}
		terms = append(terms, "WorkflowType IN ("+strings.Join(names, ", ")+")")
	}
	if c.Bool("running") {
		terms = append(terms, `ExecutionStatus = "Running"`)
	}
	return strings.Join(terms, " AND "), nil
}

// literal quotes a text for a visibility query.
func literal(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

type operationList struct {
	Namespace  string            `json:"namespace"`
	Operations []listedOperation `json:"operations"`

	now time.Time
}

type listedOperation struct {
	WorkflowID string    `json:"workflow_id"`
	RunID      string    `json:"run_id"`
	Kind       string    `json:"kind"`
	BackupID   string    `json:"backup_id,omitempty"`
	Phase      string    `json:"phase,omitempty"`
	Status     string    `json:"status"`
	StartedAt  time.Time `json:"started_at"`
	EndedAt    time.Time `json:"ended_at,omitzero"`
	Requester  string    `json:"requester,omitempty"`
	URL        string    `json:"url,omitempty"`
}

func listedExecution(e *workflowpb.WorkflowExecutionInfo, profile temporalservice.Profile) listedOperation {
	fields := e.GetSearchAttributes().GetIndexedFields()
	id, runID := e.GetExecution().GetWorkflowId(), e.GetExecution().GetRunId()
	o := listedOperation{
		WorkflowID: id,
		RunID:      runID,
		Kind:       keyword(fields[temporalservice.KeyKind.GetName()]),
		BackupID:   keyword(fields[temporalservice.KeyBackupID.GetName()]),
		Phase:      keyword(fields[temporalservice.KeyPhase.GetName()]),
		Requester:  keyword(fields[temporalservice.KeyRequester.GetName()]),
		Status:     statusText(e.GetStatus()),
		StartedAt:  e.GetStartTime().AsTime(),
		URL:        profile.WorkflowURL(id, runID),
	}
	if o.Kind == "" {
		o.Kind = kindOf(e.GetType().GetName()).name
	}
	if t := e.GetCloseTime(); t != nil {
		o.EndedAt = t.AsTime()
	}
	return o
}

// keyword reads a search attribute; empty when it is not set.
func keyword(p *commonpb.Payload) string {
	var s string
	if p == nil || converter.GetDefaultDataConverter().FromPayload(p, &s) != nil {
		return ""
	}
	return s
}

// statusText is the status of a workflow in one word: running, completed ...
func statusText(s enumspb.WorkflowExecutionStatus) string { return strings.ToLower(s.String()) }

// Text implements render.Value.
func (l operationList) Text(w io.Writer) error {
	if err := render.Title(w, "Operations: %s", l.Namespace); err != nil {
		return err
	}
	table := render.Table{Header: []string{"Workflow ID", "Status", "Phase", "Started", "Took", "Requested By"}}
	for _, o := range l.Operations {
		table.Add(o.WorkflowID, o.Status, o.Phase, render.Time(o.StartedAt), l.took(o), o.Requester)
	}
	if err := table.Write(w); err != nil {
		return err
	}
	if len(l.Operations) == 0 {
		_, err := fmt.Fprintln(w, "There are none.")
		return err
	}
	return nil
}

func (l operationList) took(o listedOperation) string {
	end := o.EndedAt
	if end.IsZero() {
		end = l.now
	}
	return render.Duration(max(end.Sub(o.StartedAt), 0))
}

// Records implements render.Rows.
func (l operationList) Records() ([]string, [][]string) {
	header := []string{"workflow_id", "run_id", "kind", "backup_id", "phase", "status", "started_at", "ended_at", "seconds", "requester"}
	var rows [][]string
	for _, o := range l.Operations {
		seconds := ""
		if !o.EndedAt.IsZero() {
			seconds = strconv.FormatFloat(o.EndedAt.Sub(o.StartedAt).Seconds(), 'f', 3, 64)
		}
		rows = append(rows, []string{o.WorkflowID, o.RunID, o.Kind, o.BackupID, o.Phase, o.Status, render.Time(o.StartedAt), render.Time(o.EndedAt), seconds, o.Requester})
	}
	return header, rows
}
