package kafkabed

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Login is a way into a bed. The zero value is the plain listener.
type Login struct {
	// Listener is where to connect; empty means Plaintext.
	Listener Listener
	// User is a user of Users, for SASLSSL and SASLPlaintext.
	User string
	// Password replaces the one of Users; empty keeps it.
	Password string
	// Mechanism is PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 (also for empty) or OAUTHBEARER.
	Mechanism string
}

func (l Login) withDefaults() Login {
	if l.Listener == "" {
		l.Listener = Plaintext
	}
	if l.Mechanism == "" {
		l.Mechanism = "SCRAM-SHA-512"
	}
	if l.Password == "" {
		l.Password = Users[l.User]
	}
	return l
}

func (l Login) sasl() bool { return l.Listener == SASLSSL || l.Listener == SASLPlaintext }
func (l Login) tls() bool  { return l.Listener == SASLSSL || l.Listener == MTLS }

// Client connects franz-go to the bed. The test that ends closes it.
func (b *Bed) Client(t TB, login Login, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	base, err := b.ClientOptions(login)
	if err != nil {
		t.Fatalf("%v", err)
	}
	cl, err := kgo.NewClient(append(base, opts...)...)
	if err != nil {
		t.Fatalf("kafkabed: %v", err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// ClientOptions gives what franz-go needs to log in. They are made here, and not
// by the product's own code, so that a test does not depend on what it tests.
func (b *Bed) ClientOptions(login Login) ([]kgo.Opt, error) {
	login = login.withDefaults()
	addresses := b.Addresses(login.Listener)
	if addresses == "" {
		return nil, fmt.Errorf("kafkabed: no %s listener: start the bed with Options.Secure", login.Listener)
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(strings.Split(addresses, ",")...),
		kgo.MetadataMinAge(100 * time.Millisecond), // topics come and go quickly in tests
	}
	if login.tls() {
		config, err := b.tlsConfig(login.Listener == MTLS)
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.DialTLSConfig(config))
	}
	if login.sasl() {
		mechanism, err := b.mechanism(login)
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.SASL(mechanism))
	}
	return opts, nil
}

func (b *Bed) tlsConfig(withCertificate bool) (*tls.Config, error) {
	ca, err := os.ReadFile(b.PKI.CA)
	if err != nil {
		return nil, fmt.Errorf("kafkabed: %w", err)
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	config.RootCAs.AppendCertsFromPEM(ca)
	if withCertificate {
		pair, err := tls.LoadX509KeyPair(b.PKI.ClientCert, b.PKI.ClientKey)
		if err != nil {
			return nil, fmt.Errorf("kafkabed: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

func (b *Bed) mechanism(login Login) (sasl.Mechanism, error) {
	switch login.Mechanism {
	case "PLAIN":
		return plain.Auth{User: login.User, Pass: login.Password}.AsMechanism(), nil
	case "SCRAM-SHA-256":
		return scram.Auth{User: login.User, Pass: login.Password}.AsSha256Mechanism(), nil
	case "SCRAM-SHA-512":
		return scram.Auth{User: login.User, Pass: login.Password}.AsSha512Mechanism(), nil
	case "OAUTHBEARER":
		return oauth.Oauth(func(context.Context) (oauth.Auth, error) {
			token, err := b.Token(login.User, time.Hour)
			return oauth.Auth{Token: token}, err
		}), nil
	}
	return nil, fmt.Errorf("kafkabed: no SASL mechanism named %q", login.Mechanism)
}

// ClientProperties writes a property file by which Kafka's own tools log in
// (--command-config) and gives its path. OAUTHBEARER is not offered here.
func (b *Bed) ClientProperties(login Login) (string, error) {
	login = login.withDefaults()
	if b.Addresses(login.Listener) == "" {
		return "", fmt.Errorf("kafkabed: no %s listener: start the bed with Options.Secure", login.Listener)
	}
	var text strings.Builder
	set := func(key, value string) { fmt.Fprintf(&text, "%s=%s\n", key, value) }
	set("security.protocol", string(login.Listener))
	if login.sasl() {
		module := "scram.ScramLoginModule"
		switch login.Mechanism {
		case "PLAIN":
			module = "plain.PlainLoginModule"
		case "SCRAM-SHA-256", "SCRAM-SHA-512":
		default:
			return "", fmt.Errorf("kafkabed: no property file for SASL mechanism %q", login.Mechanism)
		}
		set("sasl.mechanism", login.Mechanism)
		set("sasl.jaas.config", fmt.Sprintf("org.apache.kafka.common.security.%s required username=%q password=%q;", module, login.User, login.Password))
	}
	if login.tls() {
		set("ssl.truststore.type", "PEM")
		set("ssl.truststore.location", b.PKI.CA)
	}
	if login.Listener == MTLS {
		set("ssl.keystore.type", "PEM")
		set("ssl.keystore.location", b.PKI.clientStore)
	}
	name := strings.ToLower(fmt.Sprintf("client-%s-%s-%s.properties", login.Listener, login.User, login.Mechanism))
	path := filepath.Join(b.Dir, name)
	b.clientFiles.Lock()
	defer b.clientFiles.Unlock()
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		return "", fmt.Errorf("kafkabed: %w", err)
	}
	return path, nil
}
