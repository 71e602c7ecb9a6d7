package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kafka-backup/kafka-backup/test/oracle"
	"github.com/kafka-backup/kafka-backup/test/rig"
	"github.com/kafka-backup/kafka-backup/test/s3bed"
)

// unchanged checks that something changes neither the cluster nor the user's
// repository.
func unchanged(u *user, c *cluster, do func()) {
	u.t.Helper()
	cluster, folder := clusterState(u, c), folderState(u)
	do()
	if now := clusterState(u, c); now != cluster {
		u.t.Errorf("the cluster was changed:\n%s\nit was\n%s", now, cluster)
	}
	if now := folderState(u); now != folder {
		u.t.Errorf("the repository was changed:\n%s\nit was\n%s", now, folder)
	}
}

// clusterState is all that a restore could change: topics, their ids,
// configurations and ends, and the groups' offsets.
func clusterState(u *user, c *cluster) string {
	u.t.Helper()
	topics, err := c.adm.ListTopicsWithInternal(u.ctx)
	if err != nil {
		u.t.Fatal(err)
	}
	names := slices.DeleteFunc(topics.Names(), func(s string) bool { return strings.HasPrefix(s, "__") })
	ends, err := c.adm.ListEndOffsets(u.ctx, names...)
	if err != nil {
		u.t.Fatal(err)
	}
	configs := dynamicConfigs(u, c, names...)
	var b strings.Builder
	for _, n := range names {
		fmt.Fprintf(&b, "%s %s %q", n, topics[n].ID, configs[n])
		for _, o := range ends.Offsets().Sorted() {
			if o.Topic == n {
				fmt.Fprintf(&b, " %d", o.At)
			}
		}
		b.WriteByte('\n')
	}
	for _, o := range committed(u, c) {
		fmt.Fprintln(&b, o)
	}
	return b.String()
}

// folderState lists the files of the repository with size and time.
func folderState(u *user) string {
	u.t.Helper()
	var b strings.Builder
	if _, err := os.Stat(u.dir); u.dir == "" || os.IsNotExist(err) {
		return ""
	}
	for _, f := range files(u, "") {
		info, err := os.Stat(f)
		if err != nil {
			u.t.Fatal(err)
		}
		fmt.Fprintln(&b, f, info.Size(), info.ModTime())
	}
	return b.String()
}

// TestWrongPlaces: clusters, buckets, folders and backups that are not there.
func TestWrongPlaces(t *testing.T) {
	u, c := newUser(t, 3*time.Minute), small(t)
	u.worker()
	u.create(c, "wrong", 1, 1)
	u.produce(c, "wrong", 1, 0, 10, time.Now())
	u.backup(rig.Document{"backup_id": "b", "source": source(c, "wrong")})
	nobody := freeAddress(t)
	store := s3bed.Start(t)
	missing := rig.Document{"backend": "s3", "bucket": "missing", "region": store.Region, "endpoint": store.Endpoint, "path_style": true,
		"access_key": "${S3_ACCESS}", "secret_key": "${S3_SECRET}"}
	badSecret := rig.Document{"backend": "s3", "bucket": store.Bucket, "region": store.Region, "endpoint": store.Endpoint, "path_style": true,
		"access_key": "${S3_ACCESS}", "secret_key": "${S3_WRONG}"}
	notRepository := rig.Document{"backend": "filesystem", "path": t.TempDir()}
	fresh := filepath.Join(t.TempDir(), "fresh")
	here := rig.Document{"topic_mapping": rig.Document{"wrong": "wrong-restored"}}
	w, err := u.rig.StartWorker(u.ctx, rig.WorkerOptions{TaskQueue: u.queue + "-s3", Env: []string{"S3_ACCESS=" + store.AccessKey, "S3_SECRET=" + store.SecretKey, "S3_WRONG=open-sesame"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Kill() })

	for name, test := range map[string]struct {
		command string
		d       rig.Document
		queue   string
		code    int
		words   []string
	}{
		"backup of nobody": {"backup", rig.Document{"backup_id": "x", "source": rig.Document{"bootstrap_servers": nobody}}, "", 1,
			[]string{nobody, "refused"}},
		"restore into nobody": {"restore", rig.Document{"backup_id": "b", "target": rig.Document{"bootstrap_servers": nobody}}, "", 1,
			[]string{nobody, "refused"}},
		"no such host": {"backup", rig.Document{"backup_id": "x", "source": rig.Document{"bootstrap_servers": "no-such-host.invalid:9092"}}, "", 1,
			[]string{"no-such-host.invalid"}},
		"no such topic": {"backup", rig.Document{"backup_id": "x", "source": source(c, "nothing-like-it")}, "", 1,
			[]string{"nothing-like-it", "does not exist"}},
		"no topic matches": {"backup", rig.Document{"backup_id": "x", "source": source(c, "nothing-*")}, "", 2,
			[]string{"nothing-*", "source.topics"}},
		"new repository, nobody": {"backup", rig.Document{"backup_id": "x", "source": rig.Document{"bootstrap_servers": nobody},
			"storage": rig.Document{"backend": "filesystem", "path": fresh}}, "", 1,
			[]string{nobody, "refused"}},
		"backup into no bucket": {"backup", rig.Document{"backup_id": "x", "source": source(c, "wrong"), "storage": missing}, "-s3", 2,
			[]string{"missing", "bucket"}},
		"restore from no bucket": {"restore", rig.Document{"backup_id": "b", "target": target(c), "storage": missing}, "-s3", 2,
			[]string{"missing", "bucket"}},
		"wrong S3 secret": {"backup", rig.Document{"backup_id": "x", "source": source(c, "wrong"), "storage": badSecret}, "-s3", 1,
			[]string{"access"}},
		"not a repository": {"restore", rig.Document{"backup_id": "b", "target": target(c), "storage": notRepository, "restore": here}, "", 1,
			[]string{"not a kafka-backup repository"}},
		"unknown backup": {"restore", rig.Document{"backup_id": "nonesuch", "target": target(c), "restore": here}, "", 1,
			[]string{`no complete backup "nonesuch"`, "the newest are: b"}},
		"backup id taken": {"backup", rig.Document{"backup_id": "b", "source": source(c, "wrong"), "backup": rig.Document{"include_consumer_groups": false}}, "", 1,
			[]string{`backup "b" exists already`, "another backup_id"}},
		"unknown topic": {"restore", rig.Document{"backup_id": "b", "target": target(c), "restore": rig.Document{"topics": rig.Document{"include": []string{"wrogn"}}}}, "", 2,
			[]string{"wrogn", "not in backup b"}},
		"unknown partition": {"restore", rig.Document{"backup_id": "b", "target": target(c), "restore": rig.Document{"partitions": rig.Document{"wrong": []int{3}}}}, "", 2,
			[]string{"wrong", "partition 3"}},
		"unknown group": {"restore", threePhases(rig.Document{"backup_id": "b", "target": target(c), "restore": rig.Document{
			"topic_mapping": rig.Document{"wrong": "wrong-restored"}, "consumer_groups": []string{"nobodys"}}}), "", 2,
			[]string{"nobodys", "not in backup b"}},
		"illegal name": {"restore", rig.Document{"backup_id": "b", "target": target(c), "restore": rig.Document{"topic_mapping": rig.Document{"wrong": "a topic"}}}, "", 2,
			[]string{"a topic"}},
		"too many replicas": {"restore", rig.Document{"backup_id": "b", "target": target(c), "restore": rig.Document{
			"topic_mapping": rig.Document{"wrong": "wrong-restored"}, "replication_factor": 3}}, "", 2,
			[]string{"wrong-restored", "restore.replication_factor"}},
		"unknown keys": {"backup", rig.Document{"backup_id": "x", "source": source(c, "wrong"), "backup": rig.Document{"compresion": "zstd"}}, "", 2,
			[]string{"config-", "backup.compresion", "compression"}},
		"literal secret": {"backup", rig.Document{"backup_id": "x", "source": rig.Document{"bootstrap_servers": c.Bootstrap, "security": rig.Document{
			"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_username": "alice", "sasl_password": "in-the-open"}}}, "", 2,
			[]string{"sasl_password", "${"}},
	} {
		t.Run(name, func(t *testing.T) {
			u := *u
			u.t, u.queue = t, u.queue+test.queue
			unchanged(&u, c, func() {
				o := u.with(test.d, test.command)
				refused(t, o, test.code, test.words...)
				if strings.Contains(o.Out+o.Err, "in-the-open") {
					t.Error("the secret is printed")
				}
			})
		})
	}
	if left, err := os.ReadDir(fresh); len(left) > 0 || err != nil && !os.IsNotExist(err) {
		t.Errorf("a repository was begun for a cluster that cannot be reached: %v, %v", left, err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestDamagedRepository: every object of a backup damaged or cut short, each
// one refused by name; the restore changes nothing where that can be seen
// before.
func TestDamagedRepository(t *testing.T) {
	u, c := newUser(t, 4*time.Minute), small(t)
	u.worker()
	u.create(c, "damaged", 2, 1)
	u.produce(c, "damaged", 2, 0, 100, time.Now())
	u.commit(c, "damaged-group", "damaged", 50, 60)
	u.backup(rig.Document{"backup_id": "b", "source": source(c, "damaged")})
	find := func(name string) string {
		t.Helper()
		for _, f := range files(u, "") {
			if rel, _ := filepath.Rel(u.dir, f); strings.Contains(rel, name) {
				return f
			}
		}
		t.Fatalf("no file %s in the repository: %v", name, files(u, ""))
		return ""
	}
	for name, in := range map[string]string{"manifest": "manifest.json", "index": "index/", "groups": "groups", "segment": ".seg"} {
		file := find(in)
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		flipped := slices.Clone(good)
		flipped[len(flipped)/2] ^= 0x20
		for kind, bad := range map[string][]byte{"flipped": flipped, "truncated": good[:len(good)*2/3], "empty": {}} {
			t.Run(name+" "+kind, func(t *testing.T) {
				u := *u
				u.t = t
				replace(t, file, bad, good, func() {
					unchanged(&u, c, func() {
						refused(t, u.with(rig.Document{}, "validate", "--deep", "--backup-id", "b"), 1, filepath.Base(file))
						if name != "segment" || kind != "flipped" { // what is in a segment shows when it is read, below
							refused(t, u.with(threePhases(rig.Document{"backup_id": "b", "target": target(c), "restore": rig.Document{
								"topic_mapping": rig.Document{"damaged": "damaged-restored"}}}), "three-phase-restore"), 1, filepath.Base(file), "corrupt")
						}
					})
				})
			})
		}
	}
	// A damaged segment shows when it is read: the restore fails and names it,
	// and deletes the topics it made where that is wished.
	segment := onlySegment(u)
	t.Run("segment restored", func(t *testing.T) {
		u := *u
		u.t = t
		before := clusterState(&u, c)
		damage(t, segment, 100, func() {
			refused(t, u.with(threePhases(rig.Document{"backup_id": "b", "target": target(c), "restore": rig.Document{
				"topic_mapping": rig.Document{"damaged": "damaged-restored"}, "delete_created_topics_on_failure": true,
			}}), "three-phase-restore"), 1, filepath.Base(segment), "corrupt", "the 1 topics that this restore had created are deleted")
		})
		u.await("the topic's end", func() bool { return clusterState(&u, c) == before })
	})
}

// TestForeignWriter: somebody else writes to a target topic during a restore.
func TestForeignWriter(t *testing.T) {
	u, c := newUser(t, 3*time.Minute), small(t)
	u.worker()
	u.create(c, "foreign", 1, 1)
	u.produce(c, "foreign", 1, 0, 1000, time.Now())
	u.commit(c, "foreign-group", "foreign", 700)
	before := committed(u, c, "foreign-group")
	u.backup(rig.Document{"backup_id": "b", "source": source(c, "foreign")})
	want := content(u, c, "foreign")
	for name, test := range map[string]struct {
		from  int64 // how many records the topic holds when the other one writes
		allow bool
		words []string
	}{
		"at once":                {0, false, []string{"allow_foreign_writes"}},
		"in the middle":          {300, false, []string{"somebody else writes", "allow_foreign_writes"}},
		"at once, allowed":       {0, true, nil},
		"in the middle, allowed": {300, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			u := *u
			u.t = t
			to := "foreign-" + strings.NewReplacer(" ", "-", ",", "").Replace(name)
			ctx, stop := context.WithCancel(u.ctx)
			defer stop()
			wrote := make(chan error, 1)
			go func() { wrote <- u.writeFrom(ctx, c, to, test.from) }()
			o := u.with(threePhases(rig.Document{"backup_id": "b", "target": target(c), "restore": rig.Document{
				"topic_mapping": rig.Document{"foreign": to}, "produce_batch_max_bytes": "2KiB", "rate_limit_records_per_sec": 300,
				"allow_foreign_writes": test.allow, "delete_created_topics_on_failure": true,
			}}), "three-phase-restore")
			stop()
			if err := <-wrote; err != nil {
				t.Error(err)
			}
			if !test.allow {
				// A topic that holds somebody else's record is not deleted.
				refused(t, o, 1, append(test.words, to, "is kept")...)
				if got := content(&u, c, to); len(got[to].Partitions[0].Entries) <= int(test.from) {
					t.Errorf("%s holds %d records", to, len(got[to].Partitions[0].Entries))
				}
				return
			}
			if o.Code != 0 {
				t.Fatal(o)
			}
			// What is there without the other one's record is the restore.
			got := content(&u, c, to)
			log := &got[to].Partitions[0]
			whole := len(log.Entries)
			log.Entries = slices.DeleteFunc(log.Entries, func(e oracle.Entry) bool {
				return !slices.ContainsFunc(want["foreign"].Partitions[0].Entries, func(w oracle.Entry) bool { return w.Sum == e.Sum })
			})
			if whole != len(log.Entries)+1 {
				t.Errorf("%d records of others, want 1", whole-len(log.Entries))
			}
			same(&u, want, got, oracle.Plan{Mapping: map[string]string{"foreign": to}}, before, committed(&u, c, "foreign-group"))
		})
	}
}

// writeFrom waits until a restore has recorded where a topic begins and the
// topic holds n records, and writes another one.
func (u *user) writeFrom(ctx context.Context, c *cluster, topic string, n int64) error {
	begun := func() bool {
		targets, _ := filepath.Glob(filepath.Join(u.dir, "operations", "restore", "*", "*", "*", "*", "targets.json"))
		return slices.ContainsFunc(targets, func(file string) bool {
			text, err := os.ReadFile(file)
			return err == nil && strings.Contains(string(text), `"`+topic+`"`)
		})
	}
	for {
		ends, err := c.adm.ListEndOffsets(ctx, topic)
		if o, ok := ends.Lookup(topic, 0); err == nil && ok && o.Err == nil && o.Offset >= n && begun() {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the topic was never filled up to %d records", n)
		case <-time.After(5 * time.Millisecond):
		}
	}
	cl, err := kgo.NewClient(append(slices.Clone(c.opts), kgo.DefaultProduceTopic(topic))...)
	if err != nil {
		return err
	}
	defer cl.Close()
	return cl.ProduceSync(ctx, &kgo.Record{Value: []byte("mine")}).FirstErr()
}

// TestDiskFull backs up into a folder that is too small, and then goes on.
func TestDiskFull(t *testing.T) {
	u, c := newUser(t, 3*time.Minute), small(t)
	small := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small).CombinedOutput(); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", small).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	u.dir = filepath.Join(small, "repository")
	u.storage = rig.Document{"backend": "filesystem", "path": u.dir}
	u.worker()
	u.create(c, "full", 2, 1)
	u.produce(c, "full", 2, 0, 3000, time.Now())
	d := rig.Document{"backup_id": "b", "source": source(c, "full"), "backup": rig.Document{"compression": "none"}}
	refused(t, u.with(d, "backup"), 1, "no space left", u.dir)
	for _, f := range files(u, "") {
		if strings.HasSuffix(f, "manifest.json") {
			t.Errorf("there is a manifest: %s", f)
		}
	}
	// With room made, the same backup goes on.
	if out, err := exec.Command("mount", "-o", "remount,size=64m", small).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := content(u, c, "full")
	if r := u.backup(d); r.Total.Records != want.Records() {
		t.Errorf("%+v, want %d records", r, want.Records())
	}
	if o := u.with(rig.Document{}, "validate", "--deep", "--backup-id", "b"); o.Code != 0 {
		t.Error(o)
	}
}
