package recordbatch

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// AbortedTransaction is an entry of a fetch answer's AbortedTransactions: a
// transaction of ProducerID whose first record is at FirstOffset and which
// ends at that producer's next abort marker.
type AbortedTransaction struct {
	ProducerID  int64
	FirstOffset int64
}

// Verdict is what a read_committed consumer does with a batch.
type Verdict uint8

const (
	Keep        Verdict = iota // data that a consumer sees
	AbortedData                // records of an aborted transaction: left out
	Control                    // a transaction marker or other control batch: left out
)

// Aborted decides which batches of one fetch answer a read_committed consumer
// sees, exactly as Apache Kafka's Java consumer does (CompletedFetch). A
// broker returns aborted batches also to read_committed fetches. Reset it for
// each answer, then ask it for each batch of that answer, in order, none left
// out. The zero value knows no aborted transactions.
type Aborted struct {
	list    []AbortedTransaction // by first offset
	begun   int                  // how many of list have begun
	open    map[int64]struct{}   // producer ids inside an aborted transaction
	decoder Decoder
}

// Reset begins a new fetch answer. The list may come in any order and is not
// kept.
func (a *Aborted) Reset(list []AbortedTransaction) {
	clear(a.open)
	a.begun = 0
	a.list = append(a.list[:0], list...)
	slices.SortFunc(a.list, func(x, y AbortedTransaction) int { return cmp.Compare(x.FirstOffset, y.FirstOffset) })
}

// Judge says what becomes of the next batch. The error is a [*CorruptError]
// for a control batch that cannot be read.
func (a *Aborted) Judge(b Batch) (Verdict, error) {
	control := b.IsControl()
	if pid := b.ProducerID(); pid >= 0 && len(a.list) > 0 {
		a.begin(b.LastOffset())
		if control {
			abort, err := a.isAbortMarker(b)
			if err != nil {
				return Control, err
			}
			if abort {
				delete(a.open, pid)
			}
		} else if b.IsTransactional() {
			if _, ok := a.open[pid]; ok {
				return AbortedData, nil
			}
		}
	}
	if control {
		return Control, nil
	}
	return Keep, nil
}

// begin opens the transactions that begin at or before the offset.
func (a *Aborted) begin(offset int64) {
	for ; a.begun < len(a.list) && a.list[a.begun].FirstOffset <= offset; a.begun++ {
		if a.open == nil {
			a.open = make(map[int64]struct{})
		}
		a.open[a.list[a.begun].ProducerID] = struct{}{}
	}
}

// isAbortMarker looks at the first record of a control batch: its key is an
// int16 version and an int16 type, 0 for abort, 1 for commit.
func (a *Aborted) isAbortMarker(b Batch) (abort bool, err error) {
	if b.NumRecords() == 0 {
		return false, nil
	}
	err = a.decoder.Records(b, func(r *Record) error {
		if len(r.Key) < 4 || int16(binary.BigEndian.Uint16(r.Key)) < 0 {
			return corrupt(b.BaseOffset(), "control record with a key of %d bytes that names no type", len(r.Key))
		}
		abort = binary.BigEndian.Uint16(r.Key[2:]) == 0
		return Stop
	})
	return abort, err
}
