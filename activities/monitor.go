package activities

import (
	"context"
	"sort"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
)

// Monitor reads what an operation's running activities report.
type Monitor struct {
	Temporal client.Client
}

// RunningParts sums up the heartbeats of the activities that the calling
// workflow has running. It is made to be a local activity.
func (m *Monitor) RunningParts(ctx context.Context) (RunningParts, error) {
	e := activity.GetInfo(ctx).WorkflowExecution
	return ReadRunningParts(ctx, m.Temporal, e.ID, e.RunID)
}

// ReadRunningParts sums up the heartbeats of the activities that a workflow
// has running. An empty run id is the newest run.
func ReadRunningParts(ctx context.Context, c client.Client, workflowID, runID string) (RunningParts, error) {
	d, err := c.DescribeWorkflowExecution(ctx, workflowID, runID)
	if err != nil {
		return RunningParts{}, err
	}
	return sumParts(d.PendingActivities), nil
}

func sumParts(pending []*workflow.PendingActivityInfo) RunningParts {
	var sum RunningParts
	for _, p := range pending {
		if w, ok := watermark(p.HeartbeatDetails); ok {
			sum.Done = sum.Done.Add(w.Done)
			sum.Lagging = append(sum.Lagging, w.Lagging...)
		}
		if p.LastFailure != nil && p.Attempt > 1 {
			sum.Retrying = append(sum.Retrying, Retried{Summary: p.ActivityType.GetName(), Attempt: p.Attempt, Error: p.LastFailure.Message})
		}
	}
	sort.Slice(sum.Lagging, func(i, j int) bool { return sum.Lagging[i].Records > sum.Lagging[j].Records })
	sum.Lagging = sum.Lagging[:min(len(sum.Lagging), 5)]
	return sum
}

func watermark(p *commonpb.Payloads) (w Watermark, ok bool) {
	if p == nil {
		return w, false
	}
	return w, converter.GetDefaultDataConverter().FromPayloads(p, &w) == nil
}
