package cli

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"
	"go.temporal.io/sdk/client"

	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
	"github.com/kafka-backup/kafka-backup/internal/worker"
)

// stopTimeout is how long the embedded server may take to stop in order.
const stopTimeout = 15 * time.Second

func (p *program) serverCommand() *cli.Command {
	const inServer = "Embedded server"
	return &cli.Command{
		Name:  "server",
		Usage: "Run a Temporal server with its Web UI, and a worker, in one",
		Description: "The state is in files; killed in any way and started again, operations go on. The server has no\n" +
			"authentication: leave it on a loopback address, or protect it.",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "state-dir", Aliases: []string{"state"}, Usage: "Folder of the server's state.", DefaultText: stateDirText, Category: inServer},
			&cli.StringFlag{Name: "ip", Usage: "Address to listen on.", Value: "127.0.0.1", Category: inServer},
			&cli.IntFlag{Name: "port", Usage: "Port of the service; 0 is any free one.", Value: 7233, Category: inServer},
			&cli.IntFlag{Name: "ui-port", Usage: "Port of the Web UI; 0 is any free one.", Value: 8233, Category: inServer},
			&cli.StringFlag{Name: "namespace", Usage: "Namespace of the operations.", Value: temporalservice.DefaultNamespace, Category: inServer},
			&cli.StringFlag{Name: "server-binary", Usage: "Path of " + temporalservice.ServerBinary + ".", DefaultText: "beside this program, or on the PATH", Category: inServer},
			&cli.StringFlag{Name: "server-log-level", Usage: "debug, info, warn or error.", Value: "error", Category: inServer},
			&cli.BoolFlag{Name: "no-worker", Usage: "Run the server alone.", Category: inWorker},
			outputFlag("What is printed when it is ready: text, json or yaml."),
			taskQueueFlag(),
		}, workerFlags()...),
		Action: p.server,
	}
}

const stateDirText = "$XDG_STATE_HOME/kafka-backup/server"

// stateDir is where the server's state is unless a flag says otherwise.
func stateDir() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "kafka-backup", "server"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", usage("say with --state-dir where the state is kept (%v)", err)
	}
	return filepath.Join(home, ".local", "state", "kafka-backup", "server"), nil
}

// serverReady is printed when everything runs.
type serverReady struct {
	Address   string `json:"address"`
	UI        string `json:"ui"`
	Namespace string `json:"namespace"`
	TaskQueue string `json:"task_queue,omitempty"` // of the worker
	StateDir  string `json:"state_dir"`
	PID       int    `json:"pid"` // of the server
}

// Text implements render.Value.
func (r serverReady) Text(w io.Writer) error {
	return render.Fields(w,
		"Temporal", r.Address+", namespace "+r.Namespace,
		"Web UI", r.UI,
		"Worker", r.TaskQueue,
		"State", r.StateDir,
	)
}

func (p *program) server(c *cli.Context) (err error) {
	ctx := c.Context
	format, err := outputFormat(c, render.Text, render.JSON, render.YAML)
	if err != nil {
		return err
	}
	options, err := workerOptions(c)
	if err != nil {
		return err
	}
	log, err := newLog(c, p.Err)
	if err != nil {
		return err
	}
	options.Log = temporalservice.Logger(log)
	state := c.String("state-dir")
	if state == "" {
		if state, err = stateDir(); err != nil {
			return err
		}
	}
	srv, err := temporalservice.StartServer(ctx, temporalservice.ServerOptions{
		Binary: c.String("server-binary"), StateDir: state, IP: c.String("ip"), Port: c.Int("port"), UIPort: c.Int("ui-port"),
		Namespace: c.String("namespace"), LogLevel: c.String("server-log-level"), Log: p.Err,
	})
	if err != nil {
		return err
	}
	defer func() {
		stopping, done := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer done()
		if stopErr := srv.Stop(stopping); err == nil {
			err = stopErr
		}
	}()

	ready := serverReady{Address: srv.Address, UI: srv.UI, Namespace: c.String("namespace"), StateDir: state, PID: srv.PID}
	if !c.Bool("no-worker") {
		w, cl, err := p.embeddedWorker(ctx, srv, ready.Namespace, options, observed(options.Log))
		if err != nil {
			return err
		}
		defer cl.Close()
		health, stopServing, err := p.serveMetrics(c, w)
		if err != nil {
			w.Stop()
			return err
		}
		defer stopServing()
		defer w.Stop()
		defer health.Stopping()
		ready.TaskQueue = options.TaskQueue
	}
	if err := render.Write(p.Out, format, ready); err != nil {
		return err
	}
	select {
	case <-srv.Done():
		return srv.Err()
	case <-ctx.Done():
		p.say("Stopping.")
		return nil
	}
}

// embeddedWorker starts a worker of the embedded server in this process.
func (p *program) embeddedWorker(ctx context.Context, srv *temporalservice.Server, namespace string, o worker.Options, adjust func(*client.Options)) (*worker.Worker, client.Client, error) {
	plain := false // the environment may speak of another, remote service
	prof, err := temporalservice.Load(temporalservice.Options{Address: srv.Address, Namespace: namespace, UI: srv.UI, TLS: &plain})
	if err != nil {
		return nil, nil, err
	}
	o.Page = prof.WorkflowURL
	cl, err := p.dial(ctx, prof, adjust)
	if err != nil {
		return nil, nil, err
	}
	if _, err := p.register(ctx, cl, namespace); err != nil {
		cl.Close()
		return nil, nil, err
	}
	w, err := worker.Start(cl, o)
	if err != nil {
		cl.Close()
		return nil, nil, err
	}
	return w, cl, nil
}
