package kafkabed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// until calls ready every 100 ms until it says true. On ctx's end the error
// names what was waited for and why it was not so yet.
func until(ctx context.Context, what string, ready func(context.Context) (bool, error)) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		ok, err := ready(try)
		cancel()
		if ok {
			return nil
		}
		var fatal *brokerError
		if errors.As(err, &fatal) {
			return err
		}
		select {
		case <-ctx.Done():
			if err == nil {
				err = context.Cause(ctx)
			}
			return fmt.Errorf("kafkabed: waited in vain for %s: %w", what, err)
		case <-tick.C:
		}
	}
}

// brokerError says that a broker's process is gone or does not come up.
type brokerError struct {
	id   int
	log  string
	tail string
	why  error
}

func (e *brokerError) Error() string {
	return fmt.Sprintf("kafkabed: broker %d: %v; its log is %s and ends with:\n%s", e.id, e.why, e.log, e.tail)
}

func (e *brokerError) Unwrap() error { return e.why }

func (b *broker) failure(why error) error {
	return &brokerError{id: b.id, log: b.log(), tail: logTail(b.log(), 4096), why: why}
}

// awaitReady waits until the broker answers a metadata request that names it.
func (b *Bed) awaitReady(ctx context.Context, broker *broker) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(fmt.Sprintf("127.0.0.1:%d", broker.ports[Plaintext])))
	if err != nil {
		return fmt.Errorf("kafkabed: %w", err)
	}
	defer cl.Close()
	err = until(ctx, fmt.Sprintf("broker %d to answer", broker.id), func(ctx context.Context) (bool, error) {
		if p := broker.running(); p == nil {
			return false, broker.death()
		}
		members, err := members(ctx, cl)
		return members[int32(broker.id)], err
	})
	var dead *brokerError
	if err != nil && !errors.As(err, &dead) {
		return broker.failure(err)
	}
	return err
}

// death explains a broker's end, a taken port apart from the rest.
func (b *broker) death() error {
	b.mu.Lock()
	proc := b.proc
	b.mu.Unlock()
	why := fmt.Errorf("the process ended: %v", proc.err)
	if strings.Contains(logTail(b.log(), 16384), "Address already in use") {
		why = fmt.Errorf("%w: %w", why, errPortTaken)
	}
	return b.failure(why)
}

// awaitMembers waits until every broker sees every other.
func (b *Bed) awaitMembers(ctx context.Context) error {
	for _, broker := range b.brokers {
		cl, err := kgo.NewClient(kgo.SeedBrokers(fmt.Sprintf("127.0.0.1:%d", broker.ports[Plaintext])))
		if err != nil {
			return fmt.Errorf("kafkabed: %w", err)
		}
		err = until(ctx, "all brokers to join", func(ctx context.Context) (bool, error) {
			members, err := members(ctx, cl)
			return len(members) == len(b.brokers), err
		})
		cl.Close()
		if err != nil {
			return broker.failure(err)
		}
	}
	return nil
}

// AwaitInSync waits, bounded by ctx, until every partition of the cluster has a
// leader and all of its replicas in sync.
func (b *Bed) AwaitInSync(ctx context.Context) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(b.Bootstrap, ",")...))
	if err != nil {
		return fmt.Errorf("kafkabed: %w", err)
	}
	defer cl.Close()
	return until(ctx, "all replicas to be in sync", func(ctx context.Context) (bool, error) {
		resp, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, cl)
		if err != nil {
			return false, err
		}
		if len(resp.Brokers) != len(b.brokers) {
			return false, fmt.Errorf("%d of %d brokers are up", len(resp.Brokers), len(b.brokers))
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if p.Leader < 0 || len(p.ISR) != len(p.Replicas) {
					return false, fmt.Errorf("partition %s-%d has leader %d, replicas %v, in sync %v", *t.Topic, p.Partition, p.Leader, p.Replicas, p.ISR)
				}
			}
		}
		return true, nil
	})
}

func members(ctx context.Context, cl *kgo.Client) (map[int32]bool, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, err
	}
	found := map[int32]bool{}
	for _, b := range resp.Brokers {
		found[b.NodeID] = true
	}
	return found, nil
}

// logTail gives the last bytes of a file, at most max, or why it cannot.
func logTail(path string, max int64) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if size, err := f.Seek(0, io.SeekEnd); err == nil && size > max {
		_, _ = f.Seek(-max, io.SeekEnd)
	} else {
		_, _ = f.Seek(0, io.SeekStart)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(text))
}
