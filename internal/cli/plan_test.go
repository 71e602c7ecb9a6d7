package cli

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// The plan is made in the command's own process, from a real repository and a
// cluster.
func TestValidateRestoreReadsRepositoryAndCluster(t *testing.T) {
	dir, _ := testRepository(t)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "payments"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	conf := func(backupID, options string) string {
		return write(t, fmt.Sprintf("backup_id: %s\ntarget: {bootstrap_servers: %q}\nstorage: {backend: filesystem, path: %q}\nrestore: {replication_factor: 1, %s}\n",
			backupID, strings.Join(cluster.ListenAddrs(), ","), dir, options))
	}
	r := run(t, "validate-restore", "--config", conf("production-backup-001", "topics: {include: [orders]}"))
	if r.code != ExitDone || !strings.Contains(r.out, "orders   orders   3            25        602 B   CREATE\n") {
		t.Errorf("code %d, %s%s", r.code, r.out, r.err)
	}
	// The topic payments is there with too few partitions.
	r = run(t, "validate-restore", "--config", conf("production-backup-001", ""))
	if r.code != ExitFailed || !strings.Contains(r.out, "Problem: ") || !strings.Contains(r.out, "payments") || !strings.Contains(r.out, "Nothing was changed.") {
		t.Errorf("code %d, %s%s", r.code, r.out, r.err)
	}
	r = run(t, "validate-restore", "--config", conf("production-backup-01", ""))
	if r.code != ExitFailed || !strings.Contains(r.err, `did you mean "production-backup-001"?`) {
		t.Errorf("code %d, %s%s", r.code, r.out, r.err)
	}
	r = run(t, "validate-restore", "--config", conf("production-backup-001", ""), "--bootstrap-servers", "127.0.0.1:1")
	if r.code != ExitFailed || !strings.Contains(r.err, "127.0.0.1:1") {
		t.Errorf("code %d, %s%s", r.code, r.out, r.err)
	}
}
