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
}

func newStream(t *testing.T) *stream {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	s := &stream{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment(), fail: map[int]error{}, parts: 2}
	s.SetTestTimeout(time.Minute)
	s.SetWorkerOptions(worker.Options{DeadlockDetectionTimeout: time.Minute}) // however busy the machine is
	s.SetStartTime(time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC))
	s.RegisterActivity(&activities.Backup{})
	s.RegisterActivity(&activities.Continuous{})
	s.RegisterActivity(&activities.Monitor{})
	any := mock.Anything
	s.OnActivity("RunningParts", any).Return(activities.RunningParts{}, nil).Maybe()
	s.OnActivity("FreeBackupID", any, any, any, any).Return(func(_ context.Context, _ config.Storage, id string, _ int) (string, error) { return id, nil }).Maybe()
	s.OnActivity("PlanBackup", any, any).Return(func(_ context.Context, req activities.BackupRequest) (activities.BackupPlan, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ids, s.previous = append(s.ids, req.BackupID), append(s.previous, req.Previous)
		return activities.BackupPlan{Digest: digestA, Parts: s.parts}, s.fail[len(s.ids)]
	}).Maybe()
	s.OnActivity("FollowPart", any, any, any, any, any, any).Return(func(_ context.Context, _ activities.BackupRequest, _ activities.BackupPlan, _ int, until, _ time.Time) (activities.Amount, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.until = append(s.until, until)
		return activities.Amount{Records: 1}, nil
	}).After(time.Second).Maybe()
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
