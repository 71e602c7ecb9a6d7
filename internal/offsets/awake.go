package offsets

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// ErrSuspended says that this process stood still for so long that its work may
// have been given to another, and perhaps been undone since. Kafka cannot fence
// who commits offsets from outside a group, so it must not go on by itself.
var ErrSuspended = errors.New("the process was suspended while offsets were set; its work is begun anew")

// maxStandstill is how long a process may stand still and go on. It is well
// below the heartbeat timeout of the activities that set offsets (10 s), and
// well above what a busy machine makes a goroutine wait.
const maxStandstill = 5 * time.Second

// awake notices that the process was suspended: stopped by a signal, a frozen
// container, a virtual machine that was moved.
type awake struct {
	seen      atomic.Int64 // when it last ran, in nanoseconds of wall time, which goes on meanwhile
	suspended atomic.Bool
	stop      func()
}

// stayAwake begins to watch; stop ends it.
func stayAwake() *awake {
	a := &awake{}
	a.seen.Store(time.Now().UnixNano())
	quit := make(chan struct{})
	a.stop = sync.OnceFunc(func() { close(quit) })
	go func() {
		t := time.NewTicker(maxStandstill / 20)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				if a.check() == nil {
					a.seen.Store(time.Now().UnixNano())
				}
			case <-quit:
				return
			}
		}
	}()
	return a
}

// check tells whether the process was suspended since it began to watch.
func (a *awake) check() error {
	if time.Duration(time.Now().UnixNano()-a.seen.Load()) > maxStandstill {
		a.suspended.Store(true)
	}
	if a.suspended.Load() {
		return ErrSuspended
	}
	return nil
}
