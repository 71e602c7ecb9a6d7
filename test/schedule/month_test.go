package schedule

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/interceptor"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/backup"
)

// A schedule for backups runs every hour, and one for prune once a day, for a
// month of the Temporal server's time, which skips from one run to the next.
// Backups are stamped with the time of their runs; ten records come before
// each. What is kept in the end is what the policy says, and whole.
//
// It takes a second or so for each run: a month only with
// KAFKA_BACKUP_TEST_DAYS=31, otherwise one day.
func TestMonthOfHourlyBackups(t *testing.T) {
	days := 1
	if text := os.Getenv("KAFKA_BACKUP_TEST_DAYS"); text != "" {
		var err error
		if days, err = strconv.Atoi(text); err != nil || days < 1 {
			t.Fatalf("KAFKA_BACKUP_TEST_DAYS=%s", text)
		}
	} else if testing.Short() {
		t.Skip("takes a minute")
	}
	runs := 24 * days
	var clock virtual
	real := backup.Clock
	backup.Clock = clock.now
	t.Cleanup(func() { backup.Clock = real })
	var b *bed
	b = newBed(t, func(o *client.Options) {
		o.Interceptors = []interceptor.ClientInterceptor{&stamper{clock: &clock, each: func() error { return b.tryProduce(10) }}}
	})
	b.work()
	conf := b.config("hourly-{{date}}-{{hour}}", "retention: {keep_within: 12h, keep_daily: 7, keep_weekly: 3, keep_monthly: 2}\n")
	b.must("schedule", "create", "tidy", "--kind", "prune", "--config", conf, "--every", "1d", "--overlap", "buffer-one", "--task-queue", b.queue)
	b.must("schedule", "create", "hourly", "--config", conf, "--every", "1h", "--pause-on-failure", "--task-queue", b.queue)
	began := time.Now()
	for done := 0; done < runs; {
		b.nextHour("hourly")
		done++
		if done%24 == 0 { // beside the backups that follow
			b.skipTo(t.Context(), "tidy", 24*time.Hour, time.Time{})
			t.Logf("day %d, %v", done/24, time.Since(began).Round(time.Second))
		}
	}
	b.must("schedule", "pause", "hourly")
	s := b.ran("hourly", runs)
	// Where the scheduler continues as new, the server may skip further than it
	// was asked to: there are more hours then, which have run or were skipped.
	if s.Runs < runs || s.Missed != 0 {
		t.Errorf("the schedule says: %d runs, %d missed; want %d", s.Runs, s.Missed, runs)
	}
	runs = s.Runs
	b.pruned("tidy")
	before := b.describe("tidy").Runs
	b.must("schedule", "trigger", "tidy")
	b.ran("tidy", before+1)

	// One run for each hour, and each succeeded.
	at := b.succeeded("hourly")
	if len(at) != runs {
		t.Fatalf("%d runs succeeded, want %d", len(at), runs)
	}
	for i := range at {
		if !at[i].Equal(at[i].Truncate(time.Hour)) || i > 0 && !at[i].After(at[i-1]) {
			t.Fatalf("run %d is that of %v", i, at[i])
		}
	}
	if hours := int(at[len(at)-1].Sub(at[0])/time.Hour) + 1; hours != runs+s.Skipped {
		t.Errorf("%d hours have %d runs, and %d were skipped", hours, runs, s.Skipped)
	}
	prunes := b.succeeded("tidy")
	if !slices.ContainsFunc(prunes, func(at time.Time) bool { return at.Equal(at.Truncate(24 * time.Hour)) }) {
		t.Errorf("none of the prunes was begun by the schedule itself: %v", prunes)
	}
	if n := len(prunes); n != b.describe("tidy").Runs || n <= days/2 {
		t.Errorf("%d of %d prunes succeeded", n, b.describe("tidy").Runs)
	}

	var want []string
	for _, when := range kept(at, 12*time.Hour, 7, 3, 2) {
		want = append(want, when.Format("hourly-2006-01-02-15"))
	}
	got := b.backups()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("kept are\n%q\nwant\n%q", got, want)
	}
	for i, id := range got {
		if i == 0 || i == len(got)-1 || i%10 == 0 {
			b.must("validate", "--path", b.dir, "--backup-id", id, "--deep")
		}
	}
	var newest struct {
		Totals struct {
			Records int `json:"records"`
		} `json:"totals"`
	}
	r := b.must("describe", "--path", b.dir, "--backup-id", got[len(got)-1], "--output", "json")
	if err := json.Unmarshal([]byte(r.out), &newest); err != nil {
		t.Fatal(err)
	}
	if want := 10 * (runs + 1); newest.Totals.Records != want {
		t.Errorf("the newest backup has %d records, want %d", newest.Totals.Records, want)
	}
	t.Logf("%d runs, %d prunes, %d backups kept, %v", runs, b.describe("tidy").Runs, len(got), time.Since(began).Round(time.Second))
}

// pruned waits until no prune runs or is to run.
func (b *bed) pruned(id string) {
	b.t.Helper()
	last, since := -1, time.Now()
	b.await(id, "the end of prunes", func(s scheduled) bool {
		if s.Runs != last || s.Last == nil || s.Last.Status == "running" {
			last, since = s.Runs, time.Now()
		}
		return time.Since(since) > 3*time.Second // a run that was waiting begins at once
	})
}

// nextHour has the Temporal server skip the time until just after the next full
// hour of a schedule, and waits until the run of that hour has succeeded.
func (b *bed) nextHour(id string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	h := b.client.ScheduleClient().GetHandle(ctx, id)
	// A scheduler that continues as new cannot be asked for a moment.
	describe := func() *client.ScheduleDescription {
		for {
			d, err := h.Describe(ctx)
			if err == nil {
				return d
			}
			if ctx.Err() != nil {
				b.t.Fatalf("%s: %v", id, err)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	before := describe()
	first := b.skipTo(ctx, id, time.Hour, time.Time{})
	asked := time.Now()
	for {
		after := describe()
		if after.Info.NumActions > before.Info.NumActions {
			run := after.Info.RecentActions[len(after.Info.RecentActions)-1].StartWorkflowResult
			if err := b.client.GetWorkflow(ctx, run.WorkflowID, run.FirstExecutionRunID).Get(ctx, nil); err != nil {
				b.t.Fatalf("%s: %v", run.WorkflowID, err)
			}
			return
		}
		if time.Since(asked) > 5*time.Second { // the scheduler continued as new meanwhile
			b.skipTo(ctx, id, time.Hour, first)
			asked = time.Now()
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// skipTo skips the time of a schedule until just after a time at which a period
// begins, the next one if it is zero, and returns it. Where it has passed, it
// only wakes the schedule.
func (b *bed) skipTo(ctx context.Context, id string, period time.Duration, to time.Time) time.Time {
	b.t.Helper()
	scheduler := &commonpb.WorkflowExecution{WorkflowId: "temporal-sys-scheduler:" + id}
	d, err := b.client.WorkflowService().DescribeWorkflowExecution(ctx, &workflowservice.DescribeWorkflowExecutionRequest{Namespace: server.Namespace, Execution: scheduler})
	if err != nil {
		b.t.Fatal(err)
	}
	now := time.Now() // until time was skipped for the first time
	if at := d.GetWorkflowExtendedInfo().GetTimeSkippingInfo().GetCurrentTime(); at != nil {
		now = at.AsTime()
	}
	if to.IsZero() {
		to = now.Truncate(period).Add(period)
	}
	_, err = b.client.WorkflowService().UpdateWorkflowExecutionOptions(ctx, &workflowservice.UpdateWorkflowExecutionOptionsRequest{
		Namespace: server.Namespace, WorkflowExecution: scheduler,
		WorkflowExecutionOptions: &workflowpb.WorkflowExecutionOptions{TimeSkippingConfig: &commonpb.TimeSkippingConfig{
			Enabled: true, MaxSessionSkipCount: 3, FastForwardConfig: &commonpb.FastForwardConfig{Id: now.String(), Duration: durationpb.New(max(to.Sub(now), 0) + time.Second)},
		}},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"time_skipping_config"}},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return to
}

// succeeded lists the times of a schedule's runs that succeeded, in order.
func (b *bed) succeeded(id string) (at []time.Time) {
	b.t.Helper()
	var page []byte
	for {
		answer, err := b.client.ListWorkflow(b.t.Context(), &workflowservice.ListWorkflowExecutionsRequest{
			Query: fmt.Sprintf(`WorkflowType = "Scheduled" AND TemporalScheduledById = %q`, id), PageSize: 500, NextPageToken: page,
		})
		if err != nil {
			b.t.Fatal(err)
		}
		for _, e := range answer.GetExecutions() {
			if e.GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED {
				b.t.Errorf("%s is %v", e.GetExecution().GetWorkflowId(), e.GetStatus())
				continue
			}
			var when time.Time
			if err := converter.GetDefaultDataConverter().FromPayload(e.GetSearchAttributes().GetIndexedFields()["TemporalScheduledStartTime"], &when); err != nil {
				b.t.Fatal(err)
			}
			at = append(at, when.UTC())
		}
		if page = answer.GetNextPageToken(); len(page) == 0 {
			slices.SortFunc(at, time.Time.Compare)
			return at
		}
	}
}

// kept says which backups a policy keeps: those within some time of the newest,
// and the newest of each of the last days, weeks and months.
func kept(at []time.Time, within time.Duration, daily, weekly, monthly int) []time.Time {
	newest := at[len(at)-1]
	keep := map[time.Time]bool{}
	for _, t := range at {
		if newest.Sub(t) <= within {
			keep[t] = true
		}
	}
	for _, rule := range []struct {
		n      int
		period func(time.Time) string
	}{
		{daily, func(t time.Time) string { return t.Format("2006-01-02") }},
		{weekly, func(t time.Time) string { y, w := t.ISOWeek(); return fmt.Sprint(y, "/", w) }},
		{monthly, func(t time.Time) string { return t.Format("2006-01") }},
	} {
		seen := map[string]bool{}
		for i := len(at) - 1; i >= 0 && len(seen) <= rule.n; i-- {
			p := rule.period(at[i])
			if !seen[p] && len(seen) < rule.n {
				keep[at[i]] = true
			}
			seen[p] = true
		}
	}
	var list []time.Time
	for _, t := range at {
		if keep[t] {
			list = append(list, t)
		}
	}
	return list
}

// virtual is a clock that shows the time of the run that is in work.
type virtual struct {
	mu sync.Mutex
	at time.Time
}

func (v *virtual) now() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.at.IsZero() {
		return time.Now()
	}
	return v.at
}

// stamper sets the clock to the time of the run before a backup is planned, and
// calls each.
type stamper struct {
	interceptor.InterceptorBase
	clock *virtual
	each  func() error
}

func (s *stamper) InterceptActivity(ctx context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &stampedActivity{ActivityInboundInterceptorBase: interceptor.ActivityInboundInterceptorBase{Next: next}, stamper: s}
}

type stampedActivity struct {
	interceptor.ActivityInboundInterceptorBase
	*stamper
}

func (s *stampedActivity) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	if activity.GetInfo(ctx).ActivityType.Name == "PlanBackup" {
		at, err := time.Parse("hourly-2006-01-02-15", in.Args[0].(activities.BackupRequest).BackupID)
		if err != nil {
			return nil, err
		}
		s.clock.mu.Lock()
		moved := !s.clock.at.Equal(at)
		s.clock.at = at
		s.clock.mu.Unlock()
		if moved { // not at another attempt
			if err := s.each(); err != nil {
				return nil, err
			}
		}
	}
	return s.Next.ExecuteActivity(ctx, in)
}
