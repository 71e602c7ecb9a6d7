package config

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// placeholder is a part of a backup id that is filled in when the backup starts.
var placeholder = regexp.MustCompile(`\{\{\s*([a-z]*)\s*\}\}`)

// placeholders are what may be filled in.
var placeholders = []struct {
	name string
	text func(at time.Time, schedule string) string
}{
	{"date", func(at time.Time, _ string) string { return at.Format("2006-01-02") }},
	{"time", func(at time.Time, _ string) string { return at.Format("150405") }},
	{"year", func(at time.Time, _ string) string { return at.Format("2006") }},
	{"month", func(at time.Time, _ string) string { return at.Format("01") }},
	{"day", func(at time.Time, _ string) string { return at.Format("02") }},
	{"hour", func(at time.Time, _ string) string { return at.Format("15") }},
	{"week", func(at time.Time, _ string) string {
		year, week := at.ISOWeek()
		return fmt.Sprintf("%04d-W%02d", year, week)
	}},
	{"schedule", func(_ time.Time, schedule string) string { return schedule }},
}

// ExpandBackupID fills in the placeholders of a backup id: {{date}} (2024-12-01), {{time}} (143000), {{year}},
// {{month}}, {{day}}, {{hour}}, {{week}} (ISO, 2024-W48) and {{schedule}}, the name of the schedule. The times
// are those of at, in its own zone. An id without placeholders is returned as it is. The error says what would
// be right.
func ExpandBackupID(id string, at time.Time, schedule string) (string, error) {
	var unknown string
	expanded := placeholder.ReplaceAllStringFunc(id, func(text string) string {
		name := placeholder.FindStringSubmatch(text)[1]
		for _, p := range placeholders {
			if p.name == name {
				return p.text(at, schedule)
			}
		}
		unknown = text
		return ""
	})
	if unknown != "" {
		return "", fmt.Errorf("%s is not known in a backup id; known are %s", unknown, placeholderNames())
	}
	if !backupID.MatchString(expanded) {
		return "", fmt.Errorf("%q is not possible here; write 1 to 128 letters, digits, dots, underscores and hyphens, not beginning with a dot, and placeholders like {{date}}", expanded)
	}
	return expanded, nil
}

func placeholderNames() string {
	names := make([]string, len(placeholders))
	for i, p := range placeholders {
		names[i] = "{{" + p.name + "}}"
	}
	return strings.Join(names, ", ")
}

// wrongBackupID says what is wrong with a backup id that may have placeholders, or nothing.
func wrongBackupID(id string) error {
	_, err := ExpandBackupID(id, time.Date(2006, 1, 2, 15, 4, 5, 0, time.UTC), "schedule")
	return err
}
