package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/server/common/headers"
)

func activityName(name string) activity.RegisterOptions { return activity.RegisterOptions{Name: name} }

// refuse runs a server that must not start, and returns its last line.
func refuse(t *testing.T, code int, args ...string) string {
	t.Helper()
	cmd := command(args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run() // the exit code says it
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("exit code %d, want %d", got, code)
	}
	if stdout.Len() > 0 {
		t.Errorf("on stdout: %s", &stdout)
	}
	lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
	return lines[len(lines)-1]
}

func mentions(t *testing.T, message string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(message, w) {
			t.Errorf("message %q does not mention %q", message, w)
		}
	}
}

func TestRefusesWrongFlags(t *testing.T) {
	for _, c := range []struct{ args, mention string }{
		{"", "--state"},
		{"--state s --port 70000", "--port"},
		{"--state s --ui-port -1", "--ui-port"},
		{"--state s --port 7233 --ui-port 7233", "differ"},
		{"--state s --ip localhost", "--ip"},
		{"--state s --log-level loud", "--log-level"},
		{"--state s --retention 1h", "--retention"},
		{"--state s more", `"more"`},
		{"--nonsense", "nonsense"},
	} {
		mentions(t, refuse(t, exitUsage, strings.Fields(c.args)...), program, c.mention)
	}
}

func TestRefusesWhatIsTaken(t *testing.T) {
	dir := t.TempDir()
	p := serve(t, "--state", dir, "--port", "0")
	taken := port(t, p.Address)
	for _, c := range []struct{ args, words []string }{
		{[]string{"--state", dir, "--port", "0"}, []string{dir, fmt.Sprint("pid ", p.PID), "--state"}},
		{[]string{"--state", t.TempDir(), "--port", taken}, []string{taken, "--port", "in use"}},
		{[]string{"--state", t.TempDir(), "--port", "0", "--ui-port", taken}, []string{taken, "--ui-port", "in use"}},
		{[]string{"--state", t.TempDir(), "--ip", "192.0.2.1"}, []string{"192.0.2.1", "--ip"}},
	} {
		mentions(t, refuse(t, exitFailed, c.args...), c.words...)
	}
}

// A crash while the state file is made leaves a side file; it is thrown away. A
// damaged state file is refused and left as it is.
func TestStateFileIsWholeOrNotUsed(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "temporal-"+headers.ServerVersion+".db")
	nonsense := bytes.Repeat([]byte("this is not a database. "), 1000)
	for _, leftover := range []string{file + ".new", file + ".new-journal"} {
		if err := os.WriteFile(leftover, nonsense, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	serve(t, "--state", dir, "--port", "0").kill(t)

	damaged := t.TempDir()
	file = filepath.Join(damaged, filepath.Base(file))
	if err := os.WriteFile(file, nonsense, 0o600); err != nil {
		t.Fatal(err)
	}
	mentions(t, refuse(t, exitFailed, "--state", damaged, "--port", "0"), file, "damaged")
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, nonsense) {
		t.Errorf("the damaged file was changed (error %v)", err)
	}
}

type codedError int

func (e codedError) Error() string { return fmt.Sprintf("sqlite says %d", int(e)) }
func (e codedError) Code() int     { return int(e) }

func TestExplain(t *testing.T) {
	for _, c := range []struct {
		err  error
		word string
	}{
		{codedError(sqliteFull), "full"},
		{syscall.ENOSPC, "full"},
		{codedError(sqliteReadonly | 1<<8), "writable"}, // an extended code
		{fs.ErrPermission, "writable"},
		{codedError(sqliteCorrupt), "damaged"},
		{codedError(sqliteNotADB), "damaged"},
	} {
		got := explain(fmt.Errorf("open: %w", c.err))
		mentions(t, got.Error(), "open: ", c.word)
		if !errors.Is(got, c.err) {
			t.Errorf("%v does not wrap %v", got, c.err)
		}
	}
	plain := errors.New("other")
	if got := explain(plain); got != plain {
		t.Errorf("explain changed %v to %v", plain, got)
	}
}
