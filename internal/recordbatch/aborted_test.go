package recordbatch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

// logWriter makes a partition's log of transactions the way a broker does.
type logWriter struct {
	batches []Batch
	fate    []Verdict // what a read_committed consumer does with each
	end     int64
	begun   map[int64]int64 // producer id -> first offset of its open transaction
	aborted []abortedRange
}

type abortedRange struct {
	AbortedTransaction
	last int64 // offset of the marker
}

func (l *logWriter) append(pid int64, attributes int16, codec Codec, records []Record) {
	b := oracleBatch(nil, attributes, codec, l.end, 1000, records)
	binary.BigEndian.PutUint64(b[posProducerID:], uint64(pid))
	l.batches = append(l.batches, reCRC(b))
	l.fate = append(l.fate, Keep)
	l.end = b.LastOffset() + 1
}

func (l *logWriter) data(pid int64, transactional bool, n int) {
	records := make([]Record, n)
	for i := range records {
		records[i] = Record{Offset: int64(i), Value: fmt.Appendf(nil, "%d of producer %d", l.end+int64(i), pid)}
	}
	attributes := int16(0)
	if transactional {
		attributes = attrTransactional
		if _, ok := l.begun[pid]; !ok {
			l.begun[pid] = l.end
		}
	}
	l.append(pid, attributes, Codec(l.end%5), records)
}

func (l *logWriter) marker(pid int64, kind uint16) {
	key := binary.BigEndian.AppendUint16([]byte{0, 0}, kind)
	first, open := l.begun[pid]
	if open && kind == 0 {
		for i, b := range l.batches {
			if b.ProducerID() == pid && b.BaseOffset() >= first && b.IsTransactional() {
				l.fate[i] = AbortedData
			}
		}
		l.aborted = append(l.aborted, abortedRange{AbortedTransaction{pid, first}, l.end})
	}
	delete(l.begun, pid)
	l.append(pid, attrTransactional|attrControl, None, []Record{{Key: key, Value: []byte{0, 0, 0, 0, 0, 1}}})
	l.fate[len(l.fate)-1] = Control
}

var anyLog = rapid.Custom(func(t *rapid.T) *logWriter {
	l := &logWriter{begun: map[int64]int64{}}
	for range rapid.IntRange(1, 40).Draw(t, "steps") {
		pid := rapid.Int64Range(0, 3).Draw(t, "producer")
		switch rapid.IntRange(0, 5).Draw(t, "step") {
		case 0, 1, 2:
			l.data(pid, true, rapid.IntRange(1, 3).Draw(t, "records"))
		case 3:
			if rapid.Bool().Draw(t, "idempotent") {
				l.data(pid+10, false, 1)
			} else {
				l.data(-1, false, 2)
			}
		case 4:
			l.marker(pid, 0)
		case 5:
			l.marker(pid, 1)
		}
	}
	for pid := range int64(4) {
		if _, open := l.begun[pid]; open {
			l.marker(pid, uint16(pid&1))
		}
	}
	return l
})

// A fetch may begin and end anywhere: the verdicts must be those the whole log
// gives, and those of franz-go's read_committed.
func TestAbortedOverFetchesFromAnywhere(t *testing.T) {
	var a Aborted
	rapid.Check(t, func(t *rapid.T) {
		l := anyLog.Draw(t, "log")
		from := rapid.IntRange(0, len(l.batches)-1).Draw(t, "from")
		to := rapid.IntRange(from+1, len(l.batches)).Draw(t, "to")
		first, last := l.batches[from].BaseOffset(), l.batches[to-1].LastOffset()

		// What a broker answers: the aborted transactions that touch the range.
		var list []AbortedTransaction
		answer := &kmsg.FetchResponseTopicPartition{}
		for _, r := range l.aborted {
			if r.last >= first && r.FirstOffset <= last {
				list = append(list, r.AbortedTransaction)
			}
		}
		list = rapid.Permutation(list).Draw(t, "list")
		for _, r := range list {
			answer.AbortedTransactions = append(answer.AbortedTransactions, kmsg.FetchResponseTopicPartitionAbortedTransaction{ProducerID: r.ProducerID, FirstOffset: r.FirstOffset})
		}

		before := slices.Clone(list)
		a.Reset(list)
		if !slices.Equal(before, list) {
			t.Fatal("Reset changed the caller's list")
		}
		var offsets []int64
		var d Decoder
		for i, b := range l.batches[from:to] {
			got, err := a.Judge(b)
			if err != nil {
				t.Fatal(err)
			}
			if want := l.fate[from+i]; got != want {
				t.Fatalf("batch %d at offset %d: verdict %d, want %d", from+i, b.BaseOffset(), got, want)
			}
			if got == Keep {
				if err := d.Records(b, func(r *Record) error { offsets = append(offsets, r.Offset); return nil }); err != nil {
					t.Fatal(err)
				}
			}
			answer.RecordBatches = append(answer.RecordBatches, b...)
		}
		fp, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Offset: first, Topic: "t", IsolationLevel: kgo.ReadCommitted()}, answer, kgo.DefaultDecompressor(), nil)
		if fp.Err != nil {
			t.Fatal(fp.Err)
		}
		var want []int64
		for _, r := range fp.Records {
			want = append(want, r.Offset)
		}
		if !slices.Equal(offsets, want) {
			t.Fatalf("offsets %v, franz-go says %v", offsets, want)
		}
	})
}

func TestAbortedOddCases(t *testing.T) {
	control := func(pid, base int64, key []byte) Batch {
		b := oracleBatch(t, attrTransactional|attrControl, None, base, 0, []Record{{Key: key}})
		binary.BigEndian.PutUint64(b[posProducerID:], uint64(pid))
		return reCRC(b)
	}
	data := func(pid, base int64, attributes int16) Batch {
		b := oracleBatch(t, attributes, None, base, 0, []Record{{}, {Offset: 1}})
		binary.BigEndian.PutUint64(b[posProducerID:], uint64(pid))
		return reCRC(b)
	}
	judge := func(a *Aborted, b Batch, want Verdict) {
		t.Helper()
		if got, err := a.Judge(b); err != nil || got != want {
			t.Errorf("verdict %d, %v, want %d", got, err, want)
		}
	}
	var a Aborted
	judge(&a, control(-1, 0, nil), Control) // not a marker, not looked into
	judge(&a, control(1, 0, nil), Control)  // nothing is aborted, not looked into
	judge(&a, data(1, 0, attrTransactional), Keep)

	// As the Java client: a transaction is open from the batch whose *last*
	// offset reaches its first offset, only for transactional batches, and a
	// commit marker does not end it.
	a.Reset([]AbortedTransaction{{ProducerID: 1, FirstOffset: 11}})
	judge(&a, data(1, 8, attrTransactional), Keep)
	judge(&a, data(1, 10, attrTransactional), AbortedData)
	judge(&a, data(1, 12, 0), Keep)
	judge(&a, data(2, 14, attrTransactional), Keep)
	judge(&a, control(2, 16, []byte{0, 0, 0, 0}), Control)
	judge(&a, control(1, 17, []byte{0, 0, 0, 1}), Control)
	judge(&a, data(1, 18, attrTransactional), AbortedData)
	judge(&a, control(1, 20, []byte{0, 0, 0, 0}), Control)
	judge(&a, data(1, 21, attrTransactional), Keep)

	// A marker's record may be gone after compaction.
	a.Reset([]AbortedTransaction{{ProducerID: 1, FirstOffset: 0}})
	empty := control(1, 3, nil)[:HeaderLen:HeaderLen]
	binary.BigEndian.PutUint32(empty[posLength:], HeaderLen-logOverhead)
	binary.BigEndian.PutUint32(empty[posNumRecords:], 0)
	judge(&a, reCRC(empty), Control)
	judge(&a, data(1, 4, attrTransactional), AbortedData)

	for _, key := range [][]byte{nil, {}, {0, 0, 0}, {0xff, 0xff, 0, 0}} {
		if _, err := a.Judge(control(1, 6, key)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("control record with key %x: %v", key, err)
		}
	}
	a.Reset(nil)
	judge(&a, data(1, 7, attrTransactional), Keep)
}
