package rig

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// WorkerOptions say how a worker is started.
type WorkerOptions struct {
	// TaskQueue to listen on; empty is the default one.
	TaskQueue string
	// Transfers at the same time; 0 is the program's default.
	Transfers int
	// Env are further environment variables, "NAME=value": the secrets that
	// configurations name.
	Env []string
}

// Worker is a worker in a process of its own.
type Worker struct {
	// Log is the file that it writes its log to.
	Log string

	cmd  *exec.Cmd
	done chan struct{} // closed when it was reaped
}

// StartWorker starts a worker and waits until it listens.
func (r *Rig) StartWorker(ctx context.Context, o WorkerOptions) (*Worker, error) {
	r.mu.Lock()
	r.files++
	w := &Worker{Log: filepath.Join(r.Dir, fmt.Sprintf("worker-%03d.log", r.files)), done: make(chan struct{})}
	r.mu.Unlock()
	log, err := os.Create(w.Log)
	if err != nil {
		return nil, fmt.Errorf("rig: %w", err)
	}
	defer log.Close()
	args := []string{"--temporal-address", r.Address(), "--log-level", "warn", "--drain-timeout", "15s"}
	if o.TaskQueue != "" {
		args = append(args, "--task-queue", o.TaskQueue)
	}
	if o.Transfers > 0 {
		args = append(args, "--transfers", strconv.Itoa(o.Transfers))
	}
	w.cmd = exec.Command(r.Worker, args...)
	w.cmd.Dir, w.cmd.Env, w.cmd.Stderr = r.Dir, environment(o.Env), log
	started := make(chan error)
	go func() {
		// On Linux the parent-death signal fires when the thread that forked
		// ends, so that thread is kept for as long as the child lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		dieWithParent(w.cmd)
		err := w.cmd.Start()
		started <- err
		if err == nil {
			_ = w.cmd.Wait()
			close(w.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("rig: %w", err)
	}
	r.mu.Lock()
	r.workers = append(r.workers, w)
	r.mu.Unlock()
	return w, w.ready(ctx)
}

// ready waits until the worker says that it listens.
func (w *Worker) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		text, err := os.ReadFile(w.Log)
		if err != nil {
			return fmt.Errorf("rig: %w", err)
		}
		if bytes.Contains(text, []byte(" listens on task queue ")) {
			return nil
		}
		select {
		case <-w.done:
			return fmt.Errorf("rig: the worker ended at once:\n%s", text)
		case <-ctx.Done():
			return fmt.Errorf("rig: the worker is not ready: %w\n%s", context.Cause(ctx), text)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// PID is the process id.
func (w *Worker) PID() int { return w.cmd.Process.Pid }

// Kill ends the worker with SIGKILL and waits until it is gone.
func (w *Worker) Kill() error { return w.end(syscall.SIGKILL, 10*time.Second) }

// Stop ends the worker in order, with SIGTERM, and waits until it is gone.
func (w *Worker) Stop() error { return w.end(syscall.SIGTERM, 30*time.Second) }

// Suspend stops the worker in its tracks (SIGSTOP): its connections stay open,
// what the kernel holds of its requests is still sent.
func (w *Worker) Suspend() error { return w.cmd.Process.Signal(syscall.SIGSTOP) }

// Wake lets a suspended worker go on as if nothing had happened.
func (w *Worker) Wake() error { return w.cmd.Process.Signal(syscall.SIGCONT) }

func (w *Worker) end(with syscall.Signal, patience time.Duration) error {
	select {
	case <-w.done:
		return nil
	default:
	}
	_ = w.cmd.Process.Signal(with) // gone already: the wait tells
	select {
	case <-w.done:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("rig: worker %d does not end on %v; its log is %s", w.PID(), with, w.Log)
	}
}
