package temporalservice

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ServerBinary is the name of the embedded Temporal server's program.
const ServerBinary = "kafka-backup-server"

// ServerOptions say how to run the embedded Temporal server.
type ServerOptions struct {
	// Binary is the path of the program. Empty means: ServerBinary in the
	// folder of the running program, or else on the PATH.
	Binary string
	// StateDir is the folder that the server keeps its state in; it is made if
	// it is not there. Required. Two servers never share one.
	StateDir string
	// IP is the address to listen on. Empty means 127.0.0.1. The server has no
	// authentication: whoever reaches it can do anything.
	IP string
	// Ports of the gRPC endpoint and of the Web UI. 0 means any free port; the
	// usual ones are 7233 and 8233.
	Port, UIPort int
	// Namespace to have. Empty means DefaultNamespace.
	Namespace string
	// TimeSkipping lets clients skip time in workflows and schedules; for tests.
	TimeSkipping bool
	// LogLevel of the server: debug, info, warn, error. Empty means error.
	LogLevel string
	// Log takes the server's log and messages. Nil throws them away; the end of
	// them is part of a *ServerError either way.
	Log io.Writer
	// ReadyTimeout bounds the start. 0 means 60 s; an ordinary start takes about 1 s.
	ReadyTimeout time.Duration
}

// Server is an embedded Temporal server that runs as a child process.
type Server struct {
	// Address is host:port of the gRPC endpoint.
	Address string
	// UI is the base URL of the Web UI.
	UI string
	// Namespace that it has.
	Namespace string
	// PID is the id of the process.
	PID int

	stdin io.Closer
	kill  func() error
	done  chan struct{} // closed when the process has ended and exit is set
	exit  error
}

// ServerReason says why there is no embedded server.
type ServerReason int

// Reasons of a ServerError.
const (
	ServerMissing  ServerReason = iota + 1 // the program was not found
	ServerFailed                           // it could not be started, or ended at once
	ServerNotReady                         // it was not ready in time, and was ended
	ServerDied                             // it ended later, without being told to
)

// ServerError says why the embedded server does not run.
type ServerError struct {
	Reason ServerReason
	Err    error
	Output string // the last line that the server printed, or empty
	Hint   string // what to do, or empty
}

// Error is one line: what happened, the server's own words, what to do.
func (e *ServerError) Error() string {
	what := "embedded Temporal server: "
	if e.Output != "" {
		what += e.Output
	} else {
		what += e.Err.Error()
	}
	return withHint(what, e.Hint)
}

// Unwrap returns the error of the process.
func (e *ServerError) Unwrap() error { return e.Err }

// readyLine is what the server prints on stdout, in one line, when it is ready.
type readyLine struct {
	Address   string `json:"address"`
	UI        string `json:"ui"`
	Namespace string `json:"namespace"`
}

// StartServer starts the embedded Temporal server as a child process and
// returns when it is ready: namespace, search attributes and Web UI are there.
// The server ends with Stop, and also when this process dies in whatever way.
// ctx and o.ReadyTimeout bound the start only. A signal that a terminal sends
// to this process (Ctrl-C) does not reach the server, so that a worker here can
// still end its work in order before it calls Stop.
// Its errors are *ServerError.
func StartServer(ctx context.Context, o ServerOptions) (*Server, error) {
	binary, err := findServer(o.Binary)
	if err != nil {
		return nil, err
	}
	if o.ReadyTimeout == 0 {
		o.ReadyTimeout = time.Minute
	}
	stdin, keepOpen, err := os.Pipe() // the server ends when our end is closed, by us or by the kernel
	if err != nil {
		return nil, &ServerError{Reason: ServerFailed, Err: fmt.Errorf("make a pipe: %w", err)}
	}
	defer stdin.Close()

	tail := &tailWriter{next: o.Log}
	ready := make(chan readyLine, 1)
	cmd := exec.Command(binary, o.args()...)
	cmd.Stdin = stdin
	cmd.Stderr = tail
	cmd.Stdout = &lineWriter{line: func(b []byte) {
		var r readyLine
		if json.Unmarshal(b, &r) == nil && r.Address != "" {
			select {
			case ready <- r:
			default:
			}
		}
	}}
	ownProcessGroup(cmd)
	if err := cmd.Start(); err != nil {
		_ = keepOpen.Close()
		return nil, &ServerError{Reason: ServerFailed, Err: err}
	}
	s := &Server{PID: cmd.Process.Pid, stdin: keepOpen, kill: cmd.Process.Kill, done: make(chan struct{})}
	go func() {
		s.exit = cmd.Wait()
		close(s.done)
	}()

	limit := time.NewTimer(o.ReadyTimeout)
	defer limit.Stop()
	select {
	case r := <-ready:
		s.Address, s.UI, s.Namespace = r.Address, r.UI, r.Namespace
		return s, nil
	case <-s.done:
		_ = s.stdin.Close()
		err := s.exit
		if err == nil {
			err = errors.New("it ended before it was ready")
		}
		return nil, &ServerError{Reason: ServerFailed, Err: err, Output: tail.last()}
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-limit.C:
		err = fmt.Errorf("not ready after %v", o.ReadyTimeout)
	}
	_ = s.kill()
	<-s.done
	_ = s.stdin.Close()
	return nil, &ServerError{Reason: ServerNotReady, Err: err, Hint: lastWords(tail.last())}
}

// Profile returns the Profile of this server, which is as it is whatever the
// environment and temporal.toml say about others.
func (s *Server) Profile() Profile {
	return Profile{Address: s.Address, Namespace: s.Namespace, UI: s.UI}
}

// Done is closed when the server's process has ended.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err returns nil while the server runs, and then how it ended: a *ServerError
// with the reason ServerDied. It is for a server that was not told to stop.
func (s *Server) Err() error {
	select {
	case <-s.done:
	default:
		return nil
	}
	err := s.exit
	if err == nil {
		err = errors.New("it was stopped from outside")
	}
	return &ServerError{Reason: ServerDied, Err: fmt.Errorf("ended: %w", err), Hint: "start it again: its state is on disk, and operations go on"}
}

// Stop ends the server in order and waits for it. When ctx ends first, the
// server is killed: that is safe, its state is on disk. It returns how the
// process ended, and may be called again.
func (s *Server) Stop(ctx context.Context) error {
	_ = s.stdin.Close() // a second time does nothing
	select {
	case <-s.done:
	case <-ctx.Done():
		_ = s.kill()
		<-s.done
	}
	if s.exit != nil {
		return &ServerError{Reason: ServerDied, Err: fmt.Errorf("stop: %w", s.exit)}
	}
	return nil
}

func (o ServerOptions) args() []string {
	args := []string{
		"--parent-stdin", "--state", o.StateDir,
		"--port", strconv.Itoa(o.Port), "--ui-port", strconv.Itoa(o.UIPort),
	}
	for _, f := range []struct{ name, value string }{
		{"--ip", o.IP}, {"--namespace", o.Namespace}, {"--log-level", o.LogLevel},
	} {
		if f.value != "" {
			args = append(args, f.name, f.value)
		}
	}
	if o.TimeSkipping {
		args = append(args, "--time-skipping")
	}
	return args
}

// findServer returns the path of the server's program.
func findServer(binary string) (string, error) {
	if binary != "" {
		if _, err := os.Stat(binary); err != nil {
			return "", &ServerError{Reason: ServerMissing, Err: err}
		}
		return binary, nil
	}
	name := ServerBinary
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	self, err := os.Executable()
	if err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			beside := filepath.Join(filepath.Dir(self), name)
			if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
				return beside, nil
			}
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", &ServerError{Reason: ServerMissing, Err: fmt.Errorf("%s is neither beside this program nor on the PATH", name),
			Hint: "build it with: make server (the first time takes some minutes), or name another Temporal service with --" + FlagAddress}
	}
	return path, nil
}

func lastWords(line string) string {
	if line == "" {
		return ""
	}
	return "the last that it said: " + line
}

// lineWriter calls line with each whole line that is written to it. Lines of
// more than 64 KiB are dropped.
type lineWriter struct {
	line func([]byte)
	rest []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 {
			break
		}
		w.line(w.rest[:i])
		w.rest = w.rest[i+1:]
	}
	if len(w.rest) > 64<<10 {
		w.rest = nil
	}
	return len(p), nil
}

// tailWriter passes on what is written to it and remembers the end of it.
type tailWriter struct {
	next io.Writer // nil for none
	mu   sync.Mutex
	end  []byte
}

func (w *tailWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	w.end = append(w.end, p...)
	if over := len(w.end) - 4<<10; over > 0 {
		w.end = append(w.end[:0], w.end[over:]...)
	}
	w.mu.Unlock()
	if w.next != nil {
		_, _ = w.next.Write(p) // the log may go away; the server must not fail by it
	}
	return len(p), nil
}

// last returns the last line that is not empty, without the program's name.
func (w *tailWriter) last() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(w.end)), "\n")
	return strings.TrimPrefix(strings.TrimSpace(lines[len(lines)-1]), ServerBinary+": ")
}
