package oracle_test

import (
	"os"
	"testing"
	"time"

	"github.com/kafka-backup/kafka-backup/test/dataset"
	"github.com/kafka-backup/kafka-backup/test/kafkabed"
	"github.com/kafka-backup/kafka-backup/test/oracle"
)

var shared = kafkabed.Share(kafkabed.Options{})

func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }

func TestKafkasOwnToolsAgreeWithTheOracle(t *testing.T) {
	bed := shared.Bed(t)
	ctx := kafkabed.Context(t, 3*time.Minute)
	opts, err := bed.ClientOptions(kafkabed.Login{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dataset.Shop(ctx, dataset.Options{Client: opts, Orders: 300}); err != nil {
		t.Fatal(err)
	}
	content, err := oracle.Read(ctx, oracle.Reading{Client: opts, Topics: []string{"payments"}})
	if err != nil {
		t.Fatal(err)
	}
	committed, err := oracle.ReadGroups(ctx, opts, "analytics-consumer")
	if err != nil {
		t.Fatal(err)
	}
	described, err := oracle.DescribeGroup(ctx, bed, bed.Bootstrap, "analytics-consumer")
	if err != nil {
		t.Fatal(err)
	}
	if len(described) != len(committed) || len(committed) != 15 {
		t.Fatalf("%d committed offsets, kafka-consumer-groups describes %d", len(committed), len(described))
	}
	at := map[oracle.Committed]int64{}
	for _, d := range described {
		at[oracle.Committed{Topic: d.Topic, Partition: d.Partition}] = d.Current
		if d.Lag != d.LogEnd-d.Current || d.LogEnd == 0 {
			t.Errorf("parsed %+v", d)
		}
	}
	left := 0
	next := map[int32]int64{}
	for _, c := range committed {
		if at[oracle.Committed{Topic: c.Topic, Partition: c.Partition}] != c.Offset {
			t.Errorf("%+v, kafka-consumer-groups says %d", c, at[oracle.Committed{Topic: c.Topic, Partition: c.Partition}])
		}
		if c.Topic != "payments" {
			continue
		}
		for _, e := range content["payments"].Partitions[c.Partition].Entries {
			if e.Offset >= c.Offset {
				if left++; next[c.Partition] == 0 {
					next[c.Partition] = e.Offset
				}
			}
		}
	}
	reads, err := oracle.NextRead(ctx, bed, bed.Bootstrap, "analytics-consumer", "payments", left)
	if err != nil {
		t.Fatal(err)
	}
	for p, offset := range next {
		if reads[p] != offset {
			t.Errorf("the group reads offset %d of payments-%d next, kafka-console-consumer says %d", offset, p, reads[p])
		}
	}
	after, err := oracle.ReadGroups(ctx, opts, "analytics-consumer")
	if err != nil {
		t.Fatal(err)
	}
	if result := oracle.ComparePositions(content, content, committed, after, oracle.Plan{}); !result.Clean() {
		t.Errorf("the witness moved the group: %s", result)
	}

	records, err := oracle.ReadConsole(ctx, bed, oracle.Console{Bootstrap: bed.Bootstrap, Topic: "payments", Max: int(content.Records())})
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != int(content.Records()) {
		t.Fatalf("kafka-console-consumer read %d records, the oracle %d", len(records), content.Records())
	}
	seen := map[int32]int{}
	for _, r := range records {
		e := content["payments"].Partitions[r.Partition].Entries[seen[r.Partition]]
		seen[r.Partition]++
		if r.Offset != e.Offset || r.Timestamp != e.Timestamp || r.BrokerTime || r.Key == "" || r.Value[0] != '{' || r.Headers[:12] != "traceparent:" {
			t.Fatalf("kafka-console-consumer printed %+v, the oracle has %+v", r, e)
		}
	}
}
