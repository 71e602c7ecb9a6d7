package kafka

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

func connectError(t *testing.T, err error) *ConnectError {
	t.Helper()
	var ce *ConnectError
	if !errors.As(err, &ce) {
		t.Fatalf("not a ConnectError: %v", err)
	}
	return ce
}

func contains(s, part string) bool { return strings.Contains(s, part) }

// relay joins a connection with a new one to address.
func relay(c net.Conn, address string) {
	to, err := net.Dial("tcp", address)
	if err != nil {
		c.Close()
		return
	}
	go func() { io.Copy(to, c); to.Close() }()
	io.Copy(c, to)
	c.Close()
}

// advertise makes a fake cluster name another address for its broker.
func advertise(c *kfake.Cluster, host string, port int32) {
	c.ControlKey(kmsg.Metadata.Int16(), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := kreq.ResponseKind().(*kmsg.MetadataResponse)
		resp.ControllerID = 0
		resp.ClusterID = kmsg.StringPtr("elsewhere")
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID, b.Host, b.Port = 0, host, port
		resp.Brokers = append(resp.Brokers, b)
		return resp, nil, true
	})
}

// connect connects to a fake cluster that gives up soon.
func connect(t *testing.T, address string, sec config.Security) *Cluster {
	t.Helper()
	c, err := Connect(t.Context(), config.Cluster{BootstrapServers: []string{address}, Security: sec})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.patience = 3 * time.Second
	return c
}
