package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
)

// smallDisk mounts a file system of its own, which takes privileges.
func smallDisk(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("not allowed to mount a small disk: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func TestRefusesFullDisk(t *testing.T) {
	dir := smallDisk(t, "size=4m")
	mentions(t, refuse(t, exitFailed, "--state", filepath.Join(dir, "state"), "--port", "0"), dir, "disk is full", "--state")
}

// A disk that gets full stops the server's work but not the server; when there
// is room again it goes on, and nothing that it acknowledged is lost.
func TestGoesOnWhenThereIsRoomAgain(t *testing.T) {
	dir := smallDisk(t, "size=64m")
	p := serve(t, "--state", filepath.Join(dir, "state"), "--port", "0")
	c := dial(t, p)
	ctx := deadline(t)
	start := func(id string) error {
		_, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id, TaskQueue: "nobody"}, "main", strings.Repeat("x", 100_000))
		return err
	}
	if err := start("before"); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	if err := fill(ballast); err != nil {
		t.Fatal(err)
	}
	short := time.Now().Add(5 * time.Second)
	var refused error
	for refused == nil && time.Now().Before(short) {
		ctxShort, cancel := context.WithDeadline(ctx, short)
		_, refused = c.ExecuteWorkflow(ctxShort, client.StartWorkflowOptions{TaskQueue: "nobody"}, "main", strings.Repeat("x", 100_000))
		cancel()
	}
	if refused == nil {
		t.Fatal("the server took in work on a full disk")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for start("after") != nil {
		if ctx.Err() != nil {
			t.Fatal("the server does not go on")
		}
	}
	for _, id := range []string{"before", "after"} {
		if _, err := c.DescribeWorkflowExecution(ctx, id, ""); err != nil {
			t.Errorf("workflow %s: %v", id, err)
		}
	}
	p.kill(t)
	mentions(t, p.stderr.String(), "MiB are left on the disk")
}

// fill writes a file until the disk is full.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	return nil
}
