package kafka

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

// tokens is a token endpoint (RFC 6749, 4.4) whose tokens are token-1, token-2, ...
type tokens struct {
	mu      sync.Mutex
	given   int
	scope   string
	expires int // seconds
	status  int // answered in place of a token; 0: none
}

func (s *tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	id, secret, _ := r.BasicAuth()
	if s.status != 0 {
		w.WriteHeader(s.status)
		return
	}
	if id != "backup" || secret != "s3cret" || r.FormValue("grant_type") != "client_credentials" {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":"invalid_client","error_description":"you said s3cret-wrong"}`)
		return
	}
	s.given++
	s.scope = r.FormValue("scope")
	json.NewEncoder(w).Encode(map[string]any{"access_token": fmt.Sprintf("token-%d", s.given), "token_type": "bearer", "expires_in": s.expires})
}

// bearer is a fake cluster that takes any bearer token and notes what it was given.
func bearer(t *testing.T) (address string, seen func() []string) {
	t.Helper()
	cluster, address := fake(t)
	var mu sync.Mutex
	var given []string
	cluster.ControlKey(kmsg.SASLHandshake.Int16(), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		return kreq.ResponseKind(), nil, kreq.(*kmsg.SASLHandshakeRequest).Mechanism == "OAUTHBEARER"
	})
	cluster.ControlKey(kmsg.SASLAuthenticate.Int16(), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		given = append(given, string(kreq.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes))
		return kreq.ResponseKind(), nil, true
	})
	return address, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), given...)
	}
}

// A broker refuses a token with a JSON object and no error code.
func TestOAuthRefusedByTheBroker(t *testing.T) {
	cluster, address := fake(t)
	cluster.ControlKey(kmsg.SASLHandshake.Int16(), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		return kreq.ResponseKind(), nil, true
	})
	cluster.ControlKey(kmsg.SASLAuthenticate.Int16(), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		resp := kreq.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.SASLAuthBytes = []byte(`{"status":"invalid_token"}`)
		return resp, nil, true
	})
	_, err := Connect(t.Context(), config.Cluster{BootstrapServers: []string{address}, Security: config.Security{
		SecurityProtocol: "SASL_PLAINTEXT", SASLMechanism: "OAUTHBEARER", OAuthToken: config.NewSecret("swordfish"),
	}})
	ce := connectError(t, err)
	if ce.Reason != BadCredentials || ce.Address != address || !contains(err.Error(), "invalid_token") || contains(err.Error(), "swordfish") {
		t.Errorf("%v", err)
	}
}

func oauthSecurity(url string) config.Security {
	return config.Security{
		SecurityProtocol: "SASL_PLAINTEXT", SASLMechanism: "OAUTHBEARER", OAuthTokenEndpointURL: url,
		OAuthClientID: "backup", OAuthClientSecret: config.NewSecret("s3cret"), OAuthScope: "kafka read", OAuthExtensions: map[string]string{"logicalCluster": "lkc-1"},
	}
}

func TestOAuthClientCredentials(t *testing.T) {
	endpoint := &tokens{expires: 3600}
	server := httptest.NewServer(endpoint)
	defer server.Close()
	address, seen := bearer(t)
	connect(t, address, oauthSecurity(server.URL))
	for _, auth := range seen() {
		if !contains(auth, "\x01auth=Bearer token-1\x01") || !contains(auth, "\x01logicalCluster=lkc-1\x01") {
			t.Errorf("authentication %q", auth)
		}
	}
	if len(seen()) < 2 || endpoint.given != 1 || endpoint.scope != "kafka read" {
		t.Errorf("%d authentications with %d tokens for scope %q: one token serves all connections", len(seen()), endpoint.given, endpoint.scope)
	}
}

// A token that is about to end is replaced before the next connection uses it.
func TestOAuthRefresh(t *testing.T) {
	endpoint := &tokens{expires: int(tokenEarly/time.Second) - 1}
	server := httptest.NewServer(endpoint)
	defer server.Close()
	address, seen := bearer(t)
	connect(t, address, oauthSecurity(server.URL))
	auths := seen()
	last := auths[len(auths)-1]
	if endpoint.given < 2 || !contains(last, fmt.Sprintf("token-%d", endpoint.given)) {
		t.Errorf("%d tokens, the last authentication was %q", endpoint.given, last)
	}
}

func TestOAuthOverTLS(t *testing.T) {
	server := httptest.NewTLSServer(&tokens{expires: 3600})
	defer server.Close()
	a := newAuthority(t)
	ca := a.write("endpoint.pem", "CERTIFICATE", server.Certificate().Raw)
	address, _ := bearer(t)
	sec := oauthSecurity(server.URL)
	_, err := Connect(t.Context(), config.Cluster{BootstrapServers: []string{address}, Security: sec})
	if ce := connectError(t, err); ce.Reason != TokenEndpoint || ce.Address != server.URL {
		t.Errorf("an unknown authority: %v", err)
	}
	sec.OAuthCALocation = ca
	connect(t, address, sec)
}

func TestOAuthFailures(t *testing.T) {
	address, _ := bearer(t)
	gone := httptest.NewServer(nil)
	gone.Close()
	for name, tc := range map[string]struct {
		endpoint *tokens // nil: nobody listens
		secret   string
		want     Reason
	}{
		"wrong secret": {&tokens{}, "s3cret-wrong", TokenRefused},
		"busy":         {&tokens{status: http.StatusServiceUnavailable}, "s3cret", TokenEndpoint},
		"forbidden":    {&tokens{status: http.StatusForbidden}, "s3cret", TokenRefused},
		"gone":         {nil, "s3cret", TokenEndpoint},
		"no secret":    {&tokens{}, "file:/no/such/file", BadConfiguration},
	} {
		t.Run(name, func(t *testing.T) {
			url := gone.URL
			if tc.endpoint != nil {
				server := httptest.NewServer(tc.endpoint)
				defer server.Close()
				url = server.URL
			}
			sec := oauthSecurity(url)
			sec.OAuthClientSecret = config.NewSecret(tc.secret)
			_, err := Connect(t.Context(), config.Cluster{BootstrapServers: []string{address}, Security: sec})
			ce := connectError(t, err)
			if ce.Reason != tc.want || ce.Retryable() != (tc.want == TokenEndpoint) {
				t.Errorf("%s: %v", ce.Reason, err)
			}
			if contains(err.Error(), "s3cret") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

// A fixed token is read from its file for each connection, so that another process can renew it.
func TestOAuthTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	address, seen := bearer(t)
	sec := config.Security{SecurityProtocol: "SASL_PLAINTEXT", SASLMechanism: "OAUTHBEARER", OAuthToken: config.NewSecret("file:" + path)}
	for _, token := range []string{"first", "second"} {
		write(token)
		connect(t, address, sec)
		if auths := strings.Join(seen(), " "); !contains(auths, "Bearer "+token+"\x01") {
			t.Errorf("no authentication with %q in %q", token, auths)
		}
	}
}
