package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/telemetry"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
	"github.com/kafka-backup/kafka-backup/internal/version"
	"github.com/kafka-backup/kafka-backup/internal/worker"
)

func (p *program) workerCommand() *cli.Command {
	return &cli.Command{
		Name:  "worker",
		Usage: "Run a worker: it carries operations out",
		Description: "Any number of workers may listen on the same task queue; when one dies, another takes its work over.\n" +
			"An interrupt lets it bring its work to a safe point first.",
		Flags:  append(append([]cli.Flag{taskQueueFlag()}, workerFlags()...), temporalFlags()...),
		Action: p.worker,
	}
}

const inWorker = "Worker"

// workerFlags say how a worker in this process works.
func workerFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "transfers", Usage: "Activities that move data at the same time.", Value: 2, Category: inWorker},
		&cli.Int64Flag{Name: "memory-limit", Usage: "`MiB` of memory that the worker keeps to, its program apart; it takes more only where that is not enough.",
			DefaultText: "40, and 24 for each of --transfers", EnvVars: []string{"KAFKA_BACKUP_MEMORY_LIMIT"}, Category: inWorker},
		&cli.DurationFlag{Name: "drain-timeout", Usage: "Longest time that work may take, on an interrupt, to come to a safe point.", Value: 20 * time.Second, Category: inWorker},
		&cli.StringFlag{Name: "metrics-address", Usage: "Serve /metrics (Prometheus), /healthz and /readyz on this host:port.", DefaultText: "not served",
			EnvVars: []string{"KAFKA_BACKUP_METRICS_ADDRESS"}, Category: inWorker},
		&cli.StringFlag{Name: "log-level", Usage: "debug, info, warn or error.", Value: "info", Category: inWorker},
		&cli.StringFlag{Name: "log-format", Usage: "text or json.", Value: "text", Category: inWorker},
	}
}

func workerOptions(c *cli.Context) (worker.Options, error) {
	o := worker.Options{TaskQueue: c.String("task-queue"), Transfers: c.Int("transfers"), DrainTimeout: c.Duration("drain-timeout"), MemoryLimit: c.Int64("memory-limit") << 20}
	if o.MemoryLimit < 0 {
		return o, usage("--memory-limit must be 0 or more")
	}
	if o.Transfers < 1 {
		return o, usage("--transfers must be 1 or more")
	}
	if o.DrainTimeout <= 0 {
		return o, usage("--drain-timeout must be more than 0")
	}
	if c.Args().Present() {
		return o, usage("unexpected argument %q", c.Args().First())
	}
	return o, nil
}

// newLog returns the log of a worker or server, on stderr.
func newLog(c *cli.Context, w io.Writer) (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(c.String("log-level"))
	if err != nil {
		return nil, usage("--log-level: %v; use debug, info, warn or error", err)
	}
	conf := zap.NewProductionEncoderConfig()
	conf.EncodeTime = zapcore.ISO8601TimeEncoder
	var enc zapcore.Encoder
	switch f := c.String("log-format"); f {
	case "text":
		enc = zapcore.NewConsoleEncoder(conf)
	case "json":
		enc = zapcore.NewJSONEncoder(conf)
	default:
		return nil, usage("--log-format: unknown format %q; use text or json", f)
	}
	return zap.New(zapcore.NewCore(enc, zapcore.Lock(zapcore.AddSync(w)), level)), nil
}

func (p *program) worker(c *cli.Context) error {
	ctx := c.Context
	o, err := workerOptions(c)
	if err != nil {
		return err
	}
	log, err := newLog(c, p.Err)
	if err != nil {
		return err
	}
	prof, err := profile(c)
	if err != nil {
		return err
	}
	o.Page = prof.WorkflowURL
	o.Log = temporalservice.Logger(log)
	cl, err := p.dial(ctx, prof, observed(o.Log))
	if err != nil {
		return err
	}
	defer cl.Close()
	registration, err := p.register(ctx, cl, prof.Namespace)
	if err != nil {
		return err
	}
	if w := registration.Warning(); w != "" {
		p.say("%s", w)
	}
	w, err := worker.Start(cl, o)
	if err != nil {
		return err
	}
	health, stopServing, err := p.serveMetrics(c, w)
	if err != nil {
		w.Stop()
		return err
	}
	defer stopServing()
	p.say("Worker %s listens on task queue %s of %s, %d transfers at a time.", version.String(), o.TaskQueue, prof, o.Transfers)
	<-ctx.Done()
	health.Stopping()
	p.say("Stopping: work comes to a safe point (%s at most).", render.Duration(o.DrainTimeout))
	w.Stop()
	fmt.Fprintln(p.Err, "Stopped. What was not finished goes on with another worker.")
	return nil
}

// observed makes a client of a worker log and count what it does.
func observed(l log.Logger) func(*client.Options) {
	return func(o *client.Options) { o.Logger, o.MetricsHandler = l, telemetry.SDK() }
}

// serveMetrics serves metrics and health of a worker, where a flag asks for it,
// until stop is called.
func (p *program) serveMetrics(c *cli.Context, w *worker.Worker) (health *telemetry.Health, stop func(), err error) {
	health = &telemetry.Health{Ready: w.Ready}
	address := c.String("metrics-address")
	if address == "" {
		return health, func() {}, nil
	}
	at, stop, err := telemetry.Serve(address, health)
	if err != nil {
		return nil, nil, err
	}
	p.say("Metrics on http://%s/metrics, health on /healthz and /readyz.", at)
	return health, stop, nil
}
