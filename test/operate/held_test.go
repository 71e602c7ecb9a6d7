package operate

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"go.temporal.io/sdk/client"

	"github.com/kafka-backup/kafka-backup/test/rig"
	"github.com/kafka-backup/kafka-backup/test/s3bed"
)

// shelf is an object store whose answers a test can hold back, so that an
// operation is met at a place of the test's choice: in this activity, before
// that object is written.
type shelf struct {
	proxy   *httptest.Server
	store   *s3bed.Store
	service client.Client

	mu    sync.Mutex
	holds map[string]*hold // by repository
}

// place is where an operation is met: in an activity (empty: any), when it
// sends a request.
type place struct {
	activity, method string
	// key is part of the object's key, and skip how many such requests pass.
	key  string
	skip int
}

// hold keeps back the requests of one operation, from one place on.
type hold struct {
	place
	workflow string
	met      chan struct{} // closed by the first request
	free     chan struct{}
	once     sync.Once
}

// shelf starts a store.
func (o *operator) shelf() *shelf {
	o.t.Helper()
	s := &shelf{store: s3bed.Start(o.t), service: o.temporal, holds: map[string]*hold{}}
	target, err := url.Parse(s.store.Endpoint)
	o.must(err)
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is signed
	}}
	s.proxy = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Only when all of it was read does the server notice that the client hangs up.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if s.pass(r) {
			forward.ServeHTTP(w, r)
		}
	}))
	o.t.Cleanup(s.proxy.Close)
	// By these names the configurations refer to the credentials.
	o.must(os.Setenv("SHELF_ACCESS", s.store.AccessKey))
	o.must(os.Setenv("SHELF_SECRET", s.store.SecretKey))
	return s
}

// pass lets a request pass, at once or when its hold ends; false: the client
// has hung up meanwhile, as one does that is told to stop.
func (s *shelf) pass(r *http.Request) bool {
	_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/") // behind the bucket
	repository, key, _ := strings.Cut(path, "/")
	s.mu.Lock()
	h := s.holds[repository]
	s.mu.Unlock()
	if h == nil || h.method != r.Method || !strings.Contains(key, h.key) || !s.busy(r, h) {
		return true
	}
	s.mu.Lock()
	h.skip--
	through := h.skip >= 0
	s.mu.Unlock()
	if through {
		return true
	}
	h.once.Do(func() { close(h.met) })
	select {
	case <-h.free:
		return r.Context().Err() == nil
	case <-r.Context().Done():
		return false
	}
}

// busy tells whether the operation is in the activity of a hold.
func (s *shelf) busy(r *http.Request, h *hold) bool {
	if h.activity == "" {
		return true
	}
	d, err := s.service.DescribeWorkflowExecution(r.Context(), h.workflow, "")
	if err != nil {
		return false
	}
	for _, a := range d.GetPendingActivities() {
		if a.GetActivityType().GetName() == h.activity {
			return true
		}
	}
	return false
}

// hold holds the requests of an operation on a repository from a place on. What
// an earlier hold on it holds is not let go.
func (s *shelf) hold(repository, workflow string, at place) *hold {
	h := &hold{place: at, workflow: workflow, met: make(chan struct{}), free: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holds[repository] = h
	return h
}

// release ends the hold on a repository.
func (s *shelf) release(repository string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.holds[repository]; h != nil {
		close(h.free)
		delete(s.holds, repository)
	}
}

// storage is the configuration of a repository on the shelf.
func (s *shelf) storage(repository string) rig.Document {
	return rig.Document{"backend": "s3", "bucket": s.store.Bucket, "region": s.store.Region, "endpoint": s.proxy.URL, "path_style": true,
		"access_key": "${SHELF_ACCESS}", "secret_key": "${SHELF_SECRET}", "prefix": repository}
}

// awaitHeld waits until a request is held.
func (o *operator) awaitHeld(h *hold) {
	o.t.Helper()
	select {
	case <-h.met:
	case <-o.ctx.Done():
		p, err := o.progress(h.workflow)
		o.t.Fatalf("%s does not come to %+v: %+v, %v", h.workflow, h.place, p, err)
	}
}

// on is the operator for a part of a test.
func (o *operator) on(t *testing.T) *operator {
	part := *o
	part.t = t
	return &part
}
