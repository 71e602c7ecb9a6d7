package offsets

import (
	"encoding/csv"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.temporal.io/sdk/client"

	"github.com/kafka-backup/kafka-backup/test/kafkabed"
)

// The user's session, from the first command to the last.
func TestTheSession(t *testing.T) {
	u := newUser(t)
	u.worker()
	u.topic("orders", 34, 22, 56)
	u.topic("payments", 34, 43)
	u.commit("order-processor", "orders", 33, 21, 56)
	u.commit("payment-service", "payments", 34, 43)
	u.commit("analytics", "orders", 1, 2, 3)
	u.commit("analytics", "payments", 4, 5)
	u.ok("backup --bootstrap-servers $B --storage-backend filesystem --storage-path $R --backup-id production-backup-001 --topics-include orders,payments")

	// Viewing the offset mapping.
	says(t, u.ok("show-offset-mapping --path $R --backup-id production-backup-001"),
		"Offset Mapping: production-backup-001", strings.Repeat("═", 62),
		"Topic: orders", strings.Repeat("─", 61), "Partition First Offset Last Offset Record Count", strings.Repeat("─", 61),
		"0 0 33 34", "1 0 21 22", "2 0 55 56",
		"Topic: payments", "Partition First Offset Last Offset Record Count", "0 0 33 34", "1 0 42 43")
	rows, err := csv.NewReader(strings.NewReader(u.ok("show-offset-mapping --path $R --backup-id production-backup-001 --format csv"))).ReadAll()
	if err != nil || len(rows) != 6 || strings.Join(rows[0][:5], ",") != "topic,partition,first_offset,last_offset,record_count" || strings.Join(rows[1][:5], ",") != "orders,0,0,33,34" {
		t.Errorf("CSV: %v %v", rows, err)
	}

	// The groups are lost; the plan sets them. It changes nothing.
	if r, err := u.adm.DeleteGroups(u.ctx, "order-processor", "payment-service"); err != nil || r.Error() != nil {
		t.Fatal(err, r.Error())
	}
	says(t, u.ok("offset-reset plan --path $R --backup-id production-backup-001 --groups order-processor,payment-service --bootstrap-servers $B"),
		"Offset Reset Plan", strings.Repeat("═", 62),
		"Consumer Group: order-processor", "Topic Partition Current Target Action",
		"orders 0 - 33 SET", "orders 1 - 21 SET", "orders 2 - 56 SET",
		"Consumer Group: payment-service", "payments 0 - 34 SET", "payments 1 - 43 SET",
		"Total partitions to reset: 5")
	if got := u.committed("order-processor") + u.committed("payment-service"); got != "" {
		t.Errorf("the plan has set offsets: %s", got)
	}

	// Execute.
	says(t, u.ok("offset-reset execute --path $R --backup-id production-backup-001 --groups order-processor --bootstrap-servers $B"),
		"Offset Reset", "Partitions set: 3, of which 3 read back", "order-processor orders 0 - 33 SET")
	u.judge("order-processor", "orders/0=33", "orders/1=21", "orders/2=56")

	// The script, run by Kafka's own tool, gives the same offsets.
	u.commit("order-processor", "orders", 0, 0, 0)
	script := filepath.Join(t.TempDir(), "reset-offsets.sh")
	u.ok("offset-reset script --path $R --backup-id production-backup-001 --groups order-processor --bootstrap-servers $B --output", script)
	text, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	says(t, string(text), "#!/bin/bash", "# Offset reset script for backup: production-backup-001", "# Generated:", "# Stop consumers before running this script!",
		"kafka-consumer-groups --bootstrap-server "+u.bed.Bootstrap, "--group order-processor", "--topic orders:0", "--reset-offsets --to-offset 33 --execute",
		"--topic orders:1", "--reset-offsets --to-offset 21 --execute")
	u.runScript(script)
	u.judge("order-processor", "orders/0=33", "orders/1=21", "orders/2=56")

	// Bulk.
	u.commit("analytics", "orders", 0, 0, 0)
	says(t, u.ok("offset-reset-bulk --path $R --backup-id production-backup-001 --groups order-processor,payment-service,analytics --bootstrap-servers $B --max-concurrent 100"),
		"Consumer groups: 3 done", "Partitions set: 5, of which 5 read back", "Rate:", "Latency:")
	u.judge("analytics", "orders/0=1", "orders/1=2", "orders/2=3", "payments/0=4", "payments/1=5")
	u.judge("payment-service", "payments/0=34", "payments/1=43")

	// Snapshots and rollback, in a repository of their own.
	snapshots := filepath.Join(t.TempDir(), "offset-snapshots")
	out := u.ok("offset-rollback snapshot --groups order-processor,payment-service --bootstrap-servers $B --path "+snapshots+" --description", "Before restore operation")
	id := regexp.MustCompile(`snapshot-\d{8}-\d{6}`).FindString(out)
	says(t, u.ok("offset-rollback list --path "+snapshots), "Offset Snapshots", strings.Repeat("═", 62), "ID Created Groups Description", strings.Repeat("─", 83), id)
	if list := u.ok("offset-rollback list --path " + snapshots); !regexp.MustCompile(id + `\s+\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\s+2\s+Before restore operation`).MatchString(list) {
		t.Errorf("the list: %s", list)
	}
	says(t, u.ok("offset-rollback show --path "+snapshots+" --snapshot-id "+id), "Offset Snapshot: "+id, "Consumer Group: order-processor", "orders 0 33", "Consumer Group: payment-service", "payments 1 43")
	u.ok("offset-rollback verify --bootstrap-servers $B --path " + snapshots + " --snapshot-id " + id)
	u.commit("order-processor", "orders", 5, 5, 5)
	u.commit("order-processor", "payments", -1, 7) // it had none
	says(t, u.ends(3, "offset-rollback verify --bootstrap-servers $B --path "+snapshots+" --snapshot-id "+id).Out,
		"order-processor orders 0 33 5", "order-processor payments 1 - 7", "4 of 6 committed offsets differ.")
	u.ok("offset-rollback rollback --bootstrap-servers $B --path " + snapshots + " --snapshot-id " + id)
	u.judge("order-processor", "orders/0=33", "orders/1=21", "orders/2=56")
	says(t, u.ok("offset-rollback verify --bootstrap-servers $B --path "+snapshots+" --snapshot-id "+id), "All 5 committed offsets of 2 groups match.")
	// A rollback is rolled back.
	latest := regexp.MustCompile(`snapshot-\d{8}-\d{6}`).FindString(u.ok("offset-rollback list --path " + snapshots))
	u.ok("offset-rollback rollback --bootstrap-servers $B --path " + snapshots + " --snapshot-id " + latest + " --groups order-processor")
	u.judge("order-processor", "orders/0=5", "orders/1=5", "orders/2=5", "payments/1=7")
	u.ok("offset-rollback delete --path " + snapshots + " --snapshot-id " + id)
	u.ends(1, "offset-rollback show --path "+snapshots+" --snapshot-id "+id)

	// The restore's third phase, and its mapping.
	config, err := u.rig.File(map[string]any{
		"mode": "restore", "backup_id": "production-backup-001",
		"target":  map[string]any{"bootstrap_servers": []string{u.bed.Bootstrap}},
		"storage": map[string]any{"backend": "filesystem", "path": u.path},
		"restore": map[string]any{"consumer_group_strategy": "header-based", "reset_consumer_offsets": true,
			"consumer_groups": []string{"order-processor", "payment-service", "analytics"},
			"topic_mapping":   map[string]string{"orders": "restored-orders", "payments": "restored-payments"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	started := u.ends(0, "three-phase-restore --config "+config)
	restore := regexp.MustCompile(`workflow (restore/\S+)`).FindStringSubmatch(started.Err)[1]
	u.judge("payment-service", "payments/0=34", "payments/1=43", "restored-payments/0=34", "restored-payments/1=43")
	says(t, u.ok("show-offset-mapping --path $R --backup-id production-backup-001 --restore "+restore),
		"Topic: orders -> restored-orders", "Partition First Offset Last Offset Target Partition Target First Target Last Record Count", "0 0 33 0 0 33 34")
	// From now on a reset goes through that mapping.
	u.commit("analytics", "restored-orders", 9, 9, 9)
	says(t, u.ok("offset-reset execute --path $R --backup-id production-backup-001 --groups analytics --topics restored-* --bootstrap-servers $B"),
		"Targets: the offset mapping of "+restore, "analytics restored-orders 0 9 1 SET")
	u.judge("analytics", "orders/0=1", "orders/1=2", "orders/2=3", "payments/0=4", "payments/1=5",
		"restored-orders/0=1", "restored-orders/1=2", "restored-orders/2=3", "restored-payments/0=4", "restored-payments/1=5")

	// All groups of the cluster, and the groups of the backup as a snapshot.
	if out := u.ok("snapshot-groups --path $R --bootstrap-servers $B --description all"); !strings.Contains(out, "Groups:") {
		t.Error(out)
	}
	says(t, u.ok("offset-rollback show --path $R --backup-id production-backup-001"), "Offset Snapshot: production-backup-001", "Consumer Group: analytics", "orders 0 1")
	u.ok("offset-rollback rollback --path $R --backup-id production-backup-001 --groups order-processor --bootstrap-servers $B")
	if got := u.committed("order-processor"); !strings.Contains(got, "orders/0=33 orders/1=21 orders/2=56") {
		t.Error(got)
	}
}

// runScript runs a script with Kafka's own tool in the path.
func (u *user) runScript(script string) {
	u.t.Helper()
	if out := u.withTool(exec.CommandContext(u.ctx, script)); strings.Contains(out, "Error") {
		u.t.Fatal(out)
	}
}

// withTool runs a command that finds Kafka's own kafka-consumer-groups in its
// path, and returns what it printed.
func (u *user) withTool(cmd *exec.Cmd) string {
	u.t.Helper()
	home, err := kafkabed.Install(u.ctx, nil)
	if err != nil {
		u.t.Fatal(err)
	}
	lib := home
	if _, err := os.Stat(filepath.Join(home, "lib")); err == nil {
		lib = filepath.Join(home, "lib")
	}
	bin := u.t.TempDir()
	tool := fmt.Sprintf("#!/bin/bash\nexec java -Xmx256m -XX:TieredStopAtLevel=1 -cp '%s/*' org.apache.kafka.tools.consumer.group.ConsumerGroupCommand \"$@\"\n", lib)
	if err := os.WriteFile(filepath.Join(bin, "kafka-consumer-groups"), []byte(tool), 0o755); err != nil {
		u.t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil || strings.Contains(errs.String(), "Error") {
		u.t.Fatalf("%v: %s%s", err, out, errs.String())
	}
	return string(out)
}

// What Kafka's own tool exports, of one group and of several, is what
// --from-file takes.
func TestKafkasExportIsReadBack(t *testing.T) {
	u := newUser(t)
	u.worker()
	u.topic("exported", 30, 20)
	u.topic("exported-too", 10)
	u.commit("export-a", "exported", 11, 12)
	u.commit("export-b", "exported", 3, -1)
	u.commit("export-b", "exported-too", 5)
	export := func(groups string) string {
		t.Helper()
		out := u.withTool(exec.CommandContext(u.ctx, "bash", "-c", "kafka-consumer-groups --bootstrap-server "+u.bed.Bootstrap+" "+groups+
			" --all-topics --reset-offsets --to-current --dry-run --export"))
		file := filepath.Join(t.TempDir(), "offsets.csv")
		if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s", out)
		return file
	}
	one, several := export("--group export-a"), export("--group export-a --group export-b")
	u.ok("snapshot-groups --path $R --bootstrap-servers $B") // makes the repository
	move := func() {
		t.Helper()
		u.commit("export-a", "exported", 0, 0)
		u.commit("export-b", "exported", 0, 0)
		u.commit("export-b", "exported-too", 0)
	}
	move()
	u.ok("offset-reset execute --path $R --bootstrap-servers $B --groups export-a --from-file", one)
	u.judge("export-a", "exported/0=11", "exported/1=12")
	u.judge("export-b", "exported/0=0", "exported/1=0", "exported-too/0=0")
	move()
	u.ok("offset-reset execute --path $R --bootstrap-servers $B --from-file", several)
	u.judge("export-a", "exported/0=11", "exported/1=12")
	u.judge("export-b", "exported/0=3", "exported/1=0", "exported-too/0=5")
}

// Whatever a group is called, the script gives Kafka's own tool that name and
// the shell nothing to do.
func TestAScriptTakesNamesAsTheyAre(t *testing.T) {
	u := newUser(t)
	u.worker()
	u.topic("odd", 10)
	trap := filepath.Join(t.TempDir(), "trap")
	groups := []string{"my  group", "it's", `say "hi"`, "$HOME", "$(touch " + trap + ")", "`touch " + trap + "`", "-dash", "--execute", "a;b&c|d", "back\\slash", "*", "#no", "ünï"}
	for _, g := range groups {
		u.commit(g, "odd", 9)
	}
	names := filepath.Join(t.TempDir(), "groups.txt")
	// One that looks like a comment cannot be in a file of names: it is in the list.
	if err := os.WriteFile(names, []byte(strings.Join(slices.DeleteFunc(slices.Clone(groups), func(g string) bool { return g[0] == '#' }), "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "reset-offsets.sh")
	u.ok("offset-reset script --bootstrap-servers $B --groups #no --to-offset 4 --groups-file", names, "--output", script)
	u.runScript(script)
	for _, g := range groups {
		if got := u.committed(g); got != "odd/0=4" {
			t.Errorf("group %q: %s", g, got)
		}
	}
	if _, err := os.Stat(trap); err == nil {
		t.Error("the shell ran the name of a group")
	}
}

// The errors of the guide, each with what is wrong and the way out.
func TestErrorsSayWhatIsWrongAndTheWayOut(t *testing.T) {
	u := newUser(t)
	u.worker()
	u.topic("errors", 100, 100)
	u.commit("my-groups", "errors", 10, 20)
	u.ok("backup --bootstrap-servers $B --storage-backend filesystem --storage-path $R --backup-id b1 --topics-include errors")
	contains := func(text string, words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(text, w) {
				t.Errorf("it does not say %q: %s", w, text)
			}
		}
	}
	contains(u.ends(1, "offset-reset execute --path $R --backup-id b1 --groups my-group --bootstrap-servers $B").Err, "Consumer group 'my-group' not found", "did you mean 'my-groups'?")
	contains(u.ends(1, "offset-reset execute --path $R --to-offset 150000 --groups my-groups --bootstrap-servers $B").Err,
		"Offset 150000 is out of range for partition 0 (current: 0-100)", "my-groups", "errors", "--on-out-of-range")
	u.judge("my-groups", "errors/0=10", "errors/1=20")
	says(t, u.ok("offset-reset execute --path $R --to-offset 150000 --on-out-of-range clamp --groups my-groups --bootstrap-servers $B"), "my-groups errors 0 10 100 CLAMPED")
	u.judge("my-groups", "errors/0=100", "errors/1=100")

	// A saved plan is refused once the group has moved.
	plan := filepath.Join(t.TempDir(), "plan.json")
	u.ok("offset-reset plan --path $R --backup-id b1 --groups my-groups --bootstrap-servers $B --save", plan)
	u.commit("my-groups", "errors", 50, 100)
	contains(u.ends(1, "offset-reset execute --path $R --bootstrap-servers $B --plan", plan).Err, "the cluster has changed since the plan was made", "the committed offset was 100 and is 50")
	u.judge("my-groups", "errors/0=50", "errors/1=100")

	c, err := client.Dial(client.Options{HostPort: u.rig.Address()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// Active members, of a classic group and of one of the next generation.
	for _, group := range []string{"my-groups", "next-generation"} {
		opts := []kgo.Opt{kgo.ConsumerGroup(group), kgo.ConsumeTopics("errors"), kgo.ClientID("the-client"), kgo.DisableAutoCommit()}
		if group == "next-generation" {
			opts = append(opts, kgo.ServerSideBalancer())
		}
		cl := u.bed.Client(t, kafkabed.Login{}, opts...)
		cl.PollFetches(u.ctx)
		contains(u.ends(1, "offset-reset execute --path $R --to-earliest --topics errors --bootstrap-servers $B --groups "+group).Err,
			"Consumer group has active members", group, "the-client", "127.0.0.1", "--wait-inactive")
		o := u.ends(3, "offset-reset-bulk --path $R --to-earliest --topics errors --bootstrap-servers $B --groups "+group+",nobody")
		contains(o.Out, "active members", "Consumer group 'nobody' not found")
		// It waits, and goes on when the consumer has stopped; with a saved plan too.
		asked := "--to-earliest --topics errors --groups " + group
		if group == "next-generation" {
			u.ok("offset-reset plan --path $R --bootstrap-servers $B --save "+plan, strings.Fields(asked)...)
			asked = "--plan " + plan
			contains(u.ends(1, "offset-reset execute --path $R --bootstrap-servers $B "+asked).Err, "Consumer group has active members", "the-client")
		}
		waiting := startedID(u.ends(0, "offset-reset execute --detach --wait-inactive 120s --path $R --bootstrap-servers $B "+asked))
		u.awaitActivity(c, waiting, "ActiveGroups")
		cl.Close()
		u.ok("watch " + waiting)
		u.judge(group, "errors/0=0", "errors/1=0")
	}
}
