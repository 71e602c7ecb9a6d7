package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong in a configuration.
type Problem struct {
	File    string // file name, or the flag that gave the value ("--sasl-mechanism"); empty: neither
	Line    int    // 1-based; 0 when there is no position
	Column  int    // 1-based
	Key     string // whole key, for example source.security.sasl_mechanism; empty for the document
	Message string // what is wrong and what would be right
}

func (p Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
		}
		b.WriteString(": ")
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	return b.String() + p.Message
}

// Error is everything that is wrong in a configuration; Problems is never empty.
// It is never worth a retry.
type Error struct{ Problems []Problem }

func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// position is where something stands in a file.
type position struct{ line, column int }

// origin is where the values of a document came from.
type origin struct {
	file  string
	at    map[string]position // by key
	flags map[string]string   // key -> flag that set it
}

// report collects problems.
type report struct {
	origin   origin
	problems []Problem
}

// add reports a problem with key, at its position or that of the nearest section around it.
func (r *report) add(key, format string, args ...any) {
	p := Problem{File: r.origin.file, Key: key, Message: fmt.Sprintf(format, args...)}
	if flag, ok := r.origin.flags[key]; ok {
		p.File = flag
	} else if at, ok := r.origin.nearest(key); ok {
		p.Line, p.Column = at.line, at.column
	}
	r.problems = append(r.problems, p)
}

// addAt reports a problem with key at a position.
func (r *report) addAt(at position, key, format string, args ...any) {
	r.problems = append(r.problems, Problem{
		File: r.origin.file, Line: at.line, Column: at.column, Key: key, Message: fmt.Sprintf(format, args...),
	})
}

// err returns what was reported, in the order of the file.
func (r *report) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Key, b.Key))
	})
	return &Error{Problems: r.problems}
}

// given tells whether file or flags give a key a value.
func (o origin) given(key string) bool {
	_, inFile := o.at[key]
	_, byFlag := o.flags[key]
	return inFile || byFlag
}

func (o origin) nearest(key string) (position, bool) {
	for {
		if at, ok := o.at[key]; ok {
			return at, true
		}
		if key == "" {
			return position{}, false
		}
		key = parent(key)
	}
}

// parent is the key of the section around a key: "a.b" for a.b.c, a.b[0] and a.b["x.y"].
func parent(key string) string {
	if strings.HasSuffix(key, "]") {
		return key[:strings.LastIndexByte(key, '[')]
	}
	if i := strings.LastIndexByte(key, '.'); i >= 0 {
		return key[:i]
	}
	return ""
}

// child is the key of an entry: a.b, or a["x.y"] when the name is not a plain word.
func child(key, name string) string {
	if strings.ContainsAny(name, ".[]\" ") || name == "" {
		return fmt.Sprintf("%s[%q]", key, name)
	}
	if key == "" {
		return name
	}
	return key + "." + name
}
