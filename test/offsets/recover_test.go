package offsets

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// What is put back may be more than a coordinator takes in one request, for its
// metadata; a topic that was made anew is not touched.
func TestARollbackIsSplitAndKnowsItsTopics(t *testing.T) {
	u := newUser(t)
	u.worker()
	const partitions = 500
	u.topic("heavy", make([]int, partitions)...)
	metadata := strings.Repeat("m", 3500) // 1.7 MB: the coordinator writes at most 1 MB at once
	offsets := func(metadata string, from, to int32) (os kadm.Offsets) {
		for p := from; p < to; p++ {
			os.Add(kadm.Offset{Topic: "heavy", Partition: p, LeaderEpoch: -1, Metadata: metadata})
		}
		return os
	}
	commit := func(metadata string) {
		t.Helper()
		for from := int32(0); from < partitions; from += 100 {
			err := u.adm.CommitAllOffsets(u.ctx, "heavy-group", offsets(metadata, from, from+100))
			for ; err != nil && u.ctx.Err() == nil; err = u.adm.CommitAllOffsets(u.ctx, "heavy-group", offsets(metadata, from, from+100)) {
				time.Sleep(50 * time.Millisecond) // the coordinator does not know the topic yet
			}
		}
	}
	commit(metadata)
	if err := u.adm.CommitAllOffsets(u.ctx, "heavy-group", offsets(metadata, 0, partitions)); err == nil {
		t.Fatal("the coordinator takes it all in one request")
	}
	// The broker now answers with each offset twice, until the next commit.
	says(t, u.ok("offset-rollback snapshot --path $R --bootstrap-servers $B --groups heavy-group"), "Committed offsets: 500")
	id := lastSnapshot(u)
	commit("light")
	rollback := "offset-rollback rollback --path $R --bootstrap-servers $B --snapshot-id " + id
	says(t, u.ok(rollback), "Partitions set: 500, of which 500 read back")
	now, err := u.adm.FetchOffsets(u.ctx, "heavy-group")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	now.Each(func(o kadm.OffsetResponse) {
		if o.Metadata == metadata {
			n++
		}
	})
	if n != partitions {
		t.Errorf("%d of %d have their metadata again", n, partitions)
	}

	if r, err := u.adm.DeleteTopics(u.ctx, "heavy"); err != nil || r.Error() != nil {
		t.Fatal(err, r.Error())
	}
	for u.ctx.Err() == nil { // it takes a moment to be gone, and to be known
		_, _ = u.adm.CreateTopic(u.ctx, 1, 1, nil, "heavy")
		if topics, err := u.adm.ListTopics(u.ctx, "heavy"); err == nil && topics["heavy"].Err == nil && len(topics["heavy"].Partitions) == 1 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if o := u.ends(1, rollback); !strings.Contains(o.Err, "group heavy-group, topic heavy: the topic was deleted and created again (its id was ") || !strings.Contains(o.Err, "Nothing was changed") {
		t.Error(o)
	}
}
