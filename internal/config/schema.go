package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// field is one key of a section, as its struct tags describe it.
type field struct {
	index    int
	name     string
	doc      string
	def      string
	oneof    []string
	alias    map[string]string // other spellings -> the value
	min, max string
	split    string // a scalar stands for a list, split at this
	typ      reflect.Type
}

// fieldsOf lists the keys of a section type in the order they are declared.
func fieldsOf(t reflect.Type) []field {
	var fs []field
	for i := range t.NumField() {
		sf := t.Field(i)
		if !sf.IsExported() {
			continue
		}
		name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
		f := field{
			index: i, name: name, typ: sf.Type,
			doc: sf.Tag.Get("doc"), def: sf.Tag.Get("default"), min: sf.Tag.Get("min"), max: sf.Tag.Get("max"), split: sf.Tag.Get("split"),
		}
		if v := sf.Tag.Get("oneof"); v != "" {
			f.oneof = strings.Split(v, "|")
		}
		if v := sf.Tag.Get("alias"); v != "" {
			f.alias = map[string]string{}
			for _, pair := range strings.Split(v, "|") {
				from, to, _ := strings.Cut(pair, "=")
				f.alias[from] = to
			}
		}
		fs = append(fs, f)
	}
	return fs
}

var scalarType = reflect.TypeFor[scalar]()

// isScalar reports whether a type is written as one YAML scalar.
func isScalar(t reflect.Type) bool {
	if reflect.PointerTo(t).Implements(scalarType) {
		return true
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int32, reflect.Int64:
		return true
	}
	return false
}

// isSection reports whether a type is a mapping with fixed keys.
func isSection(t reflect.Type) bool { return t.Kind() == reflect.Struct && !isScalar(t) }

// kindOf says in words what is to be written for a type.
func kindOf(t reflect.Type) string {
	if reflect.PointerTo(t).Implements(scalarType) {
		return reflect.New(t).Interface().(scalar).kind()
	}
	switch t.Kind() {
	case reflect.Pointer:
		return kindOf(t.Elem())
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "whole number"
	case reflect.Slice:
		return "list of " + map[bool]string{true: "texts", false: "whole numbers"}[t.Elem().Kind() == reflect.String]
	case reflect.Map:
		return "mapping of names to " + strings.TrimPrefix(kindOf(t.Elem()), "whole ")
	}
	return "section"
}

// setScalar parses text into v, a settable value of a scalar type, and checks it against f.
// The error says what would be right.
func setScalar(v reflect.Value, f field, text string) error {
	if s, ok := v.Addr().Interface().(scalar); ok {
		if err := s.setText(text); err != nil {
			return err
		}
		return checkRange(v, f)
	}
	switch v.Kind() {
	case reflect.String:
		if f.oneof == nil {
			v.SetString(text)
			return nil
		}
		for from, to := range f.alias {
			if strings.EqualFold(text, from) {
				text = to
			}
		}
		for _, allowed := range f.oneof {
			if strings.EqualFold(text, allowed) {
				v.SetString(allowed)
				return nil
			}
		}
		return fmt.Errorf("%q is not possible here; write one of %s%s", text, strings.Join(f.oneof, ", "), suggest(text, f.oneof))
	case reflect.Bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("%q is not possible here; write true or false", text)
		}
		v.SetBool(text == "true")
		return nil
	default:
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is not possible here; write a whole number%s", text, rangeText(f))
		}
		v.SetInt(n)
		return checkRange(v, f)
	}
}

func checkRange(v reflect.Value, f field) error {
	outside := func(bound string, sign int64) bool {
		if bound == "" {
			return false
		}
		b := reflect.New(v.Type()).Elem()
		if err := setScalar(b, field{}, bound); err != nil {
			panic(fmt.Sprintf("config: bound %q of %s: %v", bound, f.name, err)) // a wrong tag; the tests visit every one
		}
		return sign*v.Int() > sign*b.Int()
	}
	if !v.CanInt() || !outside(f.min, -1) && !outside(f.max, 1) {
		return nil
	}
	return fmt.Errorf("%v is out of range; write a value%s", v.Interface(), rangeText(f))
}

func rangeText(f field) string {
	switch {
	case f.min != "" && f.max != "":
		return fmt.Sprintf(" from %s to %s", f.min, f.max)
	case f.min != "":
		return fmt.Sprintf(" of at least %s", f.min)
	case f.max != "":
		return fmt.Sprintf(" of at most %s", f.max)
	}
	return ""
}

// SetDefaults fills the fields of a section (*Document, *Cluster, *Storage, *Backup,
// *Restore and what they contain) that hold their zero value and have a default.
func SetDefaults(section any) { setDefaults(reflect.ValueOf(section).Elem()) }

func setDefaults(v reflect.Value) {
	for _, f := range fieldsOf(v.Type()) {
		fv := v.Field(f.index)
		switch {
		case isSection(f.typ):
			setDefaults(fv)
		case f.def != "" && fv.IsZero():
			if err := setScalar(fv, f, f.def); err != nil {
				panic(fmt.Sprintf("config: default of %s: %v", f.name, err)) // a wrong tag; the tests visit every one
			}
		}
	}
}
