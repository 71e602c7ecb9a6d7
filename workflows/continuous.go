package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/notify"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
)

// ContinuousRequest is what to back up, where to, and how; its backup id is
// what the ids of the backups begin with, or has placeholders.
type ContinuousRequest struct {
	activities.BackupRequest
	// State is what an earlier run of the workflow leaves to the next.
	State ContinuousState `json:"state,omitzero"`
}

// ContinuousState is how far a continuous backup is.
type ContinuousState struct {
	StartedAt   time.Time                `json:"started_at"`
	Checkpoints int                      `json:"checkpoints"`      // backups made
	Failed      int                      `json:"failed,omitempty"` // tries in a row that made none since
	Last        activities.RecoveryPoint `json:"last"`
	// Approval is who approved it; nil where no approval was required.
	Approval *activities.Decision `json:"approval,omitempty"`
}

// ContinuousReport is what a continuous backup has made; it ends only by a
// cancel or a failure.
type ContinuousReport struct {
	ContinuousState
}

// Continuous follows topics and makes a backup of them every
// backup.checkpoint_interval, for ever.
//
// Promise. Each backup holds every committed record up to the time that the
// recovery point names, and restores alone, like any other. Topics and
// partitions that are created are in the next backup. Records are read as they
// are written and held in segments that stay open until the backup is made;
// small segments that earlier backups left are written anew, joined.
//
// On a crash of a worker another one goes on; what was in an open segment is
// read again. On pause nothing is read, and the recovery point stays where it
// is. On cancel the backups that were made stay; what was read for the next
// one is removed by prune. A backup that fails, once there was one that did
// not, is noted, counted and tried anew, under a new id; the first of a series
// is told as a failure, and that backups are made again as a success.
//
// Its history stays within bounds, however long it runs or is paused: it grows
// with the backups made, after some of which it continues as new, and between
// two of them with the logarithm of time; in a pause it does not grow.
//
// Where approval is required, it waits after the first plan.
//
// Signals: pause, resume, cancel, approve, reject. Updates: approve, reject.
// Query: progress.
func Continuous(ctx workflow.Context, req ContinuousRequest) (report ContinuousReport, err error) {
	ctx, o, err := begin(ctx, "continuous", "plan", "follow", "complete")
	if err != nil {
		return report, err
	}
	defer func() {
		if !workflow.IsContinueAsNewError(err) {
			err = o.ended(ctx, err)
		}
	}()
	o.about(req.Requested, req.BackupID)
	c := &continuous{operation: o, req: req, ContinuousState: req.State, interval: req.Options.CheckpointInterval.Std()}
	if c.StartedAt.IsZero() {
		c.StartedAt = o.StartedAt
	}
	o.StartedAt = c.StartedAt
	c.shown(ctx)
	measuring, stop := workflow.WithCancel(ctx)
	defer stop()
	workflow.Go(measuring, c.measures)
	for begun := 0; ; begun++ {
		if begun == runCheckpoints || begun > 0 && workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
			o.takeSignals(ctx) // the next run would not hear of them
			if err := o.gate(ctx); err != nil {
				return c.left(err)
			}
			req.State = c.ContinuousState
			return report, workflow.NewContinueAsNewError(ctx, Continuous, req)
		}
		due := workflow.Now(ctx).Add(c.interval)
		err := c.checkpoint(ctx, due)
		switch {
		case ctx.Err() != nil:
			return c.left(ctx.Err())
		case err != nil && c.Checkpoints == 0:
			return c.left(err)
		default:
			c.checked(ctx, err)
		}
		if err := c.wait(ctx, due); err != nil {
			return c.left(err)
		}
	}
}

// runCheckpoints is how many backups are made before the workflow continues as
// new. Only tests change it.
var runCheckpoints = 50

// continuous is a run of a continuous backup.
type continuous struct {
	*operation
	ContinuousState
	req      ContinuousRequest
	interval time.Duration
}

// left says what stays when it ends.
func (c *continuous) left(err error) (ContinuousReport, error) {
	if c.Checkpoints > 0 {
		c.did("%d backups were made, the last is %s", c.Checkpoints, c.Last.BackupID)
		c.notDone("what was written after %s is in no backup", c.Last.At.UTC().Format(time.RFC3339))
	} else {
		c.notDone("no backup was made")
	}
	return ContinuousReport{c.ContinuousState}, err
}

// MemoRecoveryPoint is the memo of a continuous backup that has its
// [activities.RecoveryPoint]; there is none before its first backup.
const MemoRecoveryPoint = "recovery_point"

// shown makes the recovery point part of what the operation shows, and of what
// can be listed without asking it.
func (c *continuous) shown(ctx workflow.Context) {
	if c.Last.BackupID == "" {
		return
	}
	point := c.Last
	c.RecoveryPoint = &point
	if err := workflow.UpsertMemo(ctx, map[string]any{MemoRecoveryPoint: point}); err != nil {
		panic(err) // plain values
	}
}

// countedCheckpoints is the metric of backups that a continuous backup has
// tried to make, with the label result.
const countedCheckpoints = "kafka_backup_checkpoints"

// checked counts a backup that was made or, with an error, was not. It tells
// of the first that fails, and of the first that does not afterwards.
func (c *continuous) checked(ctx workflow.Context, err error) {
	workflow.GetMetricsHandler(ctx).WithTags(map[string]string{"result": resultOf(err)}).Counter(countedCheckpoints).Inc(1)
	if err == nil {
		if c.Failed > 0 {
			e := c.event(ctx, notify.Event{Event: config.OnSuccess, Kind: c.Kind})
			e.Text = fmt.Sprintf("%s makes backups again, after %s: %s", c.name(ctx), render.Number(c.Failed, "failure"), c.Last.BackupID)
			tell(ctx, c.requested.Notifications, e)
		}
		c.Failed = 0
		return
	}
	c.note("%s: a backup failed: %s", workflow.Now(ctx).UTC().Format(time.RFC3339), message(err))
	if c.Failed++; c.Failed == 1 {
		e := c.event(ctx, failureEvent(c.Kind, err))
		e.Text = fmt.Sprintf("%s could not make a backup, and tries anew; nothing newer than %s can be restored: %s",
			c.name(ctx), c.Last.At.UTC().Format(time.RFC3339), e.Error)
		tell(ctx, c.requested.Notifications, e)
	}
}

// wait waits until the next backup is to begin.
func (c *continuous) wait(ctx workflow.Context, due time.Time) error {
	left := due.Sub(workflow.Now(ctx))
	if left <= 0 {
		return nil
	}
	c.show(ctx)
	return c.rest(ctx, left, "until the next backup begins")
}

// checkpoint makes a backup, which takes until due.
func (c *continuous) checkpoint(ctx workflow.Context, due time.Time) error {
	var b *activities.Backup
	if err := c.phase(ctx, "plan", activities.Amount{}); err != nil {
		return err
	}
	req := c.req.BackupRequest
	id, err := checkpointID(req.BackupID, workflow.Now(ctx))
	if err != nil {
		return err
	}
	if err := c.step(ctx, "find a free backup id", &req.BackupID, b.FreeBackupID, req.Storage, id, 1); err != nil {
		return err
	}
	req.Previous = c.Last.BackupID
	// So that prune leaves alone what it makes.
	if err := temporalservice.Upsert(ctx, temporalservice.Attributes{BackupID: req.BackupID}); err != nil {
		return err
	}
	gate := activities.Requested{}
	if c.Checkpoints == 0 {
		gate = req.Requested
	}
	plan, decision, err := c.planned(ctx, req, gate)
	if err != nil {
		return err
	}
	if decision != nil {
		c.ContinuousState.Approval = decision
	}

	if err := c.phase(ctx, "follow", plan.Total); err != nil {
		return err
	}
	at, err := c.follow(ctx, req, plan, due)
	if err != nil {
		return err
	}

	if err := c.phase(ctx, "complete", activities.Amount{}); err != nil {
		return err
	}
	var report activities.BackupReport
	if err := c.step(ctx, "capture the consumer groups and write the manifest", &report, b.CompleteBackup, req, plan); err != nil {
		return err
	}
	c.Checkpoints++
	c.Last = activities.RecoveryPoint{BackupID: report.BackupID, At: at.UTC()}
	c.shown(ctx)
	c.show(ctx)
	return nil
}

// checkpointID is the id of the backup that begins at a time.
func checkpointID(id string, at time.Time) (string, error) {
	expanded, err := config.ExpandBackupID(id, at.UTC(), "")
	if err == nil && expanded == id {
		expanded = id + at.UTC().Format("-20060102-150405")
	}
	return expanded, err
}

// follow copies the parts of a plan and returns up to when they have
// everything. When all of them can be in work at once they go on until due with
// what is written meanwhile.
func (c *continuous) follow(ctx workflow.Context, req activities.BackupRequest, plan activities.BackupPlan, due time.Time) (at time.Time, err error) {
	var a *activities.Continuous
	var until time.Time // zero: not at all
	if plan.Parts <= req.Options.MaxConcurrentParts {
		until = due
	}
	err = c.eachPart(ctx, plan.Parts, req.Options.MaxConcurrentParts, func(ctx workflow.Context, part int) workflow.Future {
		future, set := workflow.NewFuture(ctx)
		follow := workflow.ExecuteActivity(follows(ctx, part, plan.Parts), a.FollowPart, req, plan, part, until)
		workflow.Go(ctx, func(ctx workflow.Context) {
			var did activities.Followed
			err := follow.Get(ctx, &did)
			if err == nil && (at.IsZero() || did.At.Before(at)) {
				at = did.At
			}
			set.Set(did.Amount, err)
		})
		return future
	})
	return at, err
}

// measures measures the lag from time to time, while there is a backup and no
// pause. The longer the last backup lies back, the longer it waits: so it is
// seen to grow, and history is not full of it.
func (c *continuous) measures(ctx workflow.Context) {
	every := min(max(c.interval/5, 5*time.Second), time.Minute)
	for {
		if workflow.Await(ctx, func() bool { return c.Last.BackupID != "" && !c.pauseWanted() }) != nil {
			return // the end of ctx
		}
		of := c.Last.BackupID
		c.measure(ctx)
		wait := max(every, min(workflow.Now(ctx).Sub(c.Last.At)/8, time.Hour))
		if _, err := workflow.AwaitWithTimeout(ctx, wait, func() bool { return c.Last.BackupID != of || c.pauseWanted() }); err != nil {
			return
		}
	}
}

// measure counts what is not in the last backup. That it cannot is seen by the
// age of the last count.
func (c *continuous) measure(ctx workflow.Context) {
	var a *activities.Continuous
	once := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute, ScheduleToCloseTimeout: time.Minute, HeartbeatTimeout: heartbeatTimeout, Summary: "measure the lag",
		WaitForCancellation: true,
	})
	point := c.Last
	if err := workflow.ExecuteActivity(once, a.MeasureLag, c.req.BackupRequest, point).Get(ctx, &point); err == nil && point.BackupID == c.Last.BackupID {
		c.Last = point
		c.shown(ctx)
		c.show(ctx)
	}
}

// follows are transfers that have slots of their own.
func follows(ctx workflow.Context, part, parts int) workflow.Context {
	ctx = transfers(ctx, "follow", part, parts)
	return workflow.WithTaskQueue(ctx, activities.FollowQueue(workflow.GetInfo(ctx).TaskQueueName))
}

// recoveryPointText says it in a line.
func recoveryPointText(p *activities.RecoveryPoint) string {
	if p.MeasuredAt.IsZero() {
		return fmt.Sprintf("Recovery point: %s (backup %s)", p.At.UTC().Format(time.RFC3339), p.BackupID)
	}
	return fmt.Sprintf("Recovery point: %s (backup %s); at %s the source was ahead by %d records in %d partitions, %.0f s",
		p.At.UTC().Format(time.RFC3339), p.BackupID, p.MeasuredAt.UTC().Format(time.RFC3339), p.Lag, p.Partitions, p.Seconds)
}
