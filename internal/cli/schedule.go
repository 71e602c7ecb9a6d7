package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/schedule"
	"github.com/kafka-backup/kafka-backup/workflows"
)

const inSchedule = "Schedule"

func (p *program) scheduleCommand() *cli.Command {
	id := "SCHEDULE-ID"
	reason := &cli.StringFlag{Name: "reason", Usage: "Why, for the others who look at it.", Category: inSchedule}
	overlap := &cli.StringFlag{Name: "overlap", Usage: "What happens while another run is not finished: " + names(schedule.OverlapNames()) + ".",
		DefaultText: "the schedule's own", Category: inSchedule}
	return &cli.Command{
		Name:  "schedule",
		Usage: "Run operations again and again: backups, and what goes with them",
		Subcommands: []*cli.Command{
			{Name: "create", Usage: "Make a schedule", ArgsUsage: id,
				Description: "Takes the configuration file of the operation, and keeps it with the schedule, without secrets: those\n" +
					"must be references (${NAME}, file:/path). Backup ids follow the file's backup_id, which may have\n" +
					"placeholders: nightly-{{date}}.",
				Flags: scheduleFlags(true), Action: p.scheduleCreate},
			{Name: "list", Usage: "List schedules, with their last and next runs", Flags: append([]cli.Flag{outputFlag("text, json, yaml or csv.")}, temporalFlags()...), Action: p.scheduleList},
			{Name: "describe", Usage: "Show a schedule: when, what, and its latest runs", ArgsUsage: id,
				Flags: append([]cli.Flag{outputFlag("text, json or yaml.")}, temporalFlags()...), Action: p.scheduleDescribe},
			{Name: "update", Usage: "Change a schedule; what is not said stays", ArgsUsage: id, Flags: scheduleFlags(false), Action: p.scheduleUpdate},
			{Name: "pause", Usage: "Stop starting runs; one that runs goes on", ArgsUsage: id, Flags: append([]cli.Flag{reason}, temporalFlags()...),
				Action: func(c *cli.Context) error {
					return p.onSchedule(c, func(ctx context.Context, _ *connection, h client.ScheduleHandle) error {
						if err := h.Pause(ctx, client.SchedulePauseOptions{Note: scheduleNote("Paused", c.String("reason"))}); err != nil {
							return err
						}
						p.say("Schedule %s is paused. Go on with `kafka-backup schedule unpause %s`.", h.GetID(), offsets.Quote(h.GetID()))
						return nil
					})
				}},
			{Name: "unpause", Usage: "Start runs again", ArgsUsage: id, Flags: append([]cli.Flag{reason}, temporalFlags()...),
				Action: func(c *cli.Context) error {
					return p.onSchedule(c, func(ctx context.Context, _ *connection, h client.ScheduleHandle) error {
						if err := h.Unpause(ctx, client.ScheduleUnpauseOptions{Note: scheduleNote("Unpaused", c.String("reason"))}); err != nil {
							return err
						}
						p.say("Schedule %s is active.", h.GetID())
						return nil
					})
				}},
			{Name: "trigger", Usage: "Start a run now", ArgsUsage: id, Flags: append([]cli.Flag{overlap, outputFlag("text, json or yaml.")}, temporalFlags()...), Action: p.scheduleTrigger},
			{Name: "backfill", Usage: "Start the runs of a time that has passed", ArgsUsage: id,
				Flags: append([]cli.Flag{
					&cli.StringFlag{Name: "from", Usage: "From this time on (RFC 3339).", Category: inSchedule},
					&cli.StringFlag{Name: "to", Usage: "Up to this time (RFC 3339).", DefaultText: "now", Category: inSchedule},
					&cli.StringFlag{Name: "overlap", Usage: overlap.Usage, Value: "buffer-all", Category: inSchedule},
				}, temporalFlags()...), Action: p.scheduleBackfill},
			{Name: "delete", Usage: "Delete a schedule; what it has started goes on", ArgsUsage: id, Flags: temporalFlags(),
				Action: func(c *cli.Context) error {
					return p.onSchedule(c, func(ctx context.Context, _ *connection, h client.ScheduleHandle) error {
						if _, _, err := ours(ctx, h); err != nil {
							return err
						}
						if err := h.Delete(ctx); err != nil {
							return err
						}
						p.say("Schedule %s is deleted.", h.GetID())
						return nil
					})
				}},
		},
	}
}

func scheduleNote(what, reason string) string {
	note := what + " by " + requester()
	if reason != "" {
		note += ": " + reason
	}
	return note
}

// onSchedule calls fn with the schedule that the command line names.
func (p *program) onSchedule(c *cli.Context, fn func(ctx context.Context, conn *connection, h client.ScheduleHandle) error) error {
	id, err := scheduleID(c)
	if err != nil {
		return err
	}
	conn, err := p.connect(c.Context, c)
	if err != nil {
		return err
	}
	defer conn.Close()
	return scheduleError(conn, id, fn(c.Context, conn, conn.ScheduleClient().GetHandle(c.Context, id)))
}

func scheduleID(c *cli.Context) (string, error) {
	if c.NArg() != 1 || c.Args().First() == "" {
		return "", usage("say which schedule: %s SCHEDULE-ID (`kafka-backup schedule list` lists them)", c.Command.HelpName)
	}
	return c.Args().First(), nil
}

// scheduleError says in plain words what the service says about a schedule.
func scheduleError(conn *connection, id string, err error) error {
	var missing *serviceerror.NotFound
	var invalid *serviceerror.InvalidArgument
	switch {
	case errors.As(err, &missing):
		return &failure{Type: activities.NotFound, Message: "there is no schedule " + id + " in " + conn.profile.String() + "; `kafka-backup schedule list` lists them"}
	case errors.Is(err, temporal.ErrScheduleAlreadyRunning):
		return &failure{Type: activities.Exists, Message: "there is a schedule " + id + " already; change it with `kafka-backup schedule update " + offsets.Quote(id) + "`"}
	case errors.As(err, &invalid):
		return usage("the Temporal service refuses the schedule: %s", invalid.Message)
	}
	return err
}

// notOurs is a schedule that starts something else.
type notOurs struct{ id, starts string }

func (e *notOurs) Error() string {
	return fmt.Sprintf("schedule %s is not of kafka-backup: it starts the workflow %s", e.id, e.starts)
}

// ours reads a schedule of the product.
func ours(ctx context.Context, h client.ScheduleHandle) (*client.ScheduleDescription, *workflows.ScheduledRequest, error) {
	d, err := h.Describe(ctx)
	var notReady *serviceerror.WorkflowNotReady // now and then the schedule continues as new, for a moment
	for try := 0; errors.As(err, &notReady) && try < 10 && ctx.Err() == nil; try++ {
		time.Sleep(100 * time.Millisecond)
		d, err = h.Describe(ctx)
	}
	if err != nil {
		return nil, nil, err
	}
	req, err := scheduledRequest(h.GetID(), &d.Schedule)
	return d, req, err
}

// scheduledRequest reads what is kept with a schedule.
func scheduledRequest(id string, s *client.Schedule) (*workflows.ScheduledRequest, error) {
	action, ok := s.Action.(*client.ScheduleWorkflowAction)
	if !ok {
		return nil, &notOurs{id, "?"}
	}
	if action.Workflow != workflows.ScheduledType || len(action.Args) != 1 {
		return nil, &notOurs{id, fmt.Sprint(action.Workflow)}
	}
	var req workflows.ScheduledRequest
	switch arg := action.Args[0].(type) {
	case workflows.ScheduledRequest:
		req = arg
	case *commonpb.Payload:
		if err := converter.GetDefaultDataConverter().FromPayload(arg, &req); err != nil {
			return nil, fmt.Errorf("read what schedule %s starts: %w", id, err)
		}
	}
	if req.Kind() == "" { // somebody else's workflow of the same name
		return nil, &notOurs{id, workflows.ScheduledType}
	}
	return &req, nil
}

func (p *program) scheduleTrigger(c *cli.Context) error {
	policy, err := schedule.ParseOverlap(c.String("overlap"))
	if err != nil {
		return usage("--overlap: %v", err)
	}
	return p.onSchedule(c, func(ctx context.Context, conn *connection, h client.ScheduleHandle) error {
		before, _, err := ours(ctx, h)
		if err != nil {
			return err
		}
		if err := nextSecond(ctx, before); err != nil {
			return err
		}
		if err := h.Trigger(ctx, client.ScheduleTriggerOptions{Overlap: policy}); err != nil {
			return err
		}
		// The service starts the run on its own time, or not at all when another one is not finished.
		wait, stop := context.WithTimeout(ctx, triggerTimeout)
		defer stop()
		for {
			d, err := h.Describe(wait)
			switch {
			case err == nil && d.Info.NumActions > before.Info.NumActions && len(d.Info.RecentActions) > 0:
				run := d.Info.RecentActions[len(d.Info.RecentActions)-1].StartWorkflowResult
				p.say("Started workflow %s of schedule %s.", run.WorkflowID, h.GetID())
				if url := conn.profile.WorkflowURL(run.WorkflowID, run.FirstExecutionRunID); url != "" {
					p.say("Web UI: %s", url)
				}
				return nil
			case err == nil && d.Info.NumActionsSkippedOverlap > before.Info.NumActionsSkippedOverlap:
				return fmt.Errorf("nothing was started: another run of %s is not finished, and its overlap policy is skip; give --overlap", h.GetID())
			}
			select {
			case <-wait.Done():
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if len(before.Info.RunningWorkflows) == 0 {
					return fmt.Errorf("schedule %s was triggered, but no run has begun; if somebody else triggered it at the same moment, trigger it again", h.GetID())
				}
				p.say("Schedule %s was triggered; its run begins when the one before it is finished.", h.GetID())
				return nil
			case <-time.After(200 * time.Millisecond):
			}
		}
	})
}

// nextSecond waits until the second in which the schedule's last run began is
// over: the service names runs by the second, and starts no second one of the
// same name.
func nextSecond(ctx context.Context, d *client.ScheduleDescription) error {
	if len(d.Info.RecentActions) == 0 {
		return nil
	}
	last := d.Info.RecentActions[len(d.Info.RecentActions)-1].ScheduleTime
	wait := time.Until(last.Truncate(time.Second).Add(time.Second))
	if wait <= 0 || wait > time.Second {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait):
		return nil
	}
}

// triggerTimeout is how long a triggered run is waited for.
const triggerTimeout = 5 * time.Second

func (p *program) scheduleBackfill(c *cli.Context) error {
	policy, err := schedule.ParseOverlap(c.String("overlap"))
	if err != nil {
		return usage("--overlap: %v", err)
	}
	from, err := timeFlag(c, "from")
	if err != nil {
		return err
	}
	to, err := timeFlag(c, "to")
	if err != nil {
		return err
	}
	if to.IsZero() {
		to = time.Now()
	}
	if from.IsZero() || !from.Before(to) {
		return usage("say with --from and --to which time is made up for; --from is before --to")
	}
	return p.onSchedule(c, func(ctx context.Context, _ *connection, h client.ScheduleHandle) error {
		if _, _, err := ours(ctx, h); err != nil {
			return err
		}
		if err := h.Backfill(ctx, client.ScheduleBackfillOptions{Backfill: []client.ScheduleBackfill{{Start: from, End: to, Overlap: policy}}}); err != nil {
			return err
		}
		p.say("Schedule %s makes up for %s to %s. `kafka-backup schedule describe %s` shows the runs.",
			h.GetID(), from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339), offsets.Quote(h.GetID()))
		return nil
	})
}

// timeFlag reads a flag that is a time; zero when it was not given.
func timeFlag(c *cli.Context, name string) (time.Time, error) {
	text := c.String(name)
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, usage("--%s: %q is not a time; write RFC 3339 with a zone, as in 2024-12-01T10:00:00Z", name, text)
	}
	return t, nil
}

// scheduledReport is the report of a run of a schedule.
type scheduledReport struct{ workflows.ScheduledReport }

func (scheduledReport) code() int { return ExitDone }

// Text implements render.Value.
func (r scheduledReport) Text(w io.Writer) error {
	if err := render.Title(w, "Run of a schedule: %s", render.Time(r.At)); err != nil {
		return err
	}
	return render.Fields(w, "Operation", r.WorkflowID, "Backup id", r.BackupID, "Nothing was done", r.Skipped)
}
