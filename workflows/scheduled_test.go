package workflows

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/schedule"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
)

// run is a run of a schedule in Temporal's test environment: backups do what
// end says, and events are what Deliver was called with.
type run struct {
	*testsuite.TestWorkflowEnvironment
	end func(id string) error

	mu     sync.Mutex
	made   []string // ids of backups that were begun
	events []activities.NotifyRequest
}

func newRun(t *testing.T, at time.Time) *run {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	r := &run{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment(), end: func(string) error { return nil }}
	r.SetWorkerOptions(worker.Options{DeadlockDetectionTimeout: time.Minute}) // however busy the machine is
	r.SetTestTimeout(time.Minute)
	if err := r.SetTypedSearchAttributesOnStart(temporal.NewSearchAttributes(scheduledAt.ValueSet(at))); err != nil {
		t.Fatal(err)
	}
	r.RegisterWorkflow(Notify)
	r.RegisterWorkflowWithOptions(func(_ workflow.Context, req activities.BackupRequest) (activities.BackupReport, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.made = append(r.made, req.BackupID)
		if len(req.Notifications.Channels(config.OnFailure)) > 0 {
			t.Error("the end of the operation would be told twice")
		}
		return activities.BackupReport{BackupID: req.BackupID}, r.end(req.BackupID)
	}, workflow.RegisterOptions{Name: "Backup"})
	r.RegisterActivityWithOptions(func(_ context.Context, _ config.Storage, id string, n int) (string, error) {
		return activities.NumberedID(id, n), nil
	}, activity.RegisterOptions{Name: "FreeBackupID"})
	r.RegisterActivityWithOptions(func(_ context.Context, req activities.NotifyRequest, _ string) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events = append(r.events, req)
		return nil
	}, activity.RegisterOptions{Name: "Deliver"})
	return r
}

var nightly = ScheduledRequest{
	Schedule: "nightly", When: schedule.When{TimeZone: "Europe/Berlin"}, Place: "/backups", PlaceID: "backups-1",
	Backup: &activities.BackupRequest{BackupID: "n-{{date}}-{{hour}}", Requested: activities.Requested{
		Notifications: config.Notifications{Webhook: config.Webhook{URL: config.NewSecret("${HOOK}"), On: []string{"failure", "success", "waiting"}}}}},
}

// A name is that of the time the schedule names, in its zone; the hour that
// comes twice when clocks go back makes two backups, and any name that is taken
// is passed over.
func TestScheduledBackupIDs(t *testing.T) {
	exists := temporal.NewNonRetryableApplicationError("taken", activities.Exists, nil)
	for _, c := range []struct {
		at    string
		taken []string
		want  []string
	}{
		{"2026-07-01T22:30:00Z", nil, []string{"n-2026-07-02-00"}},
		{"2026-10-25T00:30:00Z", nil, []string{"n-2026-10-25-02"}},
		{"2026-10-25T01:30:00Z", []string{"n-2026-10-25-02"}, []string{"n-2026-10-25-02", "n-2026-10-25-02-2"}},
		{"2026-01-01T00:00:00Z", []string{"n-2026-01-01-01", "n-2026-01-01-01-2"}, []string{"n-2026-01-01-01", "n-2026-01-01-01-2", "n-2026-01-01-01-3"}},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		r := newRun(t, at)
		r.end = func(id string) error {
			if slices.Contains(c.taken, id) {
				return exists
			}
			return nil
		}
		r.ExecuteWorkflow(Scheduled, nightly)
		var report ScheduledReport
		if err := r.GetWorkflowResult(&report); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(r.made, c.want) {
			t.Errorf("%s: %q, want %q", c.at, r.made, c.want)
		}
		last := c.want[len(c.want)-1]
		if report.BackupID != last || report.WorkflowID != "backup/"+last+"/backups-1" || !report.At.Equal(at) {
			t.Errorf("%s: report %+v", c.at, report)
		}
	}
}

func TestScheduledRunGivesUpOnNames(t *testing.T) {
	r := newRun(t, time.Unix(0, 0))
	r.end = func(string) error { return temporal.NewNonRetryableApplicationError("taken", activities.Exists, nil) }
	r.ExecuteWorkflow(Scheduled, nightly)
	var app *temporal.ApplicationError
	if err := r.GetWorkflowError(); !errors.As(err, &app) || app.Type() != activities.Exists || len(r.made) != maxNames {
		t.Errorf("after %d names: %v", len(r.made), err)
	}
}

func TestScheduledEndIsTold(t *testing.T) {
	for _, c := range []struct {
		err   error
		event string // empty: nothing is told
		kind  string // of the workflow's error
	}{
		{nil, config.OnSuccess, ""},
		{temporal.NewNonRetryableApplicationError("no space", activities.StorageFull, nil), config.OnFailure, activities.StorageFull},
		{temporal.NewCanceledError(), "", ""},
	} {
		r := newRun(t, time.Unix(0, 0))
		r.end = func(string) error { return c.err }
		r.ExecuteWorkflow(Scheduled, nightly)
		err := r.GetWorkflowError()
		var app *temporal.ApplicationError
		if errors.As(err, &app) && (app.Type() != c.kind || app.Message() != "no space") || c.kind != "" && app == nil || (err == nil) != (c.err == nil) {
			t.Errorf("%v: the run ends with %v", c.err, err)
		}
		if c.event == "" {
			if len(r.events) != 0 {
				t.Errorf("%v: told %+v", c.err, r.events)
			}
			continue
		}
		if len(r.events) != 1 {
			t.Fatalf("%v: %d events", c.err, len(r.events))
		}
		e := r.events[0].Event
		if e.Event != c.event || e.Schedule != "nightly" || e.BackupID != "n-1970-01-01-01" || e.ErrorType != c.kind || c.kind != "" && e.Error != "no space" {
			t.Errorf("%v: told %+v", c.err, e)
		}
	}
}

// A schedule that is cancelled while its backup runs cancels the backup and
// waits for it.
func TestScheduledRunIsCancelled(t *testing.T) {
	r := newRun(t, time.Unix(0, 0))
	stopped := false
	req := nightly
	req.Backup, req.Validate = nil, &activities.ValidateRequest{}
	r.RegisterWorkflowWithOptions(func(ctx workflow.Context, _ activities.ValidateRequest) error {
		err := workflow.Sleep(ctx, time.Hour)
		clean, _ := workflow.NewDisconnectedContext(ctx)
		_ = workflow.Sleep(clean, time.Minute) // comes to a safe point
		stopped = true
		return err
	}, workflow.RegisterOptions{Name: "Validate"})
	r.RegisterDelayedCallback(r.CancelWorkflow, time.Minute)
	r.ExecuteWorkflow(Scheduled, req)
	var canceledErr *temporal.CanceledError
	if err := r.GetWorkflowError(); !errors.As(err, &canceledErr) || !stopped {
		t.Errorf("it ends with %v; the operation has stopped: %v", err, stopped)
	}
}

// gatedTidy is a schedule for a prune that needs the approval of somebody else
// than carol, who made it.
func gatedTidy() ScheduledRequest {
	p := gatedPrune()
	return ScheduledRequest{Schedule: "tidy", Place: "/backups", PlaceID: "backups-1", Prune: &p}
}

// Signals to the run of a schedule are for the operation that it has started.
func TestScheduledRunPassesSignalsOn(t *testing.T) {
	for name, c := range map[string]struct {
		send func(w *world)
		end  func(t *testing.T, w *world, err error)
	}{
		"approved by the one who made it, and then by another": {
			func(w *world) {
				w.after(time.Minute, func() { w.SignalWorkflow(Approve, Answer{By: "carol", Plan: digestA}) })
				w.after(2*time.Minute, func() {
					if w.called("DropBackups") {
						w.t.Error("carol approved what her schedule does")
					}
					w.SignalWorkflow(Approve, Answer{By: "alice", Plan: digestA})
				})
			},
			func(t *testing.T, w *world, err error) {
				if err != nil || !w.called("Sweep") {
					t.Errorf("%v, %q", err, w.calls)
				}
			},
		},
		"rejected": {
			func(w *world) { w.after(time.Minute, func() { w.SignalWorkflow(Reject, Answer{By: "bob"}) }) },
			func(t *testing.T, w *world, err error) {
				var app *temporal.ApplicationError
				if !errors.As(err, &app) || app.Type() != activities.NotApproved {
					t.Errorf("%v", err)
				}
			},
		},
		"cancelled": {
			func(w *world) {
				w.after(time.Minute, func() { w.SignalWorkflow(SignalCancel, Control{By: "dave", Reason: "not now"}) })
			},
			func(t *testing.T, w *world, err error) {
				var canceledErr *temporal.CanceledError
				var left Left
				if !errors.As(err, &canceledErr) || canceledErr.Details(&left) != nil || left.By == nil || left.By.By != "dave" {
					t.Errorf("%v, %+v", err, left)
				}
			},
		},
		"paused and resumed": {
			func(w *world) {
				w.after(time.Minute, func() { w.SignalWorkflow(SignalPause, nil) })
				w.after(2*time.Minute, func() { w.SignalWorkflow(Approve, Answer{By: "bob", Plan: digestA}) })
				w.after(30*time.Minute, func() {
					if w.called("DropBackups") {
						w.t.Error("it goes on while it is paused")
					}
					w.SignalWorkflow(SignalResume, nil)
				})
			},
			func(t *testing.T, w *world, err error) {
				if err != nil || !w.called("Sweep") {
					t.Errorf("%v, %q", err, w.calls)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.RegisterWorkflow(Prune)
			w.RegisterWorkflow(Scheduled)
			c.send(w)
			w.ExecuteWorkflow(Scheduled, gatedTidy())
			if !w.IsWorkflowCompleted() {
				t.Fatal("it does not end")
			}
			c.end(t, w, w.GetWorkflowError())
		})
	}
}

// A signal that comes before the operation has begun is passed on when it has;
// a cancel ends the run.
func TestScheduledRunKeepsEarlySignals(t *testing.T) {
	for _, signal := range []string{SignalPause, SignalCancel} {
		t.Run(signal, func(t *testing.T) {
			w := newWorld(t)
			w.RegisterWorkflow(Backup)
			w.RegisterWorkflow(Scheduled)
			w.on["FreeBackupID"] = func(context.Context) error {
				w.SignalWorkflow(signal, Control{By: "dave"})
				return nil
			}
			copied := true
			w.after(time.Hour, func() {
				copied = w.called("CompleteBackup")
				w.SignalWorkflow(SignalResume, nil)
			})
			w.ExecuteWorkflow(Scheduled, scheduledBackup())
			err := w.GetWorkflowError()
			if signal == SignalPause && (err != nil || copied || !w.called("CompleteBackup")) {
				t.Errorf("it was complete within the pause: %v; %v, %q", copied, err, w.calls)
			}
			var canceledErr *temporal.CanceledError
			if signal == SignalCancel && (!errors.As(err, &canceledErr) || w.called("PlanBackup")) {
				t.Errorf("it ends with %v, %q", err, w.calls)
			}
		})
	}
}

// A prune that meets another one on its repository has nothing to do.
func TestScheduledPruneLeavesItToOneThatRuns(t *testing.T) {
	r := newRun(t, time.Unix(0, 0))
	r.RegisterWorkflow(Prune)
	r.OnWorkflow(Prune, mock.Anything, mock.Anything).Return(activities.PruneReport{}, &temporal.ChildWorkflowExecutionAlreadyStartedError{})
	req := gatedTidy()
	req.Prune.Notifications = nightly.Backup.Notifications
	r.ExecuteWorkflow(Scheduled, req)
	var report ScheduledReport
	if err := r.GetWorkflowResult(&report); err != nil || !strings.Contains(report.Skipped, "a prune of /backups is running already") {
		t.Errorf("%+v, %v", report, err)
	}
	if len(r.events) != 1 || r.events[0].Event.Event != config.OnSuccess || !strings.Contains(r.events[0].Event.Text, "did nothing") {
		t.Errorf("told %+v", r.events)
	}
}

// Every channel is told, each tried again by itself; one that refuses for good
// does not keep the others from it.
func TestNotify(t *testing.T) {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestWorkflowEnvironment()
	env.SetWorkerOptions(worker.Options{DeadlockDetectionTimeout: time.Minute})
	env.SetTestTimeout(time.Minute)
	tries := map[string]int{}
	var mu sync.Mutex
	env.RegisterActivityWithOptions(func(_ context.Context, _ activities.NotifyRequest, channel string) error {
		mu.Lock()
		defer mu.Unlock()
		tries[channel]++
		switch {
		case channel == config.ChannelPagerDuty:
			return temporal.NewNonRetryableApplicationError("wrong key", activities.Refused, nil)
		case tries[channel] < 4:
			return temporal.NewApplicationError("busy", activities.Transient)
		}
		return nil
	}, activity.RegisterOptions{Name: "Deliver"})
	some := config.NewSecret("${SOME}")
	req := activities.NotifyRequest{Notifications: config.Notifications{Webhook: config.Webhook{URL: some}, Slack: config.Slack{URL: some}, PagerDuty: config.PagerDuty{RoutingKey: some}}}
	req.Event.Event = config.OnFailure
	env.ExecuteWorkflow(Notify, req)
	err := env.GetWorkflowError()
	if err == nil || !strings.Contains(err.Error(), "pagerduty was not told") || strings.Contains(err.Error(), "slack") {
		t.Errorf("error %v", err)
	}
	if tries["webhook"] != 4 || tries["slack"] != 4 || tries["pagerduty"] != 1 {
		t.Errorf("tries %v", tries)
	}
}

// What is found wrong is an error of the workflow, so that a schedule sees it.
func TestValidateFailsWhereSomethingIsWrong(t *testing.T) {
	for _, problems := range []int64{0, 2} {
		w := newWorld(t)
		w.RegisterActivityWithOptions(func(context.Context, activities.ValidateRequest) (activities.ValidateReport, error) {
			r := repository.Report{BackupID: "b", Records: 7, ProblemCount: problems}
			for range problems {
				r.Problems = append(r.Problems, repository.Problem{Kind: repository.ProblemMissing, Key: "data/x"})
			}
			return activities.ValidateReport{Report: r}, nil
		}, activity.RegisterOptions{Name: "ValidateBackup"})
		w.ExecuteWorkflow(Validate, activities.ValidateRequest{})
		err := w.GetWorkflowError()
		var app *temporal.ApplicationError
		if problems == 0 {
			var report activities.ValidateReport
			if err != nil || w.GetWorkflowResult(&report) != nil || report.Records != 7 {
				t.Errorf("of a whole backup: %v, %+v", err, report)
			}
			continue
		}
		if !errors.As(err, &app) || app.Type() != activities.Corrupt || !strings.Contains(app.Message(), "2 problems") {
			t.Errorf("of a damaged one: %v", err)
		}
	}
}

// However a wait for approval ends, PagerDuty is told that it has; others are
// not told of it a second time.
func TestOperationTellsThatItWaitsNoMore(t *testing.T) {
	for name, end := range map[string]func(w *world){
		"approved":  func(w *world) { w.after(time.Minute, func() { w.give(Approve, Answer{By: "alice", Plan: digestA}) }) },
		"rejected":  func(w *world) { w.after(time.Minute, func() { w.give(Reject, Answer{By: "alice"}) }) },
		"cancelled": func(w *world) { w.after(time.Minute, w.CancelWorkflow) },
		"timed out": func(*world) {},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.RegisterWorkflow(Notify)
			var mu sync.Mutex
			var told []string
			w.RegisterActivityWithOptions(func(_ context.Context, req activities.NotifyRequest, channel string) error {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, fmt.Sprintf("%s %v", channel, req.Event.Answered))
				return nil
			}, activity.RegisterOptions{Name: "Deliver"})
			req := gatedRestore()
			on := []string{config.OnWaiting}
			req.Notifications = config.Notifications{Slack: config.Slack{URL: config.NewSecret("${SLACK}"), On: on},
				PagerDuty: config.PagerDuty{RoutingKey: config.NewSecret("${KEY}"), On: on}}
			end(w)
			w.ExecuteWorkflow(Restore, req)
			mu.Lock()
			defer mu.Unlock()
			slices.Sort(told)
			if want := []string{"pagerduty false", "pagerduty true", "slack false"}; !slices.Equal(told, want) {
				t.Errorf("told %q, want %q", told, want)
			}
		})
	}
}

// A check of the newest backup says which that is, before it begins to read.
func TestValidateSaysWhichBackupItChecks(t *testing.T) {
	w := newWorld(t)
	var checked string
	w.RegisterActivityWithOptions(func(_ context.Context, req activities.ValidateRequest) (activities.ValidateReport, error) {
		checked = req.BackupID
		return activities.ValidateReport{}, nil
	}, activity.RegisterOptions{Name: "ValidateBackup"})
	if err := w.SetTypedSearchAttributesOnStart(temporal.NewSearchAttributes(temporalservice.KeyKind.ValueSet("validate"))); err != nil {
		t.Fatal(err)
	}
	said := ""
	w.OnUpsertTypedSearchAttributes(mock.MatchedBy(func(a temporal.SearchAttributes) bool {
		if id, ok := a.GetKeyword(temporalservice.KeyBackupID); ok && checked == "" {
			said = id
		}
		return true
	})).Return(nil)
	w.ExecuteWorkflow(Validate, activities.ValidateRequest{})
	if err := w.GetWorkflowError(); err != nil || checked != "newest" || said != "newest" {
		t.Errorf("it checked %q and had said %q: %v", checked, said, err)
	}
}

// A gated operation tells that it waits, once a question, and how it ends; the
// endpoint does not answer and holds nothing up.
func TestOperationTellsThatItWaitsAndHowItEnds(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		want   []string
	}{
		"approved": {Approve, []string{config.OnWaiting, config.OnSuccess}},
		"rejected": {Reject, []string{config.OnWaiting, config.OnFailure}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.RegisterWorkflow(Notify)
			var mu sync.Mutex
			var told []string
			w.RegisterActivityWithOptions(func(_ context.Context, req activities.NotifyRequest, _ string) error {
				mu.Lock()
				defer mu.Unlock()
				if e := req.Event; !slices.Contains(told, e.Event) {
					told = append(told, e.Event)
					if e.Requester != "carol" || e.BackupID == "" || e.Kind != "restore" || e.Event == config.OnWaiting && !strings.Contains(e.Text, digestA[:8]) {
						t.Errorf("told %+v", e)
					}
				}
				return temporal.NewApplicationError("nobody there", activities.Transient)
			}, activity.RegisterOptions{Name: "Deliver"})
			req := gatedRestore()
			req.Notifications = config.Notifications{Slack: config.Slack{URL: config.NewSecret("${SLACK}"), On: []string{"failure", "success", "waiting"}}}
			w.after(time.Minute, func() { w.give(c.answer, Answer{By: "alice", Plan: digestA}) })
			began, ended := w.Now(), time.Time{}
			w.SetOnChildWorkflowStartedListener(func(info *workflow.Info, _ workflow.Context, _ converter.EncodedValues) { ended = w.Now() })
			w.ExecuteWorkflow(Restore, req)
			if err := w.GetWorkflowError(); (err == nil) != (c.answer == Approve) {
				t.Errorf("it ends with %v", err)
			}
			if took := ended.Sub(began); took < time.Minute || took > time.Hour {
				t.Errorf("its end was told after %v", took)
			}
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(told, c.want) {
				t.Errorf("told %q, want %q", told, c.want)
			}
		})
	}
}
