package kafkabed

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

const (
	tokenIssuer   = "kafkabed"
	tokenAudience = "kafka"
	tokenKeyID    = "kafkabed-1"
)

// authority signs tokens for OAUTHBEARER. The brokers know its public key from a
// JWKS file; a token endpoint on loopback serves the client-credentials grant.
type authority struct {
	key    *rsa.PrivateKey
	jwks   string
	server *http.Server
	url    string
}

func newAuthority(dir string) (*authority, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("kafkabed: %w", err)
	}
	a := &authority{key: key, jwks: filepath.Join(dir, "jwks.json")}
	text, err := json.Marshal(map[string]any{"keys": []any{map[string]string{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": tokenKeyID,
		"n": encode64(key.N.Bytes()),
		"e": encode64(big.NewInt(int64(key.E)).Bytes()),
	}}})
	if err != nil {
		return nil, fmt.Errorf("kafkabed: %w", err)
	}
	if err := os.WriteFile(a.jwks, text, 0o644); err != nil {
		return nil, fmt.Errorf("kafkabed: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("kafkabed: %w", err)
	}
	a.url = "http://" + l.Addr().String() + "/token"
	a.server = &http.Server{Handler: http.HandlerFunc(a.serve), ReadHeaderTimeout: 10 * time.Second}
	go a.server.Serve(l) // ends with close
	return a, nil
}

func (a *authority) close() { _ = a.server.Close() }

func (a *authority) jwksURL() string {
	return (&url.URL{Scheme: "file", Path: a.jwks}).String()
}

// sign makes a JWT (RFC 7519, RS256) for subject that is good for ttl.
func (a *authority) sign(subject string, ttl time.Duration) (string, error) {
	now := time.Now()
	header, err := json.Marshal(map[string]string{"alg": "RS256", "typ": "JWT", "kid": tokenKeyID})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{
		"iss": tokenIssuer, "aud": tokenAudience, "sub": subject, "scope": "kafka",
		"iat": now.Unix(), "exp": now.Add(ttl).Unix(),
	})
	if err != nil {
		return "", err
	}
	text := encode64(header) + "." + encode64(claims)
	digest := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, a.key, crypto.SHA256, digest[:])
	if err != nil {
		return "", err
	}
	return text + "." + encode64(signature), nil
}

// serve answers the client-credentials grant (RFC 6749, section 4.4): client id
// and secret are a user of Users and the password.
func (a *authority) serve(w http.ResponseWriter, r *http.Request) {
	user, password, ok := r.BasicAuth()
	if !ok {
		user, password = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	w.Header().Set("Content-Type", "application/json")
	if want, known := Users[user]; r.Method != http.MethodPost || r.PostFormValue("grant_type") != "client_credentials" || !known || want != password {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":"invalid_client"}`)
		return
	}
	token, err := a.sign(user, time.Hour)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 3600})
}

func encode64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// Token signs an OAUTHBEARER token by which a secured bed's brokers take the
// bearer for User:subject, for the given time.
func (b *Bed) Token(subject string, ttl time.Duration) (string, error) {
	if b.oauth == nil {
		return "", fmt.Errorf("kafkabed: tokens need Options.Secure")
	}
	return b.oauth.sign(subject, ttl)
}

// TokenEndpoint is the URL of a token endpoint on loopback that serves the
// client-credentials grant to the users of Users; empty unless Options.Secure.
func (b *Bed) TokenEndpoint() string {
	if b.oauth == nil {
		return ""
	}
	return b.oauth.url
}
