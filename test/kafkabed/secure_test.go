package kafkabed_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/kafka-backup/kafka-backup/test/kafkabed"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestSecuredListeners(t *testing.T) {
	bed := kafkabed.Start(t, kafkabed.Options{Secure: true})
	ctx := kafkabed.Context(t, 3*time.Minute)
	admin := kadm.NewClient(bed.Client(t, kafkabed.Login{}))

	principals := map[string]kafkabed.Login{}
	for _, l := range []kafkabed.Listener{kafkabed.SASLSSL, kafkabed.SASLPlaintext} {
		for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"} {
			principals[string(l)+"/"+mechanism] = kafkabed.Login{Listener: l, User: "alice", Mechanism: mechanism}
		}
	}
	principals["mTLS"] = kafkabed.Login{Listener: kafkabed.MTLS}

	if _, err := admin.CreateTopic(ctx, 1, 1, nil, "guarded"); err != nil {
		t.Fatal(err)
	}
	for name, login := range principals {
		t.Run("no rights "+name, func(t *testing.T) {
			err := write(ctx, bed, t, login)
			if !errors.Is(err, kerr.TopicAuthorizationFailed) {
				t.Fatalf("produce without rights: %v, want TOPIC_AUTHORIZATION_FAILED", err)
			}
		})
	}
	rights := kadm.NewACLs().Allow("User:alice", kafkabed.ClientPrincipal).AllowHosts("*").
		Topics("guarded").ResourcePatternType(kadm.ACLPatternLiteral).
		Operations(kadm.OpWrite, kadm.OpDescribe)
	if _, err := admin.CreateACLs(ctx, rights); err != nil {
		t.Fatal(err)
	}
	for name, login := range principals {
		t.Run("rights "+name, func(t *testing.T) {
			// A broker sees new ACLs a moment after the controller accepts them.
			var err error
			for ctx.Err() == nil {
				if err = write(ctx, bed, t, login); !errors.Is(err, kerr.TopicAuthorizationFailed) {
					break
				}
			}
			if err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Run("wrong password", func(t *testing.T) {
		err := write(ctx, bed, t, kafkabed.Login{Listener: kafkabed.SASLSSL, User: "alice", Password: "wrong"})
		if !errors.Is(err, kerr.SaslAuthenticationFailed) {
			t.Fatalf("wrong password: %v, want SASL_AUTHENTICATION_FAILED", err)
		}
	})
	t.Run("Kafka's tools", func(t *testing.T) {
		for _, login := range []kafkabed.Login{
			{Listener: kafkabed.MTLS},
			{Listener: kafkabed.SASLSSL, User: "alice"},
			{Listener: kafkabed.SASLPlaintext, User: "alice", Mechanism: "PLAIN"},
		} {
			properties, err := bed.ClientProperties(login)
			if err != nil {
				t.Fatal(err)
			}
			out, err := bed.Tool(ctx, "topics", "--bootstrap-server", bed.Addresses(login.Listener), "--command-config", properties, "--list")
			if err != nil {
				t.Fatal(err)
			}
			if strings.TrimSpace(out) != "guarded" {
				t.Errorf("%s lists %q, want the one topic it may describe", login.Listener, out)
			}
		}
	})
	t.Run("token endpoint", func(t *testing.T) {
		form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"alice"}, "client_secret": {"wrong"}}
		if resp := post(t, bed.TokenEndpoint(), form); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("a wrong secret gives %s", resp.Status)
		}
		form.Set("client_secret", kafkabed.Users["alice"])
		var token struct {
			AccessToken string `json:"access_token"`
		}
		if err := json.NewDecoder(post(t, bed.TokenEndpoint(), form).Body).Decode(&token); err != nil || strings.Count(token.AccessToken, ".") != 2 {
			t.Errorf("no token for the right secret: %v", err)
		}
	})
}

func post(t *testing.T, to string, form url.Values) *http.Response {
	resp, err := http.PostForm(to, form)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// write produces one record to the guarded topic and gives the error of it.
func write(ctx context.Context, bed *kafkabed.Bed, t *testing.T, login kafkabed.Login) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cl := bed.Client(t, login, kgo.DisableIdempotentWrite(), kgo.RecordRetries(0), kgo.UnknownTopicRetries(0))
	return cl.ProduceSync(ctx, &kgo.Record{Topic: "guarded", Value: []byte("x")}).FirstErr()
}
