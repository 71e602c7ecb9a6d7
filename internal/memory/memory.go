// Package memory keeps the memory of a process that moves data near a limit,
// at little cost.
//
// What such a process allocates is mostly large buffers without pointers: the
// answers of brokers. They are garbage at once, and looking for garbage costs
// by what is alive, which is little. Go's collector by default starts when the
// heap has doubled; so it runs very often where little is alive, and lets the
// process take more than it needs where much is. Here it starts when the
// process has reached a limit.
//
// Invariant: the limit is soft. It is raised, as far as need be, where
// collecting would become the work, and lowered again afterwards.
package memory

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Keep keeps this process's memory near limit bytes, everything that Go's
// runtime holds included, from now on. Where the environment says otherwise
// (GOMEMLIMIT, GOGC), that stays.
func Keep(limit int64) {
	if os.Getenv("GOMEMLIMIT") != "" || os.Getenv("GOGC") != "" {
		return
	}
	debug.SetMemoryLimit(limit)
	debug.SetGCPercent(-1)
	k := &keeper{least: limit, limit: limit, looked: time.Now()}
	k.collecting, k.working = times()
	afterEachCollection(k.look)
}

// keeper moves the limit.
type keeper struct {
	least, limit int64

	looked              time.Time
	collecting, working float64 // processor seconds until then
}

// Shares of the processor time that the process uses: above the first the
// limit is raised, below the second it is lowered towards the least.
const (
	tooMuch = 0.15
	little  = 0.06
)

// between is the least time between two looks.
const between = time.Second

// look compares what collecting has cost since the last look with all that
// the process has done, and moves the limit.
func (k *keeper) look() {
	if time.Since(k.looked) < between {
		return
	}
	collecting, working := times()
	share := (collecting - k.collecting) / max(working-k.working, 1e-3)
	k.looked, k.collecting, k.working = time.Now(), collecting, working
	switch {
	case share > tooMuch:
		k.limit += k.limit / 2
	case share < little && k.limit > k.least:
		k.limit = max(k.limit-k.limit/4, k.least)
	default:
		return
	}
	debug.SetMemoryLimit(k.limit)
}

// times are the processor seconds that collecting has taken, without what ran
// because nothing else did, and that the process has taken for all it does.
// The runtime counts them at each collection.
func times() (collecting, working float64) {
	s := []metrics.Sample{
		{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/gc/mark/idle:cpu-seconds"},
		{Name: "/cpu/classes/total:cpu-seconds"}, {Name: "/cpu/classes/idle:cpu-seconds"},
	}
	metrics.Read(s)
	collecting = s[0].Value.Float64() - s[1].Value.Float64()
	return collecting, s[2].Value.Float64() - s[3].Value.Float64() - s[1].Value.Float64()
}

// afterEachCollection calls fn when a collection has found out what is alive:
// an object that nobody refers to is found in each of them.
func afterEachCollection(fn func()) {
	type nobody struct{ _ *byte } // with a pointer, so that it has an allocation of its own
	runtime.SetFinalizer(&nobody{}, func(*nobody) {
		fn()
		afterEachCollection(fn)
	})
}
