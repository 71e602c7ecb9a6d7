package memory

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestLimitGivesWayToWhatIsAlive(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "")
	t.Setenv("GOGC", "")
	percent, before := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	defer func() { debug.SetGCPercent(percent); debug.SetMemoryLimit(before) }()

	const limit = 16 << 20
	Keep(limit)
	if got := debug.SetMemoryLimit(-1); got != limit {
		t.Fatalf("the limit is %d instead of %d", got, limit)
	}
	// Much that takes long to look through, and new garbage all the time.
	type link struct {
		next *link
		_    [3]int64
	}
	var alive *link
	for range 2 << 20 {
		alive = &link{next: alive}
	}
	for begun := time.Now(); debug.SetMemoryLimit(-1) <= limit; {
		if time.Since(begun) > time.Minute {
			t.Fatal("with more alive than the limit, the limit stays as it was")
		}
		churn()
	}
	runtime.KeepAlive(alive)
	alive = nil
	for begun := time.Now(); debug.SetMemoryLimit(-1) > limit; {
		if time.Since(begun) > time.Minute {
			t.Fatalf("with nothing alive, the limit stays at %d", debug.SetMemoryLimit(-1))
		}
		churn()
	}
}

var garbage []byte

// churn does some work that leaves garbage.
func churn() {
	for range 100 {
		garbage = make([]byte, 1<<20)
		for i := range garbage {
			garbage[i] = byte(i)
		}
	}
}

func TestEnvironmentWins(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "1GiB")
	before := debug.SetMemoryLimit(-1)
	Keep(1)
	if got := debug.SetMemoryLimit(-1); got != before {
		t.Fatalf("the limit was changed to %d", got)
	}
}
