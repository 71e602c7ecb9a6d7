package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"syscall"
)

// Reason is why a cluster could not be reached.
type Reason string

// Reasons. Those marked transient may go away by themselves.
const (
	BadConfiguration    Reason = "bad_configuration"           // a file or secret cannot be read
	Unresolvable        Reason = "unresolvable"                // the host name is not known (transient)
	Refused             Reason = "refused"                     // nobody listens at the address (transient)
	TimedOut            Reason = "timed_out"                   // no answer in time (transient)
	Unreachable         Reason = "unreachable"                 // no route, or the connection broke (transient)
	Cancelled           Reason = "cancelled"                   // the caller gave up
	NotKafka            Reason = "not_kafka"                   // something else listens there
	NotBroker           Reason = "not_a_broker"                // a controller listens there
	TLSExpected         Reason = "tls_expected"                // the listener speaks TLS, the configuration does not
	TLSNotSpoken        Reason = "tls_not_spoken"              // the configuration wants TLS, the listener does not speak it
	TLSFailed           Reason = "tls_failed"                  // no common version or cipher, a broken handshake
	UnknownCA           Reason = "unknown_ca"                  // the broker's certificate is signed by nobody that is trusted
	HostnameMismatch    Reason = "hostname_mismatch"           // the broker's certificate is for other names
	CertificateInvalid  Reason = "certificate_invalid"         // expired, or not for this use
	ClientCertRequired  Reason = "client_certificate_required" // the broker wants a client certificate
	ClientCertRefused   Reason = "client_certificate_refused"  // the broker does not accept the client certificate
	SASLExpected        Reason = "sasl_expected"               // the listener wants SASL, the configuration does not
	SASLNotSpoken       Reason = "sasl_not_spoken"             // the configuration wants SASL, the listener does not speak it
	MechanismNotEnabled Reason = "mechanism_not_enabled"       // the broker has other SASL mechanisms
	BadCredentials      Reason = "bad_credentials"             // the broker refuses user name and password, or token
	TokenRefused        Reason = "token_refused"               // the token endpoint refuses the client
	TokenEndpoint       Reason = "token_endpoint"              // the token endpoint cannot be reached (transient)
	AdvertisedAddress   Reason = "advertised_address"          // brokers advertise addresses that cannot be reached (transient)
	NoRights            Reason = "no_rights"                   // authenticated, and may not even look
)

// ConnectError is a cluster that could not be reached.
type ConnectError struct {
	Address    string          // the broker's host:port, or the token endpoint's URL; empty: no particular one
	Reason     Reason          // of the classification
	Mechanisms []string        // SASL mechanisms the broker has; with MechanismNotEnabled and SASLExpected
	ServerName string          // what the broker's certificate was checked against
	Err        error           // the cause; may be nil
	Others     []*ConnectError // the other bootstrap servers, where each failed
}

func (e *ConnectError) Error() string {
	var b strings.Builder
	b.WriteString(e.one())
	for _, o := range e.Others {
		b.WriteString("\n" + o.one())
	}
	return b.String()
}

func (e *ConnectError) one() string {
	text, hint := e.text()
	if e.Address != "" {
		text = e.Address + ": " + text
	}
	if e.Err != nil && e.showsCause() {
		text += ": " + e.Err.Error()
	}
	if hint != "" {
		text += "; " + hint
	}
	return "connect to Kafka: " + text
}

// showsCause: where the classification says it all, the cause would only repeat it.
func (e *ConnectError) showsCause() bool {
	switch e.Reason {
	case Refused, TLSExpected, TLSNotSpoken, SASLExpected, SASLNotSpoken, MechanismNotEnabled, ClientCertRequired, NotKafka, NotBroker:
		return false
	}
	return true
}

// text says what happened and what to do.
func (e *ConnectError) text() (what, hint string) {
	switch e.Reason {
	case BadConfiguration:
		return "the configuration cannot be used", ""
	case Unresolvable:
		return "the host name cannot be resolved", "check bootstrap_servers and the name service"
	case Refused:
		return "nobody listens there (connection refused)", "check the address and whether the broker is up"
	case TimedOut:
		return "no answer in time", "check the address, firewalls and connect_timeout"
	case Unreachable:
		return "it cannot be reached", "check the address and the network"
	case Cancelled:
		return "given up", ""
	case NotKafka:
		return "what listens there does not speak Kafka's protocol", "check the port"
	case NotBroker:
		return "a controller listens there and not a broker", "use the address of a broker's listener"
	case TLSExpected:
		return "the listener expects TLS", "write security_protocol: SSL or SASL_SSL, or use the address of a plaintext listener"
	case TLSNotSpoken:
		return "the listener does not speak TLS", "write security_protocol: PLAINTEXT or SASL_PLAINTEXT, or use the address of a TLS listener"
	case TLSFailed:
		return "the TLS handshake failed", ""
	case UnknownCA:
		return "the broker's certificate is signed by an unknown authority", "give the CA's certificate as ssl_ca_location"
	case HostnameMismatch:
		return "the broker's certificate is not for " + e.ServerName, "use a name that is in the certificate, or give it as ssl_server_name"
	case CertificateInvalid:
		return "the broker's certificate is not valid", ""
	case ClientCertRequired:
		return "the broker requires a client certificate", "give ssl_certificate_location and ssl_key_location"
	case ClientCertRefused:
		return "the broker does not accept the client certificate", "check that it is signed by a CA the brokers trust, and not expired"
	case SASLExpected:
		return "the listener requires SASL" + e.mechanisms(), "write security_protocol: SASL_SSL or SASL_PLAINTEXT with sasl_mechanism and credentials"
	case SASLNotSpoken:
		return "the listener does not do SASL", "write security_protocol: SSL or PLAINTEXT, or use the address of a SASL listener"
	case MechanismNotEnabled:
		return "the broker does not have the SASL mechanism" + e.mechanisms(), "write one of them as sasl_mechanism"
	case BadCredentials:
		return "the broker refuses the credentials", "check sasl_username, sasl_password and sasl_mechanism, or the token"
	case TokenRefused:
		return "the token endpoint refuses the client", "check sasl_oauthbearer_client_id, sasl_oauthbearer_client_secret and sasl_oauthbearer_scope"
	case TokenEndpoint:
		return "the token endpoint gave no token", "check sasl_oauthbearer_token_endpoint_url"
	case AdvertisedAddress:
		return "the bootstrap server answers, but no broker can be reached at the address it advertises", "check the brokers' advertised.listeners and the listener used for bootstrap_servers"
	case NoRights:
		return "the user may not look at the cluster", "grant it DESCRIBE on the cluster"
	}
	return string(e.Reason), ""
}

func (e *ConnectError) mechanisms() string {
	if len(e.Mechanisms) == 0 {
		return ""
	}
	return " (it has " + strings.Join(e.Mechanisms, ", ") + ")"
}

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// Retryable reports whether the reason may go away by itself. With several bootstrap servers:
// whether any of their reasons may.
func (e *ConnectError) Retryable() bool {
	switch e.Reason {
	case Unresolvable, Refused, TimedOut, Unreachable, TokenEndpoint, AdvertisedAddress:
		return true
	}
	for _, o := range e.Others {
		if o.Retryable() {
			return true
		}
	}
	return false
}

func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// TLS alerts (RFC 8446, 6.2) by which a server says what it does not like about a client's certificate.
const (
	alertHandshakeFailure    = 40
	alertBadCertificate      = 42
	alertUnsupportedCert     = 43
	alertCertificateRevoked  = 44
	alertCertificateExpired  = 45
	alertCertificateUnknown  = 46
	alertUnknownCA           = 48
	alertAccessDenied        = 49
	alertCertificateRequired = 116
)

// remoteAlert returns the alert by which the other side ended TLS. crypto/tls does not export
// the alert's type; it is an OpError "remote error" around a number.
func remoteAlert(err error) (code uint64, ok bool) {
	var oe *net.OpError
	if !errors.As(err, &oe) || oe.Op != "remote error" || oe.Err == nil {
		return 0, false
	}
	v := reflect.ValueOf(oe.Err)
	if v.Kind() != reflect.Uint8 {
		return 0, false
	}
	return v.Uint(), true
}

// tlsReason classifies a failed TLS handshake, or a connection that fails right after it
// (with TLS 1.3 a server looks at the client's certificate only then).
func tlsReason(err error, hasCert bool) Reason {
	var (
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
		header   tls.RecordHeaderError
		ne       net.Error
	)
	if code, ok := remoteAlert(err); ok {
		switch code {
		case alertBadCertificate, alertUnsupportedCert, alertCertificateRevoked, alertCertificateExpired, alertCertificateUnknown,
			alertUnknownCA, alertAccessDenied, alertCertificateRequired, alertHandshakeFailure:
			if hasCert && code != alertCertificateRequired && code != alertHandshakeFailure {
				return ClientCertRefused
			}
			if !hasCert && code != alertHandshakeFailure {
				return ClientCertRequired
			}
		}
		return TLSFailed
	}
	switch {
	case errors.As(err, &hostname):
		return HostnameMismatch
	case errors.As(err, &unknown):
		return UnknownCA
	case errors.As(err, &invalid):
		return CertificateInvalid
	case errors.As(err, &header):
		return TLSNotSpoken
	case errors.As(err, &ne) && ne.Timeout():
		return TimedOut
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return Unreachable // the probe finds out whether the listener speaks TLS at all
	}
	return TLSFailed
}
