package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"github.com/youmark/pkcs8"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

// security is how one cluster's connections are made.
type security struct {
	tls       *tls.Config // nil: no encryption; ServerName empty: the address's host
	mechanism sasl.Mechanism
	name      string        // of the mechanism; empty: none
	timeout   time.Duration // for one connection attempt
	hasCert   bool
}

// newSecurity reads certificates, keys and secrets, and takes a first token where tokens are
// used, so that what is wrong with them is said before any broker is asked.
func newSecurity(ctx context.Context, cfg config.Cluster) (*security, error) {
	s := &security{timeout: cfg.ConnectTimeout.Std()}
	sec := cfg.Security
	if sec.TLS() {
		t, err := tlsConfig(sec)
		if err != nil {
			return nil, &ConnectError{Reason: BadConfiguration, Err: err}
		}
		s.tls, s.hasCert = t, len(t.Certificates) > 0
	}
	if !sec.SASL() {
		return s, nil
	}
	s.name = sec.SASLMechanism
	if s.name == "OAUTHBEARER" {
		m, err := oauthMechanism(ctx, sec, s.timeout)
		s.mechanism = refusable{m}
		return s, err
	}
	if _, err := sec.SASLPassword.Resolve(); err != nil {
		return nil, &ConnectError{Reason: BadConfiguration, Err: err}
	}
	// The password is read for each connection, so that one that is changed in its file is taken up.
	scramAuth := func(context.Context) (scram.Auth, error) {
		pass, err := sec.SASLPassword.Resolve()
		return scram.Auth{User: sec.SASLUsername, Pass: pass}, err
	}
	switch s.name {
	case "PLAIN":
		s.mechanism = plain.Plain(func(context.Context) (plain.Auth, error) {
			pass, err := sec.SASLPassword.Resolve()
			return plain.Auth{User: sec.SASLUsername, Pass: pass}, err
		})
	case "SCRAM-SHA-256":
		s.mechanism = scram.Sha256(scramAuth)
	case "SCRAM-SHA-512":
		s.mechanism = scram.Sha512(scramAuth)
	}
	s.mechanism = refusable{s.mechanism}
	return s, nil
}

// refusable is a mechanism whose sessions say in a typed error that the other side refused. The
// library tells only of brokers that answer with a code.
type refusable struct{ sasl.Mechanism }

// Authenticate implements sasl.Mechanism.
func (m refusable) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	s, first, err := m.Mechanism.Authenticate(ctx, host)
	return refusableSession{s}, first, err
}

type refusableSession struct{ sasl.Session }

// Challenge implements sasl.Session.
func (s refusableSession) Challenge(answer []byte) (done bool, next []byte, err error) {
	done, next, err = s.Session.Challenge(answer)
	if err == nil {
		return done, next, nil
	}
	// A bearer token is refused with a JSON object (RFC 7628, 3.2.2).
	var refusal struct{ Status string }
	if json.Unmarshal(answer, &refusal) == nil && refusal.Status != "" {
		err = errors.New(refusal.Status)
	}
	return done, next, &ConnectError{Reason: BadCredentials, Err: err}
}

// dial connects to a broker, TLS included. Errors are a *ConnectError that unwraps to the cause.
func (s *security) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := s.dialTCP(ctx, network, address)
	if err != nil || s.tls == nil {
		return conn, err
	}
	return s.handshake(ctx, conn, address, s.tls)
}

func (s *security) dialTCP(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: s.timeout}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, &ConnectError{Address: address, Reason: dialReason(err), Err: err}
	}
	return conn, nil
}

// handshake does TLS on conn, which it closes when it fails.
func (s *security) handshake(ctx context.Context, conn net.Conn, address string, base *tls.Config) (net.Conn, error) {
	t := base
	if t.ServerName == "" {
		t = base.Clone()
		t.ServerName, _, _ = net.SplitHostPort(address)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	tc := tls.Client(conn, t)
	if err := tc.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, &ConnectError{Address: address, Reason: tlsReason(err, s.hasCert), ServerName: t.ServerName, Err: err}
	}
	return tc, nil
}

func tlsConfig(sec config.Security) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: sec.SSLServerName, InsecureSkipVerify: sec.SSLInsecureSkipVerify}
	if sec.SSLCALocation != "" {
		pool, err := caPool("ssl_ca_location", sec.SSLCALocation)
		if err != nil {
			return nil, err
		}
		t.RootCAs = pool
	}
	if sec.SSLCertificateLocation == "" {
		return t, nil
	}
	cert, err := os.ReadFile(sec.SSLCertificateLocation)
	if err != nil {
		return nil, fmt.Errorf("ssl_certificate_location: %w", err)
	}
	key, err := privateKey(sec)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("ssl_certificate_location %s with ssl_key_location %s: %w", sec.SSLCertificateLocation, sec.SSLKeyLocation, err)
	}
	t.Certificates = []tls.Certificate{pair}
	return t, nil
}

func caPool(key, path string) (*x509.CertPool, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s: %s holds no certificate in PEM", key, path)
	}
	return pool, nil
}

// privateKey reads the client's key as unencrypted PEM.
func privateKey(sec config.Security) ([]byte, error) {
	b, err := os.ReadFile(sec.SSLKeyLocation)
	if err != nil {
		return nil, fmt.Errorf("ssl_key_location: %w", err)
	}
	for rest := b; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return b, nil // nothing encrypted in it; tls.X509KeyPair says what is missing
		}
		if block.Headers["DEK-Info"] != "" {
			return nil, fmt.Errorf("ssl_key_location: %s is encrypted in a way that is long insecure; convert it: openssl pkcs8 -topk8 -v2 aes-256-cbc -in %[1]s", sec.SSLKeyLocation)
		}
		if block.Type != "ENCRYPTED PRIVATE KEY" {
			continue
		}
		password, err := sec.SSLKeyPassword.Resolve()
		if err != nil {
			return nil, err
		}
		if password == "" {
			return nil, fmt.Errorf("ssl_key_location: %s is encrypted; give ssl_key_password", sec.SSLKeyLocation)
		}
		key, err := pkcs8.ParsePKCS8PrivateKey(block.Bytes, []byte(password))
		if err != nil {
			return nil, fmt.Errorf("ssl_key_location: %s: %w (is ssl_key_password right?)", sec.SSLKeyLocation, err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, fmt.Errorf("ssl_key_location: %s: %w", sec.SSLKeyLocation, err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
	}
}

// dialReason classifies a failed TCP connection.
func dialReason(err error) Reason {
	var dns *net.DNSError
	var ne net.Error
	switch {
	case errors.As(err, &dns) && !dns.IsTimeout:
		return Unresolvable
	case errors.As(err, &ne) && ne.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return TimedOut
	case errors.Is(err, context.Canceled):
		return Cancelled
	case isRefused(err):
		return Refused
	}
	return Unreachable
}
