package worker

import (
	"context"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/kafka-backup/kafka-backup/internal/telemetry"
)

// watchEvery is how often schedules and continuous backups are looked at for
// the metrics.
const watchEvery = 30 * time.Second

// watch keeps the metrics of schedules and continuous backups up to date until
// ctx ends. Every worker does it: the metrics are about the namespace, not the
// worker.
func watch(ctx context.Context, c client.Client) {
	for {
		look(ctx, c, "schedules", scheduleStates, telemetry.Schedules)
		look(ctx, c, "continuous backups", continuousStates, telemetry.Continuous)
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchEvery):
		}
	}
}

func look[S any](ctx context.Context, c client.Client, what string, states func(context.Context, client.Client) ([]S, error), show func([]S)) {
	found, err := states(ctx, c)
	if err == nil {
		show(found)
	} else if ctx.Err() == nil {
		telemetry.Log(ctx).Warn("The "+what+" could not be looked at for the metrics", "error", err)
	}
}
