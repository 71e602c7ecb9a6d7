package cli

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
	"github.com/kafka-backup/kafka-backup/workflows"
)

// fakeService is a Temporal service with one operation in it. Its zero value
// has none; start makes one that runs until end is closed.
type fakeService struct {
	client.Client // calls that no test expects panic

	mu       sync.Mutex
	running  bool // an operation is there before
	started  []client.StartWorkflowOptions
	request  any
	signals  []string
	control  workflows.Control
	query    string // of a list
	progress *workflows.Progress
	parts    []*workflowpb.PendingActivityInfo
	polled   time.Time // when a worker last polled; zero: never
	status   enumspb.WorkflowExecutionStatus
	typeName string
	listed   []*workflowpb.WorkflowExecutionInfo
	answers  []workflows.Answer // given as updates
	refusal  error              // of an update
	// scheduled are runs of schedules, by workflow id, with their memos.
	scheduled map[string]*commonpb.Memo

	away   bool          // the first wait for the end finds the service away
	looks  int           // how often the operation was described
	end    chan struct{} // closed: the operation has ended
	result any
	err    error
}

func newFakeService() *fakeService {
	return &fakeService{end: make(chan struct{}), polled: time.Now(), typeName: "Backup",
		status: enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, result: testReport}
}

// ended is the service when the operation ended at once with a result or error.
func (f *fakeService) ended(result any, err error) *fakeService {
	f.result, f.err = result, err
	close(f.end)
	return f
}

// install makes a program use the service.
func (f *fakeService) install(p *program) {
	p.dial = func(context.Context, temporalservice.Profile, ...func(*client.Options)) (client.Client, error) {
		return f, nil
	}
	p.register = func(context.Context, client.Client, string) (temporalservice.Registration, error) {
		return temporalservice.Registration{}, nil
	}
}

type fakeRun struct {
	client.WorkflowRun
	f  *fakeService
	id string
}

func (r fakeRun) GetID() string    { return r.id }
func (r fakeRun) GetRunID() string { return "run-1" }

func (r fakeRun) Get(ctx context.Context, value any) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-r.f.end:
	}
	r.f.mu.Lock()
	away := r.f.away
	r.f.away = false
	r.f.mu.Unlock()
	if away {
		return serviceerror.NewUnavailable("connection refused")
	}
	if r.f.err != nil {
		return r.f.err
	}
	p, err := converter.GetDefaultDataConverter().ToPayload(r.f.result)
	if err != nil {
		return err
	}
	return converter.GetDefaultDataConverter().FromPayload(p, value)
}

func (f *fakeService) Close() {}

func (f *fakeService) ExecuteWorkflow(_ context.Context, o client.StartWorkflowOptions, _ any, args ...any) (client.WorkflowRun, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running {
		return nil, &serviceerror.WorkflowExecutionAlreadyStarted{RunId: "run-0"}
	}
	f.started = append(f.started, o)
	f.request = args[0]
	return fakeRun{f: f, id: o.ID}, nil
}

func (f *fakeService) GetWorkflow(_ context.Context, id, _ string) client.WorkflowRun {
	return fakeRun{f: f, id: id}
}

// fakeHistory is the first event of a workflow with this request.
type fakeHistory struct{ request any }

func (h fakeHistory) HasNext() bool { return true }
func (h fakeHistory) Next() (*historypb.HistoryEvent, error) {
	input, err := converter.GetDefaultDataConverter().ToPayloads(h.request)
	return &historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{
		WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{Input: input}}}, err
}

func (f *fakeService) GetWorkflowHistory(context.Context, string, string, bool, enumspb.HistoryEventFilterType) client.HistoryEventIterator {
	return fakeHistory{f.request}
}

type fakeValue struct{ p *commonpb.Payload }

func (v fakeValue) HasValue() bool { return true }
func (v fakeValue) Get(value any) error {
	return converter.GetDefaultDataConverter().FromPayload(v.p, value)
}

func (f *fakeService) QueryWorkflow(context.Context, string, string, string, ...any) (converter.EncodedValue, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away {
		return nil, serviceerror.NewUnavailable("connection refused")
	}
	if f.progress == nil {
		return nil, errors.New("no poller seen for task queue recently")
	}
	p, err := converter.GetDefaultDataConverter().ToPayload(f.progress)
	return fakeValue{p}, err
}

func (f *fakeService) DescribeWorkflowExecution(_ context.Context, id, _ string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looks++
	if id == "missing" {
		return nil, serviceerror.NewNotFound("workflow not found")
	}
	if memo, ok := f.scheduled[id]; ok {
		return &workflowservice.DescribeWorkflowExecutionResponse{WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{
			Execution: &commonpb.WorkflowExecution{WorkflowId: id, RunId: "run-1"}, Type: &commonpb.WorkflowType{Name: workflows.ScheduledType},
			Status: enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, Memo: memo,
		}}, nil
	}
	return &workflowservice.DescribeWorkflowExecutionResponse{
		PendingActivities: f.parts,
		WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{
			Execution: &commonpb.WorkflowExecution{WorkflowId: id, RunId: "run-1"},
			Type:      &commonpb.WorkflowType{Name: f.typeName},
			Status:    f.status,
			TaskQueue: "queue",
		},
	}, nil
}

func (f *fakeService) DescribeTaskQueue(_ context.Context, _ string, _ enumspb.TaskQueueType) (*workflowservice.DescribeTaskQueueResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	answer := &workflowservice.DescribeTaskQueueResponse{}
	if !f.polled.IsZero() {
		answer.Pollers = []*taskqueuepb.PollerInfo{{LastAccessTime: timestamppb.New(f.polled)}}
	}
	return answer, nil
}

func (f *fakeService) SignalWorkflow(_ context.Context, id, _, name string, arg any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.signals = append(f.signals, name+" "+id)
	f.control, _ = arg.(workflows.Control)
	return nil
}

type fakeUpdate struct {
	client.WorkflowUpdateHandle
	f *fakeService
	a workflows.Answer
	o activities.Outcome
}

func (u fakeUpdate) Get(_ context.Context, value any) error {
	if u.f.refusal != nil {
		return u.f.refusal
	}
	*value.(*activities.Decision) = activities.Decision{Outcome: u.o, By: u.a.By, Reason: u.a.Reason, Plan: u.a.Plan, At: testTime}
	return nil
}

func (f *fakeService) UpdateWorkflow(_ context.Context, o client.UpdateWorkflowOptions) (client.WorkflowUpdateHandle, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := o.Args[0].(workflows.Answer)
	f.answers = append(f.answers, a)
	return fakeUpdate{f: f, a: a, o: map[string]activities.Outcome{workflows.Approve: activities.Approved, workflows.Reject: activities.Rejected}[o.UpdateName]}, nil
}

func (f *fakeService) CancelWorkflow(_ context.Context, id, _ string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.signals = append(f.signals, "cancel "+id)
	return nil
}

func (f *fakeService) ListWorkflow(_ context.Context, r *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.query = r.Query
	if len(r.NextPageToken) == 0 && len(f.listed) > 1 {
		return &workflowservice.ListWorkflowExecutionsResponse{Executions: f.listed[:1], NextPageToken: []byte("2")}, nil
	}
	return &workflowservice.ListWorkflowExecutionsResponse{Executions: f.listed[min(1, len(f.listed)-1):]}, nil
}

// heartbeat is a running activity that has reported a watermark.
func heartbeat(t *testing.T, w activities.Watermark) *workflowpb.PendingActivityInfo {
	t.Helper()
	p, err := converter.GetDefaultDataConverter().ToPayloads(w)
	if err != nil {
		t.Fatal(err)
	}
	return &workflowpb.PendingActivityInfo{HeartbeatDetails: p, ActivityType: &commonpb.ActivityType{Name: "CopyPart"}}
}

// recorder is a display that keeps what it is shown.
type recorder struct {
	mu    sync.Mutex
	views []view
	saw   chan view
}

func newRecorder() *recorder { return &recorder{saw: make(chan view, 1000)} }

func (r *recorder) show(v *view) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.views); n > 0 && reflect.DeepEqual(r.views[n-1], *v) {
		return
	}
	r.views = append(r.views, *v)
	r.saw <- *v
}
func (r *recorder) started(started)         {}
func (r *recorder) note(string, ...any)     {}
func (r *recorder) failed(string, *failure) {}
func (r *recorder) close()                  {}
