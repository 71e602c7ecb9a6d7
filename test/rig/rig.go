// Package rig runs the product the way its users do: the embedded Temporal
// server, workers and the command line, each a process of its own, so that a
// test can kill any of them.
//
// Invariants:
//   - Nothing is faked: the programs are built from this tree.
//   - Every wait is bounded, and no process outlives the one that started it.
//   - A process is signalled by its id only.
//   - The programs do not see the caller's Temporal settings or cloud
//     credentials, only what a test gives them.
package rig

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
)

// Programs are the paths of the built programs.
type Programs struct{ Command, Worker, Server string }

// Build builds the programs into the folder bin of the source tree. Where nothing
// changed, Go's own cache makes it short; the embedded server takes some
// minutes the first time.
func Build(ctx context.Context) (*Programs, error) {
	root, err := sourceDir()
	if err != nil {
		return nil, err
	}
	// Each source tree has programs of its own: the tests of one must not run
	// what those of another have just built.
	dir := filepath.Join(root, "bin", "rig")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("rig: %w", err)
	}
	p := &Programs{}
	for _, b := range []struct {
		to           *string
		name, in, of string
		flags        []string
	}{
		{&p.Command, "kafka-backup", "", "./starter", nil},
		{&p.Worker, "kafka-backup-worker", "", "./worker", nil},
		{&p.Server, temporalservice.ServerBinary, "deploy/server", ".", []string{"-ldflags", "-s -w"}},
	} {
		*b.to = filepath.Join(dir, b.name)
		if err := build(ctx, filepath.Join(root, b.in), *b.to, append(b.flags, b.of)...); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// build makes a program and puts it in its place in one step, so that a
// process that starts it now finds it whole. A lock keeps other test processes
// from doing the same work beside it.
func build(ctx context.Context, dir, binary string, args ...string) error {
	lock, err := os.OpenFile(binary+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("rig: %w", err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("rig: lock %s: %w", lock.Name(), err)
	}
	made := binary + ".new"
	if _, err := os.Stat(made); errors.Is(err, os.ErrNotExist) {
		// The linker is spared where what is there is up to date.
		_ = os.Link(binary, made)
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-o", made}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("rig: go build in %s: %w\n%s", dir, err, out)
	}
	if err := os.Rename(made, binary); err != nil {
		return fmt.Errorf("rig: %w", err)
	}
	return nil
}

// sourceDir finds the module's folder from that of whatever package is tested.
func sourceDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("rig: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "deploy", "server", "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("rig: deploy/server is in no parent folder of the working directory; run this within the source tree")
		}
		dir = parent
	}
}

// Rig is a Temporal server and what was started beside it.
type Rig struct {
	Programs
	// Dir holds logs, the server's state and configuration files.
	Dir string

	port    int
	mu      sync.Mutex
	server  *temporalservice.Server
	workers []*Worker
	files   int
	log     *os.File
}

// Run builds the programs and starts the Temporal server, with everything in
// dir. ctx bounds the start only.
func Run(ctx context.Context, dir string) (*Rig, error) {
	programs, err := Build(ctx)
	if err != nil {
		return nil, err
	}
	r := &Rig{Programs: *programs, Dir: dir}
	if r.port, err = freePort(); err != nil {
		return nil, err
	}
	if r.log, err = os.OpenFile(filepath.Join(dir, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
		return nil, fmt.Errorf("rig: %w", err)
	}
	return r, r.RestartServer(ctx)
}

// Address is host:port of the Temporal server; a restart keeps it.
func (r *Rig) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port)) }

// UI is the base URL of the Temporal Web UI; a restart may change it.
func (r *Rig) UI() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.server.UI
}

// KillServer ends the Temporal server with SIGKILL and waits until it is gone.
func (r *Rig) KillServer() error {
	r.mu.Lock()
	server := r.server
	r.mu.Unlock()
	if err := syscall.Kill(server.PID, syscall.SIGKILL); err != nil {
		return fmt.Errorf("rig: kill the Temporal server: %w", err)
	}
	select {
	case <-server.Done():
		return nil
	case <-time.After(10 * time.Second):
		return fmt.Errorf("rig: the Temporal server, process %d, does not end on SIGKILL", server.PID)
	}
}

// RestartServer starts the Temporal server on the state and port it had.
func (r *Rig) RestartServer(ctx context.Context) error {
	s, err := temporalservice.StartServer(ctx, temporalservice.ServerOptions{
		Binary: r.Server, StateDir: filepath.Join(r.Dir, "state"), Port: r.port, LogLevel: "error", Log: r.log, ReadyTimeout: 90 * time.Second,
	})
	if err != nil {
		return fmt.Errorf("rig: %w (its log is %s)", err, r.log.Name())
	}
	r.mu.Lock()
	r.server = s
	r.mu.Unlock()
	return nil
}

// Close kills the workers and ends the server. The folder stays.
func (r *Rig) Close() error {
	r.mu.Lock()
	workers, server := r.workers, r.server
	r.workers, r.server = nil, nil
	r.mu.Unlock()
	var errs []error
	for _, w := range workers {
		errs = append(errs, w.Kill())
	}
	if server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := server.Stop(ctx); err != nil && server.Err() == nil {
			errs = append(errs, err)
		}
	}
	_ = r.log.Close()
	return errors.Join(errs...)
}

// environment is what the programs see of the caller's, and more.
func environment(more []string) []string {
	var env []string
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, "TEMPORAL_") && !strings.HasPrefix(name, "AWS_") && !strings.HasPrefix(name, "KAFKA_BACKUP_") {
			env = append(env, e)
		}
	}
	// No configuration file, no metadata service.
	env = append(env, "TEMPORAL_CONFIG_FILE="+os.DevNull, "AWS_EC2_METADATA_DISABLED=true")
	return append(env, more...)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("rig: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
