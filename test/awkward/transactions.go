package awkward

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// transactional is a producer whose records belong to transactions.
func (m *Maker) transactional(id string, opts ...kgo.Opt) (*kgo.Client, error) {
	return m.producer(append(opts, kgo.TransactionalID(id))...)
}

// transaction sends each batch in one transaction and commits or aborts it.
func transaction(ctx context.Context, cl *kgo.Client, t *Topic, commit bool, batches ...[]*kgo.Record) error {
	if err := cl.BeginTransaction(); err != nil {
		return fmt.Errorf("awkward: begin a transaction on %s: %w", t.Name, err)
	}
	for _, batch := range batches {
		if err := t.send(ctx, cl, batch...); err != nil {
			return err
		}
	}
	return end(ctx, cl, t, commit)
}

func end(ctx context.Context, cl *kgo.Client, t *Topic, commit bool) error {
	if err := cl.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
		return fmt.Errorf("awkward: end a transaction on %s: %w", t.Name, err)
	}
	return nil
}

// Transactions makes a topic of four partitions:
//
//	0  two transactional producers and a plain one, interleaved: transactions
//	   begin, end and abort in the middle of each other
//	1  aborted records only, so that nothing is to be seen
//	2  100 small transactions, two of three aborted, and an abort at the end
//	3  aborted and committed transactions of several compressed batches
func (m *Maker) Transactions(ctx context.Context) (*Topic, error) {
	t, err := m.create(ctx, m.Prefix+"transactions", 4)
	if err != nil {
		return nil, err
	}
	a, err := m.transactional(t.Name + "-a")
	if err != nil {
		return nil, err
	}
	defer a.Close()
	b, err := m.transactional(t.Name+"-b", kgo.ProducerBatchCompression(kgo.GzipCompression()))
	if err != nil {
		return nil, err
	}
	defer b.Close()
	none, err := m.producer()
	if err != nil {
		return nil, err
	}
	defer none.Close()

	if err := t.interleave(ctx, none, a, b); err != nil {
		return nil, err
	}
	for i := range 3 {
		if err := transaction(ctx, a, t, false, plain(1, fmt.Sprintf("aborted-%d", i), 10)); err != nil {
			return nil, err
		}
	}
	for i := range 100 {
		records := plain(2, fmt.Sprintf("small-%d", i), 1+i%5)
		commit := i%3 == 1
		if err := transaction(ctx, a, t, commit, records); err != nil {
			return nil, err
		}
		if commit {
			t.want(records...)
		}
	}
	for i := range 6 {
		first, second, third := plain(3, "first", 50), plain(3, "second", 200), plain(3, "third", 1)
		commit := i%2 == 1
		if err := transaction(ctx, b, t, commit, first, second, third); err != nil {
			return nil, err
		}
		if commit {
			t.want(first...)
			t.want(second...)
			t.want(third...)
		}
	}
	return t, m.awaitStable(ctx, t)
}

// awaitStable waits until the markers of all transactions are written: the
// coordinator answers the end of a transaction before that.
func (m *Maker) awaitStable(ctx context.Context, t *Topic) error {
	return poll(ctx, "the transactions of "+t.Name+" to end", func() (bool, error) {
		stable, err := m.adm.ListCommittedOffsets(ctx, t.Name)
		if err != nil {
			return false, err
		}
		ends, err := m.adm.ListEndOffsets(ctx, t.Name)
		if err != nil {
			return false, err
		}
		for p, end := range ends[t.Name] {
			if s, ok := stable.Lookup(t.Name, p); !ok || s.Err != nil || end.Err != nil || s.Offset != end.Offset {
				return false, errors.Join(s.Err, end.Err)
			}
		}
		return true, nil
	})
}

// interleave writes partition 0 of Transactions.
func (t *Topic) interleave(ctx context.Context, none, a, b *kgo.Client) error {
	records := map[*kgo.Client][]*kgo.Record{}
	round := 0
	send := func(cl *kgo.Client, n int) func() error {
		return func() error {
			round++
			batch := plain(0, fmt.Sprintf("interleaved-%d", round), n)
			records[cl] = append(records[cl], batch...)
			return t.send(ctx, cl, batch...)
		}
	}
	finish := func(cl *kgo.Client, commit bool) func() error {
		return func() error {
			if commit {
				t.want(records[cl]...)
			}
			records[cl] = nil
			return end(ctx, cl, t, commit)
		}
	}
	for _, step := range []func() error{
		send(none, 5),
		a.BeginTransaction, send(a, 5),
		b.BeginTransaction, send(b, 7),
		send(none, 3),
		finish(a, true), // b's stays open around it
		send(b, 2),
		a.BeginTransaction, send(a, 4), send(none, 1),
		finish(b, false), // abort marker after a's and plain records
		send(none, 2), send(a, 3),
		finish(a, false),
		b.BeginTransaction, send(b, 1), send(none, 1), send(b, 1), finish(b, true),
		a.BeginTransaction, b.BeginTransaction, send(a, 2), send(b, 2), send(a, 2), send(b, 2),
		finish(a, false), finish(b, true), // the same stretch, aborted and committed
		send(none, 1),
	} {
		if err := step(); err != nil {
			return fmt.Errorf("awkward: interleave transactions on %s: %w", t.Name, err)
		}
	}
	t.want(records[none]...)
	return nil
}

// Open is a topic with a transaction that is still open.
type Open struct {
	// Topic has in Want what is to be seen while the transaction is open: what
	// lies before its first record, that is, below the last stable offset.
	*Topic
	maker *Maker
	cl    *kgo.Client
	later []*kgo.Record // not to be seen yet, whatever becomes of the transaction
	inTx  []*kgo.Record
}

// OpenTransaction makes a partition with records before, inside and after a
// transaction that stays open (for kgo's default transaction timeout of 40 s at
// most) until End.
func (m *Maker) OpenTransaction(ctx context.Context) (*Open, error) {
	t, err := m.create(ctx, m.Prefix+"open-transaction", 1)
	if err != nil {
		return nil, err
	}
	none, err := m.producer()
	if err != nil {
		return nil, err
	}
	defer none.Close()
	if err := t.add(ctx, none, plain(0, "before", 10)...); err != nil {
		return nil, err
	}
	open := &Open{Topic: t, maker: m, inTx: plain(0, "inside", 10), later: plain(0, "after", 10)}
	if open.cl, err = m.transactional(t.Name); err != nil {
		return nil, err
	}
	if err := open.cl.BeginTransaction(); err != nil {
		open.cl.Close()
		return nil, fmt.Errorf("awkward: begin a transaction on %s: %w", t.Name, err)
	}
	if err := t.send(ctx, open.cl, open.inTx...); err != nil {
		open.cl.Close()
		return nil, err
	}
	if err := t.send(ctx, none, open.later...); err != nil {
		open.cl.Close()
		return nil, err
	}
	return open, nil
}

// End commits or aborts the transaction and adds to Want what is seen by that.
func (o *Open) End(ctx context.Context, commit bool) error {
	defer o.cl.Close()
	if err := end(ctx, o.cl, o.Topic, commit); err != nil {
		return err
	}
	if commit {
		o.want(o.inTx...)
	}
	o.want(o.later...)
	return o.maker.awaitStable(ctx, o.Topic)
}
