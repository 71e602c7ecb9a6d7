package config

import (
	"strings"
	"testing"
	"time"
)

func TestExpandBackupID(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2027, 1, 1, 23, 30, 5, 0, time.UTC) // in Berlin it is the next day
	for template, want := range map[string]string{
		"plain":                               "plain",
		"nightly-{{date}}":                    "nightly-2027-01-02",
		"{{ schedule }}.{{date}}T{{time}}":    "shop.2027-01-02T003005",
		"{{year}}_{{month}}_{{day}}_{{hour}}": "2027_01_02_00",
		"w-{{week}}":                          "w-2026-W53",
	} {
		if got, err := ExpandBackupID(template, at.In(berlin), "shop"); err != nil || got != want {
			t.Errorf("%s is %q (%v), want %q", template, got, err, want)
		}
	}
	for template, word := range map[string]string{
		"a-{{dat}}": "{{date}}", "a-{{}}": "{{date}}", "{{date": "not possible", "": "not possible", ".{{date}}": "not possible",
		strings.Repeat("x", 125) + "{{date}}": "not possible",
	} {
		if got, err := ExpandBackupID(template, at, "s"); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%q is %q, error %v; want one with %q", template, got, err, word)
		}
	}
}

func TestBackupIDTemplateInADocument(t *testing.T) {
	const rest = "\nsource: {bootstrap_servers: ['k:9092']}\nstorage: {backend: memory}\ntarget: {bootstrap_servers: ['k:9092']}\n"
	if _, err := Parse(ForBackup, "f", []byte("backup_id: nightly-{{date}}"+rest)); err != nil {
		t.Error(err)
	}
	if _, err := Parse(ForBackup, "f", []byte("backup_id: nightly-{{now}}"+rest)); err == nil || !strings.Contains(err.Error(), "f:1:12: backup_id: {{now}}") {
		t.Errorf("unknown placeholder: %v", err)
	}
	if _, err := Parse(ForRestore, "f", []byte("backup_id: nightly-{{date}}"+rest)); err == nil {
		t.Error("a restore of a backup with a placeholder in its name is taken")
	}
}
