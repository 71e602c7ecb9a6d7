package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	uiserver "github.com/temporalio/ui-server/v2/server"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	uioptions "github.com/temporalio/ui-server/v2/server/server_options"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/server/chasm/lib/activity"
	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/membership/static"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/temporal"
)

// Bounds of the start and of an orderly stop.
const (
	readyTimeout = 45 * time.Second
	stopTimeout  = 15 * time.Second
)

// server is a running Temporal server with its Web UI.
type server struct {
	address string // host:port of the gRPC endpoint, as a client on this machine reaches it
	ui      string // base URL of the Web UI, likewise

	temporal temporal.Server
	web      *uiserver.Server
	webEnded chan error
}

// start starts the server on the state. It is not ready then; see ready.
func start(o options, st *state) (*server, error) {
	ports, err := choosePorts(o)
	if err != nil {
		return nil, err
	}
	// What listens on all interfaces is reached on the loopback one.
	reach := o.ip
	if ip := net.ParseIP(o.ip); ip.IsUnspecified() {
		reach = "127.0.0.1"
		if ip.To4() == nil {
			reach = "::1"
		}
	}
	s := &server{
		address:  hostPort(reach, ports.frontend),
		ui:       "http://" + hostPort(reach, ports.ui),
		webEnded: make(chan error, 1),
	}
	s.temporal, err = newTemporal(o, st, reach, ports)
	if err != nil {
		return nil, fmt.Errorf("set up the Temporal server: %w", err)
	}
	if err := s.temporal.Start(); err != nil {
		return nil, fmt.Errorf("start the Temporal server: %w", err)
	}
	host := o.ip
	if net.ParseIP(host).To4() == nil {
		host = "[" + host + "]" // the Web UI joins host and port with a colon
	}
	s.web = uiserver.NewServer(uioptions.WithConfigProvider(&uiconfig.Config{
		Host: host, Port: ports.ui, TemporalGRPCAddress: s.address, EnableUI: true, DefaultNamespace: o.namespace,
		CORS: uiconfig.CORS{CookieInsecure: true}, HideLogs: true, DisableNewsFetch: true,
	}))
	go func() { s.webEnded <- s.web.Start() }()
	return s, nil
}

// stop ends the server in order, or gives up on that after stopTimeout: all
// that counts is on disk already.
func (s *server) stop() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.web.Stop()
		_ = s.temporal.Stop()
	}()
	select {
	case <-done:
	case <-time.After(stopTimeout):
	}
}

// wait returns a channel that gets nil when ctx ends, or an error when the Web
// UI ended by itself. (The server itself ends the process if it cannot go on.)
func (s *server) wait(ctx context.Context) <-chan error {
	ended := make(chan error, 1)
	go func() {
		select {
		case <-ctx.Done():
			ended <- nil
		case err := <-s.webEnded:
			ended <- fmt.Errorf("the Web UI ended: %w", err)
		}
	}()
	return ended
}

// ready waits until the namespace and the Web UI can be used.
func (s *server) ready(ctx context.Context, namespace string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for _, check := range []func() error{
		func() error { return checkNamespace(ctx, s.address, namespace) },
		func() error { return checkWeb(ctx, s.ui) },
	} {
		for {
			err := check()
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("the server is not ready after %v: %w", readyTimeout, err)
			case <-time.After(25 * time.Millisecond):
			}
		}
	}
	return nil
}

func checkNamespace(ctx context.Context, address, namespace string) error {
	c, err := client.DialContext(ctx, client.Options{HostPort: address, Namespace: namespace, Logger: silent{}})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: namespace})
	return err
}

func checkWeb(ctx context.Context, ui string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, ui+"/healthz", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the Web UI answers %s", resp.Status)
	}
	return nil
}

// silent is the log of the client that asks whether the server is ready.
type silent struct{}

func (silent) Debug(string, ...any) {}
func (silent) Info(string, ...any)  {}
func (silent) Warn(string, ...any)  {}
func (silent) Error(string, ...any) {}

// newTemporal puts the Temporal server together: all its services in this
// process, the frontend on o.ip, the rest for this process only.
func newTemporal(o options, st *state, reach string, p ports) (temporal.Server, error) {
	service := func(ip string, port, http int) config.Service {
		return config.Service{RPC: config.RPC{GRPCPort: port, BindOnIP: ip, HTTPPort: http}}
	}
	cfg := &config.Config{
		Global: config.Global{Membership: config.Membership{MaxJoinDuration: 30 * time.Second, BroadcastAddress: reach}},
		Persistence: config.Persistence{
			DefaultStore: "sqlite", VisibilityStore: "sqlite", NumHistoryShards: 1,
			DataStores: map[string]config.DataStore{"sqlite": {SQL: sqlConfig(st.file, "wal")}},
		},
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10, MasterClusterName: clusterName, CurrentClusterName: clusterName,
			ClusterInformation: map[string]cluster.ClusterInformation{clusterName: {
				Enabled: true, InitialFailoverVersion: 1, ClusterID: "kafka-backup",
				RPCAddress: hostPort(reach, p.frontend), HTTPAddress: hostPort(reach, p.http),
			}},
		},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		Services: map[string]config.Service{
			string(primitives.FrontendService): service(o.ip, p.frontend, p.http),
			string(primitives.HistoryService):  service(reach, p.history, 0),
			string(primitives.MatchingService): service(reach, p.matching, 0),
			string(primitives.WorkerService):   service(reach, p.worker, 0),
		},
		Archival: config.Archival{
			History:    config.HistoryArchival{State: "disabled"},
			Visibility: config.VisibilityArchival{State: "disabled"},
		},
		PublicClient: config.PublicClient{HostPort: hostPort(reach, p.frontend)},
	}
	cfg.NamespaceDefaults.Archival.History.State = "disabled"
	cfg.NamespaceDefaults.Archival.Visibility.State = "disabled"
	hosts := map[primitives.ServiceName]static.Hosts{}
	for name, s := range cfg.Services {
		hosts[primitives.ServiceName(name)] = static.SingleLocalHost(hostPort(reach, s.RPC.GRPCPort))
	}
	return temporal.NewServer(
		temporal.WithConfig(cfg),
		temporal.ForServices(temporal.DefaultServices),
		temporal.WithStaticHosts(hosts),
		temporal.WithLogger(log.NewZapLogger(log.BuildZapLogger(log.Config{Level: o.logLevel, Stdout: false}))),
		temporal.WithAuthorizer(authorization.NewNoopAuthorizer()),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper { return authorization.NewNoopClaimMapper() }),
		temporal.WithDynamicConfigClient(o.dynamicConfig()),
	)
}

// dynamicConfig is where this server differs from Temporal's defaults, which
// are for clusters that many share.
var dynamicConfig = dynamicconfig.StaticClient{
	// One process: what one part changes, the others see at once.
	dynamicconfig.ForceSearchAttributesCacheRefreshOnRead.Key(): true,
	dynamicconfig.ForceNexusEndpointRefreshOnRead.Key():         true,
	dynamicconfig.NamespaceCacheRefreshInterval.Key():           time.Second,
	// The defaults (20 polls a second) add some 50 ms to each workflow task.
	dynamicconfig.TransferProcessorMaxPollRPS.Key():   1000,
	dynamicconfig.TimerProcessorMaxPollRPS.Key():      1000,
	dynamicconfig.VisibilityProcessorMaxPollRPS.Key(): 1000,
	dynamicconfig.OutboundProcessorMaxPollRPS.Key():   1000,
	// Nobody else to protect from us.
	dynamicconfig.FrontendPersistenceMaxQPS.Key():                    10000,
	dynamicconfig.HistoryPersistenceMaxQPS.Key():                     45000,
	dynamicconfig.FrontendMaxNamespaceVisibilityRPSPerInstance.Key(): 100,
	// Fewer workflows in memory than a cluster keeps.
	dynamicconfig.HistoryCacheHostLevelMaxSize.Key(): 8096,
	// Activities can be paused, reset and seen alone in the Web UI.
	dynamicconfig.EnableChasm.Key():                         true,
	activity.Enabled.Key():                                  true,
	activity.EnableStandaloneActivityOperatorCommands.Key(): true,
}

// dynamicConfig is the server's dynamic configuration.
func (o options) dynamicConfig() dynamicconfig.StaticClient {
	if !o.skipping {
		return dynamicConfig
	}
	c := maps.Clone(dynamicConfig)
	c[dynamicconfig.WorkflowTimeSkippingEnabled.Key()] = true
	return c
}

// ports are the TCP ports of the server's parts.
type ports struct {
	frontend, ui                    int
	http, history, matching, worker int // for this process only
}

// choosePorts finds free ports where any will do, and makes sure that the
// others are free. All are held until all are chosen, so that they differ.
func choosePorts(o options) (ports, error) {
	var p ports
	for _, want := range []struct {
		port *int
		ask  int
		flag string // that chooses it, or empty
	}{
		{&p.frontend, o.port, "--port"}, {&p.ui, o.uiPort, "--ui-port"},
		{&p.http, 0, ""}, {&p.history, 0, ""}, {&p.matching, 0, ""}, {&p.worker, 0, ""},
	} {
		l, err := net.Listen("tcp", hostPort(o.ip, want.ask))
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			return p, fmt.Errorf("port %d is in use on %s: choose another with %s (0 for any free one)", want.ask, o.ip, want.flag)
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			return p, fmt.Errorf("this machine does not have the address %s: choose another with --ip", o.ip)
		case errors.Is(err, syscall.EACCES):
			return p, fmt.Errorf("port %d is not allowed for this user: choose one above 1023 with %s", want.ask, want.flag)
		case err != nil:
			return p, fmt.Errorf("listen: %w", err)
		}
		defer l.Close()
		*want.port = l.Addr().(*net.TCPAddr).Port
	}
	return p, nil
}

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
