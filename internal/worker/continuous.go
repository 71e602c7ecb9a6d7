package worker

import (
	"context"
	"fmt"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/telemetry"
	"github.com/kafka-backup/kafka-backup/workflows"
)

// continuousStates looks at every continuous backup that runs, is paused, or
// waits: by what the service knows of it, so also when nobody works on it.
func continuousStates(ctx context.Context, c client.Client) ([]telemetry.ContinuousState, error) {
	ctx, cancel := context.WithTimeout(ctx, watchEvery)
	defer cancel()
	var states []telemetry.ContinuousState
	var page []byte
	for {
		answer, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
			Query: `WorkflowType = "Continuous" AND ExecutionStatus = "Running"`, NextPageToken: page,
		})
		if err != nil {
			return nil, fmt.Errorf("list the continuous backups: %w", err)
		}
		for _, e := range answer.GetExecutions() {
			s := telemetry.ContinuousState{WorkflowID: e.GetExecution().GetWorkflowId(), RecoveryPoint: e.GetStartTime().AsTime()}
			var point activities.RecoveryPoint
			if p := e.GetMemo().GetFields()[workflows.MemoRecoveryPoint]; p != nil {
				if err := converter.GetDefaultDataConverter().FromPayload(p, &point); err != nil {
					return nil, fmt.Errorf("read the recovery point of %s: %w", s.WorkflowID, err)
				}
				s.RecoveryPoint, s.Lag, s.Counted = point.At, point.Lag, !point.MeasuredAt.IsZero()
			}
			states = append(states, s)
		}
		if page = answer.GetNextPageToken(); len(page) == 0 {
			return states, nil
		}
	}
}
