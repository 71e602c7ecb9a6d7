//go:build unix && !linux

package rig

import (
	"os/exec"
	"syscall"
)

// dieWithParent only separates the process groups here: a worker whose parent
// is killed ends when its Temporal server does, which watches its parent.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}
