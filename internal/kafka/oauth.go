package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

// tokenEarly is how long before its end a token is not used any more.
const tokenEarly = 30 * time.Second

// oauthMechanism authenticates with bearer tokens (RFC 7628): a fixed one, or one from a token
// endpoint (RFC 6749, 4.4), which is asked again when the token is about to end. Brokers that
// want a new authentication during a connection's life (KIP-368) get a fresh token so.
func oauthMechanism(ctx context.Context, sec config.Security, timeout time.Duration) (sasl.Mechanism, error) {
	token, err := tokenSource(sec, timeout)
	if err != nil {
		return nil, err
	}
	if _, err := token(); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return oauth.Oauth(func(context.Context) (oauth.Auth, error) {
		t, err := token()
		return oauth.Auth{Token: t, Extensions: sec.OAuthExtensions}, err
	}), nil
}

func tokenSource(sec config.Security, timeout time.Duration) (func() (string, error), error) {
	if !sec.OAuthToken.IsZero() {
		return func() (string, error) {
			t, err := sec.OAuthToken.Resolve()
			if err != nil {
				return "", &ConnectError{Reason: BadConfiguration, Err: err}
			}
			return t, nil
		}, nil
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if sec.OAuthCALocation != "" {
		pool, err := caPool("sasl_oauthbearer_ca_location", sec.OAuthCALocation)
		if err != nil {
			return nil, &ConnectError{Reason: BadConfiguration, Err: err}
		}
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	}
	// The token source outlives the call that makes it, so it does not carry that call's context.
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, &http.Client{Transport: transport, Timeout: timeout})
	source := oauth2.ReuseTokenSourceWithExpiry(nil, endpoint{ctx, sec}, tokenEarly)
	return func() (string, error) {
		t, err := source.Token()
		if err != nil {
			return "", tokenError(sec.OAuthTokenEndpointURL, err)
		}
		return t.AccessToken, nil
	}, nil
}

// endpoint asks the token endpoint once a call; the client secret is read each time.
type endpoint struct {
	ctx context.Context
	sec config.Security
}

func (e endpoint) Token() (*oauth2.Token, error) {
	secret, err := e.sec.OAuthClientSecret.Resolve()
	if err != nil {
		return nil, err
	}
	cfg := clientcredentials.Config{
		ClientID: e.sec.OAuthClientID, ClientSecret: secret,
		TokenURL: e.sec.OAuthTokenEndpointURL, Scopes: strings.Fields(e.sec.OAuthScope),
	}
	return cfg.Token(e.ctx)
}

// tokenError describes a failed request to a token endpoint, without the answer's body, which may hold
// anything.
func tokenError(url string, err error) error {
	var re *oauth2.RetrieveError
	var se *config.SecretError
	switch {
	case errors.As(err, &se):
		return &ConnectError{Reason: BadConfiguration, Err: err}
	case errors.As(err, &re) && re.Response != nil:
		reason := TokenEndpoint
		if re.Response.StatusCode < 500 && re.Response.StatusCode != http.StatusTooManyRequests {
			reason = TokenRefused
		}
		text := "HTTP " + re.Response.Status
		if re.ErrorCode != "" {
			text += ", " + re.ErrorCode
		}
		return &ConnectError{Address: url, Reason: reason, Err: errors.New(text)}
	}
	return &ConnectError{Address: url, Reason: TokenEndpoint, Err: err}
}
