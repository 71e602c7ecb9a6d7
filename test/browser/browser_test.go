// Package browser opens the Temporal Web UI as an approver does, in a headless
// Chromium, and approves a restore there.
//
// It needs node (18 or newer) with npm, and Chromium: $CHROMIUM, or one that is
// installed, or one that apt installs when the test runs as root. Pictures are
// kept in the folder that KAFKA_BACKUP_SHOTS names; those in docs/images were
// made so.
package browser

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/test/dataset"
	"github.com/kafka-backup/kafka-backup/test/kafkabed"
	"github.com/kafka-backup/kafka-backup/test/oracle"
	"github.com/kafka-backup/kafka-backup/test/rig"
	"github.com/kafka-backup/kafka-backup/workflows"
)

func TestApproveInTheWebUI(t *testing.T) {
	ctx := kafkabed.Context(t, 15*time.Minute) // the first build of the server takes minutes
	chromium := browser(t, ctx)
	packages(t, ctx)
	bed := kafkabed.Start(t, kafkabed.Options{HeapMiB: 384})
	dir := t.TempDir()
	r, err := rig.Run(ctx, dir)
	must(t, err)
	t.Cleanup(func() { must(t, r.Close()) })
	_, err = r.StartWorker(ctx, rig.WorkerOptions{})
	must(t, err)

	opts, err := bed.ClientOptions(kafkabed.Login{})
	must(t, err)
	shop, err := dataset.Shop(ctx, dataset.Options{Client: opts, Orders: 2000})
	must(t, err)
	before, err := oracle.Read(ctx, oracle.Reading{Client: opts, Topics: shop.Topics})
	must(t, err)

	place, err := os.MkdirTemp("", "backups-") // its name is in the pictures
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(place)) })
	storage := rig.Document{"backend": "filesystem", "path": place}
	run(t, ctx, r, 0, "backup", rig.Document{"backup_id": "nightly-2026-11-22", "storage": storage,
		"source": rig.Document{"bootstrap_servers": bed.Bootstrap, "topics": rig.Document{"include": shop.Topics}}})
	mapping := map[string]string{}
	var targets []string
	for _, topic := range shop.Topics {
		mapping[topic] = "dr-" + topic
		targets = append(targets, mapping[topic])
	}
	out := run(t, ctx, r, 8, "three-phase-restore", rig.Document{"backup_id": "nightly-2026-11-22", "storage": storage,
		"target":   rig.Document{"bootstrap_servers": bed.Bootstrap},
		"restore":  rig.Document{"topic_mapping": mapping},
		"approval": rig.Document{"required": true, "approvers": []string{"alice", "bob"}, "four_eyes": true, "timeout": "4h", "on_timeout": "remind"},
	}, "--detach", "--requester", "carol")
	_, id, _ := strings.Cut(out.Err, "Started workflow ")
	id, _, _ = strings.Cut(id, "\n")

	temporal, err := client.Dial(client.Options{HostPort: r.Address(), Logger: silent{}})
	must(t, err)
	defer temporal.Close()
	v, err := temporal.QueryWorkflow(ctx, id, "", workflows.QueryProgress)
	must(t, err)
	var progress workflows.Progress
	must(t, v.Get(&progress))
	plan := progress.Approval.Plan

	drive(t, ctx, chromium, map[string]any{
		"ui": r.UI(), "id": id, "plan": plan.Digest[:12], "summary": "Restore nightly-2026-11-22 from",
		"details":    []string{plan.Summary, "dr-orders", "order-processor", "carol"},
		"attributes": map[string]string{"KafkaBackupApproval": "waiting", "KafkaBackupState": "waiting", "KafkaBackupKind": "restore", "KafkaBackupID": "nightly-2026-11-22", "KafkaBackupRequester": "carol", "KafkaBackupTopics": "dr-orders"},
		"answer":     workflows.Answer{By: "alice", Plan: plan.Digest[:12], Reason: "reviewed with the shop team"},
	})

	d, err := temporal.DescribeWorkflowExecution(ctx, id, "")
	must(t, err)
	if s := d.GetWorkflowExecutionInfo().GetStatus(); s != enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED {
		t.Errorf("the restore is %v", s)
	}
	var report activities.RestoreReport
	must(t, temporal.GetWorkflow(ctx, id, "").Get(ctx, &report))
	if a := report.Approval; a == nil || a.By != "alice" || a.Via != "signal" || a.Plan != plan.Digest {
		t.Errorf("the report says %+v", a)
	}
	after, err := oracle.Read(ctx, oracle.Reading{Client: opts, Topics: targets})
	must(t, err)
	must(t, oracle.Compare(before, after, oracle.Plan{Mapping: mapping}).Err())
}

// drive runs the script.
func drive(t *testing.T, ctx context.Context, chromium string, expect map[string]any) {
	t.Helper()
	shots := os.Getenv("KAFKA_BACKUP_SHOTS")
	if shots == "" {
		shots = t.TempDir()
	}
	must(t, os.MkdirAll(shots, 0o755))
	shots, err := filepath.Abs(shots)
	must(t, err)
	text, err := json.Marshal(expect)
	must(t, err)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "approve.mjs")
	cmd.Env = append(os.Environ(), "EXPECT="+string(text), "SHOTS="+shots, "CHROMIUM="+chromium)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the browser: %v\n%s", err, out)
	}
}

// browser finds Chromium, or installs it.
func browser(t *testing.T, ctx context.Context) string {
	t.Helper()
	if path := os.Getenv("CHROMIUM"); path != "" {
		return path
	}
	find := func() string {
		for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
			if path, err := exec.LookPath(name); err == nil {
				return path
			}
		}
		return ""
	}
	if path := find(); path != "" {
		return path
	}
	if _, err := exec.LookPath("apt-get"); err == nil && os.Geteuid() == 0 {
		for _, args := range [][]string{{"update", "-qq"}, {"install", "-y", "-qq", "--no-install-recommends", "chromium"}} {
			if out, err := exec.CommandContext(ctx, "apt-get", args...).CombinedOutput(); err != nil {
				t.Logf("apt-get %q: %v\n%s", args, err, out)
			}
		}
	}
	path := find()
	if path == "" {
		t.Skip("there is no Chromium and it cannot be installed; name one in $CHROMIUM")
	}
	return path
}

// packages installs the script's packages, at the versions of the lock file.
func packages(t *testing.T, ctx context.Context) {
	t.Helper()
	if _, err := exec.LookPath("npm"); errors.Is(err, exec.ErrNotFound) {
		t.Skip("there is no npm")
	}
	if _, err := os.Stat("node_modules/playwright-core"); err == nil {
		return
	}
	if out, err := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund").CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
}

func run(t *testing.T, ctx context.Context, r *rig.Rig, code int, command string, d rig.Document, flags ...string) *rig.Outcome {
	t.Helper()
	file, err := r.File(d)
	must(t, err)
	out, err := r.Command(ctx, nil, append([]string{command, "--config", file}, flags...)...)
	must(t, err)
	if out.Code != code {
		t.Fatal(out)
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type silent struct{}

func (silent) Debug(string, ...any) {}
func (silent) Info(string, ...any)  {}
func (silent) Warn(string, ...any)  {}
func (silent) Error(string, ...any) {}
