package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

func TestTable(t *testing.T) {
	table := Table{Name: "Topic: orders", Header: []string{"Partition", "First Offset", "Last Offset", "Record Count"}}
	table.Add(0, 0, 150233, 150234)
	table.Add(1, 0, 148891, 148892)
	var b bytes.Buffer
	if err := Title(&b, "Offset Mapping: %s", "production-backup-001"); err != nil {
		t.Fatal(err)
	}
	if err := table.Write(&b); err != nil {
		t.Fatal(err)
	}
	want := `Offset Mapping: production-backup-001
══════════════════════════════════════════════════════════════
Topic: orders
─────────────────────────────────────────────────────────────
Partition   First Offset   Last Offset   Record Count
─────────────────────────────────────────────────────────────
0           0              150233        150234
1           0              148891        148892
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestTableGrowsAndEscapes(t *testing.T) {
	table := Table{Name: "Name", Header: []string{"A", "B"}}
	table.Add("日本", "x")
	table.Add("tab\there", strings.Repeat("y", 80))
	table.Add("\x1b[31m", "")
	var b bytes.Buffer
	if err := table.Write(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	if got := len([]rune(lines[1])); got != len("tab\\there")+gap+80 {
		t.Errorf("the line has %d columns", got)
	}
	want := []string{"A           B", lines[1], "日本        x", `tab\there   ` + strings.Repeat("y", 80), `\x1b[31m`, ""}
	if !reflect.DeepEqual(lines[2:], want) {
		t.Errorf("got %q, want %q", lines[2:], want)
	}
}

func TestFieldsLeaveOutEmpty(t *testing.T) {
	var b bytes.Buffer
	if err := Fields(&b, "Backup", "b1", "Previous backup", "", "Topics", "3"); err != nil {
		t.Fatal(err)
	}
	if want := "Backup:  b1\nTopics:  3\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

// YAML must hold what JSON holds, whatever texts there are in it.
func TestYAMLSaysWhatJSONSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := map[string]any{
			"text":  rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"true", "null", "~", "", "12", "0x1", "2024-12-01", "a: b", "- x", "#", "\t", "\u2028", "1e3", "<<", "="})).Draw(t, "text"),
			"big":   rapid.Int64().Draw(t, "big"),
			"list":  rapid.SliceOf(rapid.String()).Draw(t, "list"),
			"empty": map[string]any{},
		}
		var y, j bytes.Buffer
		if err := WriteYAML(&y, v); err != nil {
			t.Fatal(err)
		}
		if err := WriteJSON(&j, v); err != nil {
			t.Fatal(err)
		}
		var fromYAML, fromJSON any
		if err := yaml.Unmarshal(y.Bytes(), &fromYAML); err != nil {
			t.Fatalf("%v in\n%s", err, y.String())
		}
		back, err := json.Marshal(fromYAML)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(j.Bytes(), &fromJSON); err != nil {
			t.Fatal(err)
		}
		var again any
		if err := json.Unmarshal(back, &again); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(again, fromJSON) {
			t.Fatalf("YAML\n%s\nholds %v, JSON %v", y.String(), again, fromJSON)
		}
	})
}

func TestYAMLKeepsOrder(t *testing.T) {
	var b bytes.Buffer
	v := struct {
		B string   `json:"b"`
		A []string `json:"a"`
	}{"x", []string{"1", "two"}}
	if err := WriteYAML(&b, v); err != nil {
		t.Fatal(err)
	}
	if want := "b: x\na:\n  - \"1\"\n  - two\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

type rows struct{}

func (rows) Text(w io.Writer) error { _, err := io.WriteString(w, "text\n"); return err }
func (rows) Records() ([]string, [][]string) {
	return []string{"a", "b"}, [][]string{{"1", "x,y"}, {"2", "\"q\""}}
}

func TestWrite(t *testing.T) {
	for f, want := range map[Format]string{
		Text: "text\n",
		JSON: "{}\n",
		YAML: "{}\n",
		CSV:  "a,b\n1,\"x,y\"\n2,\"\"\"q\"\"\"\n",
	} {
		var b bytes.Buffer
		if err := Write(&b, f, rows{}); err != nil || b.String() != want {
			t.Errorf("%s: got %q, %v; want %q", f, b.String(), err, want)
		}
	}
}

func TestParseFormat(t *testing.T) {
	if f, err := ParseFormat("", Text, JSON); f != Text || err != nil {
		t.Errorf("got %q, %v", f, err)
	}
	_, err := ParseFormat("xml", Text, JSON)
	var fe *FormatError
	if !errors.As(err, &fe) || err.Error() != `unknown output format "xml"; use text, json` {
		t.Errorf("got %v", err)
	}
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{Count(1234567), "1,234,567"},
		{Count(-1), "-1"},
		{Bytes(0), "0 B"},
		{Bytes(1 << 30), "1.0 GiB"},
		{Rate(107_000_000), "102 MiB/s"},
		{Duration(3723 * time.Second), "1h2m3s"},
		{Duration(350*time.Millisecond + 400*time.Microsecond), "350ms"},
		{Time(time.Time{}), ""},
		{Time(time.Date(2024, 12, 3, 11, 0, 0, 5, time.FixedZone("", 3600))), "2024-12-03T10:00:00Z"},
		{Number(1, "topic"), "1 topic"},
		{Number(int64(2000), "topic"), "2,000 topics"},
		{Milli(-1), "1969-12-31T23:59:59.999Z"},
		{Milli(1 << 62), "4611686018427387904"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}
