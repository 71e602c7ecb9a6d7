package kafkabed_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kafka-backup/kafka-backup/test/kafkabed"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

var shared = kafkabed.Share(kafkabed.Options{Log: os.Stderr})

func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }

func TestOneBrokerServesRecordsAndKafkasTools(t *testing.T) {
	bed := shared.Bed(t)
	ctx := kafkabed.Context(t, time.Minute)
	roundTrip(t, ctx, bed.Client(t, kafkabed.Login{}), "hello")

	out, err := bed.Tool(ctx, "console-consumer", "--bootstrap-server", bed.Bootstrap,
		"--topic", "hello", "--from-beginning", "--max-messages", "1", "--timeout-ms", "20000")
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(out) != "value" {
		t.Fatalf("console-consumer printed %q, want the value that was produced", out)
	}
}

// roundTrip creates a topic, produces one record and reads it back.
func roundTrip(t *testing.T, ctx context.Context, cl *kgo.Client, topic string) {
	t.Helper()
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 1, -1, nil, topic); err != nil {
		t.Fatal(err)
	}
	produced := cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Key: []byte("key"), Value: []byte("value")})
	if err := produced.FirstErr(); err != nil {
		t.Fatal(err)
	}
	cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}})
	fetches := cl.PollFetches(ctx)
	if err := fetches.Err(); err != nil {
		t.Fatal(err)
	}
	if n := fetches.NumRecords(); n != 1 {
		t.Fatalf("read %d records, want 1", n)
	}
}
