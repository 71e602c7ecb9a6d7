package kafka

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

// maxGreeted is how many brokers are asked at once whether they can be reached.
const maxGreeted = 8

// probeAll looks at every bootstrap server and returns those that speak what the
// configuration says. When none does, the error is a *ConnectError about all of them.
func probeAll(ctx context.Context, cfg config.Cluster, sec *security) ([]string, error) {
	errs := make([]error, len(cfg.BootstrapServers))
	var wg sync.WaitGroup
	for i, address := range cfg.BootstrapServers {
		wg.Go(func() { errs[i] = sec.probe(ctx, address) })
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var reachable []string
	var failed []*ConnectError
	for i, err := range errs {
		var ce *ConnectError
		switch {
		case err == nil:
			reachable = append(reachable, cfg.BootstrapServers[i])
		case errors.As(err, &ce):
			failed = append(failed, ce)
		default:
			failed = append(failed, &ConnectError{Address: cfg.BootstrapServers[i], Reason: Unreachable, Err: err})
		}
	}
	if len(reachable) > 0 {
		return reachable, nil
	}
	failed[0].Others = failed[1:]
	return nil, failed[0]
}

// probe makes one connection by hand, up to and without authentication. The library's client would
// only say that the connection broke; this says why.
func (s *security) probe(ctx context.Context, address string) error {
	conn, err := s.dialTCP(ctx, "tcp", address)
	if err != nil {
		return err
	}
	if s.tls != nil {
		var tc net.Conn
		if tc, err = s.handshake(ctx, conn, address, s.tls); err != nil {
			var ce *ConnectError
			if errors.As(err, &ce) && (ce.Reason == Unreachable || ce.Reason == TimedOut) && s.speaksPlaintext(ctx, address) {
				ce.Reason = TLSNotSpoken
			}
			return err
		}
		conn = tc
	}
	defer conn.Close()
	w := wire{conn: conn, deadline: time.Now().Add(s.timeout)}
	if err := w.apiVersions(ctx); err != nil {
		return s.afterConnect(ctx, address, err)
	}
	return s.probeSASL(ctx, address, &w)
}

// afterConnect classifies a connection that failed on its first request.
func (s *security) afterConnect(ctx context.Context, address string, err error) error {
	ce := &ConnectError{Address: address, Reason: Unreachable, Err: err}
	var ne net.Error
	switch {
	case errors.Is(err, errController):
		ce.Reason = NotBroker
	case errors.As(err, &ne) && ne.Timeout():
		ce.Reason = TimedOut
	case s.tls != nil:
		if _, alert := remoteAlert(err); alert {
			ce.Reason = tlsReason(err, s.hasCert)
		} else if !errors.Is(err, errNotKafka) && !s.hasCert && closed(err) {
			ce.Reason = ClientCertRequired // a broker may also just close when it misses the certificate
		} else if errors.Is(err, errNotKafka) {
			ce.Reason = NotKafka
		}
	case s.speaksTLS(ctx, address):
		ce.Reason = TLSExpected
	case errors.Is(err, errNotKafka), closed(err):
		ce.Reason = NotKafka
	}
	return ce
}

// closed reports whether the other side ended the connection.
func closed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// probeSASL compares what the listener wants with the configuration: one that wants SASL closes the
// connection on any other request; one that does not refuses the SASL handshake (KIP-43, KIP-152).
func (s *security) probeSASL(ctx context.Context, address string, w *wire) error {
	ce := &ConnectError{Address: address}
	if s.name == "" {
		err := w.brokers(ctx)
		if err == nil {
			return nil
		}
		ce.Reason, ce.Err = Unreachable, err
		if closed(err) {
			if resp, err := s.saslHandshake(ctx, address); err == nil {
				ce.Reason, ce.Mechanisms = SASLExpected, resp.SupportedMechanisms
			}
		}
		return ce
	}
	resp, err := w.saslHandshake(ctx, s.name)
	switch code := kerr.ErrorForCode(resp.ErrorCode); {
	case err != nil:
		ce.Reason, ce.Err = SASLNotSpoken, err
	case errors.Is(code, kerr.UnsupportedSaslMechanism):
		ce.Reason, ce.Err, ce.Mechanisms = MechanismNotEnabled, code, resp.SupportedMechanisms
	case code != nil:
		ce.Reason, ce.Err = SASLNotSpoken, code
	default:
		return nil
	}
	return ce
}

// saslHandshake asks a listener, on a new connection, for its mechanisms.
func (s *security) saslHandshake(ctx context.Context, address string) (*kmsg.SASLHandshakeResponse, error) {
	conn, err := s.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	w := wire{conn: conn, deadline: time.Now().Add(s.timeout)}
	if err := w.apiVersions(ctx); err != nil {
		return nil, err
	}
	return w.saslHandshake(ctx, "NONE")
}

func (s *security) speaksPlaintext(ctx context.Context, address string) bool {
	conn, err := s.dialTCP(ctx, "tcp", address)
	if err != nil {
		return false
	}
	defer conn.Close()
	w := wire{conn: conn, deadline: time.Now().Add(s.timeout)}
	return w.apiVersions(ctx) == nil
}

// speaksTLS reports whether a TLS handshake gets an answer that is TLS, be it a refusal.
func (s *security) speaksTLS(ctx context.Context, address string) bool {
	conn, err := s.dialTCP(ctx, "tcp", address)
	if err != nil {
		return false
	}
	// Nothing is sent over this connection, so nobody needs to be authenticated.
	c, err := s.handshake(ctx, conn, address, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
	if err == nil {
		c.Close()
		return true
	}
	_, alert := remoteAlert(err)
	return alert
}

// errNotKafka is an answer that is not one of Kafka's.
var errNotKafka = errors.New("the answer is not Kafka's protocol")

// errController is a listener that knows Kafka's protocol and serves no topics.
var errController = errors.New("a KRaft controller listens there")

// wire speaks Kafka's protocol on one connection, one request at a time.
type wire struct {
	conn     net.Conn
	deadline time.Time
	n        int32
	metadata [2]int16 // lowest and highest version of Metadata; after apiVersions
}

func (w *wire) apiVersions(ctx context.Context) error {
	req := kmsg.NewPtrApiVersionsRequest()
	resp := kmsg.NewPtrApiVersionsResponse()
	if err := w.ask(ctx, req, resp); err != nil {
		return err
	}
	if len(resp.ApiKeys) == 0 && resp.ErrorCode == 0 {
		return errNotKafka
	}
	for _, k := range resp.ApiKeys {
		if k.ApiKey == kmsg.Metadata.Int16() {
			w.metadata = [2]int16{k.MinVersion, k.MaxVersion}
			return nil
		}
	}
	return errController
}

// brokers asks for the brokers, only to see whether there is an answer.
func (w *wire) brokers(ctx context.Context) error {
	const notFlexible = 8 // the last version with the simple header
	if w.metadata[0] > notFlexible {
		return nil // the client's own connection decides
	}
	req := kmsg.NewPtrMetadataRequest()
	req.Version = min(notFlexible, w.metadata[1])
	req.Topics = []kmsg.MetadataRequestTopic{}
	resp := kmsg.NewPtrMetadataResponse()
	resp.Version = req.Version
	return w.ask(ctx, req, resp)
}

func (w *wire) saslHandshake(ctx context.Context, mechanism string) (*kmsg.SASLHandshakeResponse, error) {
	req, resp := kmsg.NewPtrSASLHandshakeRequest(), kmsg.NewPtrSASLHandshakeResponse()
	req.Version, req.Mechanism, resp.Version = 1, mechanism, 1
	return resp, w.ask(ctx, req, resp)
}

// ask sends a request whose version has no flexible headers and reads its answer.
func (w *wire) ask(ctx context.Context, req kmsg.Request, resp kmsg.Response) error {
	deadline := w.deadline
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := w.conn.SetDeadline(deadline); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { w.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	w.n++
	if _, err := w.conn.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("kafka-backup")).AppendRequest(nil, req, w.n)); err != nil {
		return err
	}
	var head [8]byte
	if _, err := io.ReadFull(w.conn, head[:]); err != nil {
		return err
	}
	size := int32(binary.BigEndian.Uint32(head[:4]))
	if size < 4 || size > 1<<20 || int32(binary.BigEndian.Uint32(head[4:])) != w.n {
		return errNotKafka
	}
	body := make([]byte, size-4)
	if _, err := io.ReadFull(w.conn, body); err != nil {
		return err
	}
	if err := resp.ReadFrom(body); err != nil {
		return errNotKafka
	}
	return nil
}

// greet authenticates through the client, learns the cluster id and the brokers, and sees
// that one of them answers at the address it advertises.
func (c *Cluster) greet(ctx context.Context, cfg config.Cluster, reachable []string) error {
	limit, cancel := context.WithTimeout(ctx, 3*cfg.ConnectTimeout.Std())
	defer cancel()
	// First without the client's retries, which would only repeat what a broker refuses.
	var refused error
	for i, seed := range c.client.SeedBrokers() {
		if _, err := versionsOf(limit, seed); err != nil {
			refused = cmp.Or(refused, c.refusal(ctx, reachable[i], err))
			continue
		}
		refused = nil
		break
	}
	if refused != nil {
		return refused
	}
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{} // none
	resp, err := req.RequestWith(limit, c.client)
	if err != nil {
		return c.refusal(ctx, reachable[0], err)
	}
	if resp.ClusterID != nil {
		c.id = *resp.ClusterID
	}
	brokers := resp.Brokers
	slices.SortFunc(brokers, func(a, b kmsg.MetadataResponseBroker) int { return int(a.NodeID - b.NodeID) })
	var firstErr error
	for len(brokers) > 0 && c.versions == nil {
		n := min(maxGreeted, len(brokers))
		errs := make([]error, n)
		versions := make([]map[int16]int16, n)
		var wg sync.WaitGroup
		for i, b := range brokers[:n] {
			wg.Go(func() { versions[i], errs[i] = versionsOf(limit, c.client.Broker(int(b.NodeID))) })
		}
		wg.Wait()
		for i := range n {
			if errs[i] == nil {
				c.versions = lower(c.versions, versions[i])
			} else if firstErr == nil {
				firstErr = c.refusal(ctx, net.JoinHostPort(brokers[i].Host, strconv.Itoa(int(brokers[i].Port))), errs[i])
			}
		}
		brokers = brokers[n:]
	}
	if c.versions != nil {
		return nil
	}
	if firstErr == nil {
		return &ConnectError{Address: reachable[0], Reason: Unreachable, Err: errors.New("the cluster names no broker; it may still be starting")}
	}
	var ce *ConnectError
	if errors.As(firstErr, &ce) && ce.Retryable() {
		return &ConnectError{Address: ce.Address, Reason: AdvertisedAddress, Err: firstErr}
	}
	return firstErr
}

// versionsOf asks a broker for the highest version it knows of each request.
func versionsOf(ctx context.Context, broker *kgo.Broker) (map[int16]int16, error) {
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = softwareName, softwareVersion // brokers refuse the request without (KIP-511)
	resp, err := broker.Request(ctx, req)
	if err == nil {
		err = kerr.ErrorForCode(resp.(*kmsg.ApiVersionsResponse).ErrorCode)
	}
	if err != nil {
		return nil, err
	}
	versions := map[int16]int16{}
	for _, k := range resp.(*kmsg.ApiVersionsResponse).ApiKeys {
		versions[k.ApiKey] = k.MaxVersion
	}
	return versions, nil
}

// lower keeps of two tables what both have, at the lower version.
func lower(a, b map[int16]int16) map[int16]int16 {
	if a == nil {
		return b
	}
	for k, v := range a {
		if w, ok := b[k]; !ok {
			delete(a, k)
		} else if w < v {
			a[k] = w
		}
	}
	return a
}

// refusal makes a *ConnectError of what the client met on a connection to address.
func (c *Cluster) refusal(ctx context.Context, address string, err error) error {
	var ce *ConnectError
	var se *config.SecretError
	var eof *kgo.ErrFirstReadEOF
	var ne net.Error
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &ce):
		if ce.Address == "" {
			ce.Address = address
		}
		return ce
	case errors.As(err, &se):
		return &ConnectError{Address: address, Reason: BadConfiguration, Err: err}
	case errors.Is(err, kerr.SaslAuthenticationFailed), errors.Is(err, kerr.IllegalSaslState):
		return &ConnectError{Address: address, Reason: BadCredentials, Err: err}
	case errors.Is(err, kerr.UnsupportedSaslMechanism):
		return &ConnectError{Address: address, Reason: MechanismNotEnabled, Err: err}
	case errors.Is(err, kerr.ClusterAuthorizationFailed):
		return &ConnectError{Address: address, Reason: NoRights, Err: err}
	case c.sasl && (errors.As(err, &eof) || closed(err)):
		// The probe got through TLS and the SASL handshake, so what broke is the authentication:
		// some brokers close the connection in place of an answer.
		return &ConnectError{Address: address, Reason: BadCredentials, Err: errors.New("the broker closed the connection during authentication")}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		return &ConnectError{Address: address, Reason: TimedOut, Err: err}
	case isRefused(err):
		return &ConnectError{Address: address, Reason: Refused, Err: err}
	}
	return &ConnectError{Address: address, Reason: Unreachable, Err: err}
}
