package temporalservice

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func load(t *testing.T, o Options) Profile {
	t.Helper()
	o.env = environment{}
	p, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// free returns an address where nothing listens.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestDial(t *testing.T) {
	on := true
	server, client, stranger := newIdentity(t), newIdentity(t), newIdentity(t)
	plain := (&fake{}).serve(t)
	overTLS := (&fake{}).serve(t, serverTLS(server, nil))
	mutual := (&fake{}).serve(t, serverTLS(server, &client))
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close) // the subtests go on after this function
	answering := func(err error) string { return (&fake{describe: err}).serve(t) }

	for name, c := range map[string]struct {
		options Options
		reason  Reason // 0: it works
		words   string
	}{
		"plain":               {Options{Address: plain}, 0, ""},
		"TLS":                 {Options{Address: overTLS, TLSCA: server.certFile}, 0, ""},
		"mutual TLS":          {Options{Address: mutual, TLSCA: server.certFile, TLSCert: client.certFile, TLSKey: client.keyFile}, 0, ""},
		"nothing there":       {Options{Address: free(t)}, Unreachable, "kafka-backup server"},
		"no such host":        {Options{Address: "no-such-host.invalid:7233"}, Unreachable, "--temporal-address"},
		"TLS not on":          {Options{Address: overTLS}, TLS, "wants TLS"},
		"TLS on in vain":      {Options{Address: plain, TLS: &on}, TLS, "does not speak it"},
		"unknown authority":   {Options{Address: overTLS, TLS: &on}, TLS, "authority"},
		"other authority":     {Options{Address: overTLS, TLSCA: stranger.certFile}, TLS, "--temporal-tls-ca"},
		"wrong name":          {Options{Address: overTLS, TLSCA: server.certFile, TLSServerName: "other.example"}, TLS, "other.example"},
		"no certificate":      {Options{Address: mutual, TLSCA: server.certFile}, TLS, "client certificate"},
		"strange certificate": {Options{Address: mutual, TLSCA: server.certFile, TLSCert: stranger.certFile, TLSKey: stranger.keyFile}, TLS, "client certificate"},
		"Web UI's port":       {Options{Address: strings.TrimPrefix(web.URL, "http://")}, NotTemporal, "gRPC port"},
		"no namespace":        {Options{Address: answering(status.Error(codes.NotFound, "x")), Namespace: "prod"}, NoNamespace, `"prod"`},
		"no rights":           {Options{Address: answering(status.Error(codes.PermissionDenied, "x")), Namespace: "prod"}, Denied, "TEMPORAL_API_KEY"},
		"wrong key":           {Options{Address: answering(status.Error(codes.Unauthenticated, "x"))}, Denied, "TEMPORAL_API_KEY"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := load(t, c.options)
			conn, err := Dial(context.Background(), p)
			if c.reason == 0 {
				if err != nil {
					t.Fatal(err)
				}
				conn.Close()
				return
			}
			var typed *DialError
			if !errors.As(err, &typed) {
				t.Fatalf("error is %T (%v), want *DialError", err, err)
			}
			if typed.Reason != c.reason || !strings.Contains(err.Error(), c.words) || !strings.Contains(err.Error(), p.Address) {
				t.Errorf("reason %d: %v; want reason %d, mention of %q and of %s", typed.Reason, err, c.reason, c.words, p.Address)
			}
		})
	}
}

func TestDialIsCancelled(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancelCause(context.Background())
	enough := errors.New("enough")
	go func() {
		if conn, err := l.Accept(); err == nil { // the probe of the port
			conn.Close()
		}
		if conn, err := l.Accept(); err == nil {
			cancel(enough)
			conn.Close()
		}
	}()
	if _, err := Dial(ctx, load(t, Options{Address: l.Addr().String()})); !errors.Is(err, enough) {
		t.Errorf("error %v, want the context's", err)
	}
}
