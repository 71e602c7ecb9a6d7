package memory

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"
)

func TestLimitGivesWayToWhatIsAlive(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "")
	t.Setenv("GOGC", "")
	percent, before := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	defer func() { debug.SetGCPercent(percent); debug.SetMemoryLimit(before) }()

	const limit, much = 32 << 20, 100 << 20
	Keep(limit)
	if got := debug.SetMemoryLimit(-1); got != limit {
		t.Fatalf("the limit is %d instead of %d", got, limit)
	}
	alive := make([]byte, much)
	until(t, func(now int64) bool { return now >= much*3/2 && now < math.MaxInt64 })
	runtime.KeepAlive(alive)
	alive = nil
	until(t, func(now int64) bool { return now < much })
}

// until collects until the limit is as wanted.
func until(t *testing.T, fits func(limit int64) bool) {
	t.Helper()
	for range 1000 {
		runtime.GC() // runs finalizers soon, in a goroutine of their own
		runtime.Gosched()
		if fits(debug.SetMemoryLimit(-1)) {
			return
		}
	}
	t.Fatalf("the limit stays at %d", debug.SetMemoryLimit(-1))
}

func TestEnvironmentWins(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "1GiB")
	before := debug.SetMemoryLimit(-1)
	Keep(1)
	if got := debug.SetMemoryLimit(-1); got != before {
		t.Fatalf("the limit was changed to %d", got)
	}
}
