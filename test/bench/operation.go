package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/proxy"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/proto"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/workflows"
)

// measured is what one run of something took.
type measured struct {
	whole time.Duration // from asking for it to its end
	data  time.Duration // while data was moved; a yardstick's is the whole
	cpu   time.Duration // of the worker, or of this process for a yardstick
	peak  int64         // bytes, of the worker; 0 for a yardstick
	run   client.WorkflowRun
}

// measure measures a yardstick.
func measure(do func() error) (m measured, err error) {
	cpu, begun := ownCPU(), time.Now()
	err = do()
	m.whole = time.Since(begun)
	m.data, m.cpu = m.whole, ownCPU()-cpu
	return m, err
}

// operate carries an operation out on the worker of a storage and measures it.
func (b *bed) operate(ctx context.Context, storage string, workflow, request, report any) (m measured, err error) {
	w := b.workers[storage]
	if err := w.resetPeak(); err != nil {
		return m, err
	}
	cpu, err := w.cpu()
	if err != nil {
		return m, err
	}
	begun := time.Now()
	m.run, err = b.dialed.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: fmt.Sprintf("bench/%d", b.number), TaskQueue: queueOf(storage),
	}, workflow, request)
	if err != nil {
		return m, err
	}
	if err := m.run.Get(ctx, report); err != nil {
		return m, fmt.Errorf("%s: %w", m.run.GetID(), err)
	}
	m.whole = time.Since(begun)
	after, err := w.cpu()
	if err != nil {
		return m, err
	}
	m.cpu = after - cpu
	if m.peak, err = w.peak(); err != nil {
		return m, err
	}
	h, err := b.history(ctx, m.run)
	m.data = h.data
	return m, err
}

// backup backs topics up into a new repository.
func (b *bed) backup(ctx context.Context, storage string, records int64, topics ...string) (m measured, where config.Storage, err error) {
	b.number++
	doc := config.New()
	if err := b.options.apply(doc); err != nil {
		return m, where, err
	}
	where = b.storage(storage)
	req := activities.BackupRequest{BackupID: "bench", Source: doc.Source, Storage: where, Options: doc.Backup}
	req.Source.BootstrapServers = []string{b.kafka.Bootstrap}
	req.Source.Topics.Include = topics
	var report activities.BackupReport
	if m, err = b.operate(ctx, storage, workflows.Backup, req, &report); err != nil {
		return m, where, err
	}
	if report.New.Records != records {
		return m, where, fmt.Errorf("the backup has %d records instead of %d", report.New.Records, records)
	}
	return m, where, nil
}

// restore restores a backup into topics that do not exist yet.
func (b *bed) restore(ctx context.Context, storage string, where config.Storage, mapping map[string]string) (measured, error) {
	b.number++
	doc := config.New()
	if err := b.options.apply(doc); err != nil {
		return measured{}, err
	}
	req := activities.RestoreRequest{BackupID: "bench", Target: doc.Target, Storage: where, Options: doc.Restore}
	req.Target.BootstrapServers = []string{b.kafka.Bootstrap}
	req.Options.TopicMapping = mapping
	var report activities.RestoreReport
	return b.operate(ctx, storage, workflows.Restore, req, &report)
}

// history is what a workflow's history holds.
type history struct {
	events  int
	bytes   int64         // of the history, as the server counts
	largest int           // payload, in bytes
	data    time.Duration // from the first moment that an activity moves data to the last
	steps   []step        // in the order in which they ended
}

// step is one activity.
type step struct {
	name string
	took time.Duration
}

func (b *bed) history(ctx context.Context, run client.WorkflowRun) (h history, err error) {
	names, began := map[int64]string{}, map[int64]time.Time{} // by the event that scheduled the activity
	moves := func(scheduled int64) bool { return names[scheduled] == "CopyPart" || names[scheduled] == "RestorePart" }
	var first, last time.Time
	events := b.dialed.GetWorkflowHistory(ctx, run.GetID(), run.GetRunID(), false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		e, err := events.Next()
		if err != nil {
			return h, err
		}
		h.events++
		if a := e.GetActivityTaskScheduledEventAttributes(); a != nil {
			names[e.EventId] = a.ActivityType.Name
		}
		if a := e.GetActivityTaskStartedEventAttributes(); a != nil {
			t := e.EventTime.AsTime()
			began[a.ScheduledEventId] = t
			if moves(a.ScheduledEventId) && (first.IsZero() || t.Before(first)) {
				first = t
			}
		}
		if a := e.GetActivityTaskCompletedEventAttributes(); a != nil {
			t := e.EventTime.AsTime()
			h.steps = append(h.steps, step{names[a.ScheduledEventId], t.Sub(began[a.ScheduledEventId])})
			if moves(a.ScheduledEventId) {
				last = t
			}
		}
		err = proxy.VisitPayloads(ctx, e, proxy.VisitPayloadsOptions{Visitor: func(_ *proxy.VisitPayloadsContext, all []*common.Payload) ([]*common.Payload, error) {
			for _, p := range all {
				h.largest = max(h.largest, proto.Size(p))
			}
			return all, nil
		}})
		if err != nil {
			return h, err
		}
	}
	if first.IsZero() || last.IsZero() {
		return h, errors.New("the workflow moved no data")
	}
	h.data = last.Sub(first)
	d, err := b.dialed.DescribeWorkflowExecution(ctx, run.GetID(), run.GetRunID())
	if err != nil {
		return h, err
	}
	h.bytes = d.WorkflowExecutionInfo.HistorySizeBytes
	return h, nil
}
