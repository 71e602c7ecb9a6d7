package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/transfer"
)

// mergeStream is the transfer.Stream of one target partition of a merge. Its
// records come from the pass; a batch that was handed out is kept until it is
// acknowledged, so that after a doubt it can be sent again.
type mergeStream struct {
	pass *pass
	to   int32

	// Of the pass, while it is under way.
	start   int64 // rank at which the target goes on; set before the pass begins
	rank    int64 // of the next record
	encoder *recordbatch.Encoder
	codec   recordbatch.Codec // of encoder
	first   int64             // rank of encoder's first record

	// pass.mu guards these.
	located bool
	last    *recordbatch.Record             // the one before start, once the pass has met it
	check   func(*recordbatch.Record) error // what last is to be held against
	queue   []collected

	more chan struct{} // queue has grown, or the pass has ended
	// next is the rank from which on records are needed: all before are
	// acknowledged.
	next atomic.Int64

	// Of the one who sends.
	batches  []byte // made of what was collected last and not acknowledged yet
	at       int64  // rank of their first record
	sent     bool   // the first of them is handed out
	dirty    bool   // somebody may still read it although it was given up
	held     int64  // what they count for in pass.queued
	buffer   []byte // for batches
	rewriter *recordbatch.Rewriter
	ended    bool
	// later, when not nil, is what the record before laterRank is to be held against.
	later     func(*recordbatch.Record) error
	laterRank int64
}

// collected are records that become batches when it is their turn.
type collected struct {
	encoder *recordbatch.Encoder
	codec   recordbatch.Codec
	first   int64 // rank of the first record
	size    int64 // that counts for pass.queued
}

// WentBackError says that a target partition holds fewer records of the
// restore than it did: a leader died with records that no other replica had.
// They are gone from memory, so the attempt ends; the next one reads them
// again.
type WentBackError struct {
	Topic     string
	Partition int32
	Rank, Had int64 // records of the restore that the log holds, and held
}

func (e *WentBackError) Error() string {
	return fmt.Sprintf("%s/%d: the log holds %d records of this restore and held %d before: a leader died with records that no other replica had (they are read again)", e.Topic, e.Partition, e.Rank, e.Had)
}

// confirm holds the stream's record before the given rank, at which it is to
// go on, against what the target has there: at once, or when it comes by.
// Nothing is sent before.
func (s *mergeStream) confirm(rank int64, check func(*recordbatch.Record) error) error {
	p := s.pass
	p.mu.Lock()
	defer p.mu.Unlock()
	next := s.next.Load()
	switch {
	case p.missing > 0 || rank == s.start && next == rank && s.last == nil: // the pass will come by
		s.check = check
	case rank == s.start && next == rank:
		return check(s.last)
	case rank > next:
		s.later, s.laterRank = check, rank
	}
	return nil // what was acknowledged here is the restore's own
}

// Seek implements transfer.Stream. The pass begins when every stream of it
// knows where to go on.
func (s *mergeStream) Seek(_ context.Context, rank int64) error {
	p := s.pass
	s.sent = false
	s.next.Store(rank)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.missing == 0 {
		return nil
	}
	s.start, s.rank, s.at = rank, 0, rank
	if !s.located {
		s.located = true
		if p.missing--; p.missing == 0 {
			go p.run()
		}
	}
	return nil
}

// Next implements transfer.Stream. Compressing is done here, since many
// partitions do it at once.
func (s *mergeStream) Next(ctx context.Context) (transfer.Load, error) {
	if s.sent { // nobody went back to it: it is acknowledged
		s.sent = false
		first, rest, err := recordbatch.Next(s.batches)
		if err != nil {
			return transfer.Load{}, err
		}
		s.batches, s.at = rest, s.at+int64(first.NumRecords())
		s.next.Store(s.at)
	}
	for {
		next := s.next.Load()
		if len(s.batches) == 0 {
			if err := s.fetch(ctx, next); err != nil {
				return transfer.Load{}, err
			}
			continue
		}
		b, rest, err := recordbatch.Next(s.batches)
		if err != nil {
			return transfer.Load{}, err
		}
		n := int64(b.NumRecords())
		if s.confirmsIn(n) {
			if err := s.confirmIn(b); err != nil {
				return transfer.Load{}, err
			}
		}
		switch {
		case s.at > next:
			return transfer.Load{}, s.wentBack(next)
		case s.at+n <= next: // another attempt was faster
			s.batches, s.at = rest, s.at+n
		case s.at < next:
			if err := s.cut(b, rest, int(next-s.at)); err != nil {
				return transfer.Load{}, err
			}
			s.at = next
		default:
			if s.dirty {
				s.batches, s.buffer, s.dirty = bytes.Clone(s.batches), nil, false
				b = recordbatch.Batch(s.batches[:len(b)])
			}
			s.sent = true
			return transfer.Load{Batch: b, Rank: s.at, Release: s.release}, nil
		}
	}
}

// confirmsIn tells whether confirm left something for the next n records.
func (s *mergeStream) confirmsIn(n int64) bool {
	return s.later != nil && s.laterRank > s.at && s.laterRank <= s.at+n
}

// confirmIn does what confirm left for later.
func (s *mergeStream) confirmIn(b recordbatch.Batch) error {
	check, rank := s.later, s.at
	s.later = nil
	var dec recordbatch.Decoder
	var found error
	err := dec.Records(b, func(r *recordbatch.Record) error {
		if rank++; rank < s.laterRank {
			return nil
		}
		found = check(r)
		return recordbatch.Stop
	})
	return errors.Join(err, found)
}

func (s *mergeStream) release(clean bool) {
	if !clean {
		s.dirty = true
	}
}

func (s *mergeStream) wentBack(rank int64) error {
	return &WentBackError{Topic: s.pass.merge.Target, Partition: s.to, Rank: rank, Had: s.at}
}

// cut leaves out the first records of a batch.
func (s *mergeStream) cut(b recordbatch.Batch, rest []byte, skip int) (err error) {
	if s.rewriter == nil {
		if s.rewriter, err = recordbatch.NewRewriter(recordbatch.RewriterConfig{MaxBatchBytes: s.pass.shape.maxBatch}); err != nil {
			return err
		}
	}
	made, err := s.rewriter.Concat(nil, b, skip)
	if err == nil {
		made, err = s.rewriter.Flush(made)
	}
	s.batches = append(made, rest...)
	return err
}

// fetch makes batches of what was collected next, as far as it is needed. It
// waits for the pass; io.EOF when that has ended.
func (s *mergeStream) fetch(ctx context.Context, next int64) error {
	p := s.pass
	p.queued.budget.Release(s.held)
	s.held = 0
	for {
		p.mu.Lock()
		if len(s.queue) > 0 {
			c := s.queue[0]
			s.queue = s.queue[1:]
			p.mu.Unlock()
			return s.make(c, next)
		}
		ended, err := p.ended, p.err
		p.mu.Unlock()
		if ended {
			if err == nil {
				err = s.end(next)
			}
			return err
		}
		select {
		case <-s.more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *mergeStream) make(c collected, next int64) (err error) {
	if s.dirty {
		s.buffer, s.dirty = nil, false
	}
	s.held, s.at = c.size, c.first
	if n := int64(c.encoder.Len()); s.at+n <= next && !s.confirmsIn(n) {
		c.encoder.Reset()
		s.at += n
	} else {
		if s.batches, err = c.encoder.Flush(s.buffer[:0]); err != nil {
			return fmt.Errorf("topic %q for %s/%d: %w", s.pass.merge.Source, s.pass.merge.Target, s.to, err)
		}
		s.buffer = s.batches
	}
	s.pass.reuse(c)
	return nil
}

// end is io.EOF when the target holds what it should.
func (s *mergeStream) end(next int64) error {
	p := s.pass
	total := s.rank
	switch {
	case next < total:
		s.at = total
		return s.wentBack(next)
	case next > total:
		return &BeyondError{Topic: p.merge.Source, Partition: s.to, Rank: next, Beyond: next - total}
	}
	if !s.ended {
		s.ended = true
		p.done()
	}
	return io.EOF
}

// wake tells the one who sends that there is news.
func (s *mergeStream) wake() {
	select {
	case s.more <- struct{}{}:
	default:
	}
}
