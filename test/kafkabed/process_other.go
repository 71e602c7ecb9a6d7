//go:build unix && !linux

package kafkabed

import (
	"os/exec"
	"strconv"
	"syscall"
)

// dieWithParent only separates the process groups here; watchParent does the rest.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}

// watchParent starts a shell that kills pid when this process is gone: the
// shell's standard input is a pipe whose other end only this process holds.
func watchParent(pid int) (release func()) {
	guard := exec.Command("/bin/sh", "-c", `cat >/dev/null; kill -9 "$0"`, strconv.Itoa(pid))
	guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := guard.StdinPipe()
	if err != nil || guard.Start() != nil {
		return func() {}
	}
	return func() {
		// The guard goes first, so that it never signals a pid that was reused.
		_ = guard.Process.Kill()
		_ = pipe.Close()
		_ = guard.Wait()
	}
}
