package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write docs/CONFIGURATION.md")

func TestReferenceIsUpToDate(t *testing.T) {
	const path = "../../docs/CONFIGURATION.md"
	want := Reference()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the types say; run: go generate ./internal/config", path)
	}
}

// The examples in the reference must be taken.
func TestReferenceExamples(t *testing.T) {
	t.Setenv("KAFKA_PASSWORD", "x")
	examples := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(Reference(), -1)
	if len(examples) != 2 {
		t.Fatalf("%d examples", len(examples))
	}
	for i, use := range []Use{ForBackup, ForRestore} {
		if _, err := Parse(use, "example.yaml", []byte(examples[i][1])); err != nil {
			t.Error(err)
		}
	}
}

// Every key has a text, a name that YAML and JSON share, a default and bounds that it takes itself.
func TestKeys(t *testing.T) {
	New() // panics on a default that is not taken
	for _, k := range Keys(Document{}) {
		if k.Doc == "" || !strings.HasSuffix(k.Doc, ".") {
			t.Errorf("%s: no text, or no sentence: %q", k.Path, k.Doc)
		}
		if !regexp.MustCompile(`^[a-z0-9_]+$`).MatchString(k.Name) {
			t.Errorf("%s: not a name for a key", k.Path)
		}
		if k.Section || k.Nested {
			continue
		}
		for _, text := range append([]string{k.Default, k.Min, k.Max}, k.OneOf...) {
			if text == "" || strings.HasPrefix(k.Kind, "mapping") {
				continue
			}
			if err := Set(New(), k.Path, text); err != nil {
				t.Errorf("%s does not take its own %q: %v", k.Path, text, err)
			}
		}
	}
}

func TestThreePhaseRestoreOfTheGuide(t *testing.T) {
	doc, err := Parse(ForRestore, "three-phase-restore.yaml", []byte(`
mode: restore
backup_id: "production-backup-001"
target:
  bootstrap_servers:
  - kafka-dr:9092
storage:
  backend: s3
  bucket: my-kafka-backups
  region: us-west-2
restore:
  consumer_group_strategy: header-based
  reset_consumer_offsets: true
  consumer_groups:
  - order-processor
  - payment-service
  - analytics-consumer
`))
	if err != nil {
		t.Fatal(err)
	}
	want := New()
	want.Mode, want.BackupID = "restore", "production-backup-001"
	want.Target.BootstrapServers = []string{"kafka-dr:9092"}
	want.Storage = Storage{Backend: "s3", Bucket: "my-kafka-backups", Region: "us-west-2"}
	want.Restore.ConsumerGroupStrategy, want.Restore.ResetConsumerOffsets = "header-based", true
	want.Restore.ConsumerGroups = []string{"order-processor", "payment-service", "analytics-consumer"}
	doc.origin = origin{}
	if !reflect.DeepEqual(doc, want) {
		t.Errorf("%+v\nand not\n%+v", doc, want)
	}
}

func TestValues(t *testing.T) {
	t.Setenv("BROKERS", "a:1, b:2")
	t.Setenv("LEVEL", "7")
	t.Setenv("EMPTY", "")
	doc, err := Parse(ForAnything, "x.yaml", []byte(`
backup_id: 20241203
source:
  bootstrap_servers: ${BROKERS}
  security:
    security_protocol: sasl_ssl
    sasl_mechanism: SCRAM-SHA256
    sasl_username: ${USERNAME_THAT_IS_NOT_SET:-ann}
    sasl_password: ${NOT_SET_AND_NOT_LOOKED_UP_HERE}
    ssl_ca_location: "price: $${5}"
  connect_timeout: 1500ms
  topics: {include: [a, "b*"]}
storage: {backend: filesystem, path: "/data/${EMPTY:-d}/x"}
backup:
  compression_level: ${LEVEL}
  segment_max_bytes: 64MiB
  block_max_bytes: 100000
  rate_limit_bytes_per_sec: 1.5MB
  incremental: false
restore:
  time_window_start: 1733047200000
  time_window_end: 2024-12-01T12:00:00.5+01:00
  partitions: {orders: [0, 2]}
  topic_config:
    "*": {retention.ms: -1}
    orders: {cleanup.policy: compact, max.message.bytes: null}
  partition_count: {orders: 12}
`))
	if err != nil {
		t.Fatal(err)
	}
	if doc.BackupID != "20241203" || !reflect.DeepEqual(doc.Source.BootstrapServers, []string{"a:1", "b:2"}) || doc.Source.ConnectTimeout.Std().Milliseconds() != 1500 {
		t.Errorf("%+v", doc.Source)
	}
	sec := doc.Source.Security
	if sec.SecurityProtocol != "SASL_SSL" || sec.SASLMechanism != "SCRAM-SHA-256" || sec.SASLUsername != "ann" || sec.SSLCALocation != "price: ${5}" {
		t.Errorf("%+v", sec)
	}
	if doc.Storage.Path != "/data/d/x" {
		t.Errorf("%q", doc.Storage.Path)
	}
	if b := doc.Backup; b.CompressionLevel != 7 || b.SegmentMaxBytes != 64<<20 || b.BlockMaxBytes != 100000 || b.RateLimitBytesPerSec != 1500000 || b.Incremental || !b.IncludeConsumerGroups {
		t.Errorf("%+v", b)
	}
	r := doc.Restore
	if *r.TimeWindowStart != 1733047200000 || *r.TimeWindowEnd != 1733050800500 || !reflect.DeepEqual(r.Partitions["orders"], []int32{0, 2}) {
		t.Errorf("%+v", r)
	}
	if cfg := r.TopicConfigFor("orders"); *cfg["retention.ms"] != "-1" || *cfg["cleanup.policy"] != "compact" || cfg["max.message.bytes"] != nil || len(cfg) != 3 {
		t.Errorf("%v", cfg)
	}
	if r.PartitionCountFor("orders") != 12 || r.PartitionCountFor("payments") != 0 {
		t.Errorf("%v", r.PartitionCount)
	}
}

// Each problem: where, which key, and what the message says.
func TestProblems(t *testing.T) {
	for _, tc := range []struct {
		name string
		use  Use
		yaml string
		want []string // "line:column key: part of the message"
	}{
		{"unknown key", ForAnything, "backup:\n  compresion: zstd\n", []string{"2:3 backup.compresion: did you mean compression?"}},
		{"unknown key of another section", ForAnything, "restore:\n  segment_max_bytes: 1\n", []string{"2:3 restore.segment_max_bytes: belongs under backup"}},
		{"unknown key, nothing near", ForAnything, "colour: red\n", []string{"1:1 colour: known here: mode, backup_id"}},
		{"duplicate key", ForAnything, "mode: backup\nbackup_id: a\nmode: restore\n", []string{"3:1 mode: duplicate key; it stands in line 1"}},
		{"duplicate in a mapping", ForAnything, "restore:\n  topic_mapping:\n    a: b\n    a: c\n", []string{"4:5 restore.topic_mapping.a: duplicate key"}},
		{"wrong value", ForAnything, "storage:\n  backend: s4\n", []string{"2:12 storage.backend: write one of filesystem, s3, azure, gcs, memory; did you mean s3?"}},
		{"number out of range", ForAnything, "backup:\n  compression_level: 23\n", []string{"2:22 backup.compression_level: 23 is out of range; write a value from 1 to 22"}},
		{"size out of range", ForAnything, "backup:\n  segment_max_bytes: 5GiB\n", []string{"2:22 backup.segment_max_bytes: from 1MiB to 4GiB"}},
		{"negative size", ForAnything, "backup:\n  rate_limit_bytes_per_sec: -1\n", []string{"2:29 backup.rate_limit_bytes_per_sec: at least 0"}},
		{"text for a number", ForAnything, "backup:\n  compression_level: fast\n", []string{"2:22 backup.compression_level: write a whole number from 1 to 22"}},
		{"number in quotes", ForAnything, "backup:\n  compression_level: \"3\"\n", []string{"2:22 backup.compression_level: without quotes"}},
		{"text for a switch", ForAnything, "restore:\n  dry_run: yes\n", []string{"2:12 restore.dry_run: write true or false"}},
		{"duration without unit", ForAnything, "backup:\n  segment_max_age: 60\n", []string{"2:20 backup.segment_max_age: with its unit"}},
		{"no such time", ForAnything, "restore:\n  time_window_end: 2024-12-01 10:00\n", []string{"2:20 restore.time_window_end: RFC 3339"}},
		{"list for a value", ForAnything, "backup_id: [a]\n", []string{"1:12 backup_id: a list does not belong here; write text"}},
		{"value for a list", ForAnything, "restore:\n  consumer_groups: a\n", []string{"2:20 restore.consumer_groups: write a list of texts"}},
		{"value for a section", ForAnything, "storage: /data\n", []string{"1:10 storage: write key: value pairs"}},
		{"no value", ForAnything, "backup_id:\n", []string{"1:11 backup_id: there is no value"}},
		{"variable not set", ForAnything, "backup_id: ${KAFKA_BACKUP_TEST_UNSET}\n", []string{"1:12 backup_id: KAFKA_BACKUP_TEST_UNSET is not set"}},
		{"variable not closed", ForAnything, "backup_id: ${X\n", []string{"1:12 backup_id: no closing }"}},
		{"not YAML", ForAnything, "a: b: c\n", []string{"1:1 : this is not YAML"}},
		{"two documents", ForAnything, "mode: backup\n---\nmode: restore\n", []string{"2:1 : a second document begins here"}},
		{"several", ForAnything, "restore:\n  dry_run: 1\n  colour: red\nmode: rest\n", []string{"2:12 restore.dry_run: true or false", "3:3 restore.colour: unknown key", "4:7 mode: one of backup, restore"}},

		{"nothing for a backup", ForBackup, "mode: backup\n", []string{"1:1 source.bootstrap_servers: is missing", "1:1 storage.backend: is missing"}},
		{"nothing for a restore", ForRestore, "", []string{"1:1 backup_id: is missing", "1:1 storage.backend: is missing", "1:1 target.bootstrap_servers: is missing"}},
		{"another mode", ForRestore, "mode: backup\nsource: {bootstrap_servers: [a:1]}\nstorage: {backend: memory}\n", []string{"1:7 mode: the file is for a backup, and this is a restore"}},
		{"a broken value is not missing, too", ForBackup, "source:\n  bootstrap_servers: {a: 1}\nstorage: {backend: memory}\n", []string{"2:22 source.bootstrap_servers: a mapping does not belong here"}},
		{"backup id", ForAnything, "backup_id: a/b\n", []string{`1:12 backup_id: "a/b" is not possible here`}},
		{"addresses", ForAnything, "source:\n  bootstrap_servers:\n  - kafka\n  - SSL://kafka:9093\n  - ::1:9092\n  - kafka:99999\n  - :9092\n", []string{
			"3:5 source.bootstrap_servers[0]: write host:port", "4:5 source.bootstrap_servers[1]: write kafka:9093 and give SSL", "5:5 source.bootstrap_servers[2]: in brackets", "6:5 source.bootstrap_servers[3]: from 1 to 65535", "7:5 source.bootstrap_servers[4]: the host is missing"}},
		{"a regular expression", ForAnything, "source:\n  topics:\n    include: [orders, ^pay.*$]\n", []string{"3:23 source.topics.include[1]: no regular expressions"}},
		{"topics of a target", ForAnything, "target:\n  topics:\n    include: [orders]\n", []string{"2:3 target.topics: restore.topics"}},

		{"SASL without a mechanism", ForAnything, "source:\n  security:\n    security_protocol: SASL_SSL\n", []string{"2:3 source.security.sasl_mechanism: is missing"}},
		{"SASL without credentials", ForAnything, "source:\n  security: {security_protocol: SASL_SSL, sasl_mechanism: PLAIN}\n", []string{"2:3 source.security.sasl_password: is missing", "2:3 source.security.sasl_username: is missing"}},
		{"credentials without SASL", ForAnything, "source:\n  security: {sasl_username: ann}\n", []string{"2:3 source.security.security_protocol: SASL is configured and the protocol is PLAINTEXT"}},
		{"TLS keys without TLS", ForAnything, "source:\n  security: {ssl_ca_location: ca.pem}\n", []string{"2:31 source.security.ssl_ca_location: TLS is configured"}},
		{"certificate without key", ForAnything, "source:\n  security: {security_protocol: SSL, ssl_certificate_location: c.pem}\n", []string{"2:3 source.security.ssl_key_location: is missing"}},
		{"token and endpoint", ForAnything, "source:\n  security: {security_protocol: SASL_SSL, sasl_mechanism: OAUTHBEARER, sasl_oauthbearer_token: \"file:/t\", sasl_oauthbearer_client_id: x}\n", []string{"2:96 source.security.sasl_oauthbearer_token: exclude each other"}},
		{"neither token nor endpoint", ForAnything, "source:\n  security: {security_protocol: SASL_SSL, sasl_mechanism: OAUTHBEARER}\n", []string{"2:3 source.security.sasl_oauthbearer_token_endpoint_url: is missing"}},
		{"token endpoint in the open", ForAnything, "source:\n  security: {security_protocol: SASL_SSL, sasl_mechanism: OAUTHBEARER, sasl_oauthbearer_token_endpoint_url: \"http://idp/token\", sasl_oauthbearer_client_id: x, sasl_oauthbearer_client_secret: \"${X}\"}\n", []string{"2:109 source.security.sasl_oauthbearer_token_endpoint_url: unencrypted"}},

		{"backend without its key", ForAnything, "storage: {backend: s3}\n", []string{"1:1 storage.bucket: backend s3 needs it"}},
		{"key of another backend", ForAnything, "storage: {backend: filesystem, path: /a, bucket: b}\n", []string{"1:50 storage.bucket: backend filesystem has no such key"}},
		{"keys without a backend", ForAnything, "storage: {bucket: b}\n", []string{"1:1 storage.backend: is missing"}},
		{"backend and url", ForAnything, "storage: {backend: memory, url: \"mem://\"}\n", []string{"1:33 storage.url: has no such key"}},
		{"half a key pair", ForAnything, "storage: {backend: s3, bucket: b, access_key: \"${A}\"}\n", []string{"1:47 storage.access_key: belong together"}},
		{"prefix that climbs", ForAnything, "storage: {backend: s3, bucket: b, prefix: a/../b}\n", []string{"1:43 storage.prefix: is not a folder"}},

		{"window backwards", ForAnything, "restore: {time_window_start: 5, time_window_end: 4}\n", []string{"1:50 restore.time_window_end: is before time_window_start"}},
		{"groups that nothing resets", ForAnything, "restore: {consumer_groups: [a]}\n", []string{"1:11 restore.consumer_groups: reset_consumer_offsets: true"}},
		{"reset and skip", ForAnything, "restore: {reset_consumer_offsets: true}\n", []string{"1:1 restore.consumer_group_strategy: needs header-based"}},
		{"two topics into one", ForAnything, "restore: {topic_mapping: {a: c, b: c}}\n", []string{"1:36 restore.topic_mapping.b: a goes to c too"}},
		{"no topic name", ForAnything, "restore: {topic_mapping: {a: \"b c\"}}\n", []string{`1:30 restore.topic_mapping.a: "b c" is not a topic name`}},
		{"negative partition", ForAnything, "restore: {partitions: {a.b: [0, -1]}}\n", []string{`1:33 restore.partitions["a.b"][1]: count from 0`}},
		{"block larger than segment", ForAnything, "backup: {segment_max_bytes: 1MiB, block_max_bytes: 2MiB}\n", []string{"1:52 backup.block_max_bytes: more than segment_max_bytes"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse(tc.use, "f.yaml", []byte(tc.yaml))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("it was taken")
			}
			for i := range max(len(e.Problems), len(tc.want)) {
				if i >= len(tc.want) || i >= len(e.Problems) {
					t.Fatalf("%d problems and not %d:\n%v", len(e.Problems), len(tc.want), err)
				}
				p := e.Problems[i]
				where, message, _ := strings.Cut(tc.want[i], ": ")
				if got := fmt.Sprintf("%d:%d %s", p.Line, p.Column, p.Key); got != where || !strings.Contains(p.Message, message) || p.File != "f.yaml" {
					t.Errorf("%s: %s\nand not %s", got, p.Message, tc.want[i])
				}
			}
		})
	}
}

func TestProblemText(t *testing.T) {
	_, err := Parse(ForAnything, "backup.yaml", []byte("backup:\n  compresion: zstd\n"))
	if got := err.Error(); got != "backup.yaml:2:3: backup.compresion: unknown key; did you mean compression?" {
		t.Errorf("%s", got)
	}
}

func TestAnchorsAndMergeKeys(t *testing.T) {
	doc, err := Parse(ForAnything, "f.yaml", []byte(`
source: &cluster
  bootstrap_servers: [a:1]
  client_id: mine
target:
  <<: *cluster
  client_id: other
`))
	if err != nil {
		t.Fatal(err)
	}
	if doc.Target.BootstrapServers[0] != "a:1" || doc.Target.ClientID != "other" || doc.Source.ClientID != "mine" {
		t.Errorf("%+v", doc.Target)
	}
}

func TestOverrides(t *testing.T) {
	file := []byte("storage: {backend: memory}\nsource: {security: {security_protocol: SASL_SSL, sasl_mechanism: PLAIN}}\n")
	flags := []Override{
		{Key: "source.bootstrap_servers", Text: "a:1,b:2", From: "--bootstrap-servers"}, {Key: "source.security.sasl_username", Text: "ann", From: "--sasl-username"},
		{Key: "source.security.sasl_password", Text: "${P}", From: "--sasl-password"}, {Key: "restore.topic_mapping", Text: "a=b, c=d", From: "--topic-mapping"}, {Key: "restore.time_window_end", Text: "5", From: "--to"},
	}
	doc, err := Parse(ForBackup, "f.yaml", file, flags...)
	if err != nil {
		t.Fatal(err)
	}
	if len(doc.Source.BootstrapServers) != 2 || doc.Source.Security.SASLUsername != "ann" || doc.Restore.TopicMapping["c"] != "d" || *doc.Restore.TimeWindowEnd != 5 {
		t.Errorf("%+v", doc)
	}
	_, err = Parse(ForBackup, "f.yaml", file, append(flags, Override{Key: "source.security.sasl_mechanism", Text: "PLAN", From: "--sasl-mechanism"}, Override{Key: "backup_id", Text: "a/b", From: "--backup-id"})...)
	if err == nil || !strings.Contains(err.Error(), `--sasl-mechanism: source.security.sasl_mechanism: "PLAN" is not possible here`) || !strings.Contains(err.Error(), "--backup-id: backup_id:") {
		t.Errorf("%v", err)
	}
	for _, key := range []string{"nope", "source", "source.nope", "restore.partitions", "backup_id.x"} {
		if err := Set(New(), key, "1"); err == nil {
			t.Errorf("%s was set", key)
		}
	}
}

func TestLoad(t *testing.T) {
	if _, err := Load(ForBackup, filepath.Join(t.TempDir(), "none.yaml")); err == nil || !strings.Contains(err.Error(), "none.yaml: the configuration cannot be read: no such file") {
		t.Errorf("%v", err)
	}
	doc, err := Load(ForAnything, "")
	if err != nil || doc.Backup.Compression != "zstd" || !doc.Restore.CreateTopics {
		t.Errorf("%+v, %v", doc, err)
	}
}

func TestDocumentThroughJSON(t *testing.T) {
	doc, err := Parse(ForAnything, "f.yaml", []byte(`
source: {bootstrap_servers: [a:1], security: {security_protocol: SASL_SSL, sasl_mechanism: PLAIN, sasl_username: u, sasl_password: "${P}"}}
backup: {incremental: false, include_consumer_groups: false, segment_max_age: 90s}
restore: {create_topics: false, time_window_start: 0, topic_config: {a: {b: null, c: d}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	var back Document
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	doc.origin = origin{}
	if !reflect.DeepEqual(*doc, back) {
		t.Errorf("%s", b)
	}
}

func TestSecrets(t *testing.T) {
	const value = "swordfish"
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(value+"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KAFKA_BACKUP_TEST_SECRET", value)
	for _, tc := range []struct {
		text    string
		literal bool
		fails   bool
	}{
		{"${KAFKA_BACKUP_TEST_SECRET}", false, false},
		{"file:" + path, false, false},
		{value, true, false},
		{"${KAFKA_BACKUP_TEST_SECRET:-" + value + "}", true, false},
		{"${NOPE:-" + value + "}", true, false},
		{"${KAFKA_BACKUP_TEST_UNSET}", false, true},
		{"${KAFKA_BACKUP_TEST_UNSET}-" + value, true, true},
		{"file:/no/such/file", false, true},
	} {
		s := NewSecret(tc.text)
		got, err := s.Resolve()
		var se *SecretError
		if s.Literal() != tc.literal || (err != nil) != tc.fails || err == nil && got != value || err != nil && !errors.As(err, &se) {
			t.Errorf("%s: %q, literal %v, %v", tc.text, got, s.Literal(), err)
		}
		b, jerr := json.Marshal(struct{ S Secret }{s})
		var le *LiteralSecretError
		if tc.literal != errors.As(jerr, &le) {
			t.Errorf("%s: JSON %s, %v", tc.text, b, jerr)
		}
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", s)
		yml, _ := yaml.Marshal(struct{ S Secret }{s})
		shown := fmt.Sprint(s, []Secret{s}, err, jerr, string(b), log.String(), string(yml)) + fmt.Sprintf("%v %+v %#v %s %q %x %d", s, s, s, s, s, s, s) + fmt.Sprintf("%+v", Security{SASLPassword: s})
		if strings.Contains(shown, value) {
			t.Errorf("%s shows: %s", tc.text, shown)
		}
	}
	if v, err := (Secret{}).Resolve(); v != "" || err != nil {
		t.Errorf("no secret: %q, %v", v, err)
	}
}

func TestLiteralSecretsAreFound(t *testing.T) {
	doc, err := Parse(ForAnything, "f.yaml", []byte("storage:\n  backend: s3\n  bucket: b\n  access_key: ${A}\n  secret_key: hunter2\n"))
	if err != nil {
		t.Fatal(err)
	}
	got := doc.LiteralSecrets()
	if len(got) != 1 || got[0].Key != "storage.secret_key" || got[0].Line != 5 || strings.Contains(got[0].Error(), "hunter2") {
		t.Errorf("%v", got)
	}
}

func TestMatchPattern(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringMatching(`[ab*?]{0,8}`).Draw(t, "pattern")
		name := rapid.StringMatching(`[ab]{0,10}`).Draw(t, "name")
		re := regexp.MustCompile("^" + strings.NewReplacer("*", ".*", "?", ".").Replace(pattern) + "$")
		if got := MatchPattern(pattern, name); got != re.MatchString(name) {
			t.Fatalf("%q, %q: %v", pattern, name, got)
		}
	})
}

func TestSelection(t *testing.T) {
	f := TopicFilter{Include: []string{"orders*", "pay"}, Exclude: []string{"*-dlq"}}
	for name, want := range map[string]bool{"orders": true, "orders-eu": true, "orders-dlq": false, "pay": true, "payments": false} {
		if f.Match(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
	if !(TopicFilter{}).Match("x") || f.Names("orders*x") || !f.Names("pay") {
		t.Error("an empty filter takes all; a name is a name")
	}
	r := Restore{Topics: f, Partitions: map[string][]int32{"pay": {1, 2}}, ExcludePartitions: map[string][]int32{"pay": {2}, "orders": {0}}, PartitionCount: map[string]int32{"*": 1, "or*": 2, "orders": 3, "??????": 4}}
	for tp, want := range map[string]bool{"pay-0": false, "pay-1": true, "pay-2": false, "orders-0": false, "orders-5": true, "payments-0": false} {
		topic, p, _ := strings.Cut(tp, "-")
		if r.Selects(topic, int32(p[0]-'0')) != want {
			t.Errorf("%s: %v", tp, !want)
		}
	}
	for topic, want := range map[string]int32{"orders": 3, "orderz": 4, "orx": 2, "x": 1} {
		if got := r.PartitionCountFor(topic); got != want {
			t.Errorf("%s: %d and not %d", topic, got, want)
		}
	}
}

func TestBytesAndDurationsPrintWhatTheyTake(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := Bytes(rapid.Int64Range(0, 1<<52).Draw(t, "bytes"))
		var back Bytes
		if err := back.setText(b.String()); err != nil || back != b {
			t.Fatalf("%d is %s and back %d, %v", int64(b), b, int64(back), err)
		}
		d := Duration(rapid.Int64Range(0, 1e15).Draw(t, "duration"))
		var dback Duration
		if err := dback.setText(d.String()); err != nil || dback != d {
			t.Fatalf("%d is %s and back %d, %v", int64(d), d, int64(dback), err)
		}
	})
}

// Whatever the file holds, it is read or refused with problems that have a position.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"mode: backup", "restore: {topic_mapping: {a: b}}", "a: &a [*a]", "<<: {a: b}", "? [a]\n: b", "backup: *x", "restore: &r {<<: *r}", "- a", "!!binary x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		doc, err := Parse(ForAnything, "f.yaml", []byte(text))
		if err == nil {
			if _, err := json.Marshal(doc); err != nil && len(doc.LiteralSecrets()) == 0 {
				t.Errorf("%q does not marshal: %v", text, err)
			}
			return
		}
		var e *Error
		if !errors.As(err, &e) || len(e.Problems) == 0 {
			t.Fatalf("%v", err)
		}
		for _, p := range e.Problems {
			if p.Message == "" || p.File != "f.yaml" {
				t.Errorf("%+v", p)
			}
		}
	})
}

// A command that says itself what is to be done does not overrule what it is told.
func TestImplied(t *testing.T) {
	implied := []Override{
		{Key: "restore.consumer_group_strategy", Text: "header-based", From: "three-phase-restore", Implied: true},
		{Key: "restore.reset_consumer_offsets", Text: "true", From: "three-phase-restore", Implied: true},
	}
	file := "backup_id: b\ntarget: {bootstrap_servers: k:1}\nstorage: {backend: memory}\n"
	for _, same := range []string{"", "restore:\n  reset_consumer_offsets: true\n", "restore:\n  consumer_groups: [a]\n"} {
		d, err := Parse(ForRestore, "f.yaml", []byte(file+same), implied...)
		if err != nil || !d.Restore.ResetConsumerOffsets || d.Restore.ConsumerGroupStrategy != "header-based" {
			t.Errorf("%q: %v", same, err)
		}
	}
	_, err := Parse(ForRestore, "f.yaml", []byte(file+"restore:\n  reset_consumer_offsets: false\n"), implied...)
	if err == nil || !strings.Contains(err.Error(), "f.yaml:5:27: restore.reset_consumer_offsets: it says false, and three-phase-restore always does true") {
		t.Errorf("%v", err)
	}
	skip := Override{Key: "restore.consumer_group_strategy", Text: "skip", From: "--consumer-group-strategy"}
	_, err = Parse(ForRestore, "f.yaml", []byte(file), append([]Override{skip}, implied...)...)
	if err == nil || !strings.HasPrefix(err.Error(), "--consumer-group-strategy: restore.consumer_group_strategy: it says skip") {
		t.Errorf("%v", err)
	}
}

// What is no YAML has no keys that could be missing.
func TestUnreadable(t *testing.T) {
	_, err := Parse(ForBackup, "f.yaml", []byte("mode: backup\nsource:\n\tbootstrap_servers: x\n"))
	if err == nil || err.Error() != "f.yaml:3:1: this is not YAML: found character that cannot start any token (a tab? YAML is indented with spaces)" {
		t.Errorf("%v", err)
	}
}
