package storage

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

// uncommitted is a service with one blob, of which blocks were once staged and
// never committed. It refuses to create it by Put Blob.
type uncommitted struct {
	mu     sync.Mutex
	staged map[string][]byte
	blob   []byte
	kind   string // content type of the blob
	is     bool   // there is one
}

func (s *uncommitted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	refuse := func(status int, code string) {
		w.Header().Set("x-ms-error-code", code)
		w.WriteHeader(status)
	}
	q := r.URL.Query()
	signed := r.Header.Get("Authorization") != "" && r.Header.Get("x-ms-version") != ""
	switch {
	case !signed:
		refuse(http.StatusForbidden, "AuthenticationFailed")
	case r.Method == http.MethodHead && !s.is:
		refuse(http.StatusNotFound, "BlobNotFound")
	case r.Method == http.MethodHead:
		w.WriteHeader(http.StatusOK)
	case r.Method == http.MethodPut && q.Get("comp") == "block":
		s.staged[q.Get("blockid")] = body
		w.WriteHeader(http.StatusCreated)
	case r.Method == http.MethodPut && r.Header.Get("If-None-Match") != "*":
		refuse(http.StatusBadRequest, "WithoutCondition")
	case r.Method == http.MethodPut && q.Get("comp") == "blocklist" && !s.is:
		s.is, s.blob, s.kind = true, nil, r.Header.Get("x-ms-blob-content-type")
		for id, data := range s.staged {
			if strings.Contains(string(body), "<Uncommitted>"+id+"</Uncommitted>") {
				s.blob = append(s.blob, data...)
			}
		}
		w.WriteHeader(http.StatusCreated)
	default:
		refuse(http.StatusConflict, "BlobAlreadyExists")
	}
}

// Where an upload was given up the object can be created all the same, once.
func TestAzureCreatesOverBlocksThatWereGivenUp(t *testing.T) {
	for _, content := range []string{"", "now"} {
		s := &uncommitted{staged: map[string][]byte{"old": []byte("given up")}}
		server := httptest.NewServer(s)
		defer server.Close()
		bucket, err := openAzure(config.Storage{Endpoint: server.URL, AccountName: "a", AccountKey: config.NewSecret("a2V5"), Container: "ccc"})
		if err != nil {
			t.Fatal(err)
		}
		defer bucket.Close()
		create := func(data string) error {
			return bucket.Upload(t.Context(), "x", bytes.NewReader([]byte(data)), &blob.WriterOptions{ContentType: "application/zstd", IfNotExist: true})
		}
		if err := create(content); err != nil {
			t.Fatal(err)
		}
		if !s.is || string(s.blob) != content || s.kind != "application/zstd" {
			t.Errorf("the blob is %q of type %q", s.blob, s.kind)
		}
		if err := create("again"); gcerrors.Code(err) != gcerrors.FailedPrecondition || string(s.blob) != content {
			t.Errorf("created again: %v; it holds %q", err, s.blob)
		}
	}
}
