package temporalservice

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
)

// What a Profile has when neither flag, environment nor temporal.toml says
// otherwise: the embedded server's defaults, which are those of Temporal's own
// development server.
const (
	DefaultAddress   = "127.0.0.1:7233"
	DefaultNamespace = "default"
)

// Names of the command line flags that set the fields of Options, without the
// dashes. They are here because the errors of this package name them.
const (
	FlagAddress    = "temporal-address"
	FlagNamespace  = "temporal-namespace"
	FlagProfile    = "temporal-profile"
	FlagConfig     = "temporal-config"
	FlagAPIKeyFile = "temporal-api-key-file"
	FlagTLS        = "temporal-tls"
	FlagTLSCA      = "temporal-tls-ca"
	FlagTLSCert    = "temporal-tls-cert"
	FlagTLSKey     = "temporal-tls-key"
	FlagTLSName    = "temporal-tls-server-name"
	FlagUI         = "temporal-ui"
)

// Options are what a user said on the command line about the Temporal service.
// The zero value says nothing: everything then comes from the TEMPORAL_*
// environment variables, the profile in temporal.toml, and the defaults, in
// that order.
type Options struct {
	// Address is host:port of the service's gRPC endpoint (IPv6 in brackets).
	Address string
	// Namespace of the operations.
	Namespace string
	// Profile is the name of the profile in the configuration file. Empty means
	// TEMPORAL_PROFILE, or else "default". A profile that was named must exist.
	Profile string
	// ConfigFile is the path of the configuration file. Empty means
	// TEMPORAL_CONFIG_FILE, or else temporalio/temporal.toml in the user's
	// configuration folder. Only a file that was named here must exist.
	ConfigFile string
	// APIKeyFile is a file that holds the API key and nothing else. There is no
	// option for the key itself, because arguments are visible in the process
	// list; TEMPORAL_API_KEY holds it as well.
	APIKeyFile string
	// TLS switches TLS on or off. Nil leaves it to the profile, where it is on
	// if there is an API key or any TLS setting.
	TLS *bool
	// Paths of PEM files: the authority that signed the server's certificate,
	// and the client's own certificate and key for mutual TLS. Giving one
	// switches TLS on, unless TLS says off.
	TLSCA, TLSCert, TLSKey string
	// TLSServerName is the name expected in the server's certificate, if it is
	// not the host of the address.
	TLSServerName string
	// UI is the base URL of the Web UI. Empty means a guess from the address,
	// see Profile.UI.
	UI string

	// env replaces the process's environment in tests.
	env envconfig.EnvLookup
}

// Profile says which Temporal service to use and how. Make one with Load.
// It may hold an API key, which none of its printed or encoded forms show.
type Profile struct {
	// Address is host:port, never empty.
	Address string
	// Namespace is never empty.
	Namespace string
	// UI is the base URL of the Web UI with no slash at its end, or empty if it
	// is not known. Where the user did not give it, it is Temporal Cloud's for
	// an address there, and the port 1,000 above for a loopback address, which
	// is where the embedded server (and Temporal's development server) has it.
	UI string

	settings envconfig.ClientConfigProfile
}

// Load works out the Profile that o, the environment and temporal.toml give.
// It reads files but does not connect. Its errors are *ProfileError.
func Load(o Options) (Profile, error) {
	if o.ConfigFile != "" {
		if _, err := os.Stat(o.ConfigFile); err != nil {
			return Profile{}, &ProfileError{Setting: "--" + FlagConfig, Err: err}
		}
	}
	settings, err := envconfig.LoadClientConfigProfile(envconfig.LoadClientConfigProfileOptions{
		ConfigFilePath: o.ConfigFile, ConfigFileProfile: o.Profile, EnvLookup: o.env,
	})
	if err != nil {
		return Profile{}, explainLoad(o, err)
	}
	if err := o.override(&settings); err != nil {
		return Profile{}, err
	}
	p := Profile{Address: settings.Address, Namespace: settings.Namespace, UI: strings.TrimRight(o.UI, "/"), settings: settings}
	if p.Address == "" {
		p.Address = DefaultAddress
	}
	if p.Namespace == "" {
		p.Namespace = DefaultNamespace
	}
	if _, _, err := net.SplitHostPort(target(p.Address)); err != nil {
		return Profile{}, &ProfileError{Setting: "address " + strconv.Quote(p.Address), Err: errors.New("it is not host:port"),
			Hint: "set --" + FlagAddress + " or TEMPORAL_ADDRESS, for example " + DefaultAddress}
	}
	if p.UI == "" {
		p.UI = guessUI(p.Address)
	} else if u, err := url.Parse(p.UI); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return Profile{}, &ProfileError{Setting: "--" + FlagUI + " " + strconv.Quote(o.UI), Err: errors.New("it is not a URL"),
			Hint: "give the scheme and the host, for example http://127.0.0.1:8233"}
	}
	if _, err := p.ClientOptions(); err != nil {
		return Profile{}, err
	}
	return p, nil
}

// override puts what the user said over what the profile has.
func (o Options) override(s *envconfig.ClientConfigProfile) error {
	set := func(to *string, v string) {
		if v != "" {
			*to = v
		}
	}
	set(&s.Address, o.Address)
	set(&s.Namespace, o.Namespace)
	if o.APIKeyFile != "" {
		key, err := os.ReadFile(o.APIKeyFile)
		if err != nil {
			return &ProfileError{Setting: "--" + FlagAPIKeyFile, Err: err}
		}
		if s.APIKey = string(bytes.TrimSpace(key)); s.APIKey == "" {
			return &ProfileError{Setting: "--" + FlagAPIKeyFile, Err: fmt.Errorf("%s is empty", o.APIKeyFile)}
		}
	}
	tls := envconfig.ClientConfigTLS{}
	if s.TLS != nil {
		tls = *s.TLS
	}
	if o.TLSCA != "" {
		tls.ServerCACertPath, tls.ServerCACertData = o.TLSCA, nil
	}
	if o.TLSCert != "" || o.TLSKey != "" {
		tls.ClientCertPath, tls.ClientCertData = o.TLSCert, nil
		tls.ClientKeyPath, tls.ClientKeyData = o.TLSKey, nil
	}
	set(&tls.ServerName, o.TLSServerName)
	given := o.TLSCA+o.TLSCert+o.TLSKey+o.TLSServerName != ""
	switch {
	case o.TLS != nil:
		tls.Disabled = !*o.TLS
		s.TLS = &tls
	case given:
		tls.Disabled = false
		s.TLS = &tls
	}
	return nil
}

// ClientOptions returns the options for an SDK client of this service, TLS and
// credentials included; a caller adds logger, converters and interceptors. The
// TLS files are read at each call. Its errors are *ProfileError.
func (p Profile) ClientOptions() (client.Options, error) {
	s := p.settings
	s.Address, s.Namespace = p.Address, p.Namespace
	opts, err := s.ToClientOptions(envconfig.ToClientOptionsRequest{})
	if err != nil {
		return client.Options{}, &ProfileError{Setting: "TLS", Err: err,
			Hint: "see --" + FlagTLSCA + ", --" + FlagTLSCert + ", --" + FlagTLSKey + " and the TEMPORAL_TLS_* variables"}
	}
	return opts, nil
}

// String names the service without its secrets: address and namespace.
func (p Profile) String() string { return p.Address + " (namespace " + p.Namespace + ")" }

// GoString is String, so that %#v shows no secret either.
func (p Profile) GoString() string { return "temporalservice.Profile{" + p.String() + "}" }

// ProfileError says that the settings of a Temporal service are wrong.
type ProfileError struct {
	Setting string // which setting
	Err     error  // what is wrong with it; never shows a secret
	Hint    string // what to do, or empty
}

// Error is one line: setting, what is wrong, what to do.
func (e *ProfileError) Error() string {
	return withHint(fmt.Sprintf("temporal settings: %s: %v", e.Setting, e.Err), e.Hint)
}

// Unwrap returns what is wrong with the setting.
func (e *ProfileError) Unwrap() error { return e.Err }

// explainLoad says why the profile could not be loaded: it is not there, or the
// file cannot be read.
func explainLoad(o Options, err error) error {
	env := o.env
	if env == nil {
		env = envconfig.EnvLookupOS
	}
	name, setting := o.Profile, "--"+FlagProfile
	if name == "" {
		name, _ = env.LookupEnv("TEMPORAL_PROFILE")
		setting = "TEMPORAL_PROFILE"
	}
	conf, fileErr := envconfig.LoadClientConfig(envconfig.LoadClientConfigOptions{ConfigFilePath: o.ConfigFile, EnvLookup: env})
	if fileErr != nil {
		return &ProfileError{Setting: "configuration file", Err: fileErr, Hint: "see --" + FlagConfig + " and TEMPORAL_CONFIG_FILE"}
	}
	if name == "" || conf.Profiles[name] != nil {
		return &ProfileError{Setting: "profile", Err: err}
	}
	var names []string
	for n := range conf.Profiles {
		names = append(names, n)
	}
	slices.Sort(names)
	hint := "the configuration file has none; see --" + FlagConfig + " and TEMPORAL_CONFIG_FILE"
	if len(names) > 0 {
		hint = "the configuration file has: " + strings.Join(names, ", ")
	}
	return &ProfileError{Setting: setting, Err: fmt.Errorf("there is no profile %q", name), Hint: hint}
}

func withHint(what, hint string) string {
	if hint == "" {
		return what
	}
	return what + "; " + hint
}

// target is the address without gRPC's resolver scheme ("dns:///host:port").
func target(address string) string {
	if i := strings.LastIndex(address, "///"); i >= 0 {
		return address[i+3:]
	}
	return address
}

// guessUI returns the base URL of the Web UI that belongs to an address, or an
// empty text if nothing can be said.
func guessUI(address string) string {
	host, port, err := net.SplitHostPort(target(address))
	if err != nil {
		return ""
	}
	host = strings.ToLower(host)
	for _, cloud := range []string{".tmprl.cloud", ".temporal.io"} {
		if strings.HasSuffix(host, cloud) {
			return "https://cloud.temporal.io"
		}
	}
	ip := net.ParseIP(host)
	n, err := strconv.Atoi(port)
	if err != nil || n > 65535-uiPortOffset || (host != "localhost" && (ip == nil || !ip.IsLoopback())) {
		return ""
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(n+uiPortOffset))
}

// uiPortOffset is how far above its gRPC port a development server has its Web UI.
const uiPortOffset = 1000

// WorkflowURL returns the page of a workflow in the Web UI with this base URL
// (Profile.UI or Server.UI), or an empty text if ui is empty. An empty runID
// means the latest run.
func WorkflowURL(ui, namespace, workflowID, runID string) string {
	if ui == "" {
		return ""
	}
	page := strings.TrimRight(ui, "/") + "/namespaces/" + url.PathEscape(namespace) + "/workflows/" + url.PathEscape(workflowID)
	if runID != "" {
		page += "/" + url.PathEscape(runID) + "/history"
	}
	return page
}

// WorkflowURL returns the page of a workflow in this service's Web UI, or an
// empty text if that is not known. An empty runID means the latest run.
func (p Profile) WorkflowURL(workflowID, runID string) string {
	return WorkflowURL(p.UI, p.Namespace, workflowID, runID)
}
