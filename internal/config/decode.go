package config

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decoder puts a YAML tree into the types, noting positions and problems.
type decoder struct {
	report
	lookup     func(string) (string, bool)
	unreadable bool // it is not YAML at all
}

// yamlLine finds the position in a syntax error of the YAML library, which gives it only as text, and not
// for line 1.
var yamlLine = regexp.MustCompile(`^yaml: line (\d+): (.*)`)

// document reads one YAML document into v.
func (d *decoder) document(data io.Reader, v reflect.Value) {
	dec := yaml.NewDecoder(data)
	var root, second yaml.Node
	if err := dec.Decode(&root); err != nil {
		if !errors.Is(err, io.EOF) { // EOF: an empty file
			d.syntax(err)
		}
		return
	}
	switch err := dec.Decode(&second); {
	case err == nil:
		d.addAt(position{second.Line, second.Column}, "", "a second document begins here; a file holds one")
	case !errors.Is(err, io.EOF):
		d.syntax(err)
	}
	d.value(root.Content[0], "", field{typ: v.Type()}, v)
}

func (d *decoder) syntax(err error) {
	at, text := position{1, 1}, strings.TrimPrefix(err.Error(), "yaml: ")
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		at.line, _ = strconv.Atoi(m[1])
		at.column, text = 1, m[2]
	}
	d.unreadable = true
	if strings.Contains(text, "cannot start any token") {
		text += " (a tab? YAML is indented with spaces)"
	}
	d.addAt(at, "", "this is not YAML: %s", text)
}

// value decodes node into v.
func (d *decoder) value(node *yaml.Node, key string, f field, v reflect.Value) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	at := position{node.Line, node.Column}
	if d.origin.at[key] == (position{}) || node.Kind == yaml.ScalarNode {
		d.origin.at[key] = at
	}
	switch t := v.Type(); {
	case isScalar(t):
		d.scalar(node, key, f, v)
	case t.Kind() == reflect.Pointer:
		if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
			return
		}
		p := reflect.New(t.Elem())
		d.value(node, key, f, p.Elem())
		v.Set(p)
	case t.Kind() == reflect.Struct:
		d.section(node, key, v)
	case t.Kind() == reflect.Slice:
		d.list(node, key, f, v)
	case t.Kind() == reflect.Map:
		d.mapping(node, key, f, v)
	}
}

func (d *decoder) scalar(node *yaml.Node, key string, f field, v reflect.Value) {
	at := position{node.Line, node.Column}
	if node.Kind != yaml.ScalarNode {
		d.addAt(at, key, "a %s does not belong here; write %s%s", kindOfNode(node), article(kindOf(v.Type())), oneOfText(f))
		return
	}
	if node.Tag == "!!null" {
		d.addAt(at, key, "there is no value; write %s%s, or remove the key", article(kindOf(v.Type())), oneOfText(f))
		return
	}
	text := node.Value
	if _, secret := v.Addr().Interface().(*Secret); !secret {
		var err error
		if text, err = interpolate(node.Value, d.lookup); err != nil {
			d.addAt(at, key, "%v", err)
			return
		}
		quoted := node.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0
		if k := v.Kind(); quoted && text == node.Value && (k == reflect.Bool || v.CanInt()) && !isText(v) {
			d.addAt(at, key, "this is text; write %s%s without quotes", article(kindOf(v.Type())), rangeText(f))
			return
		}
	}
	if err := setScalar(v, f, text); err != nil {
		d.addAt(at, key, "%v", err)
	}
}

// isText reports whether a number type of ours is also written as text (64MiB, 30s).
func isText(v reflect.Value) bool { _, ok := v.Addr().Interface().(scalar); return ok }

func (d *decoder) section(node *yaml.Node, key string, v reflect.Value) {
	fields := fieldsOf(v.Type())
	d.eachEntry(node, key, func(keyNode, value *yaml.Node) {
		name := keyNode.Value
		for _, f := range fields {
			if f.name == name {
				path := child(key, name)
				d.origin.at[path] = position{keyNode.Line, keyNode.Column}
				if isSection(f.typ) && value.Kind == yaml.ScalarNode && value.Tag == "!!null" {
					return // a section with everything commented out
				}
				d.value(value, path, f, v.Field(f.index))
				return
			}
		}
		d.addAt(position{keyNode.Line, keyNode.Column}, child(key, name), "unknown key%s", unknownHint(key, name, fields))
	})
}

func (d *decoder) list(node *yaml.Node, key string, f field, v reflect.Value) {
	at := position{node.Line, node.Column}
	var items []*yaml.Node
	switch {
	case node.Kind == yaml.SequenceNode:
		items = node.Content
	case node.Kind == yaml.ScalarNode && node.Tag != "!!null" && f.split != "":
		items = []*yaml.Node{node}
	default:
		d.addAt(at, key, "a %s does not belong here; write a %s, as in [a, b]", kindOfNode(node), kindOf(v.Type()))
		return
	}
	for i, item := range items {
		e := reflect.New(v.Type().Elem()).Elem()
		before := len(d.problems)
		d.value(item, fmt.Sprintf("%s[%d]", key, i), field{min: f.min, max: f.max}, e)
		if len(d.problems) > before {
			continue
		}
		if f.split != "" {
			for _, part := range strings.Split(e.String(), f.split) {
				v.Set(reflect.Append(v, reflect.ValueOf(strings.TrimSpace(part))))
			}
			continue
		}
		v.Set(reflect.Append(v, e))
	}
}

func (d *decoder) mapping(node *yaml.Node, key string, f field, v reflect.Value) {
	v.Set(reflect.MakeMap(v.Type()))
	d.eachEntry(node, key, func(keyNode, value *yaml.Node) {
		e := reflect.New(v.Type().Elem()).Elem()
		path := child(key, keyNode.Value)
		d.origin.at[path] = position{keyNode.Line, keyNode.Column}
		d.value(value, path, field{min: f.min, max: f.max}, e)
		v.SetMapIndex(reflect.ValueOf(keyNode.Value), e)
	})
}

// eachEntry calls fn for the entries of a mapping, those merged in by << included,
// and reports duplicate keys.
func (d *decoder) eachEntry(node *yaml.Node, key string, fn func(key, value *yaml.Node)) {
	if node.Kind != yaml.MappingNode {
		if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
			return
		}
		d.addAt(position{node.Line, node.Column}, key, "a %s does not belong here; write key: value pairs", kindOfNode(node))
		return
	}
	seen := map[string]position{}
	var merged []*yaml.Node
	for i := 0; i+1 < len(node.Content); i += 2 {
		k, v := node.Content[i], node.Content[i+1]
		at := position{k.Line, k.Column}
		if k.Kind != yaml.ScalarNode {
			d.addAt(at, key, "a key is a plain word, not a %s", kindOfNode(k))
			continue
		}
		if k.Tag == "!!merge" {
			merged = append(merged, v)
			continue
		}
		if first, dup := seen[k.Value]; dup {
			d.addAt(at, child(key, k.Value), "duplicate key; it stands in line %d already", first.line)
			continue
		}
		seen[k.Value] = at
		fn(k, v)
	}
	for _, m := range merged {
		if m.Kind == yaml.AliasNode {
			m = m.Alias
		}
		if m.Kind != yaml.MappingNode {
			d.addAt(position{m.Line, m.Column}, key, "<< needs an alias of one mapping")
			continue
		}
		for i := 0; i+1 < len(m.Content); i += 2 {
			k := m.Content[i]
			if _, own := seen[k.Value]; own {
				continue
			}
			seen[k.Value] = position{k.Line, k.Column}
			fn(k, m.Content[i+1])
		}
	}
}

func kindOfNode(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "mapping"
	case yaml.SequenceNode:
		return "list"
	}
	if n.Tag == "!!null" {
		return "missing value"
	}
	return "single value"
}

func article(noun string) string {
	if strings.HasPrefix(noun, "true") || strings.HasPrefix(noun, "text") || strings.HasPrefix(noun, "bytes") {
		return noun
	}
	return "a " + noun
}

func oneOfText(f field) string {
	if f.oneof == nil {
		return rangeText(f)
	}
	return ", one of " + strings.Join(f.oneof, ", ")
}
