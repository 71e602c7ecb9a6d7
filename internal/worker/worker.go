// Package worker is a worker process of the product: it offers a Temporal
// service its workflows and activities.
//
// A worker listens on three task queues. The one it is given carries workflows
// and short activities, many at a time; another ([activities.TransferQueue])
// carries the activities that move data, few at a time, because each of them
// fills cores, wires and memory; the third ([activities.FollowQueue]) those
// that follow topics, which are always there and seldom busy. Any number of
// workers may share the queues.
package worker

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/memory"
	"github.com/kafka-backup/kafka-backup/internal/telemetry"
	"github.com/kafka-backup/kafka-backup/workflows"
)

// DefaultTaskQueue is the task queue of operations that name no other.
const DefaultTaskQueue = "kafka-backup"

// Options say how a worker works.
type Options struct {
	// TaskQueue to listen on; empty means DefaultTaskQueue.
	TaskQueue string
	// Transfers is how many activities move data at the same time; 0 means 2.
	// Each takes memory of its own (see docs/CONFIGURATION.md).
	Transfers int
	// MemoryLimit is about how many bytes of memory the worker may take beside
	// its program; 0 means 40 MiB and 24 MiB for each transfer. It gives way
	// where more is needed, see package memory.
	MemoryLimit int64
	// DrainTimeout is how long activities may take, on Stop, to come to a safe
	// point; 0 means 20 s. Those that do not are taken over all the same.
	DrainTimeout time.Duration
	// Page returns the page of a workflow in the Web UI, for notifications, or
	// an empty text. Nil: not known.
	Page func(workflowID, runID string) string
	// Log gets what the worker itself has to say; nil throws it away. The
	// client's log gets the rest.
	Log log.Logger
}

// Worker is a running worker.
type Worker struct {
	control, transfer, follow worker.Worker
	client                    client.Client
	drain                     time.Duration
	stopWatching              context.CancelFunc
	failed                    atomic.Pointer[error]
}

// followers is how many activities follow topics at the same time.
const followers = 32

// stopGrace is how much longer than its drain timeout Stop may take.
const stopGrace = 5 * time.Second

// Start starts a worker; it works until Stop.
func Start(c client.Client, o Options) (*Worker, error) {
	if o.TaskQueue == "" {
		o.TaskQueue = DefaultTaskQueue
	}
	if o.Transfers <= 0 {
		o.Transfers = 2
	}
	if o.MemoryLimit <= 0 {
		o.MemoryLimit = 40<<20 + int64(o.Transfers)*24<<20
	}
	memory.Keep(o.MemoryLimit)
	if o.DrainTimeout <= 0 {
		o.DrainTimeout = 20 * time.Second
	}
	w := &Worker{client: c, drain: o.DrainTimeout}
	options := worker.Options{
		WorkerStopTimeout: o.DrainTimeout,
		OnFatalError:      func(err error) { w.failed.Store(&err) },
		// A heartbeat's answer is how an activity learns that it is to stop.
		MaxHeartbeatThrottleInterval:       time.Second,
		MaxConcurrentActivityExecutionSize: 100,
	}
	w.control = worker.New(c, o.TaskQueue, options)
	options.DisableWorkflowWorker = true
	options.MaxConcurrentActivityExecutionSize = o.Transfers
	w.transfer = worker.New(c, activities.TransferQueue(o.TaskQueue), options)

	options.MaxConcurrentActivityExecutionSize = followers
	w.follow = worker.New(c, activities.FollowQueue(o.TaskQueue), options)

	w.control.RegisterWorkflow(workflows.Backup)
	w.control.RegisterWorkflow(workflows.Continuous)
	w.control.RegisterWorkflow(workflows.Restore)
	w.control.RegisterWorkflow(workflows.Prune)
	w.control.RegisterWorkflow(workflows.Validate)
	w.control.RegisterWorkflow(workflows.Scheduled)
	w.control.RegisterWorkflow(workflows.Notify)
	w.control.RegisterWorkflow(workflows.OffsetReset)
	w.control.RegisterWorkflow(workflows.OffsetRollback)
	w.control.RegisterWorkflow(workflows.BulkOffsetReset)
	w.control.RegisterWorkflow(workflows.OffsetSnapshot)
	w.control.RegisterWorkflow(workflows.DeleteOffsetSnapshot)
	w.control.RegisterActivity(&activities.Monitor{Temporal: c})
	w.control.RegisterActivity(&activities.Notify{Page: o.Page})
	continuous := &activities.Continuous{}
	w.control.RegisterActivity(continuous)
	w.follow.RegisterActivity(continuous)
	for _, queue := range []worker.Worker{w.control, w.transfer} {
		queue.RegisterActivity(&activities.Backup{})
		queue.RegisterActivity(&activities.Restore{})
		queue.RegisterActivity(&activities.Prune{Temporal: c})
		queue.RegisterActivity(&activities.Validate{})
		queue.RegisterActivity(&activities.Offsets{})
	}
	if err := w.control.Start(); err != nil {
		return nil, fmt.Errorf("listen on task queue %s: %w", o.TaskQueue, err)
	}
	if err := w.transfer.Start(); err != nil {
		w.control.Stop()
		return nil, fmt.Errorf("listen on task queue %s: %w", activities.TransferQueue(o.TaskQueue), err)
	}
	if err := w.follow.Start(); err != nil {
		w.transfer.Stop()
		w.control.Stop()
		return nil, fmt.Errorf("listen on task queue %s: %w", activities.FollowQueue(o.TaskQueue), err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if o.Log != nil {
		ctx = telemetry.WithLog(ctx, o.Log)
	}
	w.stopWatching = cancel
	workflows.CountFromZero(telemetry.SDK())
	go watch(ctx, c)
	return w, nil
}

// Ready returns nil when the worker can work: it has not failed, and the
// Temporal service answers.
func (w *Worker) Ready(ctx context.Context) error {
	if err := w.failed.Load(); err != nil {
		return fmt.Errorf("the worker has stopped: %w", *err)
	}
	if _, err := w.client.CheckHealth(ctx, &client.CheckHealthRequest{}); err != nil {
		return fmt.Errorf("the Temporal service does not answer: %w", err)
	}
	return nil
}

// Stop takes on nothing new, lets activities come to a safe point, and returns
// when they have. It takes no longer than the drain timeout and some seconds:
// what is not at a safe point by then goes on with another worker as if this
// one had been killed.
func (w *Worker) Stop() {
	w.stopWatching()
	var queues sync.WaitGroup
	queues.Go(w.transfer.Stop)
	queues.Go(w.follow.Stop)
	queues.Go(w.control.Stop)
	stopped := make(chan struct{})
	go func() { queues.Wait(); close(stopped) }()
	select {
	case <-stopped:
	case <-time.After(w.drain + stopGrace):
	}
}
