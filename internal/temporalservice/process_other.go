//go:build !unix

package temporalservice

import "os/exec"

// ownProcessGroup does nothing here: a child shares its parent's console.
func ownProcessGroup(*exec.Cmd) {}
