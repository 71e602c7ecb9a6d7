package offsets

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"
)

// Script says how a script of kafka-consumer-groups commands is written.
type Script struct {
	BackupID         string // may be empty
	Source           string // where the targets come from, in words
	BootstrapServers string
	// CommandConfig is a property file for --command-config; empty: none.
	CommandConfig string
	Generated     time.Time
}

// Write writes a bash script that sets the offsets of a plan with Apache
// Kafka's own tool, one partition a command. Whatever the names of groups and
// topics hold, the shell takes them as they are.
func (s Script) Write(w io.Writer, groups []GroupPlan) error {
	b := bufio.NewWriter(w)
	fmt.Fprintln(b, "#!/bin/bash")
	if s.BackupID != "" {
		fmt.Fprintf(b, "# Offset reset script for backup: %s\n", comment(s.BackupID))
	} else {
		fmt.Fprintf(b, "# Offset reset script: %s\n", comment(s.Source))
	}
	fmt.Fprintf(b, "# Generated: %s\n", s.Generated.UTC().Format(time.RFC3339))
	fmt.Fprintln(b, "# Stop consumers before running this script!")
	if s.BackupID != "" {
		fmt.Fprintf(b, "# Targets: %s\n", comment(s.Source))
	}
	fmt.Fprintln(b, "# kafka-consumer-groups exits with 0 even when it fails: read what it prints.")
	if n := count(groups, func(r *Row) bool { return r.Action == Unchanged }); n > 0 {
		fmt.Fprintf(b, "# Left out: offsets that are committed already as they should be: %d\n", n)
	}
	if n := count(groups, func(r *Row) bool { return (r.Action == Set || r.Action == Clamped) && r.Metadata != "" }); n > 0 {
		fmt.Fprintf(b, "# kafka-consumer-groups commits no metadata. Offsets that lose theirs (offset-reset execute keeps it): %d\n", n)
	}
	for i := range groups {
		g := &groups[i]
		if g.Blocked != "" {
			fmt.Fprintf(b, "\n# Group %s: %s\n", comment(g.Group), comment(g.Blocked))
		}
		if g.Blocked != "" && g.Kind != BlockedActive {
			continue
		}
		for j := range g.Topics {
			t := &g.Topics[j]
			for k := range t.Rows {
				s.row(b, g.Group, t.Topic, &t.Rows[k])
			}
		}
	}
	return b.Flush()
}

// count counts the rows that are so.
func count(groups []GroupPlan, so func(*Row) bool) (n int) {
	for i := range groups {
		for j := range groups[i].Topics {
			for k := range groups[i].Topics[j].Rows {
				if so(&groups[i].Topics[j].Rows[k]) {
					n++
				}
			}
		}
	}
	return n
}

func (s Script) row(b *bufio.Writer, group, topic string, r *Row) {
	what := ""
	switch r.Action {
	case Set, Clamped:
		what = fmt.Sprintf("--reset-offsets --to-offset %d --execute", r.Target)
	case Remove:
		what = "--delete-offsets"
	case Unchanged:
		return
	default:
		why := r.Why
		if r.Action == OutOfRange {
			why = fmt.Sprintf("offset %d is out of range (current: %d-%d)", r.Wanted, r.Start, r.End)
		}
		fmt.Fprintf(b, "\n# Left out: group %s, %s:%d: %s\n", comment(group), comment(topic), r.Partition, comment(why))
		return
	}
	name := "--group " + Quote(group)
	if strings.HasPrefix(group, "-") || group == "" {
		name = "--group=" + Quote(group)
	}
	config := ""
	if s.CommandConfig != "" {
		config = " \\\n--command-config " + Quote(s.CommandConfig)
	}
	fmt.Fprintf(b, "\nkafka-consumer-groups --bootstrap-server %s%s \\\n%s \\\n--topic %s \\\n%s\n",
		Quote(s.BootstrapServers), config, name, Quote(fmt.Sprintf("%s:%d", topic, r.Partition)), what)
}

// comment makes a text safe for a comment: it stays in its line.
func comment(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 {
			return '?'
		}
		return r
	}, s)
}

// Quote makes a text one word of a shell command.
func Quote(s string) string {
	plain := s != ""
	for _, c := range []byte(s) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && !strings.ContainsRune("._-/:,@%+=", rune(c)) {
			plain = false
		}
	}
	if plain {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
