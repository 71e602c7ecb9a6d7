package temporalservice

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/types/known/durationpb"
)

// serverBinary is the environment variable with the path of a kafka-backup-server
// to test against; `make test` builds one and sets it.
const serverBinary = "KAFKA_BACKUP_SERVER"

// The parts of this package together, against the real embedded server.
func TestEmbeddedServer(t *testing.T) {
	binary := os.Getenv(serverBinary)
	if binary == "" {
		t.Skipf("%s is not set", serverBinary)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	s, err := StartServer(ctx, ServerOptions{Binary: binary, StateDir: t.TempDir(), Log: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop(ctx)

	_, err = Dial(ctx, load(t, Options{Address: s.Address, Namespace: "nowhere"}))
	if typed := (*DialError)(nil); !errors.As(err, &typed) || typed.Reason != NoNamespace {
		t.Errorf("a namespace that is not there: %v", err)
	}
	p := s.Profile()
	c, err := Dial(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r, err := EnsureSearchAttributes(ctx, c, p.Namespace)
	if err != nil || !r.Complete() {
		t.Fatalf("%+v, %v", r, err)
	}

	// A namespace without the attributes gets them, and they work at once.
	if _, err := c.WorkflowService().RegisterNamespace(ctx, registerOther); err != nil {
		t.Fatal(err)
	}
	other := load(t, Options{Address: s.Address, Namespace: registerOther.Namespace})
	var c2 client.Client
	for c2 == nil { // the server takes a moment to know it
		if c2, err = Dial(ctx, other); err != nil && ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	defer c2.Close()
	if r, err = EnsureSearchAttributes(ctx, c2, other.Namespace); err != nil || !r.Complete() {
		t.Fatalf("%+v, %v", r, err)
	}
	runWorkflow(ctx, t, c2, r)
}

// runWorkflow starts a workflow with attributes and finds it by one that it has
// set itself.
func runWorkflow(ctx context.Context, t *testing.T, c client.Client, r Registration) {
	t.Helper()
	w := worker.New(c, "queue", worker.Options{})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
		return Upsert(ctx, Attributes{Phase: "done", Topics: []string{"orders", "payments"}})
	}, workflow.RegisterOptions{Name: "main"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: "backup/b-1", TaskQueue: "queue", TypedSearchAttributes: r.Start(Attributes{Kind: "backup", Phase: "plan"}),
	}, "main")
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Get(ctx, nil); err != nil {
		t.Fatal(err)
	}
	const query = "KafkaBackupKind = 'backup' AND KafkaBackupPhase = 'done' AND KafkaBackupTopics = 'payments'"
	for {
		found, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: query})
		if err != nil {
			t.Fatal(err)
		}
		if len(found.Executions) == 1 && found.Executions[0].Execution.WorkflowId == "backup/b-1" {
			return
		}
		time.Sleep(20 * time.Millisecond) // visibility follows; ctx bounds it
	}
}

var registerOther = &workflowservice.RegisterNamespaceRequest{
	Namespace: "other", WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
}
