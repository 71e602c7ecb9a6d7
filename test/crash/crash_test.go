// Package crash kills the product's processes at random moments, many times,
// and has the oracle look for lost, repeated and reordered records.
//
// KAFKA_BACKUP_CRASH_N says how many workers are killed (20), _SEED makes the
// moments those of an earlier run, _MB says how much data there is (6).
package crash

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kafka-backup/kafka-backup/test/awkward"
	"github.com/kafka-backup/kafka-backup/test/dataset"
	"github.com/kafka-backup/kafka-backup/test/kafkabed"
	"github.com/kafka-backup/kafka-backup/test/oracle"
	"github.com/kafka-backup/kafka-backup/test/rig"
)

var bed = kafkabed.Share(kafkabed.Options{Brokers: 3, HeapMiB: 320})

func TestMain(m *testing.M) {
	// Tests here wait more than they work.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(bed.Main(&stage{m}))
}

// stage runs the tests, and clears up behind them.
type stage struct{ m *testing.M }

func (s *stage) Run() int {
	code := s.m.Run()
	if set.rig == nil {
		return code
	}
	if err := set.rig.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if code != 0 {
		fmt.Fprintln(os.Stderr, "logs and configurations are in", set.rig.Dir)
	} else if err := os.RemoveAll(set.rig.Dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return code
}

func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv("KAFKA_BACKUP_CRASH_" + name)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

// seed makes the run's moments; it is logged, so that a failure can be had again.
var seed = uint64(number("SEED", int(time.Now().UnixNano()&0xffffff)))

// scene is the data that is backed up and restored again and again, and the
// programs that do it.
type scene struct {
	rig    *rig.Rig
	bed    *kafkabed.Bed
	opts   []kgo.Opt
	adm    *kadm.Client
	topics []string
	groups []string
	want   oracle.Content
	before []oracle.Committed
	bytes  int64 // about, as the brokers hold them
}

// set is the scene that the tests share.
var (
	set  scene
	once sync.Once
)

// shared makes the scene, if this is the first call. Restores go into the same
// cluster, under other names.
func shared(t *testing.T) *scene {
	t.Helper()
	once.Do(func() { set.make(t) })
	if set.before == nil {
		t.Fatal("the scene could not be made")
	}
	return &set
}

func (s *scene) make(t *testing.T) {
	t.Helper()
	fmt.Printf("KAFKA_BACKUP_CRASH_SEED=%d\n", seed)
	began := time.Now()
	step := func(name string) { t.Logf("%s after %s", name, time.Since(began).Round(100*time.Millisecond)) }
	ctx := kafkabed.Context(t, 15*time.Minute) // the first build takes minutes
	s.bed = bed.Bed(t)
	step("brokers")
	dir, err := os.MkdirTemp("", "crash-*")
	must(t, err)
	s.rig, err = rig.Run(ctx, dir)
	must(t, err)
	step("Temporal")
	s.opts, err = s.bed.ClientOptions(kafkabed.Login{})
	must(t, err)
	s.opts = append(s.opts, kgo.MetadataMinAge(50*time.Millisecond))
	client, err := kgo.NewClient(s.opts...)
	must(t, err)
	s.adm = kadm.NewClient(client)

	prefix := fmt.Sprintf("s%d-", time.Now().UnixNano()&0xffff)
	// Bytes that do not compress: the wire carries what the limits count.
	mb := int64(number("MB", 6))
	_, err = dataset.Load(ctx, dataset.Bulk{Client: s.opts, Topic: prefix + "load", Partitions: 6, Bytes: mb << 20, BatchBytes: 32 << 10})
	must(t, err)
	s.bytes = mb << 20
	step("load")
	shop, err := dataset.Shop(ctx, dataset.Options{Client: s.opts, Orders: 400, Seed: seed, Prefix: prefix})
	must(t, err)
	s.topics, s.groups = append([]string{prefix + "load"}, shop.Topics...), shop.Groups
	step("shop")
	maker, err := awkward.NewMaker(ctx, s.opts...)
	must(t, err)
	defer maker.Close()
	maker.Prefix = prefix
	for _, make := range []func(context.Context) (*awkward.Topic, error){maker.Transactions, maker.Compacted, maker.TinyBatches, maker.BrokerTime} {
		topic, err := make(ctx)
		must(t, err)
		s.topics = append(s.topics, topic.Name)
		step(topic.Name)
	}
	s.want, err = oracle.Read(ctx, oracle.Reading{Client: s.opts, Topics: s.topics})
	must(t, err)
	s.before, err = oracle.ReadGroups(ctx, s.opts, s.groups...)
	must(t, err)
	t.Logf("%d records in %d topics", s.want.Records(), len(s.topics))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// random is a source of moments of its own for each name.
func random(name string) *rand.Rand {
	h := seed
	for _, c := range name {
		h = h*31 + uint64(c)
	}
	return rand.New(rand.NewPCG(seed, h))
}
