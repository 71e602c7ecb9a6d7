package kafka

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/youmark/pkcs8"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

// authority is a certificate authority with files for clients.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	ca   string // path of its certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.key = newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.ca = a.write("ca.pem", "CERTIFICATE", der)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// issue makes a certificate for a host name or IP address.
func (a *authority) issue(name string, notAfter time.Time) (der []byte, key *ecdsa.PrivateKey) {
	a.t.Helper()
	key = newKey(a.t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: notAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der, key
}

// server is a broker's TLS configuration; with clients, it requires certificates of this authority.
func (a *authority) server(name string, notAfter time.Time, clients bool) *tls.Config {
	der, key := a.issue(name, notAfter)
	c := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	if clients {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		c.ClientCAs.AddCert(a.cert)
	}
	return c
}

// client writes a client certificate and its key, encrypted when there is a password.
func (a *authority) client(password string) (cert, key string) {
	a.t.Helper()
	der, k := a.issue("client", time.Now().Add(time.Hour))
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	kind := "PRIVATE KEY"
	if password != "" {
		keyDER, err = pkcs8.MarshalPrivateKey(k, []byte(password), nil)
		kind = "ENCRYPTED PRIVATE KEY"
	}
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write("client.pem", "CERTIFICATE", der), a.write("client.key", kind, keyDER)
}

func fake(t *testing.T, opts ...kfake.Opt) (*kfake.Cluster, string) {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, c.ListenAddrs()[0]
}

// listen accepts connections and gives them to serve, until the test ends.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			go serve(conn)
		}
	}()
	return l.Addr().String()
}

func TestConnect(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	later := time.Now().Add(time.Hour)
	const password = "swordfish"
	clientCert, clientKey := ca.client("key-" + password)
	strangerCert, strangerKey := other.client("")

	_, plaintext := fake(t)
	_, secure := fake(t, kfake.TLS(ca.server("127.0.0.1", later, false)))
	_, elsewhere := fake(t, kfake.TLS(ca.server("kafka.example", later, false)))
	_, expired := fake(t, kfake.TLS(ca.server("127.0.0.1", time.Now().Add(-time.Minute), false)))
	_, mutual := fake(t, kfake.TLS(ca.server("127.0.0.1", later, true)))
	users := []kfake.Opt{
		kfake.EnableSASL(), kfake.Superuser("PLAIN", "ann", password), kfake.Superuser("SCRAM-SHA-256", "bea", password), kfake.Superuser("SCRAM-SHA-512", "cat", password),
	}
	_, sasl := fake(t, users...)
	_, saslSecure := fake(t, append(users, kfake.TLS(ca.server("127.0.0.1", later, false)))...)
	silent := listen(t, func(net.Conn) {})
	web := listen(t, func(c net.Conn) {
		c.Read(make([]byte, 1))
		c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		c.Close()
	})
	closing := listen(t, func(c net.Conn) { c.Close() })
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()

	login := func(protocol, mechanism, user, pass string) config.Security {
		return config.Security{SecurityProtocol: protocol, SASLMechanism: mechanism, SASLUsername: user, SASLPassword: config.NewSecret(pass)}
	}
	ssl := func(change func(*config.Security)) config.Security {
		s := config.Security{SecurityProtocol: "SSL", SSLCALocation: ca.ca}
		if change != nil {
			change(&s)
		}
		return s
	}
	cert := func(cert, key, pass string) func(*config.Security) {
		return func(s *config.Security) {
			s.SSLCertificateLocation, s.SSLKeyLocation, s.SSLKeyPassword = cert, key, config.NewSecret(pass)
		}
	}
	withCA := func(s config.Security) config.Security { s.SSLCALocation = ca.ca; return s }

	for _, tc := range []struct {
		name    string
		address string
		sec     config.Security
		want    Reason // empty: it connects
	}{
		{"plaintext", plaintext, config.Security{}, ""},
		{"nobody listens", gone.Addr().String(), config.Security{}, Refused},
		{"no answer", silent, config.Security{}, TimedOut},
		{"no answer to TLS", silent, ssl(nil), TimedOut},
		{"a web server", web, config.Security{}, NotKafka},
		{"a web server for TLS", web, ssl(nil), TLSNotSpoken},
		{"somebody who hangs up", closing, config.Security{}, NotKafka},

		{"TLS", secure, ssl(nil), ""},
		{"plaintext to a TLS listener", secure, config.Security{}, TLSExpected},
		{"TLS to a plaintext listener", plaintext, ssl(nil), TLSNotSpoken},
		{"another authority", secure, ssl(func(s *config.Security) { s.SSLCALocation = other.ca }), UnknownCA},
		{"another authority, not checked", secure, ssl(func(s *config.Security) { s.SSLCALocation, s.SSLInsecureSkipVerify = "", true }), ""},
		{"another name", elsewhere, ssl(nil), HostnameMismatch},
		{"another name, given", elsewhere, ssl(func(s *config.Security) { s.SSLServerName = "kafka.example" }), ""},
		{"expired", expired, ssl(nil), CertificateInvalid},
		{"no such file", secure, ssl(func(s *config.Security) { s.SSLCALocation = "/no/such/file" }), BadConfiguration},
		{"mTLS", mutual, ssl(cert(clientCert, clientKey, "key-"+password)), ""},
		{"mTLS without a certificate", mutual, ssl(nil), ClientCertRequired},
		{"mTLS with a stranger's", mutual, ssl(cert(strangerCert, strangerKey, "")), ClientCertRefused},
		{"mTLS, wrong key password", mutual, ssl(cert(clientCert, clientKey, "key-wrong")), BadConfiguration},
		{"mTLS, no key password", mutual, ssl(cert(clientCert, clientKey, "")), BadConfiguration},
		{"mTLS, another key", mutual, ssl(cert(clientCert, strangerKey, "")), BadConfiguration},

		{"PLAIN", sasl, login("SASL_PLAINTEXT", "PLAIN", "ann", password), ""},
		{"SCRAM-SHA-256", sasl, login("SASL_PLAINTEXT", "SCRAM-SHA-256", "bea", password), ""},
		{"SCRAM-SHA-512", sasl, login("SASL_PLAINTEXT", "SCRAM-SHA-512", "cat", password), ""},
		{"SCRAM-SHA-512 and TLS", saslSecure, withCA(login("SASL_SSL", "SCRAM-SHA-512", "cat", password)), ""},
		{"PLAIN, wrong password", sasl, login("SASL_PLAINTEXT", "PLAIN", "ann", password+"!"), BadCredentials},
		{"SCRAM, wrong password", sasl, login("SASL_PLAINTEXT", "SCRAM-SHA-512", "cat", password+"!"), BadCredentials},
		{"SCRAM, unknown user", sasl, login("SASL_PLAINTEXT", "SCRAM-SHA-256", "nobody", password), BadCredentials},
		{"unset password", sasl, login("SASL_PLAINTEXT", "PLAIN", "ann", "${KAFKA_BACKUP_TEST_UNSET}"), BadConfiguration},
		{"another mechanism", sasl, config.Security{SecurityProtocol: "SASL_PLAINTEXT", SASLMechanism: "OAUTHBEARER", OAuthToken: config.NewSecret(password)}, MechanismNotEnabled},
		{"no SASL to a SASL listener", sasl, config.Security{}, SASLExpected},
		{"no SASL to a SASL and TLS listener", saslSecure, ssl(nil), SASLExpected},
		{"no TLS to a SASL and TLS listener", saslSecure, login("SASL_PLAINTEXT", "PLAIN", "ann", password), TLSExpected},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			timeout := config.Duration(10 * time.Second)
			if tc.address == silent || tc.want == TLSNotSpoken { // a fake broker waits for more where a real one hangs up
				timeout = config.Duration(500 * time.Millisecond)
			}
			c, err := Connect(t.Context(), config.Cluster{BootstrapServers: []string{tc.address}, Security: tc.sec, ConnectTimeout: timeout})
			if tc.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if c.ID() == "" {
					t.Error("no cluster id")
				}
				return
			}
			ce := connectError(t, err)
			if ce.Reason != tc.want {
				t.Fatalf("%s and not %s: %v", ce.Reason, tc.want, err)
			}
			if tc.want != BadConfiguration && ce.Address != tc.address {
				t.Errorf("address %q and not %q", ce.Address, tc.address)
			}
			if tc.want == MechanismNotEnabled && len(ce.Mechanisms) != 3 {
				t.Errorf("mechanisms %q", ce.Mechanisms)
			}
			if contains(err.Error(), password) {
				t.Errorf("the error shows the password: %v", err)
			}
		})
	}
}

func TestConnectSeveralBootstrapServers(t *testing.T) {
	_, up := fake(t)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	down := gone.Addr().String()

	c, err := Connect(t.Context(), config.Cluster{BootstrapServers: []string{down, up}})
	if err != nil {
		t.Fatalf("one of two is up: %v", err)
	}
	c.Close()

	closing := listen(t, func(c net.Conn) { c.Close() })
	_, err = Connect(t.Context(), config.Cluster{BootstrapServers: []string{closing, down}})
	ce := connectError(t, err)
	if ce.Reason != NotKafka || len(ce.Others) != 1 || ce.Others[0].Reason != Refused || ce.Others[0].Address != down {
		t.Errorf("not about both servers: %v", err)
	}
	if !Retryable(err) {
		t.Error("the one that is down may come up: it is worth a retry")
	}
}

// A cluster whose brokers advertise an address that only others can reach is the commonest trap.
func TestConnectAdvertisedAddress(t *testing.T) {
	cluster, address := fake(t)
	proxy := listen(t, func(c net.Conn) { relay(c, address) })
	advertise(cluster, "127.0.0.1", 1)
	_, err := Connect(t.Context(), config.Cluster{BootstrapServers: []string{proxy}, ConnectTimeout: config.Duration(2 * time.Second)})
	ce := connectError(t, err)
	if ce.Reason != AdvertisedAddress || ce.Address != "127.0.0.1:1" || !ce.Retryable() {
		t.Errorf("%s at %q: %v", ce.Reason, ce.Address, err)
	}
}

func TestConnectEndsWithItsContext(t *testing.T) {
	silent := listen(t, func(net.Conn) {})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Connect(ctx, config.Cluster{BootstrapServers: []string{silent}})
	if err != context.Canceled {
		t.Errorf("%v", err)
	}
}

func TestDialReasons(t *testing.T) {
	for err, want := range map[error]Reason{
		&net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}:                   Unresolvable,
		&net.OpError{Op: "dial", Err: &net.DNSError{IsTemporary: true}}:                  Unresolvable,
		&net.OpError{Op: "dial", Err: &net.DNSError{IsTimeout: true, IsTemporary: true}}: TimedOut,
		context.DeadlineExceeded:                        TimedOut,
		context.Canceled:                                Cancelled,
		&net.OpError{Op: "dial", Err: os.ErrPermission}: Unreachable,
	} {
		if got := dialReason(err); got != want {
			t.Errorf("%v: %s and not %s", err, got, want)
		}
	}
}
