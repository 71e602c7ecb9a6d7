package kafkabed

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Listener names one of a broker's ports.
type Listener string

// The listeners of a broker. All but Plaintext exist only with Options.Secure.
const (
	// Plaintext needs no credentials; its principal is the super user User:ANONYMOUS.
	Plaintext Listener = "PLAINTEXT"
	// SASLSSL is SASL_SSL: a password or token over TLS.
	SASLSSL Listener = "SASL_SSL"
	// SASLPlaintext is SASL_PLAINTEXT: a password or token without TLS.
	SASLPlaintext Listener = "SASL_PLAINTEXT"
	// MTLS is SSL with a required client certificate; the principal is ClientPrincipal.
	MTLS Listener = "SSL"

	controller Listener = "CONTROLLER"
)

// Users are the users of a secured bed with their passwords, known to PLAIN,
// SCRAM-SHA-256 and SCRAM-SHA-512 alike. admin is a super user, the others have
// no rights until granted.
var Users = map[string]string{"admin": "admin-secret", "alice": "alice-secret", "bob": "bob-secret"}

func (b *Bed) listeners() []Listener {
	if b.options.Secure {
		return []Listener{Plaintext, controller, SASLSSL, SASLPlaintext, MTLS}
	}
	return []Listener{Plaintext, controller}
}

// serverProperties gives the text of a broker's server.properties.
func (b *Bed) serverProperties(broker *broker) string {
	var voters, listeners, advertised []string
	for _, other := range b.brokers {
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", other.id, other.ports[controller]))
	}
	for _, l := range b.listeners() {
		address := fmt.Sprintf("%s://127.0.0.1:%d", l, broker.ports[l])
		listeners = append(listeners, address)
		if l != controller {
			advertised = append(advertised, address)
		}
	}
	replicas := strconv.Itoa(len(b.brokers))
	inSync := "1"
	if len(b.brokers) == 3 {
		inSync = "2"
	}
	properties := map[string]string{
		"process.roles":                  "broker,controller",
		"node.id":                        strconv.Itoa(broker.id),
		"controller.quorum.voters":       strings.Join(voters, ","),
		"controller.listener.names":      string(controller),
		"listeners":                      strings.Join(listeners, ","),
		"advertised.listeners":           strings.Join(advertised, ","),
		"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SSL:SSL",
		"inter.broker.listener.name":     string(Plaintext),
		"log.dirs":                       filepath.Join(broker.dir, "data"),

		"num.partitions":             "1",
		"auto.create.topics.enable":  "false",
		"default.replication.factor": replicas,
		"min.insync.replicas":        inSync,

		"offsets.topic.replication.factor":                 replicas,
		"offsets.topic.num.partitions":                     "10",
		"transaction.state.log.replication.factor":         replicas,
		"transaction.state.log.min.isr":                    inSync,
		"transaction.state.log.num.partitions":             "5",
		"share.coordinator.state.topic.replication.factor": replicas,
		"share.coordinator.state.topic.min.isr":            inSync,
		"share.coordinator.state.topic.num.partitions":     "5",
		"group.initial.rebalance.delay.ms":                 "0",

		// Data sets are small, the machine is shared, and compaction is waited for.
		"log.cleaner.dedupe.buffer.size":  "8388608",
		"log.cleaner.backoff.ms":          "500",
		"log.retention.check.interval.ms": "1000",
		"log.initial.task.delay.ms":       "1000",
		"num.network.threads":             "2",
		"num.io.threads":                  "4",
		"background.threads":              "4",
		"log.segment.bytes":               "268435456",
		"log.retention.ms":                "-1",
	}
	if b.options.Secure {
		maps.Copy(properties, b.secureProperties())
	}
	maps.Copy(properties, b.options.Properties)
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(properties)) {
		fmt.Fprintf(&text, "%s=%s\n", key, properties[key])
	}
	return text.String()
}

func (b *Bed) secureProperties() map[string]string {
	plain := "org.apache.kafka.common.security.plain.PlainLoginModule required"
	for _, user := range slices.Sorted(maps.Keys(Users)) {
		plain += fmt.Sprintf(" user_%s=%q", user, Users[user])
	}
	const scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
	properties := map[string]string{
		"authorizer.class.name":               "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"allow.everyone.if.no.acl.found":      "false",
		"super.users":                         "User:ANONYMOUS;User:admin",
		"listener.name.ssl.ssl.client.auth":   "required",
		"sasl.oauthbearer.jwks.endpoint.url":  b.oauth.jwksURL(),
		"sasl.oauthbearer.expected.audience":  tokenAudience,
		"sasl.oauthbearer.expected.issuer":    tokenIssuer,
		"sasl.oauthbearer.sub.claim.name":     "sub",
		"sasl.oauthbearer.clock.skew.seconds": "30",
	}
	for _, l := range []string{"sasl_ssl", "sasl_plaintext"} {
		prefix := "listener.name." + l + "."
		properties[prefix+"sasl.enabled.mechanisms"] = "SCRAM-SHA-512,SCRAM-SHA-256,PLAIN,OAUTHBEARER"
		properties[prefix+"plain.sasl.jaas.config"] = plain + ";"
		properties[prefix+"scram-sha-512.sasl.jaas.config"] = scram
		properties[prefix+"scram-sha-256.sasl.jaas.config"] = scram
		properties[prefix+"oauthbearer.sasl.jaas.config"] = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"
		properties[prefix+"oauthbearer.sasl.server.callback.handler.class"] = "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler"
	}
	for _, l := range []string{"sasl_ssl", "ssl"} {
		prefix := "listener.name." + l + ".ssl."
		properties[prefix+"keystore.type"] = "PEM"
		properties[prefix+"keystore.location"] = b.PKI.brokerStore
		properties[prefix+"truststore.type"] = "PEM"
		properties[prefix+"truststore.location"] = b.PKI.CA
	}
	return properties
}

// format prepares the brokers' data folders: one JVM formats broker 1, the
// others get a copy under their own node id and directory id.
func (b *Bed) format(ctx context.Context) error {
	cluster, err := randomUUID()
	if err != nil {
		return err
	}
	first := b.brokers[0]
	args := []string{"format", "-t", cluster, "-c", filepath.Join(first.dir, "server.properties")}
	if b.options.Secure {
		for _, user := range slices.Sorted(maps.Keys(Users)) {
			for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
				args = append(args, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, user, Users[user]))
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, b.options.ReadyTimeout)
	defer cancel()
	if out, err := b.Tool(ctx, "storage", args...); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	for _, broker := range b.brokers[1:] {
		data := filepath.Join(broker.dir, "data")
		if err := os.CopyFS(data, os.DirFS(filepath.Join(first.dir, "data"))); err != nil {
			return fmt.Errorf("kafkabed: %w", err)
		}
		id, err := randomUUID()
		if err != nil {
			return err
		}
		meta := filepath.Join(data, "meta.properties")
		text, err := os.ReadFile(meta)
		if err != nil {
			return fmt.Errorf("kafkabed: %w", err)
		}
		text = nodeID.ReplaceAll(text, []byte("node.id="+strconv.Itoa(broker.id)))
		text = directoryID.ReplaceAll(text, []byte("directory.id="+id))
		if err := os.WriteFile(meta, text, 0o644); err != nil {
			return fmt.Errorf("kafkabed: %w", err)
		}
	}
	return nil
}

var (
	nodeID      = regexp.MustCompile(`(?m)^node\.id=.*$`)
	directoryID = regexp.MustCompile(`(?m)^directory\.id=.*$`)
)

// randomUUID makes a UUID in Kafka's text form: 22 characters of URL-safe
// base64, not beginning with a dash (which Kafka's tools would take for an option).
func randomUUID() (string, error) {
	raw := make([]byte, 16)
	for {
		if _, err := rand.Read(raw); err != nil {
			return "", fmt.Errorf("kafkabed: %w", err)
		}
		if id := base64.RawURLEncoding.EncodeToString(raw); id[0] != '-' {
			return id, nil
		}
	}
}

// freePorts finds n different ports that nobody listens on. They lie below the
// range from which systems take the ports of outgoing connections, so that a
// broker that is down for a while finds its port free again.
func freePorts(n int) ([]int, error) {
	const low, high = 10000, 32000
	var held []net.Listener
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	var ports []int
	for range 2000 {
		offset, err := rand.Int(rand.Reader, big.NewInt(high-low))
		if err != nil {
			return nil, fmt.Errorf("kafkabed: %w", err)
		}
		port := low + int(offset.Int64())
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		held = append(held, l) // held until all are found: no port is found twice
		ports = append(ports, port)
		if len(ports) == n {
			return ports, nil
		}
	}
	return nil, errors.New("kafkabed: no free ports on 127.0.0.1 between 10000 and 32000")
}
