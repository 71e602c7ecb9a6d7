package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
)

// Secret is a password, key or token, or rather where to find it: "${NAME}" (an
// environment variable), "file:/path" (the content of a file, without the line end)
// or the literal value. The zero Secret is "none given".
//
// It prints as "(secret)" wherever it is printed. It marshals as its reference; a
// literal does not marshal at all ([LiteralSecretError]), so that none gets into a
// workflow history.
type Secret struct{ text string }

// secretVar is a reference to a variable and nothing else. A default in it
// (${NAME:-value}) would be a literal.
var secretVar = regexp.MustCompile(`^\$\{[A-Za-z_][A-Za-z0-9_]*\}$`)

// NewSecret returns the secret for the text of a configuration value.
func NewSecret(text string) Secret { return Secret{text} }

// IsZero reports whether no secret was given.
func (s Secret) IsZero() bool { return s.text == "" }

// Literal reports whether the secret holds its value itself and does not only name it.
func (s Secret) Literal() bool {
	return s.text != "" && !secretVar.MatchString(s.text) && !strings.HasPrefix(s.text, "file:")
}

// Resolve returns the value: the variable's, the file's content without one trailing line
// end, or the literal. The zero Secret gives "". Errors are a [SecretError].
func (s Secret) Resolve() (string, error) {
	if path, ok := strings.CutPrefix(s.text, "file:"); ok {
		b, err := os.ReadFile(path)
		if err != nil {
			return "", &SecretError{Reference: s.text, Err: err}
		}
		v := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
		if v == "" {
			return "", &SecretError{Reference: s.text, Err: errors.New("the file is empty")}
		}
		return v, nil
	}
	v, err := interpolate(s.text, os.LookupEnv)
	if err != nil {
		var unset *unsetError
		if errors.As(err, &unset) {
			return "", &SecretError{Reference: "${" + unset.name + "}", Err: fmt.Errorf("environment variable %s is not set", unset.name)}
		}
		return "", &SecretError{Reference: "(secret)", Err: errors.New("it is not a well-formed ${NAME} reference")}
	}
	if v == "" && s.text != "" {
		return "", &SecretError{Reference: s.text, Err: errors.New("the variable is empty")}
	}
	return v, nil
}

// String returns "(secret)", or "" for the zero Secret.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return "(secret)"
}

// Format prints what String returns, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON writes the reference. A literal is refused with a [LiteralSecretError].
func (s Secret) MarshalJSON() ([]byte, error) {
	if s.Literal() {
		return nil, &LiteralSecretError{}
	}
	return json.Marshal(s.text)
}

// UnmarshalJSON reads a reference.
func (s *Secret) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &s.text) }

// MarshalYAML is MarshalJSON for YAML.
func (s Secret) MarshalYAML() (any, error) {
	if s.Literal() {
		return nil, &LiteralSecretError{}
	}
	return s.text, nil
}

// SecretError is a secret that could not be read. Its text names the reference, never a value.
type SecretError struct {
	Reference string // "${NAME}" or "file:/path"
	Err       error
}

func (e *SecretError) Error() string {
	return fmt.Sprintf("secret %s cannot be read: %v; it is read by the process that connects (the worker), so it must be set there", e.Reference, e.Err)
}

// Unwrap returns the cause.
func (e *SecretError) Unwrap() error { return e.Err }

// LiteralSecretError is a literal secret that was about to leave the process.
type LiteralSecretError struct {
	// Key is the key in the document, for example source.security.sasl_password; empty when not known.
	Key string
}

func (e *LiteralSecretError) Error() string {
	key := e.Key
	if key == "" {
		key = "a secret"
	}
	return key + " is written out in the configuration; secrets do not go into a workflow's history: write ${NAME} (an environment variable of the worker) or file:/path instead"
}
