package temporalservice

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// environment is a fixed environment.
type environment map[string]string

func (e environment) LookupEnv(k string) (string, bool) { v, ok := e[k]; return v, ok }
func (e environment) Environ() (list []string) {
	for k, v := range e {
		list = append(list, k+"="+v)
	}
	return list
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const configText = `
[profile.default]
address = "file.example:7233"
namespace = "from-file"

[profile.prod]
address = "prod.abc.tmprl.cloud:7233"
namespace = "prod.abc"
api_key = "secret-in-file"
`

func TestLoadPrecedence(t *testing.T) {
	file := write(t, "temporal.toml", configText)
	none := environment{"TEMPORAL_CONFIG_FILE": filepath.Join(t.TempDir(), "none.toml")}
	for name, c := range map[string]struct {
		options            Options
		address, ns, uiURL string
		tls                bool
	}{
		"defaults":       {Options{env: none}, DefaultAddress, DefaultNamespace, "http://127.0.0.1:8233", false},
		"file":           {Options{env: environment{"TEMPORAL_CONFIG_FILE": file}}, "file.example:7233", "from-file", "", false},
		"file by option": {Options{ConfigFile: file, env: environment{}}, "file.example:7233", "from-file", "", false},
		"profile by environment": {
			Options{ConfigFile: file, env: environment{"TEMPORAL_PROFILE": "prod"}},
			"prod.abc.tmprl.cloud:7233", "prod.abc", "https://cloud.temporal.io", true},
		"profile by option": {
			Options{ConfigFile: file, Profile: "prod", env: environment{"TEMPORAL_PROFILE": "default"}},
			"prod.abc.tmprl.cloud:7233", "prod.abc", "https://cloud.temporal.io", true},
		"environment over file": {
			Options{ConfigFile: file, env: environment{"TEMPORAL_ADDRESS": "env.example:1", "TEMPORAL_NAMESPACE": "env"}},
			"env.example:1", "env", "", false},
		"option over environment": {
			Options{Address: "localhost:5000", Namespace: "opt", env: environment{"TEMPORAL_ADDRESS": "env.example:1", "TEMPORAL_NAMESPACE": "env"}},
			"localhost:5000", "opt", "http://localhost:6000", false},
		"Web UI by option": {
			Options{UI: "https://ui.example/temporal/", env: none}, DefaultAddress, DefaultNamespace, "https://ui.example/temporal", false},
		"TLS by key in the environment": {
			Options{env: environment{"TEMPORAL_API_KEY": "k", "TEMPORAL_CONFIG_FILE": none["TEMPORAL_CONFIG_FILE"]}},
			DefaultAddress, DefaultNamespace, "http://127.0.0.1:8233", true},
		"TLS off by option": {
			Options{ConfigFile: file, Profile: "prod", TLS: new(bool), env: environment{}},
			"prod.abc.tmprl.cloud:7233", "prod.abc", "https://cloud.temporal.io", false},
		"TLS by server name": {Options{TLSServerName: "x", env: none}, DefaultAddress, DefaultNamespace, "http://127.0.0.1:8233", true},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Load(c.options)
			if err != nil {
				t.Fatal(err)
			}
			if p.Address != c.address || p.Namespace != c.ns || p.UI != c.uiURL {
				t.Errorf("got %s, Web UI %q; want %s (namespace %s), Web UI %q", p, p.UI, c.address, c.ns, c.uiURL)
			}
			opts, err := p.ClientOptions()
			if err != nil {
				t.Fatal(err)
			}
			if opts.HostPort != c.address || opts.Namespace != c.ns || (opts.ConnectionOptions.TLS != nil) != c.tls {
				t.Errorf("client options: %s, %s, TLS %v", opts.HostPort, opts.Namespace, opts.ConnectionOptions.TLS)
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	file := write(t, "temporal.toml", configText)
	for name, c := range map[string]struct {
		options Options
		words   []string
	}{
		"unknown profile":        {Options{ConfigFile: file, Profile: "test"}, []string{"--temporal-profile", `"test"`, "default, prod"}},
		"unknown profile by env": {Options{ConfigFile: file, env: environment{"TEMPORAL_PROFILE": "test"}}, []string{"TEMPORAL_PROFILE", `"test"`}},
		"no such file":           {Options{ConfigFile: "/nowhere.toml"}, []string{"--temporal-config", "/nowhere.toml"}},
		"not TOML":               {Options{ConfigFile: write(t, "x.toml", "][")}, []string{"configuration file"}},
		"no port":                {Options{Address: "host"}, []string{`"host"`, "host:port", "--temporal-address"}},
		"no URL":                 {Options{UI: "ui.example:8233"}, []string{"--temporal-ui", "http://"}},
		"no such key file":       {Options{APIKeyFile: "/nowhere.key"}, []string{"--temporal-api-key-file", "/nowhere.key"}},
		"empty key file":         {Options{APIKeyFile: write(t, "key", " \n")}, []string{"--temporal-api-key-file", "empty"}},
		"certificate, no key":    {Options{TLSCert: "/c.pem"}, []string{"TLS", "--temporal-tls-key"}},
		"no such authority":      {Options{TLSCA: "/nowhere.pem"}, []string{"TLS", "/nowhere.pem"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.options.env == nil {
				c.options.env = environment{}
			}
			_, err := Load(c.options)
			var typed *ProfileError
			if !errors.As(err, &typed) {
				t.Fatalf("error is %T (%v), want *ProfileError", err, err)
			}
			for _, w := range c.words {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not mention %q", err, w)
				}
			}
		})
	}
}

func TestProfileShowsNoSecret(t *testing.T) {
	const secret = "do-not-show-this"
	p, err := Load(Options{APIKeyFile: write(t, "key", secret+"\n"), env: environment{}})
	if err != nil {
		t.Fatal(err)
	}
	if p.settings.APIKey != secret {
		t.Fatalf("the key was not read: %q", p.settings.APIKey)
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{
		fmt.Sprint(p), fmt.Sprint(&p), fmt.Sprintf("%+v", p), fmt.Sprintf("%#v", p), fmt.Sprintf("%v", []Profile{p}),
		string(text), (&DialError{Profile: p, Reason: Denied, Err: errors.New("x")}).Error(), fmt.Sprintf("%#v", struct{ P Profile }{p}),
	} {
		if strings.Contains(s, secret) {
			t.Errorf("the API key is shown: %s", s)
		}
	}
}

func TestGuessUI(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:7233":                     "http://127.0.0.1:8233",
		"[::1]:7000":                         "http://[::1]:8000",
		"dns:///localhost:7233":              "http://localhost:8233",
		"localhost:65000":                    "",
		"10.0.0.1:7233":                      "",
		"temporal.example:7233":              "",
		"ns.acct.tmprl.cloud:7233":           "https://cloud.temporal.io",
		"us-east-1.aws.api.temporal.io:7233": "https://cloud.temporal.io",
	} {
		if got := guessUI(address); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
}

func TestWorkflowURL(t *testing.T) {
	for _, c := range []struct{ ui, id, run, want string }{
		{"http://h:8233", "restore/b-1/prod", "r1", "http://h:8233/namespaces/ns/workflows/restore%2Fb-1%2Fprod/r1/history"},
		{"http://h:8233/", "a b?#%", "", "http://h:8233/namespaces/ns/workflows/a%20b%3F%23%25"},
		{"", "a", "r1", ""},
	} {
		if got := WorkflowURL(c.ui, "ns", c.id, c.run); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}
