// Package offsets runs the commands for consumer groups' offsets as their users
// do, on a real Kafka, and has Kafka's own kafka-consumer-groups say what is
// committed afterwards.
package offsets

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kafka-backup/kafka-backup/test/kafkabed"
	"github.com/kafka-backup/kafka-backup/test/oracle"
	"github.com/kafka-backup/kafka-backup/test/rig"
)

var (
	shared  = kafkabed.Share(kafkabed.Options{HeapMiB: 384, Secure: true})
	product struct {
		once sync.Once
		rig  *rig.Rig
		err  error
	}
)

func TestMain(m *testing.M) { os.Exit(shared.Main(mainFunc(func() int { return runAll(m) }))) }

type mainFunc func() int

func (f mainFunc) Run() int { return f() }

func runAll(m *testing.M) int {
	code := m.Run()
	if product.rig == nil {
		return code
	}
	if err := product.rig.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if code != 0 {
		fmt.Fprintln(os.Stderr, "the logs are in", product.rig.Dir)
		return code
	}
	_ = os.RemoveAll(product.rig.Dir)
	return code
}

// user is somebody with a cluster, a repository, workers and a command line.
type user struct {
	t         *testing.T
	ctx       context.Context
	bed       *kafkabed.Bed // nil: no real Kafka
	bootstrap string
	rig       *rig.Rig
	adm       *kadm.Client
	cl        *kgo.Client
	queue     string
	path      string   // of the repository
	env       []string // of commands and workers
}

func newUser(t *testing.T) *user {
	t.Helper()
	bed := shared.Bed(t)
	u := newUserOf(t, bed.Bootstrap, bed.Client(t, kafkabed.Login{}, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(50*time.Millisecond)))
	u.bed = bed
	return u
}

// newUserOf is newUser of another cluster.
func newUserOf(t *testing.T, bootstrap string, cl *kgo.Client) *user {
	t.Helper()
	product.once.Do(func() {
		var dir string
		if dir, product.err = os.MkdirTemp("", "offsets-*"); product.err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
			defer cancel()
			product.rig, product.err = rig.Run(ctx, dir)
		}
	})
	if product.err != nil {
		t.Fatal(product.err)
	}
	return &user{t: t, ctx: kafkabed.Context(t, 5*time.Minute), bootstrap: bootstrap, rig: product.rig, adm: kadm.NewClient(cl), cl: cl,
		queue: t.Name(), path: filepath.Join(t.TempDir(), "backups")}
}

func (u *user) worker() *rig.Worker {
	u.t.Helper()
	w, err := u.rig.StartWorker(u.ctx, rig.WorkerOptions{TaskQueue: u.queue, Env: u.env})
	if err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() { _ = w.Kill() })
	return w
}

// run runs a command. $B and $R stand for the cluster and the repository.
func (u *user) run(command string, more ...string) *rig.Outcome {
	u.t.Helper()
	args := strings.Fields(command)
	for i, a := range args {
		switch a {
		case "$B":
			args[i] = u.bootstrap
		case "$R":
			args[i] = u.path
		}
	}
	o, err := u.rig.Command(u.ctx, append([]string{"KAFKA_BACKUP_TASK_QUEUE=" + u.queue}, u.env...), append(args, more...)...)
	if err != nil {
		u.t.Fatal(err)
	}
	return o
}

// ok runs a command that must succeed, and returns what it printed.
func (u *user) ok(command string, more ...string) string {
	u.t.Helper()
	return u.ends(0, command, more...).Out
}

// ends runs a command that must end with a code.
func (u *user) ends(code int, command string, more ...string) *rig.Outcome {
	u.t.Helper()
	o := u.run(command, more...)
	if o.Code != code {
		u.t.Fatalf("exit code %d, want %d: %s", o.Code, code, o)
	}
	return o
}

// says checks that a text has lines, whatever the space in them.
func says(t *testing.T, text string, lines ...string) {
	t.Helper()
	var have []string
	for _, l := range strings.Split(text, "\n") {
		have = append(have, strings.Join(strings.Fields(l), " "))
	}
	at := 0
	for _, want := range lines {
		n := slices.IndexFunc(have[at:], func(l string) bool { return l == want || strings.HasPrefix(l, want+" ") })
		if n < 0 {
			t.Errorf("there is no line %q after line %d of\n%s", want, at, text)
			return
		}
		at += n
	}
}

// topic makes a topic with so many records in each partition.
func (u *user) topic(name string, records ...int) {
	u.t.Helper()
	if _, err := u.adm.CreateTopic(u.ctx, int32(len(records)), 1, nil, name); err != nil {
		u.t.Fatal(err)
	}
	var rs []*kgo.Record
	for p, n := range records {
		for i := range n {
			rs = append(rs, &kgo.Record{Topic: name, Partition: int32(p), Value: []byte(strconv.Itoa(i))})
		}
	}
	if err := u.cl.ProduceSync(u.ctx, rs...).FirstErr(); err != nil {
		u.t.Fatal(err)
	}
}

// commit commits a group's offsets by partition from 0; -1: none.
func (u *user) commit(group, topic string, at ...int64) {
	u.t.Helper()
	var os kadm.Offsets
	for p, o := range at {
		if o >= 0 {
			os.AddOffset(topic, int32(p), o, -1)
		}
	}
	// The group's coordinator may hear of a new topic a little later than the
	// others.
	err := u.adm.CommitAllOffsets(u.ctx, group, os)
	for errors.Is(err, kerr.UnknownTopicOrPartition) && u.ctx.Err() == nil {
		time.Sleep(50 * time.Millisecond)
		err = u.adm.CommitAllOffsets(u.ctx, group, os)
	}
	if err != nil {
		u.t.Fatal(err)
	}
}

// judge has kafka-consumer-groups say what a group has committed.
func (u *user) judge(group string, want ...string) {
	u.t.Helper()
	rows, err := oracle.DescribeGroup(u.ctx, u.bed, u.bed.Bootstrap, group)
	if err != nil {
		u.t.Fatal(err)
	}
	var got []string
	for _, r := range rows {
		if r.Current >= 0 {
			got = append(got, fmt.Sprintf("%s/%d=%d", r.Topic, r.Partition, r.Current))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		u.t.Errorf("kafka-consumer-groups says of %s: %v, want %v", group, got, want)
	}
}

// committed is what a group has committed, read by another client.
func (u *user) committed(group string) string {
	u.t.Helper()
	os, err := u.adm.FetchOffsets(u.ctx, group)
	if err != nil {
		u.t.Fatal(err)
	}
	var got []string
	os.Each(func(o kadm.OffsetResponse) { got = append(got, fmt.Sprintf("%s/%d=%d", o.Topic, o.Partition, o.At)) })
	slices.Sort(got)
	return strings.Join(got, " ")
}
