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
// Invariant: the limit is soft. When more is alive, it is raised to half as
// much again, so that collecting never becomes the work.
package memory

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
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
	afterEachCollection(func() { debug.SetMemoryLimit(max(limit, wanted())) })
}

// overhead is what the runtime holds beside the heap.
const overhead = 16 << 20

// wanted is the least limit that leaves room to work beside what is alive.
func wanted() int64 {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	return int64(live[0].Value.Uint64())*3/2 + overhead
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
