package activities

import (
	"context"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/kafka-backup/kafka-backup/internal/telemetry"
)

// earlier is what the attempt before this one reported last; nothing for the
// first one.
func earlier(ctx context.Context) Watermark {
	var w Watermark
	if activity.HasHeartbeatDetails(ctx) && activity.GetHeartbeatDetails(ctx, &w) != nil {
		return Watermark{} // it began with nothing
	}
	return w
}

// beating sends a heartbeat every second until the activity is done, so that
// neither a slow broker nor a long look-up is taken for a dead worker; nor, when
// the activity is told to stop, the time that it takes to come to a safe point.
// It carries the newest watermark given to the function it returns.
func beating(ctx context.Context) (report func(Watermark), stop func()) {
	alive := context.WithoutCancel(ctx)
	var mu sync.Mutex
	var last Watermark
	quit, ended := make(chan struct{}), make(chan struct{})
	beat := func() {
		mu.Lock()
		w := last
		mu.Unlock()
		activity.RecordHeartbeat(alive, w)
	}
	go func() {
		defer close(ended)
		t := time.NewTicker(time.Second)
		defer t.Stop()
		beat()
		for {
			select {
			case <-t.C:
				beat()
			case <-quit:
				beat() // what was done goes with the answer, for the next attempt
				return
			}
		}
	}()
	info := activity.GetInfo(ctx)
	ran := telemetry.Running(info.ActivityType.Name)
	lag, caughtUp := telemetry.Lag(info.WorkflowExecution.ID, info.ActivityID)
	report = func(w Watermark) {
		mu.Lock()
		defer mu.Unlock()
		last = w
		if len(w.Lagging) > 0 {
			behind := int64(0)
			for _, l := range w.Lagging {
				behind += l.Records
			}
			lag(behind)
		}
	}
	stop = sync.OnceFunc(func() { close(quit); <-ended; ran(); caughtUp() })
	return report, stop
}
