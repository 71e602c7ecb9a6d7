package offsets

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.temporal.io/sdk/client"

	"github.com/kafka-backup/kafka-backup/test/kafkabed"
)

// heartbeat joins a share or streams group, or leaves it (epoch -1). A member
// that is not heard of any more stays one for 45 s.
func (u *user) heartbeat(req kmsg.Request) {
	u.t.Helper()
	for {
		resp, err := u.cl.Broker(1).RetriableRequest(u.ctx, req)
		var code int16
		switch r := resp.(type) {
		case *kmsg.ShareGroupHeartbeatResponse:
			code = r.ErrorCode
		case *kmsg.StreamsGroupHeartbeatResponse:
			code = r.ErrorCode
		}
		if err == nil {
			err = kerr.ErrorForCode(code)
		}
		if err == nil {
			return
		}
		if !errors.Is(err, kerr.CoordinatorLoadInProgress) && !errors.Is(err, kerr.CoordinatorNotAvailable) || u.ctx.Err() != nil {
			u.t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func shareHeartbeat(group, topic string, epoch int32) kmsg.Request {
	req := kmsg.NewPtrShareGroupHeartbeatRequest()
	req.GroupID, req.MemberID, req.MemberEpoch, req.SubscribedTopicNames = group, "AAAAAAAAAAAAAAAAAAAAAQ", epoch, []string{topic}
	return req
}

func streamsHeartbeat(group, topic string, epoch int32) kmsg.Request {
	req := kmsg.NewPtrStreamsGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch = group, "streams-member-1", epoch
	if epoch == 0 {
		req.RebalanceTimeoutMillis, req.ProcessID = 60_000, kmsg.StringPtr("process-1")
		req.ActiveTasks, req.StandbyTasks, req.WarmupTasks, req.ClientTags = []kmsg.TaskIDs{}, []kmsg.TaskIDs{}, []kmsg.TaskIDs{}, []kmsg.StreamsGroupHeartbeatRequestClientTag{}
		sub := kmsg.NewStreamsGroupHeartbeatRequestTopologySubtopology()
		sub.SubtopologyID, sub.SourceTopics = "0", []string{topic}
		top := kmsg.NewStreamsGroupHeartbeatRequestTopology()
		top.Epoch, top.Subtopologies = 1, []kmsg.StreamsGroupHeartbeatRequestTopologySubtopology{sub}
		req.Topology = &top
	}
	return req
}

// Classic, next-generation, streams and share groups, the first two with static
// members, are told apart; the active ones are refused by name with their
// members, or waited for, whatever happens to the workers meanwhile; what has no
// committed offsets is said to have none.
func TestEveryKindOfGroup(t *testing.T) {
	u := newUser(t)
	w := u.worker()
	u.topic("kinds", 10, 10)
	u.commit("kinds-idle", "kinds", 4, 5)
	u.ok("snapshot-groups --path $R --bootstrap-servers $B") // makes the repository
	contains := func(text string, words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(text, w) {
				t.Errorf("it does not say %q: %s", w, text)
			}
		}
	}
	static := map[string]*kgo.Client{}
	for _, group := range []string{"kinds-classic", "kinds-next"} {
		opts := []kgo.Opt{kgo.ConsumerGroup(group), kgo.ConsumeTopics("kinds"), kgo.ClientID(group + "-client"), kgo.InstanceID(group + "-instance"), kgo.DisableAutoCommit()}
		if group == "kinds-next" {
			opts = append(opts, kgo.ServerSideBalancer())
		}
		static[group] = u.bed.Client(t, kafkabed.Login{}, opts...)
		static[group].PollFetches(u.ctx)
		at := kgo.EpochOffset{Epoch: -1, Offset: 3}
		static[group].CommitOffsetsSync(u.ctx, map[string]map[int32]kgo.EpochOffset{"kinds": {0: at, 1: at}}, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
			if err != nil || resp.Topics[0].Partitions[0].ErrorCode != 0 {
				t.Error(err, resp)
			}
		})
	}
	u.heartbeat(shareHeartbeat("kinds-share", "kinds", 0))
	u.heartbeat(streamsHeartbeat("kinds-streams", "kinds", 0))
	u.heartbeat(streamsHeartbeat("kinds-streams", "kinds", -1))
	u.commit("kinds-streams", "kinds", 6, 7) // while it is empty
	plan := func() map[string]string {
		t.Helper()
		var p struct {
			Warnings []string
			Groups   []struct{ Group, Type, State, Blocked string }
		}
		if err := json.Unmarshal([]byte(u.ok("offset-reset plan --output json --bootstrap-servers $B --groups-matching kinds-* --to-earliest")), &p); err != nil {
			t.Fatal(err)
		}
		contains(strings.Join(p.Warnings, "\n"), "group kinds-share is left out: it is a share group", "kafka-share-groups --reset-offsets")
		contains(strings.Join(p.Warnings, "\n"), "group kinds-streams: it is a Kafka Streams group", "kafka-streams-application-reset")
		got := map[string]string{}
		for _, g := range p.Groups {
			got[g.Group] = g.Type + " " + g.Blocked
		}
		return got
	}
	if got := plan(); len(got) != 4 || got["kinds-idle"] != "classic " || got["kinds-streams"] != "streams " ||
		got["kinds-classic"] != "classic it has active members" || got["kinds-next"] != "consumer it has active members" {
		t.Errorf("%q", got)
	}
	u.heartbeat(streamsHeartbeat("kinds-streams", "kinds", 0))

	// All of them are refused, by name, and nothing is set.
	execute := func(group string) string {
		t.Helper()
		return u.ends(1, "offset-reset execute --path $R --bootstrap-servers $B --to-earliest --groups "+group).Err
	}
	for group, kind := range map[string]string{"kinds-classic": "classic", "kinds-next": "consumer"} {
		contains(execute(group), "Consumer group has active members; group "+group+" ("+kind+", Stable)", "(static member "+group+"-instance), client "+group+"-client, host /127.0.0.1",
			"until its session times out", "--wait-inactive")
	}
	contains(execute("kinds-streams"), "Consumer group has active members; group kinds-streams (streams, ", "streams-member-1, client ", "host /127.0.0.1")
	contains(execute("kinds-share"), "group kinds-share: it is a share group: it has no committed offsets", "kafka-share-groups --reset-offsets", "Nothing was changed")
	out := u.ends(3, "offset-reset-bulk --path $R --bootstrap-servers $B --to-earliest --groups-matching kinds-*").Out
	says(t, out, "Partitions set: 2, of which 2 read back", "kinds-idle kinds 0 4 0 SET", "Groups of which nothing was set",
		"kinds-classic it has active members: group kinds-classic (classic, Stable):", "kinds-next it has active members: group kinds-next (consumer, Stable):",
		"kinds-streams it has active members: group kinds-streams (streams,")
	contains(out, "group kinds-share is left out: it is a share group")

	// A snapshot of all of them is rolled back to as far as there are committed
	// offsets, once the others have left; the worker dies while it waits.
	contains(u.ok("offset-rollback snapshot --path $R --bootstrap-servers $B --groups-matching kinds-*"), "group kinds-share is a share group: it has no committed offsets")
	snapshot := lastSnapshot(u)
	c, err := client.Dial(client.Options{HostPort: u.rig.Address()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	waiting := startedID(u.ends(0, "offset-reset execute --detach --wait-inactive 300s --path $R --bootstrap-servers $B --to-latest --groups-matching kinds-*"))
	u.awaitActivity(c, waiting, "ActiveGroups")
	if err := w.Kill(); err != nil {
		t.Fatal(err)
	}
	for group, cl := range static {
		cl.Close() // a static member does not leave by this
		r, err := u.adm.LeaveGroup(u.ctx, kadm.LeaveGroup(group).InstanceIDs(group+"-instance"))
		if err == nil {
			err = r.Error()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	u.heartbeat(streamsHeartbeat("kinds-streams", "kinds", -1))
	u.worker()
	contains(u.ok("watch "+waiting), "group kinds-share is left out: it is a share group")
	for _, group := range []string{"kinds-classic", "kinds-next", "kinds-streams", "kinds-idle"} {
		if got := u.committed(group); got != "kinds/0=10 kinds/1=10" {
			t.Errorf("%s: %s", group, got)
		}
	}
	u.judge("kinds-next", "kinds/0=10", "kinds/1=10")
	contains(u.ok("offset-rollback rollback --path $R --bootstrap-servers $B --snapshot-id "+snapshot), "group kinds-share is left out: it is a share group")
	for group, want := range map[string]string{"kinds-streams": "kinds/0=6 kinds/1=7", "kinds-idle": "kinds/0=0 kinds/1=0"} {
		if got := u.committed(group); got != want {
			t.Errorf("%s: %s, want %s", group, got, want)
		}
	}
	// Empty, it is a share group still.
	u.heartbeat(shareHeartbeat("kinds-share", "kinds", -1))
	contains(execute("kinds-share"), "group kinds-share: it is a share group")
}
