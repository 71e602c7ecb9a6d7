package temporalservice

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/grpc/codes"
)

// DialTimeout bounds Dial: how long a service may take to answer.
const DialTimeout = 10 * time.Second

// probeTimeout bounds each attempt to find out what is wrong.
const probeTimeout = 2 * time.Second

// Reason says why a service cannot be used.
type Reason int

// Reasons of a DialError.
const (
	Unreachable Reason = iota + 1 // nothing answers there
	NotTemporal                   // something answers, but not as a Temporal service
	TLS                           // the two sides do not agree on TLS or a certificate
	Denied                        // API key or certificate missing, wrong, or without rights on the namespace
	NoNamespace                   // the service has no such namespace
)

// DialError says that a Temporal service cannot be used, and what to do.
type DialError struct {
	Profile Profile
	Reason  Reason
	Err     error
}

// Error is one line: which service, what is wrong, what to do.
func (e *DialError) Error() string {
	return withHint(fmt.Sprintf("temporal service %s: %s: %v", e.Profile.Address, e.what(), e.Err), e.Hint())
}

// Unwrap returns the error of the connection or the call.
func (e *DialError) Unwrap() error { return e.Err }

func (e *DialError) what() string {
	switch e.Reason {
	case Unreachable:
		return "cannot be reached"
	case TLS:
		return "TLS does not fit"
	case Denied:
		return fmt.Sprintf("no access to namespace %q", e.Profile.Namespace)
	case NoNamespace:
		return fmt.Sprintf("there is no namespace %q", e.Profile.Namespace)
	default:
		return "does not answer as a Temporal service"
	}
}

// Hint says what to do about it.
func (e *DialError) Hint() string {
	switch e.Reason {
	case Unreachable:
		return "start one with: kafka-backup server, or name another with --" + FlagAddress + " or TEMPORAL_ADDRESS"
	case TLS:
		return "see --" + FlagTLS + ", --" + FlagTLSCA + ", --" + FlagTLSCert + ", --" + FlagTLSKey + ", --" + FlagTLSName + " and the TEMPORAL_TLS_* variables"
	case Denied:
		return "see TEMPORAL_API_KEY, --" + FlagAPIKeyFile + ", --" + FlagTLSCert + ", and what rights they carry"
	case NoNamespace:
		return "set --" + FlagNamespace + " or TEMPORAL_NAMESPACE, or create it with: temporal operator namespace create " + e.Profile.Namespace
	default:
		return "check --" + FlagAddress + " or TEMPORAL_ADDRESS: it must be the gRPC port (usually 7233), not the Web UI's"
	}
}

// Dial connects to the service of p and checks that it answers and has the
// namespace. adjust may change the client's options (logger, data converter,
// metrics) before. It takes at most DialTimeout plus a few seconds to find out
// what is wrong; its errors are *DialError, *ProfileError, or ctx's.
// The caller closes the client.
func Dial(ctx context.Context, p Profile, adjust ...func(*client.Options)) (client.Client, error) {
	opts, err := p.ClientOptions()
	if err != nil {
		return nil, err
	}
	opts.Logger = Logger(nil)
	for _, change := range adjust {
		change(&opts)
	}
	// The SDK tries an address where nothing listens again and again. This
	// machine's own addresses need no such patience.
	if local(p.Address) {
		if err := probeTCP(ctx, p.Address); err != nil && ctx.Err() == nil {
			return nil, &DialError{Profile: p, Reason: Unreachable, Err: err}
		}
	}
	limited, cancel := context.WithTimeout(ctx, DialTimeout)
	defer cancel()
	c, err := client.DialContext(limited, opts)
	if err == nil {
		_, err = c.WorkflowService().DescribeNamespace(limited, &workflowservice.DescribeNamespaceRequest{Namespace: p.Namespace})
		if err == nil {
			return c, nil
		}
		c.Close()
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("connect to temporal service %s: %w", p.Address, context.Cause(ctx))
	}
	return nil, diagnose(ctx, p, opts.ConnectionOptions.TLS, err)
}

// diagnose finds out why the service cannot be used: from the code it answered
// with, or, if it did not answer, by trying the layers below one by one.
func diagnose(ctx context.Context, p Profile, conf *tls.Config, err error) *DialError {
	e := &DialError{Profile: p, Reason: NotTemporal, Err: err}
	switch serviceerror.ToStatus(err).Code() {
	case codes.NotFound:
		e.Reason = NoNamespace
		return e
	case codes.PermissionDenied, codes.Unauthenticated:
		e.Reason = Denied
		return e
	}
	if tcpErr := probeTCP(ctx, p.Address); tcpErr != nil {
		e.Reason, e.Err = Unreachable, tcpErr
		return e
	}
	if tlsErr := probeTLS(ctx, p.Address, conf); tlsErr != nil {
		e.Reason, e.Err = TLS, tlsErr
	}
	return e
}

// local reports whether the address is on this machine by its looks.
func local(address string) bool {
	host, _, err := net.SplitHostPort(target(address))
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || (ip != nil && ip.IsLoopback()))
}

func probeTCP(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{Timeout: probeTimeout}).DialContext(ctx, "tcp", target(address))
	if err != nil {
		return err
	}
	return conn.Close()
}

var (
	errWantsTLS   = errors.New("the service wants TLS, and it is not switched on here")
	errWantsNoTLS = errors.New("TLS is switched on here, but the service does not speak it")
)

// probeTLS says what is wrong with TLS between us and the address: conf is our
// side, nil for none. It returns nil if TLS is not the matter.
func probeTLS(ctx context.Context, address string, conf *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if conf == nil {
		// Whether it speaks TLS at all; nothing is sent to it.
		done, err := handshake(ctx, address, &tls.Config{InsecureSkipVerify: true})
		if done || isAlert(err) {
			return errWantsTLS
		}
		return nil
	}
	_, err := handshake(ctx, address, conf.Clone())
	var (
		plain       tls.RecordHeaderError
		certificate *tls.CertificateVerificationError
		authority   x509.UnknownAuthorityError
		name        x509.HostnameError
	)
	switch {
	case errors.As(err, &plain):
		return errWantsNoTLS
	case isAlert(err):
		return fmt.Errorf("the service refused the handshake, perhaps for want of a client certificate that it knows: %w", err)
	case errors.As(err, &certificate), errors.As(err, &authority), errors.As(err, &name):
		return err
	}
	return nil
}

// isAlert reports whether err is a TLS alert of the other side. crypto/tls has
// no exported type for it (tls.AlertError is QUIC's), only this operation's name.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// handshake connects, shakes hands and reads a little: with TLS 1.3 a server
// refuses a client's certificate only after the client is done, which is what
// done reports.
func handshake(ctx context.Context, address string, conf *tls.Config) (done bool, err error) {
	conf.NextProtos = []string{"h2"}
	conn, err := (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", target(address))
	if err != nil {
		return false, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetReadDeadline(deadline)
	}
	_, err = conn.Read(make([]byte, 1))
	return true, err
}
