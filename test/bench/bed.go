package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.temporal.io/sdk/client"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
	"github.com/kafka-backup/kafka-backup/test/kafkabed"
	"github.com/kafka-backup/kafka-backup/test/s3bed"
)

// bed is everything that is measured or needed for it: a broker, an object
// store, a Temporal server, and one worker process for each kind of storage,
// so that one's memory says nothing about the other's.
type bed struct {
	options options
	dir     string
	kafka   *kafkabed.Bed
	store   *s3bed.Store
	server  *temporalservice.Server
	dialed  client.Client
	started temporalservice.Registration
	workers map[string]*process // by storage
	client  *kgo.Client
	admin   *kadm.Client
	number  int // of the operation
	fail    context.CancelCauseFunc
}

// start starts a bed. The context it returns ends, with the reason as its
// cause, when one of the workers does.
func start(ctx context.Context, o options, dir string, heapMiB int) (_ context.Context, b *bed, err error) {
	b = &bed{options: o, dir: dir, workers: map[string]*process{}}
	ctx, b.fail = context.WithCancelCause(ctx)
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	b.kafka, err = kafkabed.Run(ctx, filepath.Join(dir, "kafka"), kafkabed.Options{
		Log: os.Stderr, HeapMiB: heapMiB,
		Properties: map[string]string{"log.segment.delete.delay.ms": "1000"}, // each round deletes what it made
	})
	if err != nil {
		return ctx, b, err
	}
	b.client, err = kgo.NewClient(append(b.opts(), kgo.MetadataMinAge(100*time.Millisecond))...)
	if err != nil {
		return ctx, b, err
	}
	b.admin = kadm.NewClient(b.client)
	b.server, err = temporalservice.StartServer(ctx, temporalservice.ServerOptions{
		Binary: filepath.Join(o.bin, temporalservice.ServerBinary), StateDir: filepath.Join(dir, "temporal"), Log: os.Stderr,
	})
	if err != nil {
		return ctx, b, err
	}
	b.dialed, err = temporalservice.Dial(ctx, b.server.Profile())
	if err != nil {
		return ctx, b, err
	}
	b.started, err = temporalservice.EnsureSearchAttributes(ctx, b.dialed, b.server.Namespace)
	if err != nil {
		return ctx, b, err
	}
	for _, storage := range o.storages {
		var env []string
		if storage == "s3" {
			s3dir := filepath.Join(dir, "s3")
			if err := os.Mkdir(s3dir, 0o755); err != nil {
				return ctx, b, err
			}
			if b.store, err = s3bed.Run(ctx, s3dir); err != nil {
				return ctx, b, err
			}
			env = b.store.Env()
		}
		b.workers[storage], err = b.worker(ctx, o, storage, env)
		if err != nil {
			return ctx, b, err
		}
	}
	return ctx, b, nil
}

func (b *bed) opts() []kgo.Opt { return []kgo.Opt{kgo.SeedBrokers(b.kafka.Bootstrap)} }

func queueOf(storage string) string { return "bench-" + storage }

// worker starts a worker process with its log in the bed's folder.
func (b *bed) worker(ctx context.Context, o options, storage string, env []string) (*process, error) {
	log, err := os.Create(filepath.Join(b.dir, "worker-"+storage+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(o.bin, "kafka-backup-worker"),
		"--"+temporalservice.FlagAddress, b.server.Address, "--"+temporalservice.FlagNamespace, b.server.Namespace, "--task-queue", queueOf(storage))
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	p, err := launch(cmd)
	if err != nil {
		return nil, err
	}
	go func() {
		<-p.done
		if p.ended.Load() {
			return
		}
		said, _ := os.ReadFile(log.Name())
		b.fail(fmt.Errorf("the worker for %s ended: %v; its log:\n%s", storage, p.err, said))
	}()
	return p, nil
}

// storage is the configuration of a new, empty repository.
func (b *bed) storage(kind string) config.Storage {
	name := fmt.Sprintf("repository-%d", b.number)
	if kind == "s3" {
		return config.Storage{Backend: "s3", Bucket: b.store.Bucket, Prefix: name, Endpoint: b.store.Endpoint, Region: b.store.Region, PathStyle: true}
	}
	return config.Storage{Backend: "filesystem", Path: filepath.Join(b.dir, name)}
}

// discard removes a repository that storage named.
func (b *bed) discard(s config.Storage) error {
	if s.Backend == "s3" {
		return os.RemoveAll(filepath.Join(b.store.BucketDir(), s.Prefix))
	}
	return os.RemoveAll(s.Path)
}

func (b *bed) drop(ctx context.Context, topics ...string) error {
	r, err := b.admin.DeleteTopics(ctx, topics...)
	if err != nil {
		return err
	}
	return r.Error()
}

func (b *bed) close() {
	var all []error
	for _, w := range b.workers {
		if w != nil {
			all = append(all, w.end())
		}
	}
	if b.dialed != nil {
		b.dialed.Close()
	}
	if b.client != nil {
		b.client.Close()
	}
	if b.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		all = append(all, b.server.Stop(ctx))
		cancel()
	}
	if b.store != nil {
		all = append(all, b.store.Close())
	}
	if b.kafka != nil {
		all = append(all, b.kafka.Close())
	}
	if err := errors.Join(all...); err != nil {
		fmt.Fprintln(os.Stderr, "bench: while ending:", err)
	}
}
