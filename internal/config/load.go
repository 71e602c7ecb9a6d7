package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"strings"

	"github.com/agnivade/levenshtein"
)

// Use is what a document is loaded for; it decides what the document must contain.
type Use string

// The uses of a document.
const (
	// ForAnything checks only what is there.
	ForAnything Use = ""
	// ForBackup needs a source and a storage.
	ForBackup Use = "backup"
	// ForRestore needs a target, a storage and a backup id.
	ForRestore Use = "restore"
)

// Override is a value that does not come from the file, and wins over it.
type Override struct {
	Key  string // whole key, as in [Keys]
	Text string // as [Set] takes it
	From string // where it comes from, for messages: the flag with its dashes
	// Implied: the command From itself says so. A file or flag that says
	// otherwise is wrong for the command.
	Implied bool
}

// New returns a document with nothing but defaults.
func New() *Document {
	d := &Document{}
	SetDefaults(d)
	return d
}

// Load reads the document in a file ("-" is standard input, "" is no file at all), applies
// overrides, fills in defaults and checks everything for the use. What is wrong is returned
// all at once as an [*Error].
func Load(use Use, path string, overrides ...Override) (*Document, error) {
	var data []byte
	var err error
	name := path
	switch path {
	case "":
	case "-":
		name = "standard input"
		data, err = io.ReadAll(os.Stdin)
	default:
		data, err = os.ReadFile(path)
	}
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, &Error{Problems: []Problem{{File: name, Message: fmt.Sprintf("the configuration cannot be read: %v", err)}}}
	}
	return Parse(use, name, data, overrides...)
}

// Parse is Load for a document in memory; name stands for the file in messages.
func Parse(use Use, name string, data []byte, overrides ...Override) (*Document, error) {
	doc := New()
	dec := &decoder{
		report: report{origin: origin{file: name, at: map[string]position{}, flags: map[string]string{}}},
		lookup: os.LookupEnv,
	}
	if name != "" {
		dec.origin.at[""] = position{1, 1}
	}
	dec.document(bytes.NewReader(data), reflect.ValueOf(doc).Elem())
	for _, o := range overrides {
		if o.Implied && dec.origin.given(o.Key) {
			if value := text(doc, o.Key); value != o.Text {
				dec.add(o.Key, "it says %s, and %s always does %s; remove it, or use another command", value, o.From, o.Text)
			}
			continue
		}
		dec.origin.flags[o.Key] = o.From
		if err := Set(doc, o.Key, o.Text); err != nil {
			dec.problems = append(dec.problems, Problem{File: o.From, Key: o.Key, Message: err.Error()})
		}
	}
	doc.origin = dec.origin
	// Values that could not be read are missing now; what follows from that is not worth saying.
	if dec.unreadable {
		return nil, dec.err()
	}
	broken := map[string]bool{}
	for _, p := range dec.problems {
		broken[p.Key] = true
	}
	more := &report{origin: dec.origin}
	doc.check(more, use)
	for _, p := range more.problems {
		if !broken[p.Key] {
			dec.problems = append(dec.problems, p)
		}
	}
	if err := dec.err(); err != nil {
		return nil, err
	}
	return doc, nil
}

// Set parses text into the value of a key of a section (a pointer to Document, Cluster,
// Storage, Backup or Restore): a scalar as in YAML, a list with commas, a mapping as
// name=value with commas. Environment variables are not replaced, except in secrets when they
// are read. The error says what would be right; an unknown key is an error.
func Set(section any, key, text string) error {
	v := reflect.ValueOf(section).Elem()
	names := strings.Split(key, ".")
	for i, name := range names {
		var found *field
		for _, f := range fieldsOf(v.Type()) {
			if f.name == name {
				found = &f
			}
		}
		if found == nil || isSection(found.typ) != (i < len(names)-1) {
			return fmt.Errorf("%s is not a key that takes a value", key)
		}
		v = v.Field(found.index)
		if !isSection(found.typ) {
			return setText(v, *found, text)
		}
	}
	return nil
}

// text is the value of a key that holds a single one.
func text(section any, key string) string {
	v := reflect.ValueOf(section).Elem()
	for _, name := range strings.Split(key, ".") {
		for _, f := range fieldsOf(v.Type()) {
			if f.name == name {
				v = v.Field(f.index)
				break
			}
		}
	}
	return fmt.Sprint(v.Interface())
}

func setText(v reflect.Value, f field, text string) error {
	t := v.Type()
	switch {
	case isScalar(t):
		return setScalar(v, f, text)
	case t.Kind() == reflect.Pointer:
		p := reflect.New(t.Elem())
		if err := setScalar(p.Elem(), f, text); err != nil {
			return err
		}
		v.Set(p)
	case t.Kind() == reflect.Slice && isScalar(t.Elem()):
		list := reflect.MakeSlice(t, 0, 4)
		for _, part := range strings.Split(text, ",") {
			e := reflect.New(t.Elem()).Elem()
			if err := setScalar(e, field{min: f.min, max: f.max}, strings.TrimSpace(part)); err != nil {
				return err
			}
			list = reflect.Append(list, e)
		}
		v.Set(list)
	case t.Kind() == reflect.Map && isScalar(t.Elem()):
		m := reflect.MakeMap(t)
		for _, part := range strings.Split(text, ",") {
			name, value, ok := strings.Cut(part, "=")
			e := reflect.New(t.Elem()).Elem()
			if !ok {
				return fmt.Errorf("%q is not possible here; write name=value, several with commas", part)
			}
			if err := setScalar(e, field{min: f.min, max: f.max}, strings.TrimSpace(value)); err != nil {
				return err
			}
			m.SetMapIndex(reflect.ValueOf(strings.TrimSpace(name)), e)
		}
		v.Set(m)
	default:
		return fmt.Errorf("%s is too deep for one line; write it in a configuration file", f.name)
	}
	return nil
}

// Key describes one key of a section, for flags and the reference.
type Key struct {
	Path    string   // whole key under the section, for example security.sasl_mechanism
	Name    string   // last part of Path
	Kind    string   // what is to be written, in words
	Doc     string   // what it does
	Default string   // empty: none
	OneOf   []string // allowed values; nil: any
	Min     string   // smallest value; empty: none
	Max     string   // largest value; empty: none
	Bool    bool     // a switch
	Secret  bool     // see [Secret]
	List    bool     // a list, or a mapping of names to single values: several
	Section bool     // a section; its keys follow
	Nested  bool     // a mapping of mappings or lists, which [Set] does not take
}

// Keys lists the keys of a section value (Document, Cluster, Security, Storage, Backup,
// Restore; not a pointer), sections before what they contain, in the order of the types.
func Keys(section any) []Key { return keysOf(reflect.TypeOf(section), "") }

func keysOf(t reflect.Type, prefix string) []Key {
	var keys []Key
	for _, f := range fieldsOf(t) {
		k := Key{
			Path: child(prefix, f.name), Name: f.name, Kind: kindOf(f.typ), Doc: f.doc, Default: f.def, OneOf: f.oneof, Min: f.min, Max: f.max,
			Bool: f.typ.Kind() == reflect.Bool, Secret: f.typ == reflect.TypeFor[Secret](), List: f.typ.Kind() == reflect.Slice || f.typ.Kind() == reflect.Map,
			Section: isSection(f.typ), Nested: f.typ.Kind() == reflect.Map && !isScalar(f.typ.Elem()),
		}
		keys = append(keys, k)
		if k.Section {
			keys = append(keys, keysOf(f.typ, k.Path)...)
		}
	}
	return keys
}

// unknownHint says what an unknown key may have been meant to be.
func unknownHint(section, name string, fields []field) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	for _, k := range Keys(Document{}) {
		if k.Name == name && parent(k.Path) != section {
			return "; " + name + " belongs under " + orTop(parent(k.Path))
		}
	}
	if s := suggest(name, names); s != "" {
		return s
	}
	return "; known here: " + strings.Join(names, ", ")
}

func orTop(section string) string {
	if section == "" {
		return "the top level"
	}
	return section
}

// suggest names the candidate nearest to text, when one is near.
func suggest(text string, candidates []string) string {
	best, bestDistance := "", len(text)/3+2
	for _, c := range candidates {
		if dist := levenshtein.ComputeDistance(strings.ToLower(text), strings.ToLower(c)); dist < bestDistance {
			best, bestDistance = c, dist
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}
