package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// background starts a process that outlives the demo command, in a process
// group of its own, and returns its first line on stdout. Its pid is kept in
// dir/pids/NAME, what it says in dir/NAME.log.
func (d *demo) background(name string, args ...string) (pid int, first string, err error) {
	log, err := os.Create(filepath.Join(d.dir, name+".log"))
	if err != nil {
		return 0, "", err
	}
	defer log.Close()
	out, in, err := os.Pipe()
	if err != nil {
		return 0, "", err
	}
	defer out.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = in, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Start()
	in.Close()
	if err != nil {
		return 0, "", err
	}
	pid = cmd.Process.Pid
	if err := os.WriteFile(filepath.Join(d.dir, "pids", name), []byte(strconv.Itoa(pid)), 0o644); err != nil {
		return pid, "", err
	}
	line := make(chan string, 1)
	go func() {
		s := bufio.NewScanner(out)
		s.Scan()
		line <- s.Text()
	}()
	select {
	case first = <-line:
	case <-time.After(3 * time.Minute):
		err = errors.New("it did not get ready in 3 minutes")
	}
	if first == "" && err == nil {
		err = errors.New("it ended at once")
	}
	if err != nil {
		said, _ := os.ReadFile(log.Name())
		return pid, "", fmt.Errorf("start %s: %w\n%s", name, err, strings.TrimSpace(string(said)))
	}
	go func() { _ = cmd.Wait() }()
	return pid, first, nil
}

// stopDemo ends what an earlier run left running, by pid, and removes its
// files.
func stopDemo(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, "pids", "*"))
	if err != nil {
		return err
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		pid, err := strconv.Atoi(string(text))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := end(pid, syscall.SIGTERM); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

// end ends a process and its group if it still is one of the demo's.
func end(pid int, sig syscall.Signal) error {
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err == nil && !strings.Contains(string(command), "demo") && !strings.Contains(string(command), "kafka-backup") {
		return nil // the pid belongs to somebody else by now
	}
	for range 100 {
		if syscall.Kill(-pid, sig) != nil {
			return nil // gone
		}
		if sig == syscall.SIGKILL {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	return nil
}
