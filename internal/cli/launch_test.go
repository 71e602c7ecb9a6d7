package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
	"github.com/kafka-backup/kafka-backup/workflows"
)

const backupConfig = `
backup_id: nightly
source:
  bootstrap_servers: [kafka-1:9092, kafka-2:9092]
  topics: {include: [orders, pay*]}
storage: {backend: s3, bucket: my-backups, prefix: prod, region: us-west-2}
`

const restoreConfig = `
backup_id: nightly
target: {bootstrap_servers: ["kafka-dr:9092"]}
storage: {backend: s3, bucket: my-backups, prefix: prod, region: us-west-2}
`

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

var testReport = activities.BackupReport{BackupID: "nightly", ClusterID: "c", StartedAt: testTime, FinishedAt: testTime.Add(10 * time.Second),
	Topics: 2, Groups: 3, Total: activities.Amount{Records: 1000, Bytes: 2 << 20, Partitions: 5}, New: activities.Amount{Records: 400, Bytes: 1 << 20},
	Stored: 1 << 20, NewStored: 1 << 19, Warnings: []string{"careful"}}

func TestBackupIsStartedFollowedAndReported(t *testing.T) {
	f := newFakeService().ended(testReport, nil)
	r := runProgram(t, f.install, "backup", "--config", write(t, backupConfig), "--max-concurrent-parts", "7")
	if r.code != ExitDone {
		t.Fatalf("code %d\n%s", r.code, r.err)
	}
	golden(t, "backup-report.txt", r.out)
	o := f.started[0]
	if !strings.HasPrefix(o.ID, "backup/nightly/s3-my-backups-prod-") {
		t.Errorf("workflow id %s", o.ID)
	}
	if o.TaskQueue != "kafka-backup" || o.StaticSummary != "Back up kafka-1:9092,kafka-2:9092 to s3://my-backups/prod as nightly" ||
		!strings.Contains(o.StaticDetails, "- **Topics**: `orders, pay*`\n") {
		t.Errorf("started with %+v", o)
	}
	if kind, ok := o.TypedSearchAttributes.GetKeyword(temporalservice.KeyKind); !ok || kind != "backup" {
		t.Errorf("kind %q", kind)
	}
	req := f.request.(activities.BackupRequest)
	if req.BackupID != "nightly" || req.Options.MaxConcurrentParts != 7 || req.Source.BootstrapServers[1] != "kafka-2:9092" {
		t.Errorf("request %+v", req)
	}
	if !strings.HasPrefix(r.err, "Started workflow "+o.ID+"\nWeb UI: http://127.0.0.1:8233/namespaces/default/workflows/") {
		t.Errorf("stderr %q", r.err)
	}
}

func TestSameOperationHasSameID(t *testing.T) {
	id := func(args ...string) string {
		t.Helper()
		f := newFakeService().ended(testReport, nil)
		if r := runProgram(t, f.install, append(args, "--detach")...); r.code != ExitDone {
			t.Fatalf("%q: code %d, %s", args, r.code, r.err)
		}
		return f.started[0].ID
	}
	conf := write(t, restoreConfig)
	base := id("restore", "--config", conf)
	if !strings.HasPrefix(base, "restore/nightly/kafka-dr-9092-") || strings.Count(base, "/") != 3 {
		t.Errorf("workflow id %s", base)
	}
	for _, same := range [][]string{
		{"--max-concurrent-parts", "9"}, {"--rate-limit-bytes-per-sec", "1MB"}, {"--client-id", "x"}, {"--produce-max-bytes", "1MiB"},
		{"--sasl-mechanism", "PLAIN", "--security-protocol", "SASL_SSL", "--sasl-username", "u", "--sasl-password", "${PW}"},
	} {
		if got := id(append([]string{"restore", "--config", conf}, same...)...); got != base {
			t.Errorf("%q changes the id to %s", same, got)
		}
	}
	seen := map[string]bool{base: true}
	for _, other := range [][]string{
		{"--backup-id", "other"}, {"--bootstrap-servers", "other:9092"}, {"--storage-prefix", "other"}, {"--topics-include", "orders"},
		{"--time-window-end", "2024-12-01T10:00:00Z"}, {"--topic-mapping", "a=b"}, {"--include-original-offset-header"},
		{"--consumer-group-strategy", "header-based", "--reset-consumer-offsets", "--consumer-groups", "g"},
	} {
		got := id(append([]string{"restore", "--config", conf}, other...)...)
		if seen[got] {
			t.Errorf("%q has the id of another restore, %s", other, got)
		}
		seen[got] = true
	}
	three := id("three-phase-restore", "--config", conf)
	if got := id("restore", "--config", conf, "--consumer-group-strategy", "header-based", "--reset-consumer-offsets"); got != three || three == base {
		t.Errorf("three-phase-restore is %s, restore with reset %s", three, got)
	}
}

func TestAttachesToARunningOperation(t *testing.T) {
	f := newFakeService().ended(testReport, nil)
	config := write(t, backupConfig)
	if r := runProgram(t, f.install, "backup", "--config", config, "--by", "ann"); r.code != ExitDone {
		t.Fatalf("code %d, %q, %q", r.code, r.err, r.out)
	}
	f.running = true
	r := runProgram(t, f.install, "backup", "--config", config, "--by", "ben")
	if r.code != ExitDone || !strings.HasPrefix(r.err, "Running already: workflow backup/nightly/") || !strings.Contains(r.out, "Backup: nightly") {
		t.Errorf("code %d, %q, %q", r.code, r.err, r.out)
	}
	// Another cluster's backup of the same name is not this one.
	r = runProgram(t, f.install, "backup", "--config", config, "--bootstrap-servers", "elsewhere:9092")
	if r.code != ExitFailed || r.out != "" || !strings.Contains(r.err, "is running already, and was asked for with other settings") {
		t.Errorf("code %d, %q, %q", r.code, r.err, r.out)
	}
}

func TestDetachSaysHowToFollow(t *testing.T) {
	f := newFakeService()
	r := runProgram(t, f.install, "backup", "--config", write(t, backupConfig), "--detach")
	id := f.started[0].ID
	for _, want := range []string{"kafka-backup watch " + id, "kafka-backup pause " + id, "kafka-backup cancel " + id} {
		if !strings.Contains(r.err, want) {
			t.Errorf("%q is not said: %s", want, r.err)
		}
	}
	if r.code != ExitDone || r.out != "" || f.looks != 0 {
		t.Errorf("code %d, stdout %q, %d looks", r.code, r.out, f.looks)
	}
}

func TestInterruptDetaches(t *testing.T) {
	f := newFakeService()
	ctx, interrupt := context.WithCancel(t.Context())
	var out, errs bytes.Buffer
	p := newProgram(Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
	f.install(p)
	code := make(chan int)
	go func() { code <- p.run(ctx, []string{"backup", "--config", write(t, backupConfig)}) }()
	for {
		f.mu.Lock()
		looking := f.looks > 0
		f.mu.Unlock()
		if looking {
			break
		}
		select {
		case c := <-code:
			t.Fatalf("ended with code %d: %s", c, errs.String())
		case <-time.After(time.Millisecond):
		}
	}
	interrupt()
	if c := <-code; c != ExitInterrupted {
		t.Errorf("code %d", c)
	}
	if !strings.Contains(errs.String(), "Detached; the operation goes on. Follow it, stop it for a while, or end it with\n  kafka-backup watch backup/nightly/") || out.Len() > 0 {
		t.Errorf("stderr %q, stdout %q", errs.String(), out.String())
	}
}

func TestFailureIsToldInPlainWords(t *testing.T) {
	failed := func(message, kind string) error {
		return temporal.NewNonRetryableApplicationError(message, kind, nil)
	}
	for _, c := range []struct {
		err  error
		code int
		text string
	}{
		{failed("topic orders: no such backup", activities.NotFound), ExitFailed, " failed: topic orders: no such backup\n"},
		{failed("target: ssl_ca_location: no such file", activities.Configuration), ExitUsage, " failed: target: ssl_ca_location: no such file\n"},
		{temporal.NewCanceledError(), ExitFailed, ": the operation was cancelled\n"},
	} {
		f := newFakeService().ended(nil, c.err)
		r := runProgram(t, f.install, "backup", "--config", write(t, backupConfig))
		if r.code != c.code || r.out != "" || !strings.HasSuffix(r.err, c.text) {
			t.Errorf("%v: code %d, stdout %q, stderr %q", c.err, r.code, r.out, r.err)
		}
	}
}

func TestJSONOutput(t *testing.T) {
	f := newFakeService().ended(testReport, nil)
	f.progress = &workflows.Progress{Kind: "backup", Phase: "copy", State: workflows.Running}
	r := runProgram(t, f.install, "backup", "--config", write(t, backupConfig), "--output", "json")
	var report activities.BackupReport
	if err := json.Unmarshal([]byte(r.out), &report); err != nil || report.New.Records != 400 {
		t.Errorf("%v, stdout %s", err, r.out)
	}
	events := map[string]int{}
	for _, line := range strings.Split(strings.TrimSpace(r.err), "\n") {
		var e struct{ Event string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Errorf("%v in %q", err, line)
		}
		events[e.Event]++
	}
	if events["started"] != 1 || events["progress"] == 0 {
		t.Errorf("events %v", events)
	}
	bad := newFakeService().ended(nil, temporal.NewNonRetryableApplicationError("disk full", activities.StorageFull, nil))
	r = runProgram(t, bad.install, "backup", "--config", write(t, backupConfig), "--output", "json")
	lines := strings.Split(strings.TrimSpace(r.err), "\n")
	var last struct{ Event, Error, Type string }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Event != "failed" || last.Error != "disk full" || last.Type != activities.StorageFull {
		t.Errorf("%v, %+v", err, last)
	}
}

func TestPartlyDone(t *testing.T) {
	report := activities.RestoreReport{BackupID: "nightly", ClusterID: "c", Topics: 1, Created: 1, Groups: 1, GroupOffsets: 2,
		Total: activities.Amount{Records: 10, Bytes: 100, Partitions: 1}, Plan: "operations/x/plan.json",
		Failed: []activities.GroupFailed{{Group: "g", Topic: "orders", Partition: 0, Error: "active members"}, {Group: "h", Error: "no rights"}}}
	f := newFakeService().ended(report, nil)
	r := runProgram(t, f.install, "three-phase-restore", "--config", write(t, restoreConfig))
	if r.code != ExitPartly {
		t.Errorf("code %d, %s", r.code, r.err)
	}
	golden(t, "restore-report.txt", r.out)
	req := f.request.(activities.RestoreRequest)
	if !req.Options.ResetConsumerOffsets || req.Options.ConsumerGroupStrategy != "header-based" {
		t.Errorf("options %+v", req.Options)
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	plan := PlannedRestore{BackupID: "nightly", SourceClusterID: "s", ClusterID: "c", TopicsToCreate: 1, TimeWindowEnd: &recordTime,
		Total: activities.Amount{Records: 7, Bytes: 199}, ConsumerGroups: []string{"g", "h"}, Warnings: []string{"careful"},
		Topics: []PlannedTopic{{Source: "orders", Target: "orders-dr", SourcePartitions: 3, Partitions: 3, Create: true, Records: 3, Bytes: 99},
			{Source: "payments", Target: "payments", SourcePartitions: 2, Partitions: 4, Rekey: true, Records: 4, Bytes: 100}}}
	adjust := func(p *program) {
		p.dial = nil // not to be called
		p.plan = func(context.Context, activities.RestoreRequest) (PlannedRestore, error) { return plan, nil }
	}
	conf := write(t, restoreConfig)
	r := runProgram(t, adjust, "validate-restore", "--config", conf)
	if r.code != ExitDone || r.err != "" {
		t.Errorf("code %d, %s", r.code, r.err)
	}
	golden(t, "restore-plan.txt", r.out)
	if dry := runProgram(t, adjust, "restore", "--config", conf, "--dry-run"); dry != r {
		t.Errorf("restore --dry-run: code %d, %s%s", dry.code, dry.out, dry.err)
	}
	plan.Problems = []string{"topic orders-dr has 2 partitions, the backup 3"}
	if r := runProgram(t, adjust, "validate-restore", "--config", conf); r.code != ExitFailed || strings.Contains(r.out, "orders-dr  ") || !strings.Contains(r.out, "Problem: topic orders-dr has 2") {
		t.Errorf("code %d, %s", r.code, r.out)
	}
}

func TestSecretsAreRefused(t *testing.T) {
	adjust := func(p *program) { p.dial = nil } // not to be called
	literal := strings.Replace(backupConfig, "source:", `source:
  security: {security_protocol: SASL_SSL, sasl_mechanism: PLAIN, sasl_username: u, sasl_password: hunter2}`, 1)
	r := runProgram(t, adjust, "backup", "--config", write(t, literal))
	if r.code != ExitUsage || strings.Contains(r.err, "hunter2") || !strings.Contains(r.err, "sasl_password") || !strings.Contains(r.err, "${") {
		t.Errorf("code %d, %q", r.code, r.err)
	}
	r = runProgram(t, adjust, "backup", "--config", write(t, backupConfig), "--sasl-password", "hunter2")
	if r.code != ExitUsage || strings.Contains(r.err, "hunter2") || !strings.Contains(r.err, "--sasl-password") {
		t.Errorf("code %d, %q", r.code, r.err)
	}
}

func TestConfigurationErrors(t *testing.T) {
	adjust := func(p *program) { p.dial = nil }
	path := write(t, backupConfig+"bakup: {}\n")
	r := runProgram(t, adjust, "backup", "--config", path)
	if r.code != ExitUsage || !strings.Contains(r.err, path+":7:1") || !strings.Contains(r.err, "backup") {
		t.Errorf("code %d, %q", r.code, r.err)
	}
	r = runProgram(t, adjust, "backup", "--config", write(t, backupConfig), "--compression", "lzma")
	if r.code != ExitUsage || !strings.Contains(r.err, "--compression") || !strings.Contains(r.err, "zstd") {
		t.Errorf("code %d, %q", r.code, r.err)
	}
	if r := runProgram(t, adjust, "restore", "--config", write(t, "mode: backup\n"+restoreConfig)); r.code != ExitUsage {
		t.Errorf("code %d, %q", r.code, r.err)
	}
}

func TestServiceThatCannotBeReached(t *testing.T) {
	r := run(t, "backup", "--config", write(t, backupConfig), "--temporal-address", "127.0.0.1:1")
	if r.code != ExitFailed || !strings.Contains(r.err, "127.0.0.1:1") || !strings.Contains(r.err, "kafka-backup server") {
		t.Errorf("code %d, %q", r.code, r.err)
	}
}

func TestPathsBecomeAbsolute(t *testing.T) {
	f := newFakeService()
	local := strings.NewReplacer("{backend: s3, bucket: my-backups, prefix: prod, region: us-west-2}", "{backend: filesystem, path: some/folder}",
		"  topics:", "  security: {security_protocol: SSL, ssl_ca_location: ca.pem}\n  topics:").Replace(backupConfig)
	if r := runProgram(t, f.install, "backup", "--config", write(t, local), "--detach"); r.code != ExitDone {
		t.Fatalf("code %d, %s", r.code, r.err)
	}
	req := f.request.(activities.BackupRequest)
	if !filepath.IsAbs(req.Storage.Path) || !filepath.IsAbs(req.Source.Security.SSLCALocation) {
		t.Errorf("paths %s, %s", req.Storage.Path, req.Source.Security.SSLCALocation)
	}
}

func TestSlug(t *testing.T) {
	for s, want := range map[string]string{
		"/data/backups":             "data-backups-",
		"s3://bucket/prefix":        "s3-bucket-prefix-",
		"s3://b?endpoint=http://x":  "s3-b-",
		"kafka-1:9092,kafka-2:9092": "kafka-1-9092-kafka-2-9092-",
		"///":                       "-",
	} {
		if got := slug(s); !strings.HasPrefix(got, want) || len(got) != len(want)+8 {
			t.Errorf("slug(%q) = %q, want %q and a digest", s, got, want)
		}
	}
	if slug("/a/b") == slug("/a-b") || slug(strings.Repeat("x", 50)+"1") == slug(strings.Repeat("x", 50)+"2") {
		t.Error("different locations have the same slug")
	}
}

func TestExitCodeOfPlainErrors(t *testing.T) {
	if c := exitCode(errors.New("x")); c != ExitFailed {
		t.Errorf("code %d", c)
	}
	if c := exitCode(context.Canceled); c != ExitInterrupted {
		t.Errorf("code %d", c)
	}
}
