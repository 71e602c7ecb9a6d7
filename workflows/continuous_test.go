package workflows

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/config"
)

// stream is a continuous backup in Temporal's test environment.
type stream struct {
	*testsuite.TestWorkflowEnvironment
	mu       sync.Mutex // activities run beside each other
	ids      []string   // of the backups planned, in order
	previous []string   // what each was to add to
	done     []string   // of those completed
	until    []time.Time
	fail     map[int]error // by number of the plan
	parts    int
	// takes is how long a part is followed; caughtUp, where not nil, says what
	// a part says about it.
	takes    time.Duration
	caughtUp func(part int) time.Time
	events   []activities.NotifyRequest
}

func newStream(t *testing.T) *stream {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	s := &stream{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment(), fail: map[int]error{}, parts: 2, takes: time.Second}
	s.SetTestTimeout(time.Minute)
	s.SetWorkerOptions(worker.Options{DeadlockDetectionTimeout: time.Minute}) // however busy the machine is
	s.SetStartTime(time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC))
	s.RegisterActivity(&activities.Backup{})
	s.RegisterActivity(&activities.Continuous{})
	s.RegisterActivity(&activities.Monitor{})
	s.RegisterActivity(&activities.Notify{})
	s.RegisterWorkflow(Notify)
	any := mock.Anything
	s.OnActivity("RunningParts", any).Return(activities.RunningParts{}, nil).Maybe()
	s.OnActivity("FreeBackupID", any, any, any, any).Return(func(_ context.Context, _ config.Storage, id string, _ int) (string, error) { return id, nil }).Maybe()
	s.OnActivity("PlanBackup", any, any).Return(func(_ context.Context, req activities.BackupRequest) (activities.BackupPlan, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ids, s.previous = append(s.ids, req.BackupID), append(s.previous, req.Previous)
		return activities.BackupPlan{Digest: digestA, Parts: s.parts}, s.fail[len(s.ids)]
	}).Maybe()
	s.OnActivity("ProposeBackup", any, any, any).Return(func(_ context.Context, req activities.BackupRequest, _ int) (activities.BackupPlan, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ids, s.previous = append(s.ids, req.BackupID), append(s.previous, req.Previous)
		return activities.BackupPlan{Digest: digestA, Parts: s.parts}, s.fail[len(s.ids)]
	}).Maybe()
	s.OnActivity("BeginBackup", any, any, any).Return(func(_ context.Context, _ activities.BackupRequest, p activities.BackupPlan) (activities.BackupPlan, error) {
		return p, nil
	}).Maybe()
	s.OnActivity("FollowPart", any, any, any, any, any).Return(func(_ context.Context, _ activities.BackupRequest, _ activities.BackupPlan, part int, until time.Time) (activities.Followed, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.until = append(s.until, until)
		did := activities.Followed{Amount: activities.Amount{Records: 1}, At: s.Now()}
		if s.caughtUp != nil {
			did.At = s.caughtUp(part)
		}
		return did, nil
	}).AfterFn(func() time.Duration { return s.takes }).Maybe()
	s.OnActivity("Deliver", any, any, any).Return(func(_ context.Context, req activities.NotifyRequest, _ string) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.events = append(s.events, req)
		return nil
	}).Maybe()
	s.OnActivity("CompleteBackup", any, any, any).Return(func(_ context.Context, req activities.BackupRequest, _ activities.BackupPlan) (activities.BackupReport, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.done = append(s.done, req.BackupID)
		return activities.BackupReport{BackupID: req.BackupID}, nil
	}).Maybe()
	s.OnActivity("MeasureLag", any, any, any).Return(func(_ context.Context, _ activities.BackupRequest, p activities.RecoveryPoint) (activities.RecoveryPoint, error) {
		p.Lag, p.Seconds, p.MeasuredAt = 7, 3, s.Now()
		return p, nil
	}).Maybe()
	return s
}

func (s *stream) run(state ContinuousState) {
	req := ContinuousRequest{State: state}
	req.BackupID, req.Options = "live", config.New().Backup
	req.Options.Continuous, req.Options.CheckpointInterval = true, config.Duration(time.Minute)
	s.ExecuteWorkflow(Continuous, req)
}

func TestContinuousMakesABackupEveryIntervalAndContinuesAsNew(t *testing.T) {
	s := newStream(t)
	s.run(ContinuousState{})
	require.True(t, workflow.IsContinueAsNewError(s.GetWorkflowError()), "%v", s.GetWorkflowError())
	require.Len(t, s.done, runCheckpoints)
	require.Equal(t, "live-20261123-150000", s.done[0])
	require.Equal(t, "live-20261123-150100", s.done[1], "a minute later")
	require.Equal(t, append([]string{""}, s.done[:runCheckpoints-1]...), s.previous, "each adds to the one before")
	require.Equal(t, s.until[0], s.until[1], "the parts of a backup end together")
	require.Equal(t, time.Minute, s.until[2].Sub(s.until[0]))

	// What the next run goes on with.
	var can *workflow.ContinueAsNewError
	require.ErrorAs(t, s.GetWorkflowError(), &can)
	var next ContinuousRequest
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(can.Input, &next))
	require.Equal(t, runCheckpoints, next.State.Checkpoints)
	require.Equal(t, s.done[runCheckpoints-1], next.State.Last.BackupID)
	again := newStream(t)
	again.run(next.State)
	require.Equal(t, next.State.Last.BackupID, again.previous[0])
}

// A backup that fails, after there was one, is noted and made anew.
func TestContinuousSurvivesABackupThatFails(t *testing.T) {
	s := newStream(t)
	s.fail[2] = temporal.NewNonRetryableApplicationError("the topic was deleted meanwhile", activities.Refused, nil)
	s.RegisterDelayedCallback(func() { s.SignalWorkflow(SignalCancel, Control{By: "ann"}) }, 210*time.Second)
	s.run(ContinuousState{})
	var cancelled *temporal.CanceledError
	require.ErrorAs(t, s.GetWorkflowError(), &cancelled)
	require.Equal(t, []string{"live-20261123-150000", "live-20261123-150200", "live-20261123-150300"}, s.done)
	require.Equal(t, []string{"", s.done[0], s.done[0], s.done[1]}, s.previous)
	value, err := s.QueryWorkflow(QueryProgress)
	require.NoError(t, err)
	var p Progress
	require.NoError(t, value.Get(&p))
	require.Contains(t, strings.Join(p.Notes, "\n"), "the topic was deleted meanwhile")
	require.Equal(t, s.done[2], p.RecoveryPoint.BackupID)
	require.EqualValues(t, 7, p.RecoveryPoint.Lag)
	require.Contains(t, p.details(), "Recovery point: 2026-11-23T15:03")
	require.Contains(t, p.Left.Did[0], s.done[2])
}

// One that fails before there was any is an error in what was asked for.
func TestContinuousFailsAtOnceWhenTheFirstBackupDoes(t *testing.T) {
	s := newStream(t)
	s.fail[1] = temporal.NewNonRetryableApplicationError("no topic matches", activities.Configuration, nil)
	s.run(ContinuousState{})
	require.ErrorContains(t, s.GetWorkflowError(), "no topic matches")
	require.Len(t, s.ids, 1)
}

// Parts that cannot all be in work at once are not followed: the last of them
// would begin only when the first ends.
func TestContinuousFollowsOnlyWhatCanBeInWorkAtOnce(t *testing.T) {
	s := newStream(t)
	s.parts = config.New().Backup.MaxConcurrentParts + 1
	s.RegisterDelayedCallback(s.CancelWorkflow, 90*time.Second)
	s.run(ContinuousState{})
	require.Len(t, s.done, 2, "%v", s.GetWorkflowError())
	for _, until := range s.until {
		require.Zero(t, until)
	}
}

func TestContinuousWaitsForApprovalOnce(t *testing.T) {
	s := newStream(t)
	s.RegisterDelayedCallback(func() {
		require.Empty(t, s.until, "nothing is copied before")
		s.SignalWorkflow(Approve, Answer{By: "bob", Plan: digestA})
	}, time.Hour)
	s.RegisterDelayedCallback(s.CancelWorkflow, time.Hour+90*time.Second)
	req := ContinuousRequest{}
	req.BackupID, req.Options = "live-{{date}}-{{time}}", config.New().Backup
	req.Options.Continuous, req.Options.CheckpointInterval = true, config.Duration(time.Minute)
	req.Approval = config.Approval{Required: true, Timeout: config.Duration(24 * time.Hour), OnTimeout: "fail"}
	s.ExecuteWorkflow(Continuous, req)
	require.NotEmpty(t, s.done, fmt.Sprint(s.GetWorkflowError()))
	require.Equal(t, "live-2026-11-23-150000", s.done[0])
}

func (s *stream) progress() (p Progress) {
	value, err := s.QueryWorkflow(QueryProgress)
	if err == nil {
		err = value.Get(&p)
	}
	if err != nil {
		panic(err)
	}
	return p
}

// measured counts what makes history grow by itself: activities and timers.
func (s *stream) measured() (n func() int) {
	var count int
	var mu sync.Mutex
	add := func() { mu.Lock(); defer mu.Unlock(); count++ }
	s.SetOnActivityStartedListener(func(*activity.Info, context.Context, converter.EncodedValues) { add() })
	s.SetOnTimerScheduledListener(func(string, time.Duration) { add() })
	return func() int { mu.Lock(); defer mu.Unlock(); return count }
}

// A pause may last for months: nothing happens in it that would be written
// into history, which the service ends the workflow for when it is too long.
func TestContinuousDoesNothingInAPause(t *testing.T) {
	s := newStream(t)
	n := s.measured()
	begin := -1
	s.RegisterDelayedCallback(func() { s.SignalWorkflow(SignalPause, nil) }, 150*time.Second)
	s.RegisterDelayedCallback(func() {
		require.Equal(t, Paused, s.progress().State)
		begin = n()
	}, time.Hour)
	s.RegisterDelayedCallback(func() {
		require.Equal(t, begin, n(), "activities and timers in a pause of 90 days")
		s.SignalWorkflow(SignalResume, nil)
	}, 90*24*time.Hour)
	s.RegisterDelayedCallback(func() {
		require.Greater(t, len(s.done), 4, "it goes on")
		require.EqualValues(t, 7, s.progress().RecoveryPoint.Lag)
		s.CancelWorkflow()
	}, 90*24*time.Hour+5*time.Minute)
	s.run(ContinuousState{})
	require.GreaterOrEqual(t, begin, 0)
}

// Nor does it do anything while it waits for the first approval.
func TestContinuousDoesNothingBeforeItIsApproved(t *testing.T) {
	s := newStream(t)
	n := s.measured()
	begin := -1
	s.RegisterDelayedCallback(func() { begin = n() }, time.Minute)
	s.RegisterDelayedCallback(func() {
		require.Equal(t, begin, n(), "activities and timers in 30 days")
		s.SignalWorkflow(Approve, Answer{By: "bob", Plan: digestA, Reason: "go"})
	}, 30*24*time.Hour)
	s.RegisterDelayedCallback(s.CancelWorkflow, 30*24*time.Hour+90*time.Second)
	req := ContinuousRequest{}
	req.BackupID, req.Options = "live", config.New().Backup
	req.Options.CheckpointInterval = config.Duration(time.Minute)
	req.Approval = config.Approval{Required: true, Timeout: config.Duration(60 * 24 * time.Hour), OnTimeout: "fail"}
	s.ExecuteWorkflow(Continuous, req)
	require.NotEmpty(t, s.done)
	require.GreaterOrEqual(t, begin, 0)
	// Who approved it is in what it leaves to the next run, and so in its report.
	again := newStream(t)
	again.RegisterDelayedCallback(func() { again.SignalWorkflow(Approve, Answer{By: "bob", Plan: digestA}) }, time.Second)
	req.State = ContinuousState{}
	again.ExecuteWorkflow(Continuous, req)
	var can *workflow.ContinueAsNewError
	require.ErrorAs(t, again.GetWorkflowError(), &can)
	var next ContinuousRequest
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(can.Input, &next))
	require.Equal(t, "bob", next.State.Approval.By)
}

// Between two backups history grows with the logarithm of time.
func TestContinuousMeasuresLessAndLess(t *testing.T) {
	for _, c := range []struct {
		interval, takes time.Duration
		most            int
	}{
		{24 * time.Hour, time.Second, 250},
		{24 * time.Hour, 30 * 24 * time.Hour, 3000}, // the second is slow
	} {
		s := newStream(t)
		n := 0
		s.SetOnActivityStartedListener(func(i *activity.Info, _ context.Context, _ converter.EncodedValues) {
			if i.ActivityType.Name == "MeasureLag" {
				n++
			}
		})
		s.RegisterDelayedCallback(func() { s.takes = c.takes }, time.Hour)
		s.RegisterDelayedCallback(s.CancelWorkflow, c.interval+c.takes)
		req := ContinuousRequest{}
		req.BackupID, req.Options = "live", config.New().Backup
		req.Options.CheckpointInterval = config.Duration(c.interval)
		s.ExecuteWorkflow(Continuous, req)
		require.Greater(t, n, 20)
		require.Less(t, n, c.most, "measurements with %v and %v", c.interval, c.takes)
	}
}

// The recovery point is what the part furthest behind says, whatever the time
// was at which the backup was to end.
func TestContinuousRecoveryPointIsThatOfTheLastPart(t *testing.T) {
	s := newStream(t)
	begin := s.Now().UTC()
	s.takes = 3 * time.Hour // the interval is a minute
	s.caughtUp = func(part int) time.Time { return begin.Add(time.Duration(2-part) * time.Second) }
	s.RegisterDelayedCallback(func() {
		require.Equal(t, begin.Add(time.Second), s.progress().RecoveryPoint.At)
		s.CancelWorkflow()
	}, 3*time.Hour+10*time.Second)
	s.run(ContinuousState{})
	require.NotEmpty(t, s.done)
}

// Of backups that fail one after the other the first is told, and then that
// they are made again.
func TestContinuousTellsOfASeriesOfFailuresOnce(t *testing.T) {
	s := newStream(t)
	for _, n := range []int{2, 3, 4} {
		s.fail[n] = temporal.NewNonRetryableApplicationError("the broker says no", activities.Refused, nil)
	}
	s.RegisterDelayedCallback(s.CancelWorkflow, 350*time.Second)
	req := ContinuousRequest{}
	req.BackupID, req.Options = "live", config.New().Backup
	req.Options.CheckpointInterval = config.Duration(time.Minute)
	req.Notifications = config.Notifications{Webhook: config.Webhook{URL: config.NewSecret("${HOOK}"), On: []string{"failure", "success"}}}
	s.ExecuteWorkflow(Continuous, req)
	require.Len(t, s.done, 3, "%v", s.GetWorkflowError())
	require.Len(t, s.events, 2)
	require.Equal(t, config.OnFailure, s.events[0].Event.Event)
	require.Contains(t, s.events[0].Event.Text, "the broker says no")
	require.Equal(t, activities.Refused, s.events[0].Event.ErrorType)
	require.Equal(t, config.OnSuccess, s.events[1].Event.Event)
	require.Contains(t, s.events[1].Event.Text, "3 failures")
}

// A cancel that comes while the last step of a backup completes is a cancel, and
// not an end that nobody asked for: the history ends with it, and the workflow
// would not end in another way.
func TestContinuousIsCancelledWhileAStepCompletes(t *testing.T) {
	h := readHistory(t, histories+"/continuous-cancelled-while-completing.json")
	last := h.Events[len(h.Events)-1]
	require.Equal(t, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED, last.EventType)
	last.EventType = enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED
	last.Attributes = &historypb.HistoryEvent_WorkflowExecutionCompletedEventAttributes{
		WorkflowExecutionCompletedEventAttributes: &historypb.WorkflowExecutionCompletedEventAttributes{}}
	require.Error(t, replay(h), "it completes")
}
