// Package render writes what commands print on stdout: tables for people, and
// JSON, YAML and CSV for machines.
//
// Invariants:
//
//   - The same value gives the same bytes: no colour, no bars, nothing that
//     depends on the terminal or the locale.
//   - JSON and YAML have the same keys in the same order (those of the value's
//     json tags). Numbers are plain and times are RFC 3339 in UTC; only text is
//     made readable ([Count], [Bytes], [Duration], [Time]).
//   - A cell never breaks a table: control characters are escaped.
package render

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Format is a way to write a value.
type Format string

// The formats.
const (
	Text Format = "text"
	JSON Format = "json"
	YAML Format = "yaml"
	CSV  Format = "csv"
)

// FormatError says that a format was asked for that there is not.
type FormatError struct {
	Name    string
	Allowed []Format
}

// Error names the formats that there are.
func (e *FormatError) Error() string {
	names := make([]string, len(e.Allowed))
	for i, f := range e.Allowed {
		names[i] = string(f)
	}
	return fmt.Sprintf("unknown output format %q; use %s", e.Name, strings.Join(names, ", "))
}

// ParseFormat returns the format of that name, which must be one of allowed;
// an empty name is the first of them. The error is a *FormatError.
func ParseFormat(name string, allowed ...Format) (Format, error) {
	if name == "" {
		return allowed[0], nil
	}
	for _, f := range allowed {
		if name == string(f) {
			return f, nil
		}
	}
	return "", &FormatError{Name: name, Allowed: allowed}
}

// Value is something that a command prints.
type Value interface {
	// Text writes it for people.
	Text(w io.Writer) error
}

// Rows is a Value that can be written as CSV.
type Rows interface {
	Value
	// Records gives the header and then the rows.
	Records() (header []string, rows [][]string)
}

// Write writes v in a format. CSV needs a [Rows].
func Write(w io.Writer, f Format, v Value) error {
	switch f {
	case JSON:
		return WriteJSON(w, v)
	case YAML:
		return WriteYAML(w, v)
	case CSV:
		rows, ok := v.(Rows)
		if !ok {
			return fmt.Errorf("%T cannot be written as CSV", v)
		}
		header, records := rows.Records()
		return WriteCSV(w, header, records)
	default:
		return v.Text(w)
	}
}

// WriteJSON writes v as indented JSON and a line end.
func WriteJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// Marshal is json.Marshal that leaves <, > and & as they are.
func Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	err := WriteJSONLine(&b, v)
	return b.Bytes(), err
}

// WriteJSONLine writes v as JSON in one line.
func WriteJSONLine(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// WriteCSV writes RFC 4180 with \n as line end.
func WriteCSV(w io.Writer, header []string, rows [][]string) error {
	c := csv.NewWriter(w)
	if err := c.Write(header); err != nil {
		return err
	}
	if err := c.WriteAll(rows); err != nil {
		return err
	}
	c.Flush()
	return c.Error()
}
