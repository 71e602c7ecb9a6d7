package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Health says whether a process can work.
type Health struct {
	// Ready is asked by /readyz; nil is ready. It is asked at most once in
	// readyFor, and may take readyTimeout.
	Ready func(ctx context.Context) error

	mu      sync.Mutex
	asked   time.Time
	last    error
	stopped bool
}

const (
	readyFor     = 2 * time.Second
	readyTimeout = 2 * time.Second
)

var errStopping = errors.New("the process is stopping")

// Stopping makes /readyz say no from now on.
func (h *Health) Stopping() {
	h.mu.Lock()
	h.stopped = true
	h.mu.Unlock()
}

func (h *Health) ready(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		return errStopping
	}
	if h.Ready == nil {
		return nil
	}
	if now := time.Now(); now.Sub(h.asked) > readyFor {
		ctx, cancel := context.WithTimeout(ctx, readyTimeout)
		defer cancel()
		h.last, h.asked = h.Ready(ctx), now
	}
	return h.last
}

// Handler serves /metrics for Prometheus, /healthz, which says yes as long as
// the process answers at all, and /readyz, which says whether it can work, and
// if not, why.
func Handler(h *Health) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(Registry, promhttp.HandlerOpts{Registry: Registry}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := h.ready(context.WithoutCancel(r.Context())); err != nil {
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	return mux
}

// Serve serves [Handler] on address (host:port, :port; port 0 is any free one)
// until the function it returns is called. It returns the address it has.
func Serve(address string, h *Health) (at string, stop func(), err error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "", nil, fmt.Errorf("serve metrics on %s: %w", address, err)
	}
	s := &http.Server{Handler: Handler(h), ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Serve(l) // always ends with an error, when stop closes it
	}()
	return l.Addr().String(), func() { _ = s.Close(); <-ended }, nil
}
