package kafkabed

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// PKI names the PEM files of a secured bed. They are valid for a day.
type PKI struct {
	// CA is the certificate of the authority that signed the brokers' and the
	// client's certificates.
	CA string
	// ClientCert and ClientKey (PKCS#8) are a client's certificate that the
	// mTLS listener accepts as ClientPrincipal.
	ClientCert, ClientKey string
	// OtherCA is the certificate of an authority that signed nothing here: who
	// trusts it alone must refuse the brokers.
	OtherCA string
	// StrangerCert and StrangerKey were signed by OtherCA: the brokers must
	// refuse them.
	StrangerCert, StrangerKey string

	clientStore, brokerStore string // key, certificate and authority in one file, as Kafka's PEM key store wants it
}

// ClientPrincipal is who the mTLS listener takes the bearer of PKI.ClientCert for.
const ClientPrincipal = "User:CN=client"

// signer is an authority: its certificate and key.
type signer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func makePKI(dir string) (*PKI, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("kafkabed: %w", err)
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	pki := &PKI{
		CA: file("ca.pem"), ClientCert: file("client.crt"), ClientKey: file("client.key"),
		OtherCA: file("other-ca.pem"), StrangerCert: file("stranger.crt"), StrangerKey: file("stranger.key"),
		clientStore: file("client.pem"), brokerStore: file("broker.pem"),
	}
	ca, err := newSigner("kafkabed-ca")
	if err != nil {
		return nil, fmt.Errorf("kafkabed: make certificates: %w", err)
	}
	other, err := newSigner("kafkabed-other-ca")
	if err != nil {
		return nil, fmt.Errorf("kafkabed: make certificates: %w", err)
	}
	files := map[string][]byte{pki.CA: ca.pem, pki.OtherCA: other.pem}
	for _, leaf := range []struct {
		name             string
		by               *signer
		cert, key, store string
	}{
		{"broker", ca, "", "", pki.brokerStore},
		{"client", ca, pki.ClientCert, pki.ClientKey, pki.clientStore},
		{"stranger", other, pki.StrangerCert, pki.StrangerKey, ""},
	} {
		cert, key, err := leaf.by.issue(leaf.name)
		if err != nil {
			return nil, fmt.Errorf("kafkabed: make certificates: %w", err)
		}
		files[leaf.cert] = cert
		files[leaf.key] = key
		files[leaf.store] = bytes.Join([][]byte{key, cert, leaf.by.pem}, nil)
	}
	delete(files, "")
	for name, text := range files {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			return nil, fmt.Errorf("kafkabed: %w", err)
		}
	}
	return pki, nil
}

func newSigner(name string) (*signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := certificate(name)
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &signer{cert: cert, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}, nil
}

// issue makes a key and a certificate for localhost, good for both ends of a connection.
func (s *signer) issue(name string) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template, err := certificate(name)
	if err != nil {
		return nil, nil, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.DNSNames = []string{"localhost"}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	cert, err := x509.CreateCertificate(rand.Reader, template, s.cert, key.Public(), s.key)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func certificate(name string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}, nil
}
