package schedule

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/cli"
)

// log is what a command has written so far.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// The worker's command serves metrics and health, logs what it does in JSON,
// and ends in order when it is told to.
func TestWorkerCommand(t *testing.T) {
	b := newBed(t)
	t.Setenv("TEMPORAL_ADDRESS", server.Address)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var errs log
	code := make(chan int, 1)
	go func() {
		code <- cli.Run(ctx, []string{"worker", "--task-queue", b.queue, "--metrics-address", "127.0.0.1:0", "--log-format", "json"},
			cli.Streams{In: strings.NewReader(""), Out: io.Discard, Err: &errs})
	}()
	found := regexp.MustCompile(`http://[^/]+`)
	var address string
	for end := time.Now().Add(patience); address == ""; time.Sleep(20 * time.Millisecond) {
		if line := lineWith(errs.String(), "Metrics on ", ""); line != "" {
			address = found.FindString(line)
		}
		if time.Now().After(end) {
			t.Fatalf("no address: %s", &errs)
		}
	}
	get := func(path string) (int, string) {
		resp, err := http.Get(address + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	if code, body := get("/readyz"); code != 200 {
		t.Errorf("/readyz: %d %s", code, body)
	}
	b.must("backup", "--config", b.config("logged", ""), "--task-queue", b.queue)
	if _, body := get("/metrics"); !strings.Contains(body, "kafka_backup_segment_seconds_count") || !strings.Contains(body, "temporal_activity_execution_latency_seconds") {
		t.Error("metrics are missing")
	}
	var line struct {
		Msg        string
		WorkflowID string
		Records    int
	}
	for text := range strings.Lines(errs.String()) {
		if strings.Contains(text, `"Part done"`) {
			if err := json.Unmarshal([]byte(text), &line); err != nil {
				t.Error(err)
			}
		}
	}
	if !strings.HasPrefix(line.WorkflowID, "backup/logged/") || line.Records != 10 {
		t.Errorf("the log says %+v: %s", line, &errs)
	}
	stop()
	select {
	case c := <-code:
		if c != cli.ExitDone {
			t.Errorf("code %d: %s", c, &errs)
		}
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	if _, err := http.Get(address + "/healthz"); err == nil {
		t.Error("health is served after the end")
	}
}
