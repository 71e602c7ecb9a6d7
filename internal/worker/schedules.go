package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/kafka-backup/kafka-backup/internal/telemetry"
	"github.com/kafka-backup/kafka-backup/workflows"
)

// scheduleStates looks at every schedule of the product.
func scheduleStates(ctx context.Context, c client.Client) ([]telemetry.ScheduleState, error) {
	ctx, cancel := context.WithTimeout(ctx, watchEvery)
	defer cancel()
	it, err := c.ScheduleClient().List(ctx, client.ScheduleListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list schedules: %w", err)
	}
	var states []telemetry.ScheduleState
	for it.HasNext() {
		entry, err := it.Next()
		if err != nil {
			return nil, fmt.Errorf("list schedules: %w", err)
		}
		if entry.WorkflowType.Name != workflows.ScheduledType {
			continue
		}
		s := telemetry.ScheduleState{Schedule: entry.ID, Paused: entry.Paused}
		if len(entry.NextActionTimes) > 0 {
			s.Next = entry.NextActionTimes[0]
		}
		ended, err := lastRun(ctx, c, entry.ID, `ExecutionStatus != "Running"`)
		if err != nil {
			return nil, err
		}
		if ended != nil {
			s.Ended, s.Succeeded = true, ended.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
			s.Kind = memo(ended.GetMemo(), workflows.MemoKind)
			good := ended
			if !s.Succeeded {
				if good, err = lastRun(ctx, c, entry.ID, `ExecutionStatus = "Completed"`); err != nil {
					return nil, err
				}
			}
			if good != nil {
				s.LastGood = good.GetStartTime().AsTime()
				s.Kind = memo(good.GetMemo(), workflows.MemoKind)
			}
		}
		if s.LastGood.IsZero() {
			if s.Made, s.Kind, err = made(ctx, c, entry.ID); err != nil {
				return nil, err
			}
			if s.Kind == "" {
				continue // deleted meanwhile, or somebody else's
			}
		}
		states = append(states, s)
	}
	return states, nil
}

// made is when a schedule was made, and what it starts; empty where that is not
// to be had.
func made(ctx context.Context, c client.Client, id string) (at time.Time, kind string, err error) {
	d, err := c.ScheduleClient().GetHandle(ctx, id).Describe(ctx)
	var gone *serviceerror.NotFound
	if errors.As(err, &gone) {
		return at, "", nil
	}
	if err != nil {
		return at, "", fmt.Errorf("look at schedule %s: %w", id, err)
	}
	action, ok := d.Schedule.Action.(*client.ScheduleWorkflowAction)
	if !ok || len(action.Args) != 1 {
		return at, "", nil
	}
	var req workflows.ScheduledRequest
	if p, ok := action.Args[0].(*commonpb.Payload); !ok || converter.GetDefaultDataConverter().FromPayload(p, &req) != nil {
		return at, "", nil
	}
	return d.Info.CreatedAt, req.Kind(), nil
}

// lastRun is the run of a schedule that began last of those that a condition
// selects; nil when the service knows none.
func lastRun(ctx context.Context, c client.Client, schedule, condition string) (*workflowpb.WorkflowExecutionInfo, error) {
	quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(schedule) + `"`
	answer, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
		Query:    `WorkflowType = "` + workflows.ScheduledType + `" AND TemporalScheduledById = ` + quoted + " AND " + condition,
		PageSize: 10,
	})
	if err != nil {
		return nil, fmt.Errorf("list the runs of schedule %s: %w", schedule, err)
	}
	var last *workflowpb.WorkflowExecutionInfo
	for _, e := range answer.GetExecutions() {
		if last == nil || e.GetStartTime().AsTime().After(last.GetStartTime().AsTime()) {
			last = e
		}
	}
	return last, nil
}

// memo reads a text in a memo; empty when it is not there.
func memo(m *commonpb.Memo, key string) string {
	var s string
	p := m.GetFields()[key]
	if p == nil || converter.GetDefaultDataConverter().FromPayload(p, &s) != nil {
		return ""
	}
	return s
}
