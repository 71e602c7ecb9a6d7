package workflows

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
)

// recording is one operation that runs on a real server.
type recording struct {
	*fakes
	t   *testing.T
	ctx context.Context
	c   client.Client
	id  string
	// first is the id of its first run, which is saved.
	first string
	// stop stops the workers.
	stop func()
}

func recordHistories(t *testing.T) {
	binary, err := filepath.Abs("../bin/" + temporalservice.ServerBinary)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	server, err := temporalservice.StartServer(ctx, temporalservice.ServerOptions{Binary: binary, StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop(context.Background())
	c, err := client.Dial(client.Options{HostPort: server.Address, Logger: nolog{}, Identity: "recorder"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := os.MkdirAll(histories, 0o755); err != nil {
		t.Fatal(err)
	}
	which, err := regexp.Compile(*record)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scenarios {
		if !which.MatchString(s.name) {
			continue
		}
		undo := continued(s.name)
		r := &recording{fakes: newFakes(t), t: t, ctx: ctx, c: c, id: s.name}
		if s.set != nil {
			s.set(r)
		}
		r.run(s)
		r.save()
		undo()
	}
}

// run runs a scenario with a worker of its own, and checks that it is what it
// should be: replayed at once.
func (r *recording) run(s scenario) {
	r.work()
	defer func() { r.stop() }()
	attributes := temporalservice.Registration{}.Start(temporalservice.Attributes{Kind: "recorded", Requester: "carol"})
	run, err := r.c.ExecuteWorkflow(r.ctx, client.StartWorkflowOptions{ID: s.name, TaskQueue: s.name, TypedSearchAttributes: attributes}, s.workflow, s.request)
	if err != nil {
		r.t.Fatal(err)
	}
	r.first = run.GetRunID()
	if s.do != nil {
		s.do(r)
	}
	err = run.Get(r.ctx, nil)
	if r.ctx.Err() != nil {
		r.t.Fatalf("%s does not end: %v", s.name, err)
	}
	r.t.Logf("%s: %v", s.name, err)
}

// work starts workers.
func (r *recording) work() {
	var all []worker.Worker
	for _, queue := range []string{r.id, activities.TransferQueue(r.id), activities.FollowQueue(r.id)} {
		w := worker.New(r.c, queue, worker.Options{MaxHeartbeatThrottleInterval: 100 * time.Millisecond})
		for _, fn := range recorded {
			w.RegisterWorkflow(fn)
		}
		r.register(w)
		r.must(w.Start())
		all = append(all, w)
	}
	r.stop = func() {
		for _, w := range all {
			w.Stop()
		}
	}
}

// whileAway does something while no worker is there, and lets every timer that
// runs fire after it.
func (r *recording) whileAway(do func()) {
	r.stop()
	do()
	for r.timers() > 0 {
		select {
		case <-r.ctx.Done():
			r.t.Fatalf("%s: a timer does not fire", r.id)
		case <-time.After(50 * time.Millisecond):
		}
	}
	r.work()
}

// timers is how many timers run.
func (r *recording) timers() (n int) {
	for _, e := range r.events() {
		switch e.EventType {
		case enumspb.EVENT_TYPE_TIMER_STARTED:
			n++
		case enumspb.EVENT_TYPE_TIMER_FIRED, enumspb.EVENT_TYPE_TIMER_CANCELED:
			n--
		}
	}
	return n
}

// backups waits until a continuous backup has made so many and rests.
func (r *recording) backups(n int) {
	r.until("enough backups", func(Progress) bool {
		rests := 0
		for _, e := range r.events() {
			if e.EventType == enumspb.EVENT_TYPE_TIMER_STARTED && strings.Contains(string(e.GetUserMetadata().GetSummary().GetData()), "until the next backup") {
				rests++
			}
		}
		return rests == n
	})
}

// drain makes an activity do something, and then end as one does whose worker is
// shut down: after it was told to stop.
func (w *fakes) drain(name string, do func()) {
	w.hang(name, do)
	hang := w.on[name]
	w.on[name] = func(ctx context.Context) error {
		_ = hang(ctx)
		return temporal.NewApplicationError("the worker is shutting down; another one goes on", activities.Transient)
	}
}

func (r *recording) events() (all []*historypb.HistoryEvent) {
	events := r.c.GetWorkflowHistory(r.ctx, r.id, r.first, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		e, err := events.Next()
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func (r *recording) save() {
	h := &historypb.History{Events: r.events()}
	for _, e := range h.Events {
		strip(e)
	}
	data, err := protojson.MarshalOptions{Multiline: true, Indent: " "}.Marshal(h)
	if err == nil {
		err = os.WriteFile(filepath.Join(histories, r.id+".json"), append(data, '\n'), 0o644)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// strip removes what names the machine that recorded.
func strip(e *historypb.HistoryEvent) {
	if q := e.GetWorkflowTaskScheduledEventAttributes().GetTaskQueue(); q.GetNormalName() != "" {
		q.Name = q.NormalName // a worker's own queue has its host's name
	}
	m := e.ProtoReflect()
	attributes := m.Descriptor().Oneofs().ByName("attributes")
	field := m.WhichOneof(attributes)
	if field == nil {
		return
	}
	inner := m.Mutable(field).Message()
	if f := inner.Descriptor().Fields().ByName("identity"); f != nil {
		inner.Clear(f)
	}
	if f := inner.Descriptor().Fields().ByName("binary_checksum"); f != nil {
		inner.Clear(f)
	}
}

func (r *recording) must(err error) {
	if err != nil {
		r.t.Errorf("%s: %v", r.id, err)
	}
}

func (r *recording) signal(name string, payload any) {
	r.must(r.c.SignalWorkflow(r.ctx, r.id, "", name, payload))
}
func (r *recording) cancel() { r.must(r.c.CancelWorkflow(r.ctx, r.id, "")) }

// update sends an answer, which may be refused.
func (r *recording) update(name string, a Answer) {
	h, err := r.c.UpdateWorkflow(r.ctx, client.UpdateWorkflowOptions{WorkflowID: r.id, UpdateName: name, Args: []any{a}, WaitForStage: client.WorkflowUpdateStageCompleted})
	if err == nil {
		err = h.Get(r.ctx, nil)
	}
	r.t.Logf("%s: %s by %s: %v", r.id, name, a.By, err)
}

// nextRun waits until the operation has continued as new.
func (r *recording) nextRun() {
	for {
		d, err := r.c.DescribeWorkflowExecution(r.ctx, r.id, "")
		if err == nil && d.GetWorkflowExecutionInfo().GetExecution().GetRunId() != r.first {
			return
		}
		select {
		case <-r.ctx.Done():
			r.t.Fatalf("%s: it does not continue as new: %v", r.id, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (r *recording) await(s State) {
	r.until(string(s), func(p Progress) bool { return p.State == s })
}

func (r *recording) until(what string, ready func(Progress) bool) {
	for {
		v, err := r.c.QueryWorkflow(r.ctx, r.id, "", QueryProgress)
		var p Progress
		if err == nil && v.Get(&p) == nil && ready(p) {
			return
		}
		select {
		case <-r.ctx.Done():
			r.t.Fatalf("%s: not %s: %+v, %v", r.id, what, p, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
