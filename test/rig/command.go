package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"go.yaml.in/yaml/v3"
)

// Document is a configuration file in the making.
type Document map[string]any

// Outcome is how a command ended.
type Outcome struct {
	Args []string
	// Code is the exit code; -1 when it was killed.
	Code     int
	Out, Err string
}

// String shows the whole outcome, for a test that failed.
func (o *Outcome) String() string {
	return fmt.Sprintf("kafka-backup %q ended with code %d\n--- stdout\n%s--- stderr\n%s", o.Args, o.Code, o.Out, o.Err)
}

// JSON decodes what the command printed with --output json.
func (o *Outcome) JSON(v any) error {
	if err := json.Unmarshal([]byte(o.Out), v); err != nil {
		return fmt.Errorf("rig: %w in the output of\n%s", err, o)
	}
	return nil
}

// File writes a configuration file and gives its path.
func (r *Rig) File(d Document) (string, error) {
	text, err := yaml.Marshal(map[string]any(d))
	if err != nil {
		return "", fmt.Errorf("rig: %w", err)
	}
	r.mu.Lock()
	r.files++
	name := filepath.Join(r.Dir, fmt.Sprintf("config-%03d.yaml", r.files))
	r.mu.Unlock()
	if err := os.WriteFile(name, text, 0o600); err != nil {
		return "", fmt.Errorf("rig: %w", err)
	}
	return name, nil
}

// Command runs the command line to its end; the end of ctx kills it. env are
// further environment variables, "NAME=value". The error is for what kept it
// from running; how it ended is in the outcome.
func (r *Rig) Command(ctx context.Context, env []string, args ...string) (*Outcome, error) {
	cmd := exec.CommandContext(ctx, r.Programs.Command, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Dir, cmd.Env = r.Dir, append(environment(env), "TEMPORAL_ADDRESS="+r.Address())
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	o := &Outcome{Args: args, Code: cmd.ProcessState.ExitCode(), Out: out.String(), Err: errs.String()}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return o, fmt.Errorf("rig: %w", err)
	}
	if ctx.Err() != nil {
		return o, fmt.Errorf("rig: %w\n%s", context.Cause(ctx), o)
	}
	return o, nil
}
