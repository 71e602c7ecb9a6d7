package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
	"github.com/kafka-backup/kafka-backup/workflows"
)

// operation is a workflow that a command starts.
type operation struct {
	id         string // workflow id: the same for the same operation
	kind       kind
	request    any
	summary    string // one line for the Web UI
	details    string // markdown for the Web UI
	attributes temporalservice.Attributes
	// requested is the part of the request that says who asked for it and who
	// must approve it.
	requested activities.Requested
	// taskQueue is what the configuration says; the flag wins.
	taskQueue string
}

// launchFlags are the flags of every command that starts an operation.
func launchFlags() []cli.Flag {
	return append([]cli.Flag{
		configFlag,
		&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "Start the operation and do not follow it (only until it waits for approval, if it needs one).", Category: inOperation},
		personFlag("requester", "by"),
		outputFlag("Report as text, json or yaml; with json, progress is JSON lines on stderr."),
		taskQueueFlag(),
	}, temporalFlags()...)
}

func outputFlag(text string) cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o", "format"}, Usage: text, DefaultText: "text", Category: inOperation}
}

// outputFormat is the format that --output names.
func outputFormat(c *cli.Context, allowed ...render.Format) (render.Format, error) {
	return render.ParseFormat(c.String("output"), allowed...)
}

// started is what is told about an operation at once.
type started struct {
	Event      string `json:"event"` // "started", or "attached" to one that was running
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id"`
	URL        string `json:"url,omitempty"`
}

// launch starts an operation, or attaches to the same one that is running, and
// follows it.
func (p *program) launch(c *cli.Context, o operation) error {
	ctx := c.Context
	format, err := outputFormat(c, render.Text, render.JSON, render.YAML)
	if err != nil {
		return err
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
	d := p.newDisplay(format)
	defer d.close()
	if w := registration.Warning(); w != "" {
		d.note("%s", w)
	}

	o.attributes.Requester = o.requested.Requester
	queue := taskQueue(c, o.taskQueue)
	// Of two that start the same operation, one is told that it runs already.
	run, err := conn.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:                                       o.id,
		TaskQueue:                                queue,
		WorkflowIDConflictPolicy:                 enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowIDReusePolicy:                    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		TypedSearchAttributes:                    registration.Start(o.attributes),
		StaticSummary:                            o.summary,
		StaticDetails:                            o.details,
	}, o.kind.workflow, o.request)
	event := "started"
	var running *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &running) {
		event = "attached"
		run, err = conn.GetWorkflow(ctx, o.id, running.RunId), sameAsked(ctx, conn, running.RunId, o)
	}
	if err != nil {
		return err
	}
	d.started(started{event, o.id, run.GetRunID(), conn.profile.WorkflowURL(o.id, run.GetRunID())})
	f := &follower{conn: conn, id: o.id, queue: queue, display: d}
	if c.Bool("detach") {
		if o.requested.Approval.Required && !f.untilAsked(ctx) {
			return p.finish(ctx, f, run, o.kind, format) // it has ended already
		}
		d.note("It goes on by itself. %s", howToFollow(o.id))
		if o.requested.Approval.Required && !f.decided() {
			return told(ExitWaiting)
		}
		return nil
	}
	return p.finish(ctx, f, run, o.kind, format)
}

// sameAsked makes sure that an operation that is running already is what this
// command asks for, whoever asks.
func sameAsked(ctx context.Context, conn *connection, run string, o operation) error {
	history := conn.GetWorkflowHistory(ctx, o.id, run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	event, err := history.Next()
	if err != nil {
		return err
	}
	begun := reflect.New(reflect.TypeOf(o.request))
	if err := converter.GetDefaultDataConverter().FromPayloads(event.GetWorkflowExecutionStartedEventAttributes().GetInput(), begun.Interface()); err != nil {
		return err
	}
	have, err := asked(begun.Elem().Interface())
	if err != nil {
		return err
	}
	mine, err := asked(o.request)
	if err != nil {
		return err
	}
	var other []string
	for name := range have {
		if !bytes.Equal(have[name], mine[name]) {
			other = append(other, name)
		}
	}
	for name := range mine {
		if have[name] == nil {
			other = append(other, name)
		}
	}
	if len(other) == 0 {
		return nil
	}
	slices.Sort(other)
	return fmt.Errorf("%s is running already, and was asked for with other settings (%s; `kafka-backup watch %[3]s` follows it, `kafka-backup cancel %[3]s` ends it)", o.id, strings.Join(other, ", "), offsets.Quote(o.id))
}

// asked is what a request asks for, by the names of its JSON: all of it, who
// must approve too, but for who asks, who is told, and what an earlier run of a
// continuous backup left to the one that is running.
func asked(request any) (map[string]json.RawMessage, error) {
	data, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	var settings map[string]json.RawMessage
	if err := json.Unmarshal(data, &settings); err != nil {
		return nil, err
	}
	for _, name := range []string{"requester", "notifications", "state"} {
		delete(settings, name)
	}
	return settings, nil
}

// finish follows an operation to its end and writes its report.
func (p *program) finish(ctx context.Context, f *follower, run client.WorkflowRun, k kind, format render.Format) error {
	report, err := f.follow(ctx, func(ctx context.Context) (outcome, error) { return k.result(ctx, run) })
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		f.display.note("Detached; the operation goes on. %s", howToFollow(f.id))
		f.display.close()
		if q := f.progress.Approval; q != nil && q.Decision == nil { // be it paused or not
			return told(ExitWaiting)
		}
		return told(ExitInterrupted)
	}
	if err != nil {
		why := explain(err)
		if why.Left == nil { // a failure carries no details, but the operation still answers
			if progress, err := askProgress(ctx, f.conn, f.id, run.GetRunID()); err == nil && progress.State == workflows.Failed {
				why.Left = &progress.Left
			}
		}
		f.display.failed(f.id, why)
		f.display.close()
		return told(codeOf(why))
	}
	f.display.close()
	if err := render.Write(p.Out, format, report); err != nil {
		return err
	}
	return told(report.code())
}

func howToFollow(id string) string {
	q := offsets.Quote(id)
	return "Follow it, stop it for a while, or end it with\n  kafka-backup watch " + q + "\n  kafka-backup pause " + q + "\n  kafka-backup cancel " + q
}

// slug makes a readable part of a workflow id out of a location or address.
// Different texts have different slugs.
func slug(s string) string {
	readable, _, _ := strings.Cut(s, "?")
	if u, err := url.Parse(readable); err == nil && u.Scheme != "" && u.Host+u.Path != "" {
		readable = u.Scheme + "-" + u.Host + u.Path
	}
	var b strings.Builder
	for _, r := range strings.ToLower(readable) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' {
			b.WriteRune(r)
		} else if b.Len() > 0 && !strings.HasSuffix(b.String(), "-") {
			b.WriteByte('-')
		}
	}
	text := strings.Trim(b.String(), "-.")
	return strings.Trim(text[:min(len(text), 40)], "-.") + "-" + digest(s)
}

// digest is the beginning of a SHA-256.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:4])
}
