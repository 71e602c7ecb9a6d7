package kafkabed

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// lines collects what several installations log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func TestInstallationsAtTheSameTimeInstallOnce(t *testing.T) {
	cache := t.TempDir()
	ctx := Context(t, 5*time.Minute)
	var log lines
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			home, err := installIn(ctx, cache, &log)
			if err != nil {
				t.Error(err)
			} else if !installed(home) {
				t.Errorf("%s is not whole", home)
			}
		})
	}
	all.Wait()
	if n := strings.Count(log.text.String(), "fetching"); n != 1 {
		t.Errorf("%d downloads, want one:\n%s", n, log.text.String())
	}
	left, err := filepath.Glob(filepath.Join(cache, "install-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestAnInterruptedInstallationLeavesNothing(t *testing.T) {
	cache := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	// The first line is logged when the download begins.
	if _, err := installIn(ctx, cache, writerFunc(func() { cancel() })); err == nil {
		t.Fatal("no error")
	}
	entries, err := os.ReadDir(cache)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".lock") {
			t.Errorf("left behind: %s", e.Name())
		}
	}
}

type writerFunc func()

func (f writerFunc) Write(p []byte) (int, error) { f(); return len(p), nil }
