package temporalservice

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// childMode, in the environment, makes the test binary a child that behaves
// like kafka-backup-server, or one that starts such a child.
const childMode = "KAFKA_BACKUP_TEST_CHILD"

// childEnd, in the environment, is a file that the good child makes when its
// stdin is closed.
const childEnd = "KAFKA_BACKUP_TEST_CHILD_END"

func TestMain(m *testing.M) {
	ready := func() {
		fmt.Printf("{\"event\":\"ready\",\"address\":\"127.0.0.1:%d\",\"ui\":\"http://ui\",\"namespace\":\"ns\"}\n", os.Getpid())
	}
	wait := func() { _, _ = io.Copy(io.Discard, os.Stdin) }
	switch os.Getenv(childMode) {
	case "":
		os.Exit(m.Run())
	case "good":
		fmt.Println("something else first")
		fmt.Fprintln(os.Stderr, slices.Index(os.Args, "--parent-stdin"), os.Args[1:])
		ready()
		wait()
		if end := os.Getenv(childEnd); end != "" {
			_ = os.WriteFile(end, nil, 0o600)
		}
	case "refuses":
		fmt.Fprintln(os.Stderr, "a line of the log\n"+ServerBinary+": port 7233 is in use")
		os.Exit(1)
	case "silent":
		fmt.Fprintln(os.Stderr, "still at it")
		wait()
	case "deaf":
		ready()
		time.Sleep(time.Hour)
	case "parent": // starts a child that lives by its stdin, and says which
		os.Setenv(childMode, "good")
		s, err := StartServer(context.Background(), ServerOptions{Binary: os.Args[0], StateDir: "s"})
		if err != nil {
			panic(err)
		}
		fmt.Println(s.PID)
		time.Sleep(time.Hour)
	}
}

func startChild(t *testing.T, mode string, o ServerOptions) (*Server, error) {
	t.Helper()
	t.Setenv(childMode, mode)
	o.Binary = os.Args[0]
	s, err := StartServer(context.Background(), o)
	if err == nil {
		t.Cleanup(func() { _ = s.kill() })
	}
	return s, err
}

func TestStartServer(t *testing.T) {
	var log bytes.Buffer
	s, err := startChild(t, "good", ServerOptions{StateDir: "/var/state", Port: 1, UIPort: 2, Namespace: "ns", IP: "::1", LogLevel: "warn", Log: &log})
	if err != nil {
		t.Fatal(err)
	}
	if s.Address != fmt.Sprintf("127.0.0.1:%d", s.PID) || s.UI != "http://ui" {
		t.Errorf("%+v", s)
	}
	if p := s.Profile(); p.Address != s.Address || p.Namespace != "ns" || p.UI != "http://ui" {
		t.Errorf("profile %+v", p)
	}
	if s.Err() != nil {
		t.Errorf("it runs, and has the error %v", s.Err())
	}
	for range 2 {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}
	want := "0 [--parent-stdin --state /var/state --port 1 --ui-port 2 --ip ::1 --namespace ns --log-level warn]"
	if !strings.Contains(log.String(), want[2:]) {
		t.Errorf("the child was called with %s, want %s", &log, want)
	}
}

func TestStartServerFails(t *testing.T) {
	_, err := startChild(t, "refuses", ServerOptions{StateDir: "s"})
	wantServerError(t, err, ServerFailed, "embedded Temporal server: port 7233 is in use")
	_, err = startChild(t, "silent", ServerOptions{StateDir: "s", ReadyTimeout: time.Millisecond})
	wantServerError(t, err, ServerNotReady, "not ready after 1ms")
}

func TestServerDies(t *testing.T) {
	s, err := startChild(t, "good", ServerOptions{StateDir: "s"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.kill(); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	wantServerError(t, s.Err(), ServerDied, "killed")
}

// A server that does not end when it is told to is killed.
func TestStopKills(t *testing.T) {
	s, err := startChild(t, "deaf", ServerOptions{StateDir: "s"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	wantServerError(t, s.Stop(ctx), ServerDied, "killed")
}

// call is a writer that calls a function.
type call func()

func (f call) Write(p []byte) (int, error) { f(); return len(p), nil }

func TestStartServerIsCancelled(t *testing.T) {
	t.Setenv(childMode, "silent")
	ctx, cancel := context.WithCancelCause(context.Background())
	enough := errors.New("enough")
	_, err := StartServer(ctx, ServerOptions{Binary: os.Args[0], StateDir: "s", Log: call(func() { cancel(enough) })})
	if !errors.Is(err, enough) {
		t.Errorf("error %v, want the context's", err)
	}
	wantServerError(t, err, ServerNotReady, "still at it")
}

// The server ends when the process that started it is killed with -9.
func TestServerDoesNotOutliveItsParent(t *testing.T) {
	end := filepath.Join(t.TempDir(), "end")
	t.Setenv(childEnd, end)
	t.Setenv(childMode, "parent")
	parent := exec.Command(os.Args[0])
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(end); err == nil {
		t.Fatal("the child has ended before its parent")
	}
	_ = parent.Process.Kill()
	_ = parent.Wait()
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(end); err == nil {
			return
		}
		if time.Since(begun) > 20*time.Second {
			if child, err := os.FindProcess(pid); err == nil {
				_ = child.Kill()
			}
			t.Fatal("the child outlives its parent")
		}
	}
}

func TestFindServer(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := findServer("")
	wantServerError(t, err, ServerMissing, "--temporal-address")
	_, err = findServer("/nowhere/server")
	wantServerError(t, err, ServerMissing, "/nowhere/server")

	dir := t.TempDir()
	path := filepath.Join(dir, ServerBinary)
	if err := os.WriteFile(path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	if got, err := findServer(""); err != nil || got != path {
		t.Errorf("found %q, error %v; want %s", got, err, path)
	}
}

func wantServerError(t *testing.T, err error, reason ServerReason, words string) {
	t.Helper()
	var typed *ServerError
	if !errors.As(err, &typed) {
		t.Fatalf("error is %T (%v), want *ServerError", err, err)
	}
	if typed.Reason != reason || !strings.Contains(err.Error(), words) {
		t.Errorf("reason %d: %v; want reason %d and mention of %q", typed.Reason, err, reason, words)
	}
}
