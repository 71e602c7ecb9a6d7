package config

import (
	"fmt"
	"strings"
)

// Reference returns docs/CONFIGURATION.md: every key with its kind, default, range and text, made from
// the types. The test that compares the two says how to renew the file.
func Reference() string {
	var b strings.Builder
	b.WriteString(referenceHead)
	sections := []struct {
		path, text string
		value      any
	}{
		{"", "## The document", Document{}},
		{"source", "## source and target\n\nBoth clusters are described by the same keys.", Cluster{}},
		{"source.security", "### source.security and target.security\n\nThe names are those of librdkafka and the Java client, with underscores.", Security{}},
		{"source.topics", "### source.topics and restore.topics\n\nIn a pattern `*` stands for any text and `?` for one character.", TopicFilter{}},
		{"storage", "## storage\n\nEither `backend` with the keys that belong to it, or `url`.", Storage{}},
		{"backup", "## backup", Backup{}},
		{"backup.consumer_groups", "### backup.consumer_groups", GroupFilter{}},
		{"restore", "## restore", Restore{}},
		{"approval", "## approval\n\nWith `required: true` an operation makes its plan, shows it, and waits. See docs/OPERATING.md.", Approval{}},
		{"notifications", "## notifications\n\nA channel is used when its address or key is given. See docs/OPERATING.md.", Notifications{}},
		{"notifications.webhook", "### notifications.webhook", Webhook{}},
		{"notifications.slack", "### notifications.slack", Slack{}},
		{"notifications.pagerduty", "### notifications.pagerduty", PagerDuty{}},
		{"retention", "## retention\n\nFor `prune`. A backup is kept when any rule keeps it; the newest of each cluster, and of each selection of its topics, always is. See docs/OPERATING.md.", Retention{}},
		{"temporal", "## temporal", Temporal{}},
	}
	for _, s := range sections {
		fmt.Fprintf(&b, "\n%s\n\n| Key | Value | Default | |\n|---|---|---|---|\n", s.text)
		for _, k := range Keys(s.value) {
			if strings.Contains(k.Path, ".") {
				continue // in a section of its own
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.Name, k.values(), code(k.Default), escape(k.Doc))
		}
	}
	return b.String()
}

// values says in a table's cell what may be written.
func (k Key) values() string {
	text := k.Kind
	if k.OneOf != nil {
		text = "`" + strings.Join(k.OneOf, "`, `") + "`"
	}
	return escape(text + rangeText(field{min: k.Min, max: k.Max}))
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

func escape(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

const referenceHead = `# Configuration

` + "`backup`, `restore` and `three-phase-restore`" + ` take a YAML file with ` + "`--config`" + `. This page is made from the
program's types (` + "`go generate ./internal/config`" + `), so it says what the program does.

## A backup and a restore

` + "```yaml" + `
mode: backup
backup_id: "production-backup-001"
source:
  bootstrap_servers:
    - kafka-1:9092
    - kafka-2:9092
  security:
    security_protocol: SASL_SSL
    sasl_mechanism: SCRAM-SHA-512
    sasl_username: backup
    sasl_password: ${KAFKA_PASSWORD}
    ssl_ca_location: /etc/kafka/ca.pem
  topics:
    include: ["orders*", "payments"]
    exclude: ["*-dlq"]
storage:
  backend: s3
  bucket: my-kafka-backups
  region: us-west-2
  prefix: production
backup:
  compression: zstd
` + "```" + `

` + "```yaml" + `
mode: restore
backup_id: "production-backup-001"
target:
  bootstrap_servers:
    - kafka-dr:9092
storage:
  backend: s3
  bucket: my-kafka-backups
  region: us-west-2
  prefix: production
restore:
  time_window_end: 2024-12-03T10:00:00Z
  topic_mapping:
    orders: orders-restored
  consumer_group_strategy: header-based
  reset_consumer_offsets: true
  consumer_groups:
    - order-processor
    - payment-service
` + "```" + `

## What is refused

Unknown and duplicate keys, wrong types, values out of range, keys that contradict each other, and a file made for
another command. Everything that is wrong is reported at once, each with file, line, column, key and what would be right:

` + "```" + `
backup.yaml:9:5: source.security.sasl_mechansim: unknown key; did you mean sasl_mechanism?
backup.yaml:14:14: storage.backend: "s4" is not possible here; write one of filesystem, s3, azure, gcs, memory; did you mean s3?
` + "```" + `

## Environment variables

` + "`${NAME}` in a value is replaced by the environment variable, `${NAME:-default}` by the default when the variable is not set or\nempty. `$${` stands for a plain `${`" + `. A variable that is not set and has no default is an error. Values are replaced after
the file was read as YAML: a variable cannot bring keys with it. Replaced by the command that reads the file.

## Secrets

A secret (password, key, token) is given as ` + "`${NAME}`" + ` or as ` + "`file:/path`" + `, whose content without the line end it is. It is read by
the process that connects, the worker, when it connects; only the reference goes to Temporal. A secret that is
written out in the file is refused where the work is done by a worker. Secrets are never printed.

Paths of certificates and keys (` + "`ssl_ca_location`" + ` and the like) are read by that process, too.
`
