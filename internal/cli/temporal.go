package cli

import (
	"context"
	"os"
	"os/user"
	"strings"

	"github.com/urfave/cli/v2"
	"go.temporal.io/sdk/client"

	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
	"github.com/kafka-backup/kafka-backup/internal/worker"
)

// temporalFlags choose the Temporal service.
func temporalFlags() []cli.Flag {
	text := func(name, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, Usage: usage, Category: inTemporal}
	}
	return []cli.Flag{
		&cli.StringFlag{Name: temporalservice.FlagAddress, Usage: "host:port of the service. Also TEMPORAL_ADDRESS.", DefaultText: temporalservice.DefaultAddress, Category: inTemporal},
		&cli.StringFlag{Name: temporalservice.FlagNamespace, Usage: "Namespace of the operations. Also TEMPORAL_NAMESPACE.", DefaultText: temporalservice.DefaultNamespace, Category: inTemporal},
		text(temporalservice.FlagProfile, "Profile in temporal.toml. Also TEMPORAL_PROFILE."),
		text(temporalservice.FlagConfig, "Path of temporal.toml. Also TEMPORAL_CONFIG_FILE."),
		text(temporalservice.FlagAPIKeyFile, "File that holds the API key. TEMPORAL_API_KEY holds the key itself."),
		&cli.BoolFlag{Name: temporalservice.FlagTLS, Usage: "Use TLS, or with =false do not.", DefaultText: "on with an API key or a certificate", Category: inTemporal},
		text(temporalservice.FlagTLSCA, "PEM file with the authority of the service's certificate."),
		text(temporalservice.FlagTLSCert, "PEM file with the client's certificate (mTLS)."),
		text(temporalservice.FlagTLSKey, "PEM file with the client's private key (mTLS)."),
		text(temporalservice.FlagTLSName, "Name expected in the service's certificate."),
		text(temporalservice.FlagUI, "Base URL of the Web UI, for links."),
	}
}

// taskQueueFlag says where workers listen.
func taskQueueFlag() cli.Flag {
	return &cli.StringFlag{Name: "task-queue", Usage: "Task queue that the workers listen on.", Value: worker.DefaultTaskQueue,
		EnvVars: []string{"KAFKA_BACKUP_TASK_QUEUE"}, Category: inTemporal}
}

// taskQueue is the task queue of an operation: that of the flag, or else what
// the configuration says, or else the flag's default.
func taskQueue(c *cli.Context, configured string) string {
	if configured != "" && !c.IsSet("task-queue") {
		return configured
	}
	return c.String("task-queue")
}

// profile works out which Temporal service the flags choose.
func profile(c *cli.Context) (temporalservice.Profile, error) {
	o := temporalservice.Options{
		Address:       c.String(temporalservice.FlagAddress),
		Namespace:     c.String(temporalservice.FlagNamespace),
		Profile:       c.String(temporalservice.FlagProfile),
		ConfigFile:    c.String(temporalservice.FlagConfig),
		APIKeyFile:    c.String(temporalservice.FlagAPIKeyFile),
		TLSCA:         c.String(temporalservice.FlagTLSCA),
		TLSCert:       c.String(temporalservice.FlagTLSCert),
		TLSKey:        c.String(temporalservice.FlagTLSKey),
		TLSServerName: c.String(temporalservice.FlagTLSName),
		UI:            c.String(temporalservice.FlagUI),
	}
	if c.IsSet(temporalservice.FlagTLS) {
		on := c.Bool(temporalservice.FlagTLS)
		o.TLS = &on
	}
	return temporalservice.Load(o)
}

// connection is a connection to a Temporal service.
type connection struct {
	client.Client
	profile temporalservice.Profile
}

// connect connects to the service that the flags choose. Close the connection.
func (p *program) connect(ctx context.Context, c *cli.Context) (*connection, error) {
	prof, err := profile(c)
	if err != nil {
		return nil, err
	}
	cl, err := p.dial(ctx, prof, func(o *client.Options) { o.Logger, o.Identity = temporalservice.Logger(nil), identity() })
	if err != nil {
		return nil, err
	}
	return &connection{cl, prof}, nil
}

// userVariable names the person, where the operating system's user does not.
const userVariable = "KAFKA_BACKUP_USER"

// requester names the person who calls the command: $KAFKA_BACKUP_USER, or the
// user of the operating system.
func requester() string {
	if name := strings.TrimSpace(os.Getenv(userVariable)); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return os.Getenv("USER")
}

// person is requester, unless a flag (see personFlag) says otherwise.
func person(c *cli.Context, flag string) string {
	if name := strings.TrimSpace(c.String(flag)); name != "" {
		return name
	}
	return requester()
}

// personFlag says who calls the command.
func personFlag(name string, aliases ...string) cli.Flag {
	return &cli.StringFlag{Name: name, Aliases: aliases, Usage: "Who you are. Also " + userVariable + ".", DefaultText: "user of the operating system", Category: inOperation}
}

// identity is what the service notes with each of our calls: person@host.
func identity() string {
	if host, err := os.Hostname(); err == nil {
		return requester() + "@" + host
	}
	return requester()
}
