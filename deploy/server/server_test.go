package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// asServer, in the environment, makes the test binary the server, so that tests
// run it as a process of its own and can kill it.
const asServer = "KAFKA_BACKUP_SERVER_TEST_RUN"

func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// limit bounds each wait of these tests.
const limit = time.Minute

// process is a server that a test started.
type process struct {
	readyLine
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr *bytes.Buffer // read it after the process has ended
	exited chan error
}

func command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asServer+"=1")
	return cmd
}

// serve starts a server and waits until it is ready. It is killed at the end of
// the test, if it still runs.
func serve(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{cmd: command(args...), stderr: &bytes.Buffer{}, exited: make(chan error, 1)}
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, stdoutW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = stdoutW, p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stdoutW.Close()
	go func() { p.exited <- p.cmd.Wait() }()
	t.Cleanup(func() {
		p.cmd.Process.Kill() // no harm if it has ended
		stdout.Close()
		if t.Failed() {
			t.Logf("server %d said:\n%s", p.cmd.Process.Pid, p.stderr)
		}
	})
	stdout.SetReadDeadline(time.Now().Add(limit))
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		t.Fatalf("no ready line (%v); server said:\n%s", err, p.stderr)
	}
	if err := json.Unmarshal(line, &p.readyLine); err != nil {
		t.Fatalf("ready line %q: %v", line, err)
	}
	return p
}

// kill ends the process with -9 and waits for its end.
func (p *process) kill(t *testing.T) {
	t.Helper()
	p.cmd.Process.Kill()
	p.ended(t)
}

// ended waits for the end of the process and returns its exit code.
func (p *process) ended(t *testing.T) int {
	t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		t.Fatalf("server %d has not ended", p.cmd.Process.Pid)
		return 0
	}
}

func dial(t *testing.T, p *process) client.Client {
	t.Helper()
	c, err := client.Dial(client.Options{HostPort: p.Address, Namespace: p.Namespace, Logger: silent{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func port(t *testing.T, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// A workflow that runs while its server is killed with -9 goes on when the
// server is there again, on the same worker, and does nothing twice.
func TestWorkflowGoesOnAfterKill(t *testing.T) {
	dir := t.TempDir()
	p := serve(t, "--state", dir, "--port", "0")
	c := dial(t, p)
	ctx := deadline(t)

	var before, after atomic.Int32
	w := worker.New(c, "queue", worker.Options{})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context) (string, error) {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: limit})
		if err := workflow.ExecuteActivity(ctx, "before").Get(ctx, nil); err != nil {
			return "", err
		}
		if err := workflow.Sleep(ctx, time.Second); err != nil { // a timer is running when the server dies
			return "", err
		}
		var word string
		workflow.GetSignalChannel(ctx, "go-on").Receive(ctx, &word)
		err := workflow.ExecuteActivity(ctx, "after").Get(ctx, nil)
		return word, err
	}, workflow.RegisterOptions{Name: "main"})
	done := make(chan struct{})
	register(w, "before", func() { before.Add(1); close(done) })
	register(w, "after", func() { after.Add(1) })
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()

	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "w", TaskQueue: "queue"}, "main")
	if err != nil {
		t.Fatal(err)
	}
	<-done
	// The activity's completion has to reach the server, or it would rightly be
	// tried again.
	history(t, c, ctx, "w", enums.EVENT_TYPE_ACTIVITY_TASK_COMPLETED)
	p.kill(t)

	p = serve(t, "--state", dir, "--port", port(t, p.Address))
	if err := c.SignalWorkflow(ctx, "w", run.GetRunID(), "go-on", "hello"); err != nil {
		t.Fatal(err)
	}
	var word string
	if err := run.Get(ctx, &word); err != nil || word != "hello" {
		t.Fatalf("result %q, error %v", word, err)
	}
	if before.Load() != 1 || after.Load() != 1 {
		t.Errorf("activities ran %d and %d times, want once each", before.Load(), after.Load())
	}
}

// What the server has acknowledged is there after it was killed with -9, again
// and again, at whatever moment.
func TestAcknowledgedSurvivesKill(t *testing.T) {
	dir := t.TempDir()
	var acknowledged []string
	for round := range 3 {
		p := serve(t, "--state", dir, "--port", "0")
		c := dial(t, p)
		ctx := deadline(t)
		for i := 0; ; i++ {
			if i == 10+7*round { // kill it while more requests are on their way
				go p.cmd.Process.Kill()
			}
			id := fmt.Sprintf("w-%d-%d", round, i)
			short, cancel := context.WithTimeout(ctx, 2*time.Second)
			_, err := c.ExecuteWorkflow(short, client.StartWorkflowOptions{ID: id, TaskQueue: "nobody"}, "main")
			cancel()
			if err != nil {
				break
			}
			acknowledged = append(acknowledged, id)
		}
		p.ended(t)
	}
	p := serve(t, "--state", dir, "--port", "0")
	c := dial(t, p)
	ctx := deadline(t)
	for _, id := range acknowledged {
		d, err := c.DescribeWorkflowExecution(ctx, id, "")
		if err != nil {
			t.Fatalf("workflow %s was acknowledged and is gone: %v", id, err)
		}
		if s := d.WorkflowExecutionInfo.Status; s != enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
			t.Errorf("workflow %s is %v", id, s)
		}
	}
	if len(acknowledged) < 30 {
		t.Errorf("only %d workflows were acknowledged: the test shows nothing", len(acknowledged))
	}
}

func register(w worker.Worker, name string, f func()) {
	w.RegisterActivityWithOptions(func(context.Context) error { f(); return nil }, activityName(name))
}

// history waits until the workflow's history has an event of the type.
func history(t *testing.T, c client.Client, ctx context.Context, id string, want enums.EventType) {
	t.Helper()
	it := c.GetWorkflowHistory(ctx, id, "", true, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for it.HasNext() {
		e, err := it.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e.EventType == want {
			return
		}
	}
	t.Fatalf("no %v in the history of %s", want, id)
}

// The namespace has the product's search attributes, in a new state and in one
// that gets another namespace; the Web UI shows them.
func TestReadyMeansUsable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a folder", "with 50% of #odd? names")
	for _, namespace := range []string{"default", "other"} {
		p := serve(t, "--state", dir, "--port", "0", "--namespace", namespace)
		if p.Event != "ready" || p.PID != p.cmd.Process.Pid || p.Namespace != namespace || filepath.Dir(p.State) != dir {
			t.Errorf("ready line %+v", p.readyLine)
		}
		c := dial(t, p)
		ctx := deadline(t)
		got, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
		if err != nil {
			t.Fatal(err)
		}
		want, err := searchAttributes()
		if err != nil || len(want) == 0 {
			t.Fatal(want, err)
		}
		for name, typ := range want {
			if got.CustomAttributes[name] != typ {
				t.Errorf("namespace %s: %s is %v, want %v", namespace, name, got.CustomAttributes[name], typ)
			}
		}
		if page := get(t, p.UI+"/"); !strings.Contains(page, "<html") {
			t.Errorf("Web UI: %.200s", page)
		}
		if text := get(t, p.UI+"/api/v1/namespaces/"+namespace); !strings.Contains(text, "KafkaBackupKind") {
			t.Errorf("Web UI's API: %.500s", text)
		}
		info, err := os.Stat(p.State)
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("state file: mode %v, error %v; want nothing for others", info.Mode(), err)
		}
		p.kill(t)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", url, resp.Status, err)
	}
	return string(b)
}

// It ends in order, with exit code 0, and gives the state folder back.
func TestEndsInOrder(t *testing.T) {
	for name, end := range map[string]func(p *process) error{
		"stdin closed": func(p *process) error { return p.stdin.Close() },
		"SIGTERM":      func(p *process) error { return p.cmd.Process.Signal(syscall.SIGTERM) },
		"SIGINT":       func(p *process) error { return p.cmd.Process.Signal(syscall.SIGINT) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p := serve(t, "--state", dir, "--port", "0", "--parent-stdin")
			if err := end(p); err != nil {
				t.Fatal(err)
			}
			if code := p.ended(t); code != exitOK {
				t.Errorf("exit code %d; it said:\n%s", code, p.stderr)
			}
			lock, err := lockFile(filepath.Join(dir, "lock"))
			if err != nil {
				t.Errorf("the state folder is still locked: %v", err)
			}
			lock.Close()
		})
	}
}
