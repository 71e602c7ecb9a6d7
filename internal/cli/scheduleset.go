package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"go.temporal.io/sdk/client"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/schedule"
	"github.com/kafka-backup/kafka-backup/internal/storage"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
	"github.com/kafka-backup/kafka-backup/workflows"
)

// scheduleFlags are the flags of schedule create and update.
func scheduleFlags(create bool) []cli.Flag {
	flags := []cli.Flag{
		configFlag,
		&cli.StringSliceFlag{Name: "cron", Usage: `Cron expression, as in "0 2 * * *" or @hourly; may be given several times.`, Category: inSchedule},
		&cli.StringSliceFlag{Name: "every", Usage: "Interval PERIOD or PERIOD/OFFSET, as in 6h, 7d or 24h/2h30m; may be given several times.", Category: inSchedule},
		&cli.StringSliceFlag{Name: "calendar", Usage: `Calendar, as in "hour=2,14 minute=30 day-of-week=mon-fri"; may be given several times.`, Category: inSchedule},
		&cli.StringSliceFlag{Name: "skip", Usage: "Calendar of times to leave out; all its fields must match, seconds too.", Category: inSchedule},
		&cli.StringFlag{Name: "time-zone", Usage: "Time zone of cron expressions, calendars and backup ids, as in Europe/Berlin.", DefaultText: "UTC", Category: inSchedule},
		&cli.DurationFlag{Name: "jitter", Usage: "Put each run off by up to this long, by chance.", Category: inSchedule},
		&cli.StringFlag{Name: "start-at", Usage: "Nothing happens before this time (RFC 3339).", Category: inSchedule},
		&cli.StringFlag{Name: "end-at", Usage: "Nothing happens after this time (RFC 3339).", Category: inSchedule},
		&cli.StringFlag{Name: "overlap", Usage: "What happens while another run is not finished: " + names(schedule.OverlapNames()) + ".", DefaultText: "skip", Category: inSchedule},
		&cli.DurationFlag{Name: "catch-up-window", Usage: "After an outage, runs that are late by at most this much are made up for.", DefaultText: "24h", Category: inSchedule},
		&cli.BoolFlag{Name: "pause-on-failure", Usage: "Pause the schedule when a run fails.", Category: inSchedule},
		&cli.IntFlag{Name: "runs", Usage: "Start this many runs and no more.", DefaultText: "no limit", Category: inSchedule},
		&cli.StringFlag{Name: "note", Usage: "A note for the others who look at it.", Category: inSchedule},
		&cli.StringSliceFlag{Name: "groups", Usage: "offset-snapshot: consumer groups, with commas between them. Left out: all.", Category: inOperation},
		&cli.StringSliceFlag{Name: "groups-matching", Usage: "offset-snapshot: patterns with * and ?, with commas between them.", Category: inOperation},
		&cli.BoolFlag{Name: "deep", Usage: "validate: read and check all data.", Category: inOperation},
		personFlag("requester", "by"),
	}
	if create {
		flags = append(flags, taskQueueFlag(),
			&cli.StringFlag{Name: "kind", Usage: "What is run: " + names(scheduledKinds) + ".", Value: scheduledKinds[0], Category: inSchedule},
			&cli.BoolFlag{Name: "paused", Usage: "Make it paused.", Category: inSchedule})
	} else { // not from the environment: what is not said stays
		flags = append(flags, &cli.StringFlag{Name: "task-queue", Usage: "Task queue that the workers listen on.", DefaultText: "the schedule's own", Category: inTemporal})
	}
	return append(append(flags, scheduleSettings.flags...), temporalFlags()...)
}

// scheduledKinds are the operations that a schedule can run.
var scheduledKinds = []string{"backup", "validate", "prune", "offset-snapshot"}

// scheduleSettings are the keys of the configuration of what can be scheduled.
// Where days begin for retention is said in a file.
var scheduleSettings = newSettings(
	section{config.Cluster{}, "source.", "", inCluster, nil},
	section{config.Storage{}, "storage.", "storage-", inStorage, nil},
	section{config.Backup{}, "backup.", "", inOptions, nil},
	section{config.Retention{}, "retention.", "", inRetention, []string{"time_zone"}},
	section{config.Approval{}, "approval.", "approval-", inApproval, nil},
)

// names lists words for a person.
func names(list []string) string { return strings.Join(list, ", ") }

const defaultCatchUp = 24 * time.Hour

func (p *program) scheduleCreate(c *cli.Context) error {
	id, err := scheduleID(c)
	if err != nil {
		return err
	}
	if strings.ContainsAny(id, "/ \t\n") {
		return usage("%q cannot be the id of a schedule; use letters, digits, dots, underscores and hyphens", id)
	}
	if !c.IsSet("config") && !c.IsSet("storage-backend") && !c.IsSet("storage-url") {
		return usage("say what to run with --config FILE (or with flags, see --help)")
	}
	req := &workflows.ScheduledRequest{Schedule: id}
	if err := setWhen(c, &req.When); err != nil {
		return err
	}
	if req.When.Empty() {
		return usage("say when, with --cron, --every or --calendar")
	}
	spec, err := req.When.Spec()
	if err != nil {
		return usage("%v", err)
	}
	doc, err := scheduleDocument(c, c.String("kind"), nil)
	if err != nil {
		return err
	}
	if err := setOperation(c, req, c.String("kind"), doc); err != nil {
		return err
	}
	overlap, err := schedule.ParseOverlap(c.String("overlap"))
	if err != nil {
		return usage("--overlap: %v", err)
	}
	catchUp := defaultCatchUp
	if c.IsSet("catch-up-window") {
		catchUp = c.Duration("catch-up-window")
	}
	conn, err := p.connect(c.Context, c)
	if err != nil {
		return err
	}
	defer conn.Close()
	registration, err := p.register(c.Context, conn.Client, conn.profile.Namespace)
	if err != nil {
		return err
	}
	if w := registration.Warning(); w != "" {
		p.say("%s", w)
	}
	action := &client.ScheduleWorkflowAction{}
	setAction(action, req, taskQueue(c, doc.Temporal.TaskQueue), registration)
	h, err := conn.ScheduleClient().Create(c.Context, client.ScheduleOptions{
		ID: id, Spec: spec, Action: action, Overlap: overlap, CatchupWindow: catchUp, PauseOnFailure: c.Bool("pause-on-failure"),
		Note: c.String("note"), Paused: c.Bool("paused"), RemainingActions: c.Int("runs"),
	})
	if err != nil {
		return scheduleError(conn, id, err)
	}
	return p.scheduleMade(c.Context, h, "is made")
}

// scheduleMade says what was made of a schedule, and when it acts next.
func (p *program) scheduleMade(ctx context.Context, h client.ScheduleHandle, what string) error {
	d, err := h.Describe(ctx)
	if err != nil {
		return err
	}
	next := "it has no next run"
	if len(d.Info.NextActionTimes) > 0 {
		next = "next run " + d.Info.NextActionTimes[0].UTC().Format(time.RFC3339)
	}
	if d.Schedule.State.Paused {
		next = "it is paused"
	}
	p.say("Schedule %s %s; %s.", h.GetID(), what, next)
	return nil
}

func (p *program) scheduleUpdate(c *cli.Context) error {
	return p.onSchedule(c, func(ctx context.Context, conn *connection, h client.ScheduleHandle) error {
		registration, err := p.register(ctx, conn.Client, conn.profile.Namespace)
		if err != nil {
			return err
		}
		err = h.Update(ctx, client.ScheduleUpdateOptions{DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
			s := in.Description.Schedule
			if err := changeSchedule(c, h.GetID(), &s, registration); err != nil {
				return nil, err
			}
			return &client.ScheduleUpdate{Schedule: &s}, nil
		}})
		if err != nil {
			return err
		}
		return p.scheduleMade(ctx, h, "is changed")
	})
}

// changeSchedule changes what the flags say, and leaves the rest.
func changeSchedule(c *cli.Context, id string, s *client.Schedule, registration temporalservice.Registration) error {
	req, err := scheduledRequest(id, s)
	if err != nil {
		return err
	}
	if err := setWhen(c, &req.When); err != nil {
		return err
	}
	spec, err := req.When.Spec()
	if err != nil {
		return usage("%v", err)
	}
	s.Spec = &spec
	doc, err := scheduleDocument(c, req.Kind(), req)
	if err != nil {
		return err
	}
	if err := setOperation(c, req, req.Kind(), doc); err != nil {
		return err
	}
	action := s.Action.(*client.ScheduleWorkflowAction)
	queue := action.TaskQueue
	if c.IsSet("config") && doc.Temporal.TaskQueue != "" {
		queue = doc.Temporal.TaskQueue
	}
	if c.IsSet("task-queue") {
		queue = c.String("task-queue")
	}
	setAction(action, req, queue, registration)
	if c.IsSet("overlap") {
		if s.Policy.Overlap, err = schedule.ParseOverlap(c.String("overlap")); err != nil {
			return usage("--overlap: %v", err)
		}
	}
	if c.IsSet("catch-up-window") {
		s.Policy.CatchupWindow = c.Duration("catch-up-window")
	}
	if c.IsSet("pause-on-failure") {
		s.Policy.PauseOnFailure = c.Bool("pause-on-failure")
	}
	if c.IsSet("runs") {
		s.State.LimitedActions, s.State.RemainingActions = c.Int("runs") > 0, c.Int("runs")
	}
	if c.IsSet("note") {
		s.State.Note = c.String("note")
	}
	return nil
}

// setWhen puts what the flags say into a When. Times that are named in any way
// replace all that were named before.
func setWhen(c *cli.Context, w *schedule.When) (err error) {
	if c.IsSet("cron") || c.IsSet("every") || c.IsSet("calendar") {
		w.Cron, w.Every, w.Calendars = c.StringSlice("cron"), c.StringSlice("every"), c.StringSlice("calendar")
	}
	if c.IsSet("skip") {
		w.Skip = c.StringSlice("skip")
	}
	if c.IsSet("time-zone") {
		w.TimeZone = c.String("time-zone")
	}
	if c.IsSet("jitter") {
		w.Jitter = config.Duration(c.Duration("jitter"))
	}
	if c.IsSet("start-at") {
		if w.StartAt, err = timeFlag(c, "start-at"); err != nil {
			return err
		}
	}
	if c.IsSet("end-at") {
		w.EndAt, err = timeFlag(c, "end-at")
	}
	return err
}

// scheduleDocument is the configuration of a schedule's operation: that of the
// file, or else the one that the schedule has, and over it the flags.
func scheduleDocument(c *cli.Context, kind string, have *workflows.ScheduledRequest) (*config.Document, error) {
	use := config.ForAnything
	if kind == "backup" {
		use = config.ForBackup
	}
	set, err := scheduleSettings.overrides(c)
	if err != nil {
		return nil, err
	}
	var doc *config.Document
	if have == nil || c.IsSet("config") {
		if doc, err = config.Load(use, c.String("config"), set...); err != nil {
			return nil, err
		}
	} else {
		doc = documentOf(have)
		for _, o := range set {
			if err := config.Set(doc, o.Key, o.Text); err != nil {
				return nil, usage("%s: %v", o.From, err)
			}
		}
		if err := doc.Check(use); err != nil {
			return nil, err
		}
	}
	if doc.Storage.Backend == "" && doc.Storage.URL == "" {
		return nil, usage("the configuration has no storage section")
	}
	if err := checkSecrets(doc); err != nil {
		return nil, err
	}
	return doc, absolute(doc)
}

// documentOf is the configuration that is kept with a schedule.
func documentOf(req *workflows.ScheduledRequest) *config.Document {
	doc := config.New()
	switch {
	case req.Backup != nil:
		r := req.Backup
		doc.BackupID, doc.Source, doc.Storage, doc.Backup = r.BackupID, r.Source, r.Storage, r.Options
	case req.Validate != nil:
		r := req.Validate
		doc.BackupID, doc.Storage = r.BackupID, r.Storage
	case req.Prune != nil:
		r := req.Prune
		doc.Storage, doc.Retention = r.Storage, r.Retention
	case req.Snapshot != nil:
		r := req.Snapshot
		doc.Source, doc.Storage = r.Target, r.Storage
	}
	doc.Approval, doc.Notifications = req.Requested().Approval, req.Requested().Notifications
	return doc
}

// setOperation makes the operation of a schedule out of its configuration.
func setOperation(c *cli.Context, req *workflows.ScheduledRequest, kind string, doc *config.Document) error {
	requested := activities.Requested{Requester: person(c, "requester"), Approval: doc.Approval, Notifications: doc.Notifications.Used()}
	before := *req
	req.Backup, req.Validate, req.Prune, req.Snapshot = nil, nil, nil, nil
	switch kind {
	case "backup":
		if doc.Backup.Continuous {
			return usage("a continuous backup runs by itself: start it with `kafka-backup backup`, and set backup.continuous: false for a schedule")
		}
		template := doc.BackupID
		if template == "" {
			template = req.Schedule + "-{{date}}-{{time}}"
		}
		if _, err := config.ExpandBackupID(template, time.Now(), req.Schedule); err != nil {
			return usage("backup id: %v", err)
		}
		req.Backup = &activities.BackupRequest{Requested: requested, BackupID: template, Source: doc.Source, Storage: doc.Storage, Options: doc.Backup}
	case "validate":
		r := &activities.ValidateRequest{Requested: requested, Storage: doc.Storage, Deep: c.Bool("deep")}
		if before.Validate != nil && !c.IsSet("deep") {
			r.Deep = before.Validate.Deep
		}
		if c.IsSet("backup-id") { // a file made for backups names those to be made
			r.BackupID = c.String("backup-id")
		} else if before.Validate != nil && !c.IsSet("config") {
			r.BackupID = before.Validate.BackupID
		}
		req.Validate = r
	case "prune":
		if doc.Retention.Empty() {
			return usage("say which backups to keep: --keep-last, --keep-within, --keep-daily, --keep-weekly or --keep-monthly, or a section retention in the configuration")
		}
		req.Prune = &activities.PruneRequest{Requested: requested, Storage: doc.Storage, Retention: doc.Retention}
	case "offset-snapshot":
		r := &activities.SnapshotRequest{Requested: requested, Target: doc.Source, Storage: doc.Storage, Description: "schedule " + req.Schedule}
		if before.Snapshot == nil && len(doc.Target.BootstrapServers) > 0 && !c.IsSet("bootstrap-servers") {
			r.Target = doc.Target // a file for restores
		}
		r.Target.Topics = config.TopicFilter{}
		if len(r.Target.BootstrapServers) == 0 {
			return usage("say which cluster with --bootstrap-servers host:port, or with --config")
		}
		r.Groups = offsets.Selection{Names: splitList(joined(c, "groups")), Patterns: splitList(joined(c, "groups-matching"))}
		if r.Groups.Empty() && before.Snapshot != nil {
			r.Groups = before.Snapshot.Groups
		}
		r.Groups.All = r.Groups.Empty()
		req.Snapshot = r
	default:
		return usage("--kind: %q cannot be scheduled; use one of %s", kind, names(scheduledKinds))
	}
	req.Place = storage.Describe(doc.Storage)
	req.PlaceID = slug(storage.Identity(doc.Storage))
	return nil
}

// setAction makes the action of a schedule.
func setAction(a *client.ScheduleWorkflowAction, req *workflows.ScheduledRequest, queue string, registration temporalservice.Registration) {
	a.ID = "schedule/" + req.Schedule
	a.Workflow, a.Args, a.TaskQueue = workflows.ScheduledType, []any{*req}, queue
	a.StaticSummary = fmt.Sprintf("%s in %s by schedule %s", req.Kind(), req.Place, req.Schedule)
	// No kind: it is found among the operations only when it could not start one.
	a.TypedSearchAttributes = registration.Start(temporalservice.Attributes{Repository: req.Place, Requester: workflows.Requester(req.Schedule, req.Requested().Requester)})
	a.UntypedSearchAttributes = nil
}
