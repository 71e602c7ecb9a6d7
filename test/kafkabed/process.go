package kafkabed

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// process is a running child that ends with this process at the latest.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the child was reaped
	err  error         // why it ended; read after done
}

// spawn starts cmd in a process group of its own (an interrupt at the terminal
// goes to this process, which then decides) and bound to this process's life.
func spawn(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// On Linux the parent-death signal fires when the thread that forked
		// ends, so that thread is kept for as long as the child lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		dieWithParent(cmd)
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		release := watchParent(cmd.Process.Pid)
		started <- nil
		p.err = cmd.Wait()
		release()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *process) kill() error {
	// An error here means that the child is gone already: the wait tells.
	_ = p.cmd.Process.Kill()
	select {
	case <-p.done:
		return nil
	case <-time.After(30 * time.Second):
		return fmt.Errorf("kafkabed: process %d does not end on SIGKILL", p.pid())
	}
}

func (p *process) stop(patience time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(patience):
		return p.kill()
	}
}

// launch starts a broker's process without waiting for it to answer.
func (b *Bed) launch(broker *broker) error {
	out, err := os.OpenFile(broker.log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("kafkabed: %w", err)
	}
	defer out.Close()
	cmd := exec.Command(b.java,
		"-Xms128m", fmt.Sprintf("-Xmx%dm", b.options.HeapMiB),
		"-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-Djava.awt.headless=true",
		"-Dlog4j2.configurationFile="+filepath.Join(b.Dir, "log4j2.xml"),
	)
	if b.oauth != nil {
		cmd.Args = append(cmd.Args, "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls="+b.oauth.jwksURL())
	}
	cmd.Args = append(cmd.Args, "-cp", filepath.Join(b.home, "lib", "*"),
		"kafka.Kafka", filepath.Join(broker.dir, "server.properties"))
	cmd.Dir = broker.dir
	cmd.Stdout, cmd.Stderr = out, out
	p, err := spawn(cmd)
	if err != nil {
		return fmt.Errorf("kafkabed: start broker %d: %w", broker.id, err)
	}
	broker.mu.Lock()
	broker.proc = p
	broker.mu.Unlock()
	return nil
}
