// Command kafka-backup-server is a Temporal service for kafka-backup in one
// process: the server with its state in an SQLite file, and the Web UI. It is
// what `kafka-backup server` starts; it also runs alone, for example in a
// container.
//
// Invariants:
//
//   - What a client was told is on disk: SQLite in WAL mode with
//     synchronous=full. Killed with -9 and started again, it goes on.
//   - A state file is complete or not there: it is made under another name and
//     renamed. Its name has the server's version, because there are no
//     migrations between versions.
//   - Two servers never share a state folder: a lock, which the kernel drops
//     when the process dies, is held as long as it runs.
//   - On stdout there is nothing but the ready line (see readyLine), printed
//     when namespace, search attributes and Web UI can be used. All else is on
//     stderr.
//   - With --parent-stdin it ends when its stdin is closed, so that it never
//     outlives the process that started it.
//
// There is no authentication. It listens on the loopback interface unless told
// otherwise.
//
// It is a Go module of its own because it has some 200 dependencies that the
// product has not; it does not import the product.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"go.temporal.io/server/common/headers"
)

// program is the name that messages begin with.
const program = "kafka-backup-server"

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// uiPortOffset is how far above the gRPC port the Web UI is, unless told
// otherwise, as with Temporal's own development server.
const uiPortOffset = 1000

// options are what the flags say.
type options struct {
	state       string
	ip          string
	port        int // 0: any free one
	uiPort      int // 0: any free one
	namespace   string
	retention   time.Duration
	logLevel    string
	parentStdin bool
	skipping    bool // clients may skip time
}

// readyLine is printed on stdout as one line of JSON when the server is ready.
type readyLine struct {
	Event     string `json:"event"`     // "ready"
	Address   string `json:"address"`   // host:port of the gRPC endpoint
	UI        string `json:"ui"`        // base URL of the Web UI
	Namespace string `json:"namespace"` // that it has
	PID       int    `json:"pid"`
	State     string `json:"state"`   // path of the state file
	Version   string `json:"version"` // of the Temporal server
}

// usageError says that the flags are wrong.
type usageError struct{ error }

func main() {
	err := run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	var usage usageError
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		os.Exit(exitOK)
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "%s: %v\n", program, err)
		os.Exit(exitUsage)
	default:
		fmt.Fprintf(os.Stderr, "%s: %v\n", program, explain(err))
		os.Exit(exitFailed)
	}
}

// run runs the server until a signal, or the end of stdin if the flags say so.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if o.parentStdin {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		go func() {
			_, _ = io.Copy(io.Discard, stdin)
			cancel()
		}()
	}

	st, err := openState(o)
	if err != nil {
		return err
	}
	defer st.close()
	if old := st.otherVersions(); len(old) > 0 {
		fmt.Fprintf(stderr, "%s: state of another server version is there and not used: %s\n", program, strings.Join(old, ", "))
	}
	s, err := start(o, st)
	if err != nil {
		return err
	}
	ended := s.wait(ctx) // also while it gets ready
	if err := s.ready(ctx, o.namespace); err != nil {
		s.stop()
		if ctx.Err() != nil {
			return nil // told to end before it was ready
		}
		return err
	}
	line, err := json.Marshal(readyLine{"ready", s.address, s.ui, o.namespace, os.Getpid(), st.file, headers.ServerVersion})
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s\n", line)
	fmt.Fprintf(stderr, "%s: Temporal at %s, Web UI at %s, state in %s\n", program, s.address, s.ui, st.dir)
	if !net.ParseIP(o.ip).IsLoopback() {
		fmt.Fprintf(stderr, "%s: there is no authentication: whoever can reach %s can do anything with it\n", program, o.ip)
	}
	go st.watchSpace(ctx, stderr)

	err = <-ended
	stop() // a second signal ends it at once
	s.stop()
	return err
}

// parse reads the flags.
func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet(program, flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprintf(stderr, "usage: %s --state DIR [flags]\nA Temporal service (server %s, Web UI) for kafka-backup.\n", program, headers.ServerVersion)
		f.PrintDefaults()
	}
	f.StringVar(&o.state, "state", "", "`folder` that holds the state; made if it is not there (required)")
	f.StringVar(&o.ip, "ip", "127.0.0.1", "`address` to listen on; 0.0.0.0 is all interfaces")
	f.IntVar(&o.port, "port", 7233, "gRPC `port`; 0 is any free one")
	f.IntVar(&o.uiPort, "ui-port", 0, "Web UI `port`; 0 is any free one (default: the gRPC port and 1000, 8233)")
	f.StringVar(&o.namespace, "namespace", "default", "`name` of a namespace to have; made if it is not there")
	f.DurationVar(&o.retention, "retention", 30*24*time.Hour, "how long a namespace that is made keeps workflows that have ended")
	f.StringVar(&o.logLevel, "log-level", "error", "`level` of the server's log on stderr: debug, info, warn, error")
	f.BoolVar(&o.skipping, "time-skipping", false, "let clients skip time in workflows and schedules; for tests")
	f.BoolVar(&o.parentStdin, "parent-stdin", false, "end when stdin is closed")
	if err := f.Parse(args); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			err = usageError{err}
		}
		return o, err
	}
	uiPortGiven := false
	f.Visit(func(f *flag.Flag) { uiPortGiven = uiPortGiven || f.Name == "ui-port" })
	if !uiPortGiven && o.port != 0 {
		o.uiPort = o.port + uiPortOffset
	}
	wrong := func(format string, a ...any) (options, error) { return o, usageError{fmt.Errorf(format, a...)} }
	switch {
	case f.NArg() > 0:
		return wrong("unexpected argument %q: there are only flags, see --help", f.Arg(0))
	case o.state == "":
		return wrong("--state is missing: give the folder that holds the server's state")
	case net.ParseIP(o.ip) == nil:
		return wrong("--ip %q is not an IP address: give one of this machine's, such as 127.0.0.1, or 0.0.0.0 for all", o.ip)
	case o.port < 0 || o.port > 65535:
		return wrong("--port %d is out of range: 1 to 65535, or 0 for any free one", o.port)
	case o.uiPort < 0 || o.uiPort > 65535:
		return wrong("--ui-port %d is out of range: 1 to 65535, or 0 for any free one", o.uiPort)
	case o.port != 0 && o.port == o.uiPort:
		return wrong("--port and --ui-port are both %d: they must differ", o.port)
	case o.namespace == "":
		return wrong("--namespace is empty")
	case o.retention < 24*time.Hour:
		return wrong("--retention %v is too short: Temporal wants a day (24h) at least", o.retention)
	}
	switch o.logLevel {
	case "debug", "info", "warn", "error":
	default:
		return wrong("--log-level %q is none of debug, info, warn, error", o.logLevel)
	}
	return o, nil
}
