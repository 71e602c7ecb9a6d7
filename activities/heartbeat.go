package activities

import (
	"context"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"
)

// beating sends a heartbeat every second until the activity is done, so that
// neither a slow broker nor a long look-up is taken for a dead worker. It
// carries the newest watermark given to the function it returns.
func beating(ctx context.Context) (report func(Watermark), stop func()) {
	var mu sync.Mutex
	var last Watermark
	quit, ended := make(chan struct{}), make(chan struct{})
	beat := func() {
		mu.Lock()
		w := last
		mu.Unlock()
		activity.RecordHeartbeat(ctx, w)
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
				return
			}
		}
	}()
	report = func(w Watermark) {
		mu.Lock()
		last = w
		mu.Unlock()
	}
	stop = sync.OnceFunc(func() { close(quit); <-ended })
	return report, stop
}
