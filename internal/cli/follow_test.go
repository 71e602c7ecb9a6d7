package cli

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/workflows"
)

// following follows the operation of a service in a bubble of fake time, and
// calls each second with what is seen.
func following(t *testing.T, f *fakeService, each func(second int, v view)) {
	t.Helper()
	shown := newRecorder()
	fo := &follower{conn: &connection{Client: f}, id: "backup/x", queue: "queue", display: shown}
	done := make(chan error, 1)
	go func() {
		_, err := fo.follow(t.Context(), func(ctx context.Context) (outcome, error) { return backupKind.result(ctx, fakeRun{f: f}) })
		done <- err
	}()
	for second := 0; ; second++ {
		select {
		case v := <-shown.saw:
			each(second, v)
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		}
	}
}

func TestProgressIsOfFinishedAndRunningParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeService()
		f.polled = time.Now().Add(time.Hour)
		f.progress = &workflows.Progress{Kind: "backup", Phase: "copy", State: workflows.Running, Parts: 4, PartsDone: 1, PartsRunning: 2,
			Total: activities.Amount{Records: 10_000, Bytes: 10 << 20}, DoneParts: activities.Amount{Records: 1000, Bytes: 1 << 20}}
		following(t, f, func(second int, v view) {
			f.mu.Lock()
			defer f.mu.Unlock()
			n := int64(second)
			switch {
			case second == 0:
				if v.Done.Records != 1000 {
					t.Errorf("at the start %d records are done", v.Done.Records)
				}
			case second <= 5:
				if v.Done.Records != 1000+100*n || v.Done.Bytes != 1<<20+n<<20/10 {
					t.Errorf("after %d s %d records, %d bytes are done", second, v.Done.Records, v.Done.Bytes)
				}
				if v.RecordsPerSec < 99 || v.RecordsPerSec > 101 || v.ETA == nil || *v.ETA < 80 {
					t.Errorf("after %d s %f records/s, %v s left", second, v.RecordsPerSec, v.ETA)
				}
				if len(v.Lagging) != 1 || v.Lagging[0].Topic != "orders" {
					t.Errorf("lagging %v", v.Lagging)
				}
			case second == 6: // the part's worker died: its heartbeat is gone for a while
				if v.Done.Records != 1500 {
					t.Errorf("progress went back to %d records", v.Done.Records)
				}
				close(f.end)
			}
			f.parts = []*workflowpb.PendingActivityInfo{heartbeat(t, activities.Watermark{Done: activities.Amount{Records: 100 * (n + 1), Bytes: (n + 1) << 20 / 10},
				Lagging: []activities.Lag{{Topic: "orders", Partition: 3, Records: 50}}})}
			if second == 5 {
				f.parts = nil
			}
		})
	})
}

func TestNoWorkerIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeService()
		f.polled = time.Time{}
		following(t, f, func(second int, v view) {
			f.mu.Lock()
			defer f.mu.Unlock()
			if second < 5 && (!strings.Contains(v.Waiting, "no worker polls task queue queue") || !strings.Contains(v.line(), "kafka-backup worker --task-queue queue")) {
				t.Errorf("after %d s: %q", second, v.line())
			}
			f.polled = time.Now()
			f.progress = &workflows.Progress{Phase: "plan", State: workflows.Running}
			if second == 6 {
				if v.Waiting != "" || v.line() != "plan" {
					t.Errorf("with a worker: %q", v.line())
				}
				close(f.end)
			}
		})
	})
}

func TestSilentWorkerIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeService() // polls are there, answers are not
		following(t, f, func(second int, v view) {
			if said := strings.Contains(v.Waiting, "no answer from a worker for"); said != (second >= 10) {
				t.Errorf("after %d s: %q", second, v.Waiting)
			}
			if second == 12 {
				close(f.end)
			}
		})
	})
}

func TestLine(t *testing.T) {
	eta := 42.0
	v := view{Phase: "copy", Phases: []string{"plan", "copy", "complete"}, State: workflows.Paused, Control: &workflows.Control{By: "ann@host", Reason: "peak hours"}, Parts: 8, Finished: 3, Running: 4,
		Done: activities.Amount{Records: 450_000, Bytes: 1 << 30}, Total: activities.Amount{Records: 1_000_000}, BytesPerSec: 100 << 20, ETA: &eta,
		Lagging:  []activities.Lag{{Topic: "orders", Partition: 3, Records: 12_000}},
		Retrying: []activities.Retried{{Summary: "CopyPart", Attempt: 3, Error: "broker 2: connection refused"}}}
	want := "phase 2 of 3, copy 45.0%: 450,000 of 1,000,000 records, 1.0 GiB, 100 MiB/s, 42s left; 3 of 8 parts done, 4 in work; behind: orders/3 by 12,000; " +
		"paused by ann@host: peak hours; CopyPart is tried again (attempt 3): broker 2: connection refused"
	if got := v.line(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What a workflow wraps around an activity's error must not reach the user.
func TestExplain(t *testing.T) {
	failing := func(err error, wrap string) error {
		var suite testsuite.WorkflowTestSuite
		env := suite.NewTestWorkflowEnvironment()
		env.SetWorkerOptions(worker.Options{DeadlockDetectionTimeout: time.Minute}) // however busy the machine is
		env.SetTestTimeout(time.Minute)
		activity := func(context.Context) error { return err }
		flow := func(ctx workflow.Context) error {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute,
				RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1}})
			err := workflow.ExecuteActivity(ctx, activity).Get(ctx, nil)
			if wrap != "" {
				err = fmt.Errorf("%s: %w", wrap, err)
			}
			return err
		}
		env.RegisterActivity(activity)
		env.ExecuteWorkflow(flow)
		return env.GetWorkflowError()
	}
	corrupt := temporal.NewNonRetryableApplicationError(`segment "data/b/0.seg" is corrupt`, activities.Corrupt, nil)
	for _, c := range []struct {
		err        error
		text, kind string
	}{
		{failing(corrupt, ""), `segment "data/b/0.seg" is corrupt`, activities.Corrupt},
		{failing(corrupt, "part 3"), `part 3: segment "data/b/0.seg" is corrupt`, activities.Corrupt},
		{failing(fmt.Errorf("orders/3: %w", context.DeadlineExceeded), ""), "orders/3: context deadline exceeded", "wrapError"},
		{temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_HEARTBEAT, nil), "a worker fell silent in the middle of its work, and the work could not be taken over", typeTimeout},
		{temporal.NewCanceledError(), "the operation was cancelled", typeCancelled},
	} {
		got := explain(c.err)
		if got.Message != c.text || got.Type != c.kind {
			t.Errorf("%v: got %q (%s), want %q (%s)", c.err, got.Message, got.Type, c.text, c.kind)
		}
	}
}

func TestRetriesAreShown(t *testing.T) {
	f := newFakeService()
	f.progress = &workflows.Progress{Phase: "copy", State: workflows.Running}
	f.parts = []*workflowpb.PendingActivityInfo{{Attempt: 4, ActivityType: &commonpb.ActivityType{Name: "CopyPart"}, LastFailure: &failurepb.Failure{Message: "broker is away"}}}
	fo := &follower{conn: &connection{Client: f}, id: "x", queue: "queue", display: newRecorder()}
	v := fo.look(t.Context(), time.Now())
	if len(v.Retrying) != 1 || !strings.Contains(v.line(), "attempt 4): broker is away") {
		t.Errorf("got %q", v.line())
	}
}

// The Temporal service may restart: neither is the operation said to have
// failed, nor is its end missed.
func TestServiceThatIsAwayIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeService()
		f.away = true
		following(t, f, func(second int, v view) {
			if said := strings.Contains(v.Waiting, "no answer from Temporal at"); second <= 12 && said != (second >= 10) {
				t.Errorf("after %d s: %q", second, v.Waiting)
			}
			if second == 12 {
				close(f.end)
			}
		})
		if f.away {
			t.Error("the end was not waited for")
		}
	})
}
