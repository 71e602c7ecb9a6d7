package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/kafka-backup/kafka-backup/test/awkward"
	"github.com/kafka-backup/kafka-backup/test/oracle"
	"github.com/kafka-backup/kafka-backup/test/rig"
	"github.com/kafka-backup/kafka-backup/test/s3bed"
)

func TestAwkwardTopicsFromOneBrokerThroughAFolderToThree(t *testing.T) {
	u := newUser(t, 10*time.Minute)
	from, to := small(t), large(t)
	topics, groups := makeAwkward(u, from, "one-", func(ctx context.Context) error {
		if err := from.Stop(1); err != nil {
			return err
		}
		return from.StartBroker(ctx, 1)
	})
	u.worker()
	throughAndBack(u, from, to, topics, groups, rig.Document{"replication_factor": 3})
}

func TestAwkwardTopicsFromThreeBrokersThroughS3ToOne(t *testing.T) {
	u := newUser(t, 10*time.Minute)
	store := s3bed.Start(t)
	u.env = []string{"S3_ACCESS=" + store.AccessKey, "S3_SECRET=" + store.SecretKey}
	u.storage, u.dir = rig.Document{
		"backend": "s3", "bucket": store.Bucket, "region": store.Region, "endpoint": store.Endpoint, "path_style": true,
		"prefix": "some/where", "access_key": "${S3_ACCESS}", "secret_key": "${S3_SECRET}",
	}, ""
	from, to := large(t), small(t)
	topics, groups := makeAwkward(u, from, "three-", nil)
	u.worker()
	throughAndBack(u, from, to, topics, groups, rig.Document{"replication_factor": 1})
}

// makeAwkward makes all awkward topics, and groups that stand at awkward
// places in them.
func makeAwkward(u *user, c *cluster, prefix string, restart func(context.Context) error) (topics, groups []string) {
	u.t.Helper()
	m, err := awkward.NewMaker(u.ctx, c.opts...)
	if err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(m.Close)
	m.Prefix = prefix
	made, err := m.All(u.ctx, restart)
	if err != nil {
		u.t.Fatal(err)
	}
	for _, topic := range made {
		topics = append(topics, topic.Name)
	}
	starts, err := c.adm.ListStartOffsets(u.ctx, topics...)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		u.t.Fatal(err)
	}
	ends, err := c.adm.ListCommittedOffsets(u.ctx, topics...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		u.t.Fatal(err)
	}
	// Offsets between start and end may be those of a control record, of an
	// aborted record, or of none at all.
	at := map[string]func(start, end int64) (int64, string){
		"begin":  func(start, _ int64) (int64, string) { return start, "" },
		"second": func(start, end int64) (int64, string) { return min(start+1, end), "x" },
		"third":  func(start, end int64) (int64, string) { return start + (end-start)/3, `{"naïve":"` + "\t" + `"}` },
		"last":   func(start, end int64) (int64, string) { return max(start, end-1), strings.Repeat("m", 4000) },
		"end":    func(_, end int64) (int64, string) { return end, "" },
	}
	for name, place := range at {
		offsets := kadm.Offsets{}
		starts.Each(func(o kadm.ListedOffset) {
			end, _ := ends.Lookup(o.Topic, o.Partition)
			offset, metadata := place(o.Offset, end.Offset)
			offsets.Add(kadm.Offset{Topic: o.Topic, Partition: o.Partition, At: offset, LeaderEpoch: -1, Metadata: metadata})
		})
		group := prefix + name
		if err := c.adm.CommitAllOffsets(u.ctx, group, offsets); err != nil {
			u.t.Fatal(err)
		}
		groups = append(groups, group)
	}
	slices.Sort(groups)
	return topics, groups
}

// throughAndBack backs topics up and restores them into another cluster,
// where nothing may be missing, and asks Kafka's own tools what they see.
func throughAndBack(u *user, from, to *cluster, topics, groups []string, options rig.Document) {
	u.t.Helper()
	want, before := content(u, from, topics...), committed(u, from, groups...)
	made := u.backup(rig.Document{"backup_id": "awkward", "source": source(from, topics...), "backup": rig.Document{
		"segment_max_bytes": "4MiB", "block_max_bytes": "64KiB", "part_max_partitions": 20,
	}})
	if made.Total.Records != want.Records() || made.Topics != len(topics) {
		u.t.Errorf("the report says %d records in %d topics, there are %d in %d", made.Total.Records, made.Topics, want.Records(), len(topics))
	}
	o := u.with(rig.Document{"storage": u.storage}, "validate", "--deep", "--backup-id", "awkward")
	if o.Code != 0 {
		u.t.Error(o)
	}

	// Names that exist on the target already (odd names have no prefix) change.
	mapping := renaming("restored-", topics...)
	options["topic_mapping"], options["consumer_groups"] = mapping, groups
	options["part_max_partitions"] = 20
	restored := u.restore(rig.Document{"backup_id": "awkward", "target": target(to), "restore": options})
	if restored.Total.Records != want.Records() || restored.Groups != len(groups) || len(restored.Failed) > 0 {
		u.t.Errorf("the report says %+v, want %d records and %d groups", restored, want.Records(), len(groups))
	}
	got := content(u, to, mapped(topics, mapping)...)
	same(u, want, got, oracle.Plan{Mapping: mapping}, before, committed(u, to, groups...))
	sameConfiguration(u, from, to, topics, mapping)
	witnesses(u, from, to, topics, groups, mapping)
}

// sameConfiguration checks the topics' own configuration on both sides.
func sameConfiguration(u *user, from, to *cluster, topics []string, mapping map[string]string) {
	u.t.Helper()
	here, there := dynamicConfigs(u, from, topics...), dynamicConfigs(u, to, mapped(topics, mapping)...)
	for i, topic := range topics {
		if a, b := here[topic], there[mapped(topics, mapping)[i]]; a != b {
			u.t.Errorf("topic %s is configured %q on the source and %q on the target", topic, a, b)
		}
	}
}

// dynamicConfigs gives what was set on each topic, as text.
func dynamicConfigs(u *user, c *cluster, topics ...string) map[string]string {
	u.t.Helper()
	configs, err := c.adm.DescribeTopicConfigs(u.ctx, topics...)
	if err != nil {
		u.t.Fatal(err)
	}
	all := map[string]string{}
	for _, r := range configs {
		if r.Err != nil {
			u.t.Fatalf("configuration of %s: %v", r.Name, r.Err)
		}
		var list []string
		for _, e := range r.Configs {
			if e.Source.String() == "DYNAMIC_TOPIC_CONFIG" {
				list = append(list, fmt.Sprintf("%s=%s", e.Key, e.MaybeValue()))
			}
		}
		slices.Sort(list)
		all[r.Name] = strings.Join(list, " ")
	}
	return all
}

// witnesses asks kafka-consumer-groups for every group's lag and has
// kafka-console-consumer read a topic, on both sides.
func witnesses(u *user, from, to *cluster, topics, groups []string, mapping map[string]string) {
	u.t.Helper()
	group := groups[slices.IndexFunc(groups, func(g string) bool { return strings.HasSuffix(g, "third") })]
	there := map[string]oracle.Described{}
	after, err := oracle.DescribeGroup(u.ctx, to, to.Bootstrap, group)
	if err != nil {
		u.t.Fatal(err)
	}
	for _, d := range after {
		there[fmt.Sprint(d.Topic, "/", d.Partition)] = d
	}
	before, err := oracle.DescribeGroup(u.ctx, from, from.Bootstrap, group)
	if err != nil {
		u.t.Fatal(err)
	}
	dense := from.name(topics, "tiny-batches")
	for _, d := range before {
		is, ok := there[fmt.Sprint(mapping[d.Topic], "/", d.Partition)]
		if !ok {
			u.t.Errorf("kafka-consumer-groups does not show group %s on %s/%d", group, mapping[d.Topic], d.Partition)
			continue
		}
		// Where each offset has its record, lag is the number of records left.
		if d.Topic == dense && (is.Lag != d.Lag || is.Current != d.Current) {
			u.t.Errorf("kafka-consumer-groups says %+v on the source and %+v on the target", d, is)
		}
		if is.Current > is.LogEnd {
			u.t.Errorf("kafka-consumer-groups says %+v: past the end", is)
		}
	}
	// What the group reads next when it really joins and reads.
	left := 0
	for _, d := range before {
		if d.Topic == dense {
			left += int(d.Lag)
		}
	}
	here, err := oracle.NextRead(u.ctx, from, from.Bootstrap, group, dense, left)
	if err != nil {
		u.t.Fatal(err)
	}
	where, err := oracle.NextRead(u.ctx, to, to.Bootstrap, group, mapping[dense], left)
	if err != nil {
		u.t.Fatal(err)
	}
	if len(here) == 0 || !maps.Equal(here, where) {
		u.t.Errorf("kafka-console-consumer in group %s reads next %v on the source and %v on the target", group, here, where)
	}
	for _, name := range []string{"headers", "nulls"} {
		topic := from.name(topics, name)
		a, err := oracle.ReadConsole(u.ctx, from, oracle.Console{Bootstrap: from.Bootstrap, Topic: topic, Max: 100000})
		if err != nil {
			u.t.Fatal(err)
		}
		b, err := oracle.ReadConsole(u.ctx, to, oracle.Console{Bootstrap: to.Bootstrap, Topic: mapping[topic], Max: len(a)})
		if err != nil {
			u.t.Fatal(err)
		}
		if len(a) == 0 || len(a) != len(b) {
			u.t.Errorf("kafka-console-consumer reads %d records of %s on the source, %d on the target", len(a), topic, len(b))
			continue
		}
		for _, list := range [][]oracle.Printed{a, b} {
			slices.SortStableFunc(list, func(x, y oracle.Printed) int { return int(x.Partition - y.Partition) })
		}
		for i := range a {
			if a[i] != b[i] {
				u.t.Errorf("kafka-console-consumer reads of %s\n%+v on the source and\n%+v on the target", topic, a[i], b[i])
				break
			}
		}
	}
}

// name finds the topic of a kind.
func (c *cluster) name(topics []string, kind string) string {
	for _, t := range topics {
		if strings.HasSuffix(t, "-"+kind) {
			return t
		}
	}
	panic("no topic " + kind)
}
