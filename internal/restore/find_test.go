package restore

import (
	"testing"

	"gocloud.dev/blob/memblob"

	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// The newest restore of a backup into a cluster counts, whatever its workflow
// id: not only those that the command line starts.
func TestTheLatestMappingIsTheNewestOfAll(t *testing.T) {
	repo, err := repository.Create(t.Context(), memblob.OpenBucket(nil))
	if err != nil {
		t.Fatal(err)
	}
	write := func(workflow, backup, cluster string) string {
		key := "operations/" + workflow + "/run" + mappingName
		if _, err := repo.CreateDocument(t.Context(), key, &Mapping{Format: formatMapping, WorkflowID: workflow, BackupID: backup, ClusterID: cluster}); err != nil {
			t.Fatal(err)
		}
		return key
	}
	latest := func(want string) {
		t.Helper()
		if _, key, err := LatestMapping(t.Context(), repo, "b", "here"); err != nil || key != want {
			t.Errorf("%q, %v; want %q", key, err, want)
		}
	}
	latest("")
	latest(write("restore/b/here", "b", "here"))
	drill := write("drill-2024", "b", "here")
	write("restore/b/there", "b", "there")
	write("restore/c/here", "c", "here")
	latest(drill)
	latest(write("restore/b/here/again", "b", "here"))
}
