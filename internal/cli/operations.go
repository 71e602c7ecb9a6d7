package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
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
	"github.com/kafka-backup/kafka-backup/workflows"
)

func (p *program) operationsCommand() *cli.Command {
	return &cli.Command{
		Name:  "operations",
		Usage: "List operations, the newest first",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "kind", Usage: "Only this kind: backup, restore ...", Category: inOperation},
			&cli.StringFlag{Name: "cluster", Usage: "Only those on this cluster, source or target, by Kafka's cluster id.", Category: inOperation},
			&cli.StringFlag{Name: "backup-id", Aliases: []string{"b"}, Usage: "Only those that make or use this backup.", Category: inOperation},
			&cli.StringFlag{Name: "state", Usage: "Only those that are " + strings.Join(operationStates(), ", ") + ".", Category: inOperation},
			&cli.StringFlag{Name: "since", Usage: "Only those started at this time (RFC 3339) or later, or so long ago at most (24h, 30m).", Category: inOperation},
			&cli.StringFlag{Name: "until", Usage: "Only those started at this time or earlier, or so long ago at least.", Category: inOperation},
			&cli.BoolFlag{Name: "running", Usage: "Only those that have not ended.", Category: inOperation},
			&cli.BoolFlag{Name: "waiting", Usage: "Only those that wait for approval, with their plans.", Category: inOperation},
			&cli.IntFlag{Name: "limit", Usage: "Most to list.", Value: 50, Category: inOperation},
			outputFlag("text, json, yaml or csv."),
		}, temporalFlags()...),
		Action:      p.operations,
		Subcommands: []*cli.Command{p.operationsShowCommand()},
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
	if name := c.String("kind"); name != "" && !slices.Contains(kindNames(), name) {
		return usage("--kind: %q is none; write one of %s", name, strings.Join(kindNames(), ", "))
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
	if c.Bool("waiting") || c.String("state") == stateWaiting {
		for i := range list.Operations {
			list.Operations[i].ask(ctx, conn)
		}
	}
	return render.Write(p.Out, format, list)
}

// ask reads the plan that an operation waits with.
func (o *listedOperation) ask(ctx context.Context, conn *connection) {
	progress, err := askProgress(ctx, conn, o.WorkflowID, o.RunID)
	switch {
	case err != nil:
		o.Error = explain(err).Message
	case progress.Approval != nil && progress.Approval.Decision == nil:
		o.Waiting = progress.Approval
	}
}

// States that are known from search attributes.
const (
	stateWaiting = "waiting" // for approval, be it paused or not
	statePaused  = "paused"  // or about to be
	stateUndoing = "undoing" // it puts back what is to be put back
)

const stillRuns = `ExecutionStatus = "Running"`

// states are the states that can be asked for, as visibility queries.
var states = map[string]string{
	"running":    stillRuns,
	stateWaiting: stillRuns + ` AND ` + temporalservice.KeyApproval.GetName() + ` = "waiting"`,
	statePaused:  stillRuns + ` AND ` + temporalservice.KeyState.GetName() + ` IN ("paused", "pausing")`,
	stateUndoing: stillRuns + ` AND ` + temporalservice.KeyState.GetName() + ` = "undoing"`,
	"completed":  `ExecutionStatus = "Completed"`,
	"failed":     `ExecutionStatus IN ("Failed", "TimedOut")`,
	"cancelled":  `ExecutionStatus = "Canceled"`,
	"terminated": `ExecutionStatus = "Terminated"`,
}

func operationStates() []string { return slices.Sorted(maps.Keys(states)) }

// moment reads a time, or how long ago it was.
func moment(c *cli.Context, flag string, now time.Time) (string, error) {
	text := c.String(flag)
	at, err := time.Parse(time.RFC3339, text)
	if ago, derr := time.ParseDuration(text); derr == nil {
		at, err = now.Add(-ago), nil
	}
	if err != nil {
		return "", usage("--%s: %q is neither a time (2024-12-01T10:00:00Z) nor how long ago (24h)", flag, text)
	}
	return literal(at.UTC().Format(time.RFC3339Nano)), nil
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
		for _, flag := range []string{"backup-id", "cluster", "waiting"} {
			if c.IsSet(flag) {
				return "", usage("--%s cannot be used: this namespace does not have the search attributes", flag)
			}
		}
		if state := c.String("state"); slices.Contains([]string{stateWaiting, statePaused, stateUndoing}, state) {
			return "", usage("--state %s cannot be used: this namespace does not have the search attributes", state)
		}
		var names []string
		for _, k := range kinds {
			if kindName == "" || kindName == k.name {
				names = append(names, literal(k.typeName))
			}
		}
		terms = append(terms, "WorkflowType IN ("+strings.Join(names, ", ")+")")
	}
	if cluster := c.String("cluster"); cluster != "" {
		terms = append(terms, temporalservice.KeyCluster.GetName()+" = "+literal(cluster))
	}
	state := c.String("state")
	if c.Bool("waiting") {
		state = stateWaiting
	}
	if state != "" {
		term, known := states[state]
		if !known {
			return "", usage("--state: %q is none; write one of %s", state, strings.Join(operationStates(), ", "))
		}
		terms = append(terms, term)
	}
	if c.Bool("running") {
		terms = append(terms, states["running"])
	}
	for _, bound := range []struct{ flag, term string }{{"since", "StartTime >= "}, {"until", "StartTime <= "}} {
		if c.IsSet(bound.flag) {
			at, err := moment(c, bound.flag, time.Now())
			if err != nil {
				return "", err
			}
			terms = append(terms, bound.term+at)
		}
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
	Status     string    `json:"status"`          // of the workflow
	State      string    `json:"state,omitempty"` // what it is doing: running, waiting, paused ...
	StartedAt  time.Time `json:"started_at"`
	EndedAt    time.Time `json:"ended_at,omitzero"`
	Cluster    string    `json:"cluster,omitempty"`  // Kafka's id
	Approval   string    `json:"approval,omitempty"` // waiting, approved ...
	Approver   string    `json:"approver,omitempty"`
	Requester  string    `json:"requester,omitempty"`
	URL        string    `json:"url,omitempty"`
	// Waiting is the plan that waits, where it was asked for; Error why it could
	// not be read.
	Waiting *workflows.Question `json:"waiting,omitempty"`
	Error   string              `json:"error,omitempty"`
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
		Approval:   keyword(fields[temporalservice.KeyApproval.GetName()]),
		Approver:   keyword(fields[temporalservice.KeyApprover.GetName()]),
		Cluster:    keyword(fields[temporalservice.KeyCluster.GetName()]),
		State:      keyword(fields[temporalservice.KeyState.GetName()]),
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
func statusText(s enumspb.WorkflowExecutionStatus) string {
	if s == enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED {
		return "cancelled" // as it is written everywhere else
	}
	return strings.ToLower(s.String())
}

// Text implements render.Value.
func (l operationList) Text(w io.Writer) error {
	if err := render.Title(w, "Operations: %s", l.Namespace); err != nil {
		return err
	}
	table := render.Table{Header: []string{"Workflow ID", "Status", "Phase", "Started", "Took", "Requested By"}}
	for _, o := range l.Operations {
		table.Add(o.WorkflowID, o.state(), o.Phase, render.Time(o.StartedAt), l.took(o), o.Requester)
	}
	if err := table.Write(w); err != nil {
		return err
	}
	if len(l.Operations) == 0 {
		_, err := fmt.Fprintln(w, "There are none.")
		return err
	}
	for i := range l.Operations {
		o := &l.Operations[i]
		if o.Waiting != nil {
			if _, err := fmt.Fprintf(w, "\n%s\n%s\n", o.WorkflowID, questionText(o.WorkflowID, o.Waiting)); err != nil {
				return err
			}
		} else if o.Error != "" {
			if _, err := fmt.Fprintf(w, "\n%s\nIts plan cannot be read now: %s\n", o.WorkflowID, o.Error); err != nil {
				return err
			}
		}
	}
	return nil
}

// state is the status in one word, and of one that runs what it is doing.
func (o *listedOperation) state() string {
	if o.Status == "running" && o.State != "" {
		return o.State
	}
	return o.Status
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
	header := []string{"workflow_id", "run_id", "kind", "backup_id", "phase", "status", "started_at", "ended_at", "seconds", "requester", "cluster", "approval", "approver", "state"}
	var rows [][]string
	for _, o := range l.Operations {
		seconds := ""
		if !o.EndedAt.IsZero() {
			seconds = strconv.FormatFloat(o.EndedAt.Sub(o.StartedAt).Seconds(), 'f', 3, 64)
		}
		rows = append(rows, []string{o.WorkflowID, o.RunID, o.Kind, o.BackupID, o.Phase, o.Status, render.Time(o.StartedAt), render.Time(o.EndedAt), seconds, o.Requester, o.Cluster, o.Approval, o.Approver, o.State})
	}
	return header, rows
}
