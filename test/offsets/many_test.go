package offsets

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/proto"

	"github.com/kafka-backup/kafka-backup/test/rig"
)

// peak is the largest resident memory that a worker has had, in MiB; 0 where the
// system does not tell.
func peak(t *testing.T, w *rig.Worker) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.PID()))
	if err != nil {
		return 0
	}
	m := regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("no VmHWM in %s", text)
	}
	kib, err := strconv.Atoi(string(bytes.TrimSpace(m[1])))
	if err != nil {
		t.Fatal(err)
	}
	return kib / 1024
}

// Ten thousand groups are reset by a real worker. What the workflow's history
// holds, and the memory of the worker, are bounded.
func TestTenThousandGroups(t *testing.T) {
	const groups, partitions = 10_000, 10
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, "many"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	cl, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	u := newUserOf(t, strings.Join(fake.ListenAddrs(), ","), cl)
	var records []*kgo.Record
	var at kadm.Offsets
	for p := range int32(partitions) {
		for range 3 {
			records = append(records, &kgo.Record{Topic: "many", Partition: p, Value: []byte("x")})
		}
		at.AddOffset("many", p, 1, -1)
	}
	if err := cl.ProduceSync(u.ctx, records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	var names []string
	for g := range groups {
		names = append(names, fmt.Sprintf("a-consumer-group-with-a-name-of-usual-length-%05d", g))
		if err := u.adm.CommitAllOffsets(u.ctx, names[g], at); err != nil {
			t.Fatal(err)
		}
	}
	w := u.worker()
	u.ok("snapshot-groups --path $R --bootstrap-servers $B")
	id := startedID(u.ends(0, "offset-reset-bulk --detach --path $R --bootstrap-servers $B --all-groups --to-latest"))
	out := u.ok("watch " + id)
	says(t, out, "Consumer groups: 10,000 done", "Partitions set: 100,000, of which 100,000 read back")
	if got := u.places(names); len(got) != 1 || got[3] != groups*partitions {
		t.Errorf("%v", got)
	}

	c, err := client.Dial(client.Options{HostPort: u.rig.Address()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	events, size, largest := 0, 0, 0
	for it := c.GetWorkflowHistory(u.ctx, id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
		e, err := it.Next()
		if err != nil {
			t.Fatal(err)
		}
		n := proto.Size(e)
		events, size, largest = events+1, size+n, max(largest, n)
	}
	memory := peak(t, w)
	t.Logf("%d events, %d bytes, the largest event %d bytes; worker %d MiB", events, size, largest, memory)
	if events > 300 || size > 300<<10 || largest > 64<<10 {
		t.Errorf("the history has %d events of %d bytes, the largest of %d", events, size, largest)
	}
	if memory > 400 {
		t.Errorf("the worker has taken %d MiB", memory)
	}
}
