package kafkabed

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// TB is the part of testing.TB that the bed needs. It is spelled out so that
// the demo and the benchmark can use this package without package testing.
type TB interface {
	Helper()
	Name() string
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
	Failed() bool
}

// Start starts a cluster for one test and takes it down when the test ends. The
// folder goes with it, except for the logs of a test that failed, whose place is
// logged.
func Start(t TB, options Options) *Bed {
	t.Helper()
	dir, err := os.MkdirTemp("", "kafkabed-*")
	if err != nil {
		t.Fatalf("kafkabed: %v", err)
	}
	bed, err := Run(context.Background(), dir, options)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if place, err := bed.tidy(t.Failed()); err != nil {
			t.Logf("kafkabed: %v", err)
		} else if place != "" {
			t.Logf("kafkabed: the brokers' logs are in %s", place)
		}
	})
	return bed
}

// tidy closes the bed and removes its folder, or all but logs and properties
// when keep is set, and then names the place.
func (b *Bed) tidy(keep bool) (place string, err error) {
	if err := b.Close(); err != nil {
		return "", err
	}
	if !keep {
		return "", os.RemoveAll(b.Dir)
	}
	for _, broker := range b.brokers {
		if err := os.RemoveAll(filepath.Join(broker.dir, "data")); err != nil {
			return "", err
		}
	}
	return b.Dir, nil
}

// Shared is a cluster that the tests of a package have in common. It starts when
// the first test asks for it:
//
//	var shared = kafkabed.Share(kafkabed.Options{})
//
//	func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }
//
//	func TestSomething(t *testing.T) { bed := shared.Bed(t); ... }
type Shared struct {
	options Options
	once    sync.Once
	bed     *Bed
	err     error
}

// Share describes a shared cluster; it starts nothing.
func Share(options Options) *Shared { return &Shared{options: options} }

// Bed gives the shared cluster and starts it if this is the first call.
func (s *Shared) Bed(t TB) *Bed {
	t.Helper()
	s.once.Do(func() {
		var dir string
		if dir, s.err = os.MkdirTemp("", "kafkabed-*"); s.err == nil {
			s.bed, s.err = Run(context.Background(), dir, s.options)
		}
	})
	if s.err != nil {
		t.Fatalf("%v", s.err)
	}
	return s.bed
}

// Main runs the package's tests (a *testing.M), takes the cluster down and gives
// the exit code. After a failure the logs are kept and their place is printed.
func (s *Shared) Main(m interface{ Run() int }) int {
	code := m.Run()
	if s.bed == nil {
		return code
	}
	place, err := s.bed.tidy(code != 0)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "kafkabed:", err)
	case place != "":
		fmt.Fprintln(os.Stderr, "kafkabed: the brokers' logs are in", place)
	}
	return code
}

// Context is a context for a test that ends after timeout at the latest.
func Context(t TB, timeout time.Duration) context.Context {
	ctx, cancel := context.WithTimeoutCause(context.Background(), timeout, fmt.Errorf("%s took more than %s", t.Name(), timeout))
	t.Cleanup(cancel)
	return ctx
}
