package offsets

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/kafka-backup/kafka-backup/test/kafkabed"
)

// acl gives alice a right, or takes it away, and waits until the broker knows.
func (u *user) acl(give bool, resource func(*kadm.ACLBuilder) *kadm.ACLBuilder, op kadm.ACLOperation) {
	u.t.Helper()
	b := resource(kadm.NewACLs().ResourcePatternType(kadm.ACLPatternLiteral)).Operations(op).Allow("User:alice").AllowHosts()
	if give {
		if r, err := u.adm.CreateACLs(u.ctx, b); err != nil || len(r) != 1 || r[0].Err != nil {
			u.t.Fatal(r, err)
		}
	} else if r, err := u.adm.DeleteACLs(u.ctx, b); err != nil || len(r) != 1 || len(r[0].Deleted) != 1 {
		u.t.Fatal(r, err)
	}
}

func group(name string) func(*kadm.ACLBuilder) *kadm.ACLBuilder {
	return func(b *kadm.ACLBuilder) *kadm.ACLBuilder { return b.Groups(name) }
}

func topic(name string) func(*kadm.ACLBuilder) *kadm.ACLBuilder {
	return func(b *kadm.ACLBuilder) *kadm.ACLBuilder { return b.Topics(name) }
}

// Each right is missing once, the others being there: it is said which, with the
// principal, before anything is changed.
func TestTheRightThatIsMissingIsNamed(t *testing.T) {
	u := newUser(t)
	u.env = []string{"ALICE_PASSWORD=" + kafkabed.Users["alice"]}
	u.worker()
	u.topic("guarded", 10, 10)
	u.topic("secret", 10)
	u.commit("g", "guarded", 4, 5)
	u.commit("g", "secret", 6)
	u.ok("backup --bootstrap-servers $B --storage-backend filesystem --storage-path $R --backup-id b --topics-include guarded,secret")
	const before = "guarded/0=4 guarded/1=5 secret/0=6"
	alice := " --bootstrap-servers " + u.bed.Addresses(kafkabed.SASLPlaintext) +
		" --security-protocol SASL_PLAINTEXT --sasl-mechanism SCRAM-SHA-256 --sasl-username alice --sasl-password ${ALICE_PASSWORD}"
	const plan, execute, bulk = "offset-reset plan --path $R", "offset-reset execute --path $R", "offset-reset-bulk --path $R"
	const snapshot, rollback = "offset-rollback snapshot --path $R", "offset-rollback rollback --path $R --backup-id b"
	const captured, earliest = " --backup-id b --groups g", " --groups g --to-earliest"
	refused := func(code int, command string, words ...string) {
		t.Helper()
		o := u.ends(code, command+alice)
		for _, w := range words {
			if !strings.Contains(o.Out+o.Err, w) {
				t.Errorf("it does not say %q: %s", w, o)
			}
		}
		if got := u.committed("g"); got != before {
			t.Fatalf("%s has set offsets: %s", command, got)
		}
	}
	// await repeats a plan until the broker knows of a change of rights.
	await := func(command string, word string) {
		t.Helper()
		for until := time.Now().Add(20 * time.Second); ; {
			o := u.run(command + alice)
			if strings.Contains(strings.Join(strings.Fields(o.Out+o.Err), " "), word) {
				return
			}
			if time.Now().After(until) {
				t.Fatalf("it never says %q: %s", word, o)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}

	// No right at all: not even the group is seen.
	lacks := "User:alice lacks DESCRIBE on GROUP g"
	for _, command := range []string{plan + captured, plan + earliest, execute + captured, snapshot + " --groups g", rollback} {
		refused(1, command, lacks)
	}
	refused(3, bulk+captured, lacks, "Groups of which nothing was set")

	// The group is seen, its topics are not: the broker leaves them out of its
	// offsets without a word. The backup knows of them.
	u.acl(true, group("g"), kadm.OpDescribe)
	lacks = "User:alice lacks DESCRIBE on TOPIC guarded"
	await(plan+captured, lacks)
	for _, command := range []string{plan + captured, execute + captured, rollback, plan + earliest + " --topics guarded"} {
		refused(1, command, lacks)
	}
	refused(3, bulk+captured, lacks, "User:alice lacks DESCRIBE on TOPIC secret")
	hidden := "User:alice is no super user: groups that it may not DESCRIBE, and groups' committed offsets on topics that it may not DESCRIBE, are hidden"
	refused(0, plan+earliest, hidden, "nothing is to be set")
	refused(0, snapshot+" --groups g", hidden)

	// The topics are seen, and nothing may be committed.
	for _, name := range []string{"guarded", "secret"} {
		u.acl(true, topic(name), kadm.OpDescribe)
	}
	lacks = "User:alice lacks READ on GROUP g"
	await(plan+earliest, lacks)
	refused(1, execute+earliest, lacks, "Nothing was changed")
	refused(3, bulk+earliest, lacks)

	// To one of the topics nothing may be committed: all or nothing, or in bulk
	// the other one.
	u.acl(true, group("g"), kadm.OpRead)
	u.acl(true, topic("guarded"), kadm.OpRead)
	lacks = "User:alice lacks READ on TOPIC secret"
	await(plan+earliest, "secret 0 6 0 FAILED")
	refused(1, execute+earliest, "group g: topic secret partition 0: "+lacks, "Nothing was changed")
	out := u.ends(3, bulk+earliest+alice).Out
	says(t, out, "Partitions set: 2, of which 2 read back", "Cannot be set: 1", "g guarded 0 4 0 SET", "Left out", "g secret 0 "+lacks)
	u.judge("g", "guarded/0=0", "guarded/1=0", "secret/0=6")
	u.commit("g", "secret", 7)
	if o := u.ends(1, rollback+alice); !strings.Contains(o.Err, lacks) {
		t.Errorf("the rollback: %s", o)
	}
	u.acl(true, topic("secret"), kadm.OpRead)
	await(plan+earliest, "secret 0 7 0 SET")
	u.ok(rollback + alice)
	if got := u.committed("g"); got != before {
		t.Fatalf("the rollback gives %s", got)
	}

	// The rights go between the plan and the change: what was set until it is
	// noticed is put back, and that is verified where nothing may be put back.
	saved := filepath.Join(t.TempDir(), "plan.json")
	u.ok(plan+earliest+alice+" --save", saved)
	u.acl(false, topic("secret"), kadm.OpRead)
	await(plan+earliest, "User:alice lacks READ on TOPIC secret")
	refused(1, execute+" --plan "+saved, "TOPIC_AUTHORIZATION_FAILED", "User:alice lacks READ on TOPIC secret", "All offsets were put back", "read back")

	// To remove what there was not before takes DELETE.
	if r, err := u.adm.DeleteOffsets(u.ctx, "g", kadm.TopicsSet{"secret": {0: {}}}); err != nil || r.Error() != nil {
		t.Fatal(err, r.Error())
	}
	id := strings.Fields(strings.Split(u.ok("offset-rollback snapshot --path $R --bootstrap-servers $B --groups g"), "Offset Snapshot: ")[1])[0]
	u.commit("g", "secret", 6)
	u.acl(true, topic("secret"), kadm.OpRead)
	lacks = "User:alice lacks DELETE on GROUP g"
	await("offset-rollback rollback --dry-run --path $R --snapshot-id "+id, lacks)
	refused(1, "offset-rollback rollback --path $R --snapshot-id "+id, lacks)
	u.acl(true, group("g"), kadm.OpDelete)
	await("offset-rollback rollback --dry-run --path $R --snapshot-id "+id, "secret 0 6 - REMOVE")
	u.ok("offset-rollback rollback --path $R --snapshot-id " + id + alice)
	u.judge("g", "guarded/0=4", "guarded/1=5")
}
