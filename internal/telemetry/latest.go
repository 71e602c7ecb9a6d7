package telemetry

import "sync"

// latest holds what was learnt last, for a collector that makes its metrics of it
// when they are asked for: so an age is that of the moment.
type latest[T any] struct {
	mu  sync.Mutex
	all []T
}

func (l *latest[T]) set(all []T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = all
}

func (l *latest[T]) get() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all
}
