package config

import (
	"fmt"
	"strings"
)

// unsetError is a variable without a value and without a default.
type unsetError struct{ name string }

func (e *unsetError) Error() string {
	return fmt.Sprintf("environment variable %s is not set; set it or write ${%s:-default}", e.name, e.name)
}

// interpolate replaces ${NAME} and ${NAME:-default}; $${ stands for a plain ${.
// The default is used when the variable is not set or empty. The result is not looked at again.
func interpolate(text string, lookup func(string) (string, bool)) (string, error) {
	if !strings.Contains(text, "${") {
		return text, nil
	}
	var b strings.Builder
	for {
		i := strings.Index(text, "${")
		if i < 0 {
			b.WriteString(text)
			return b.String(), nil
		}
		if i > 0 && text[i-1] == '$' {
			b.WriteString(text[:i-1] + "${")
			text = text[i+2:]
			continue
		}
		b.WriteString(text[:i])
		body, rest, closed := strings.Cut(text[i+2:], "}")
		if !closed {
			return "", fmt.Errorf("%q has no closing }; write ${NAME} or ${NAME:-default}, or $${ for a plain ${", text[i:])
		}
		name, def, hasDefault := strings.Cut(body, ":-")
		if !isVariable(name) {
			return "", fmt.Errorf("${%s} does not name a variable; write ${NAME} or ${NAME:-default}, or $${ for a plain ${", body)
		}
		value, set := lookup(name)
		switch {
		case set && (value != "" || !hasDefault):
			b.WriteString(value)
		case hasDefault:
			b.WriteString(def)
		default:
			return "", &unsetError{name}
		}
		text = rest
	}
}

func isVariable(name string) bool {
	for i, c := range []byte(name) {
		if c == '_' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || i > 0 && c >= '0' && c <= '9' {
			continue
		}
		return false
	}
	return name != ""
}
