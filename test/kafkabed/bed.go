// Package kafkabed starts a real Apache Kafka on loopback for tests, the demo
// and the benchmark: KRaft, every broker also a controller, one or three of
// them, with plain and, when asked for, secured listeners.
//
// Invariants:
//   - Kafka is resolved once from Maven Central into the user's cache folder
//     and is never found there half done (see Install).
//   - Every wait is bounded. When one ends in failure, the error says where the
//     logs are and quotes their last lines.
//   - No broker outlives the process that started it, however that process
//     ends. A broker is signalled by its process id only.
//   - A broker keeps its ports and its data over Kill, Stop and StartBroker.
//
// It needs java (17 or newer) and, for the first installation, mvn.
package kafkabed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Options say what kind of cluster to start. The zero value is one broker with
// a plain listener.
type Options struct {
	// Brokers is how many brokers to start: 1 (also for 0) or 3.
	Brokers int
	// Secure adds SASL_SSL, SASL_PLAINTEXT and mTLS listeners to the plain one,
	// the users of Users, an OAUTHBEARER token authority and Kafka's ACL
	// authorizer. The plain listener's principal (User:ANONYMOUS) and User:admin
	// are super users; everybody else may do nothing until granted.
	Secure bool
	// Properties are added to every broker's server.properties, and replace what
	// the bed would have written under the same key.
	Properties map[string]string
	// HeapMiB is the largest heap of one broker in MiB; 0 means 512.
	HeapMiB int
	// ReadyTimeout bounds the start of the cluster and of one broker; 0 means 90 s.
	ReadyTimeout time.Duration
	// Log receives a line on installation and start; nil discards it.
	Log io.Writer
}

func (o Options) withDefaults() (Options, error) {
	if o.Brokers == 0 {
		o.Brokers = 1
	}
	if o.Brokers != 1 && o.Brokers != 3 {
		return o, fmt.Errorf("kafkabed: Brokers is %d; it must be 1 or 3", o.Brokers)
	}
	if o.HeapMiB == 0 {
		o.HeapMiB = 512
	}
	if o.ReadyTimeout == 0 {
		o.ReadyTimeout = 90 * time.Second
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	o.Properties = maps.Clone(o.Properties)
	return o, nil
}

// Bed is a running cluster. Its methods may be called concurrently, those that
// start and end the same broker excepted.
type Bed struct {
	// Dir holds everything of this cluster: logs, data, certificates.
	Dir string
	// Bootstrap is the comma-separated address list of the plain listener.
	Bootstrap string
	// PKI names the certificate files; nil unless Options.Secure.
	PKI *PKI

	options Options
	home    string // the installed jars
	java    string
	brokers []*broker
	oauth   *authority

	clientFiles sync.Mutex
}

// broker is one Kafka process. Its id is its place in Bed.brokers plus one.
type broker struct {
	id    int
	dir   string
	ports map[Listener]int
	mu    sync.Mutex
	proc  *process // nil when never started
}

func (b *broker) log() string { return filepath.Join(b.dir, "server.log") }

// errPortTaken tells Run that somebody took a port between its choice and the
// broker's bind: worth another set of ports.
var errPortTaken = errors.New("a chosen port was taken by somebody else")

// Run installs Kafka if need be and starts a cluster in dir, which is made if
// absent and must hold no earlier cluster. ctx bounds the start only: the
// cluster runs until Close, or until this process ends.
func Run(ctx context.Context, dir string, options Options) (*Bed, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("kafkabed: %w", err)
	}
	java, err := findJava()
	if err != nil {
		return nil, err
	}
	home, err := Install(ctx, options.Log)
	if err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		bed := &Bed{Dir: dir, options: options, home: home, java: java}
		err := bed.start(ctx)
		if err == nil {
			return bed, nil
		}
		bed.Close()
		if !errors.Is(err, errPortTaken) || attempt == 3 {
			return nil, err
		}
		for _, b := range bed.brokers {
			if err := os.RemoveAll(b.dir); err != nil {
				return nil, fmt.Errorf("kafkabed: clear for another attempt: %w", err)
			}
		}
	}
}

func (b *Bed) start(ctx context.Context) error {
	began := time.Now()
	if _, err := os.Stat(b.brokerDir(1)); err == nil {
		return fmt.Errorf("kafkabed: %s already holds a cluster; give an empty folder", b.Dir)
	}
	if err := os.MkdirAll(b.Dir, 0o755); err != nil {
		return fmt.Errorf("kafkabed: %w", err)
	}
	if err := b.lay(); err != nil {
		return err
	}
	if err := b.format(ctx); err != nil {
		return err
	}
	formatted := time.Now()
	for _, broker := range b.brokers {
		if err := b.launch(broker); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, b.options.ReadyTimeout)
	defer cancel()
	for _, broker := range b.brokers {
		if err := b.awaitReady(ctx, broker); err != nil {
			return err
		}
	}
	if err := b.awaitMembers(ctx); err != nil {
		return err
	}
	fmt.Fprintf(b.options.Log, "kafkabed: Apache Kafka %s at %s (format %.1fs, start %.1fs), folder %s\n",
		Version, b.Bootstrap, formatted.Sub(began).Seconds(), time.Since(formatted).Seconds(), b.Dir)
	return nil
}

// lay chooses ports and writes every file that the brokers read.
func (b *Bed) lay() error {
	if b.options.Secure {
		pki, err := makePKI(filepath.Join(b.Dir, "pki"))
		if err != nil {
			return err
		}
		b.PKI = pki
		if b.oauth, err = newAuthority(filepath.Join(b.Dir, "pki")); err != nil {
			return err
		}
	}
	listeners := b.listeners()
	ports, err := freePorts(b.options.Brokers * len(listeners))
	if err != nil {
		return err
	}
	for i := range b.options.Brokers {
		broker := &broker{id: i + 1, dir: b.brokerDir(i + 1), ports: map[Listener]int{}}
		for j, l := range listeners {
			broker.ports[l] = ports[i*len(listeners)+j]
		}
		b.brokers = append(b.brokers, broker)
	}
	b.Bootstrap = b.Addresses(Plaintext)
	if err := os.WriteFile(filepath.Join(b.Dir, "log4j2.xml"), []byte(log4j("INFO", "SYSTEM_OUT")), 0o644); err != nil {
		return fmt.Errorf("kafkabed: %w", err)
	}
	for _, broker := range b.brokers {
		if err := os.MkdirAll(broker.dir, 0o755); err != nil {
			return fmt.Errorf("kafkabed: %w", err)
		}
		if err := os.WriteFile(filepath.Join(broker.dir, "server.properties"), []byte(b.serverProperties(broker)), 0o600); err != nil {
			return fmt.Errorf("kafkabed: %w", err)
		}
	}
	return nil
}

func (b *Bed) brokerDir(id int) string { return filepath.Join(b.Dir, fmt.Sprintf("broker-%d", id)) }

// Addresses lists the cluster's brokers on a listener, "127.0.0.1:port" joined
// by commas. It is empty for a listener that the bed does not have.
func (b *Bed) Addresses(l Listener) string {
	var list []string
	for _, broker := range b.brokers {
		if port, ok := broker.ports[l]; ok {
			list = append(list, fmt.Sprintf("127.0.0.1:%d", port))
		}
	}
	return strings.Join(list, ",")
}

// Logs names the log file of each broker, by broker id less one.
func (b *Bed) Logs() []string {
	var list []string
	for _, broker := range b.brokers {
		list = append(list, broker.log())
	}
	return list
}

// Pids gives the process id of each running broker, by broker id.
func (b *Bed) Pids() map[int]int {
	pids := map[int]int{}
	for _, broker := range b.brokers {
		if p := broker.running(); p != nil {
			pids[broker.id] = p.pid()
		}
	}
	return pids
}

func (b *broker) running() *process {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.proc == nil || b.proc.exited() {
		return nil
	}
	return b.proc
}

// Kill ends broker id (1 is the first) at once with SIGKILL and waits until it is gone.
func (b *Bed) Kill(id int) error {
	if p := b.brokers[id-1].running(); p != nil {
		return p.kill()
	}
	return nil
}

// Stop ends broker id in an orderly way (SIGTERM: a controlled shutdown) and
// waits up to 30 s; a broker that is not gone by then is killed.
func (b *Bed) Stop(id int) error {
	if p := b.brokers[id-1].running(); p != nil {
		return p.stop(30 * time.Second)
	}
	return nil
}

// StartBroker starts broker id again, on its old data and ports, and waits until
// it answers. It does not wait until the broker is back in sync: see AwaitInSync.
func (b *Bed) StartBroker(ctx context.Context, id int) error {
	broker := b.brokers[id-1]
	if broker.running() != nil {
		return fmt.Errorf("kafkabed: broker %d is running", id)
	}
	if err := b.launch(broker); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, b.options.ReadyTimeout)
	defer cancel()
	return b.awaitReady(ctx, broker)
}

// Close kills every broker and waits until all are gone. The folder stays.
// Closing twice is fine.
func (b *Bed) Close() error {
	var all []error
	for _, broker := range b.brokers {
		all = append(all, b.Kill(broker.id))
	}
	if b.oauth != nil {
		b.oauth.close()
	}
	return errors.Join(all...)
}
