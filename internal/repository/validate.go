package repository

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/storage/storageerr"
)

// Kinds of problems.
const (
	// ProblemMissing: an object is not there.
	ProblemMissing = "missing"
	// ProblemCorrupt: an object is damaged or truncated.
	ProblemCorrupt = "corrupt"
	// ProblemInconsistent: objects are intact but contradict each other.
	ProblemInconsistent = "inconsistent"
	// ProblemUnreadable: the store does not let us read an object.
	ProblemUnreadable = "unreadable"
)

// maxProblems bounds the problems that a report lists; more are counted.
const maxProblems = 1000

// Problem is one thing that is wrong with a backup.
type Problem struct {
	// Kind is one of the Problem constants.
	Kind string `json:"kind"`
	// Key of the object.
	Key string `json:"key"`
	// Topic and Partition that it is about, "" and -1 when it is about the object as a whole.
	Topic     string `json:"topic,omitempty"`
	Partition int32  `json:"partition"`
	// Offset from which on records cannot be relied upon, -1 when it is not about records.
	Offset int64 `json:"offset"`
	// Detail is for people.
	Detail string `json:"detail"`
}

// Report is what Validate found.
type Report struct {
	BackupID string `json:"backup_id"`
	Deep     bool   `json:"deep"`
	// What was looked at. Batches and Records only when deep.
	Objects    int64 `json:"objects"`
	Segments   int64 `json:"segments"`
	Partitions int64 `json:"partitions"`
	Blocks     int64 `json:"blocks"`
	Batches    int64 `json:"batches,omitempty"`
	Records    int64 `json:"records,omitempty"`
	// Bytes that were read and hashed.
	Bytes int64 `json:"bytes"`
	// Problems in the order of keys, at most 1000; ProblemCount counts all.
	Problems     []Problem `json:"problems"`
	ProblemCount int64     `json:"problem_count"`
}

// OK reports whether nothing is wrong.
func (r *Report) OK() bool { return r.ProblemCount == 0 }

// ValidateOptions say how thorough Validate is.
type ValidateOptions struct {
	// Deep reads every block: its hash, each batch's CRC32C, each record's form, and whether the index
	// tells the truth. Otherwise documents, index shards and segment indexes are read and checked.
	Deep bool
	// From is where an earlier validation of the same backup, that was cut off, stood; zero: nowhere.
	// What it found counts.
	From Checked
	// Concurrency is how many segments are read beside each other; 0 means 4.
	Concurrency int
	// Progress, if not nil, is called after each object with the counts so far, from one goroutine at
	// a time. The report is only valid during the call.
	Progress func(*Report)
	// Reached, if not nil, is called with each place from which another validation could go on.
	Reached func(Checked)
}

// Checked is how far a validation is.
type Checked struct {
	// Shards of the index, from the first, that were looked at with all that they name.
	Shards int `json:"shards"`
	// Report is what was found in them.
	Report Report `json:"report"`
}

// Validate checks a backup and goes on after problems. The error is for what prevents checking at
// all: ErrNotFound when there is no such backup, a store that cannot be reached, a cancelled context;
// the report so far comes with it.
func (r *Repository) Validate(ctx context.Context, backupID string, o ValidateOptions) (*Report, error) {
	v := &validation{
		repository: r,
		options:    o,
		report:     o.From.Report,
		seen:       map[SegmentRef]bool{},
		partitions: map[TopicPartition]string{},
	}
	v.report.BackupID, v.report.Deep = backupID, o.Deep
	v.report.Problems = slices.Clone(v.report.Problems)
	err := v.run(ctx, backupID)
	slices.SortStableFunc(v.report.Problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	if err != nil {
		err = fmt.Errorf("validate backup %q: %w", backupID, err)
	}
	return &v.report, err
}

type validation struct {
	repository *Repository
	options    ValidateOptions

	mu         sync.Mutex // of all below
	report     Report
	seen       map[SegmentRef]bool       // segments that were looked at
	partitions map[TopicPartition]string // and the shard they are in
}

// isFinding reports whether an error says something about the backup, and not about the way to it.
func isFinding(err error) bool {
	return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNotFound) || errors.Is(err, storageerr.ErrAccess) || errors.Is(err, ErrVersion)
}

// problem records what err says about an object; it returns err when that is not a finding.
func (v *validation) problem(err error, p Problem) error {
	if err == nil || !isFinding(err) {
		return err
	}
	var corrupt *CorruptError
	switch {
	case errors.As(err, &corrupt):
		p.Kind = ProblemCorrupt
		if p.Detail == "" {
			p.Detail = corrupt.Detail
			if corrupt.Want != "" || corrupt.Got != "" {
				p.Detail += fmt.Sprintf(": want %s, got %s", corrupt.Want, corrupt.Got)
			}
		}
	case errors.Is(err, ErrNotFound):
		p.Kind, p.Detail = ProblemMissing, "the object does not exist"
	default:
		p.Kind, p.Detail = ProblemUnreadable, err.Error()
	}
	v.add(p)
	return nil
}

func (v *validation) inconsistent(key string, tp TopicPartition, offset int64, format string, args ...any) {
	v.add(Problem{Kind: ProblemInconsistent, Key: key, Topic: tp.Topic, Partition: tp.Partition, Offset: offset, Detail: fmt.Sprintf(format, args...)})
}

func (v *validation) add(p Problem) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.ProblemCount++
	if len(v.report.Problems) < maxProblems {
		v.report.Problems = append(v.report.Problems, p)
	}
}

// whole is the place of a problem with an object as a whole.
func whole(key string) Problem { return Problem{Key: key, Partition: -1, Offset: -1} }

// count brings the report up to date.
func (v *validation) count(fn func(*Report)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	fn(&v.report)
	if v.options.Progress != nil {
		v.options.Progress(&v.report)
	}
}

func (v *validation) run(ctx context.Context, backupID string) error {
	m, err := v.repository.ReadManifest(ctx, backupID)
	if IsNotFound(err) || errors.Is(err, ErrVersion) || errors.Is(err, ErrID) {
		return err
	}
	if err != nil {
		return v.problem(err, whole(ManifestKey(backupID)))
	}
	if v.options.From.Shards == 0 {
		if m.RepositoryID != v.repository.ID() {
			v.inconsistent(ManifestKey(backupID), TopicPartition{Partition: -1}, -1, "it belongs to repository %s, this is %s", m.RepositoryID, v.repository.ID())
		}
		v.count(func(r *Report) { r.Objects++ })
		if m.Groups != nil {
			if _, err := v.repository.ReadGroups(ctx, m); err != nil {
				if err := v.problem(err, whole(m.Groups.Key)); err != nil {
					return err
				}
			}
			v.count(func(r *Report) { r.Objects++; r.Bytes += m.Groups.Size })
		}
	}
	var tally Tally
	complete := true
	for n, ref := range m.Index {
		again := n < v.options.From.Shards
		shard, err := v.repository.ReadIndex(ctx, ref)
		if err != nil {
			complete = false
			if again && v.known(ref.Key) {
				continue
			}
			if err := v.problem(err, whole(ref.Key)); err != nil {
				return err
			}
			continue
		}
		tally.Add(backupID, shard)
		if again {
			v.remember(ref.Key, shard)
			continue
		}
		v.count(func(r *Report) { r.Objects++; r.Bytes += ref.Size })
		if err := v.shard(ctx, ref.Key, shard); err != nil {
			return err
		}
		if v.options.Reached != nil {
			reached := Checked{Shards: n + 1, Report: v.report}
			reached.Report.Problems = slices.Clone(v.report.Problems)
			v.options.Reached(reached)
		}
	}
	if complete {
		got, want := tally.Totals(), m.Totals
		got.Groups = want.Groups
		if got != want {
			v.inconsistent(ManifestKey(backupID), TopicPartition{Partition: -1}, -1, "totals: the manifest says %+v, the index %+v", want, got)
		}
	}
	return nil
}

// known tells whether an object has a problem already.
func (v *validation) known(key string) bool {
	return slices.ContainsFunc(v.report.Problems, func(p Problem) bool { return p.Key == key })
}

// remember takes a shard that was looked at by an earlier validation as seen.
func (v *validation) remember(key string, s *Shard) {
	for i := range s.Topics {
		t := &s.Topics[i]
		for j := range t.Partitions {
			v.partitions[TopicPartition{t.Name, t.ID, t.Partitions[j].Partition}] = key
		}
	}
	for _, ref := range s.Segments {
		v.seen[ref] = true
	}
}

// sliceOf is a slice and whose it is.
type sliceOf struct {
	TopicPartition
	*Slice
}

func (v *validation) shard(ctx context.Context, key string, s *Shard) error {
	bySegment := make([][]sliceOf, len(s.Segments))
	for i := range s.Topics {
		t := &s.Topics[i]
		for j := range t.Partitions {
			p := &t.Partitions[j]
			tp := TopicPartition{t.Name, t.ID, p.Partition}
			if other, twice := v.partitions[tp]; twice {
				v.inconsistent(key, tp, -1, "the index shard %s has it as well", other)
			}
			v.partitions[tp] = key
			if int(p.Partition) >= t.PartitionCount {
				v.inconsistent(key, tp, -1, "the topic has only %d partitions", t.PartitionCount)
			}
			if p.LastOffset >= p.End {
				v.inconsistent(key, tp, p.End, "last offset %d is not before the end, %d", p.LastOffset, p.End)
			}
			for k := range p.Slices {
				bySegment[p.Slices[k].Segment] = append(bySegment[p.Slices[k].Segment], sliceOf{tp, &p.Slices[k]})
			}
			v.count(func(r *Report) { r.Partitions++ })
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(cmp.Or(max(0, v.options.Concurrency), 4))
	for i, ref := range s.Segments {
		group.Go(func() error { return v.segment(ctx, key, ref, bySegment[i]) })
	}
	return group.Wait()
}

// segment checks a segment, if it was not looked at before, and what a shard says of it.
func (v *validation) segment(ctx context.Context, shardKey string, ref SegmentRef, slices []sliceOf) error {
	if err := ctx.Err(); err != nil {
		return err // not every driver looks at it
	}
	segment, err := v.repository.OpenSegment(ctx, ref)
	if err != nil {
		return v.lost(err, ref.Key, slices)
	}
	for _, sl := range slices {
		var sum Slice
		sum.AddBlocks(segment.SliceBlocks(sl.TopicPartition, sl.Slice)...)
		sum.Segment = sl.Segment
		if sum != *sl.Slice {
			v.inconsistent(shardKey, sl.TopicPartition, sl.FirstOffset, "of %s the index says %+v, the segment %+v", ref.Key, *sl.Slice, sum)
		}
	}
	v.mu.Lock()
	seen := v.seen[ref]
	v.seen[ref] = true
	v.mu.Unlock()
	if seen {
		return nil
	}
	if v.options.Deep {
		if err := v.content(ctx, segment); err != nil {
			return err
		}
	}
	blocks := 0
	for i := range segment.Index.Partitions {
		blocks += len(segment.Index.Partitions[i].Blocks)
	}
	v.count(func(r *Report) { r.Objects++; r.Segments++; r.Blocks += int64(blocks) })
	return nil
}

// lost records that a segment cannot be used, once for each topic that has slices in it.
func (v *validation) lost(err error, key string, slices []sliceOf) error {
	if len(slices) == 0 {
		return v.problem(err, whole(key))
	}
	for from := 0; from < len(slices); { // the slices of a topic follow each other
		to := from + 1
		for to < len(slices) && slices[to].Topic == slices[from].Topic && slices[to].TopicID == slices[from].TopicID {
			to++
		}
		p := Problem{Key: key, Topic: slices[from].Topic, Partition: -1, Offset: -1}
		if to-from == 1 {
			p.Partition, p.Offset = slices[from].Partition, slices[from].FirstOffset
		}
		if err := v.problem(err, p); err != nil {
			return err
		}
		from = to
	}
	return nil
}

// content reads all of a segment. After a damaged block it goes on with the next.
func (v *validation) content(ctx context.Context, s *Segment) error {
	header := make([]byte, headerLength)
	err := v.repository.readRange(ctx, s.Ref.Key, 0, header)
	if err == nil {
		err = checkHeader(s.Ref.Key, header)
	}
	if err := v.problem(err, whole(s.Ref.Key)); err != nil {
		return err
	}
	placed := s.Index.InOrder()
	blocks := make([]Block, len(placed))
	for i := range placed {
		blocks[i] = placed[i].Block
	}
	var buffer Buffer
	var decoder recordbatch.Decoder
	for at := 0; at < len(blocks); {
		err := s.ReadBlocks(ctx, blocks[at:], &buffer, func(b *Block, raw []byte) error {
			v.block(s, placed[at].TopicPartition, b, raw, &decoder)
			at++
			return ctx.Err()
		})
		if err == nil {
			return nil
		}
		p := placed[at]
		if err := v.problem(err, Problem{Key: s.Ref.Key, Topic: p.Topic, Partition: p.Partition, Offset: p.Block.FirstOffset}); err != nil {
			return err
		}
		at++
	}
	return nil
}

// block checks the record batches of a block against its entry.
func (v *validation) block(s *Segment, tp TopicPartition, b *Block, raw []byte, decoder *recordbatch.Decoder) {
	bad := func(offset int64, format string, args ...any) {
		v.add(Problem{Kind: ProblemCorrupt, Key: s.Ref.Key, Topic: tp.Topic, Partition: tp.Partition, Offset: offset,
			Detail: fmt.Sprintf("block at %d: ", b.Position) + fmt.Sprintf(format, args...)})
	}
	var sum Block
	var batches, records int64
	next := b.FirstOffset
	for rest := raw; len(rest) > 0; batches++ {
		var batch recordbatch.Batch
		var err error
		batch, rest, err = recordbatch.Next(rest)
		if err != nil {
			bad(next, "it is not made of whole record batches: %v", err)
			return
		}
		if batch.BaseOffset() < next {
			bad(next, "a batch begins at offset %d, %d was expected or later", batch.BaseOffset(), next)
		}
		if err := batch.Verify(); err != nil {
			bad(batch.BaseOffset(), "%v", err)
		} else if err := decoder.Records(batch, func(*recordbatch.Record) error { records++; return nil }); err != nil {
			bad(batch.BaseOffset(), "%v", err)
		}
		sum.AddBatch(batch)
		next = batch.LastOffset() + 1
	}
	sum.Position, sum.Length, sum.Codec, sum.SHA256 = b.Position, b.Length, b.Codec, b.SHA256
	if sum != *b {
		v.inconsistent(s.Ref.Key, tp, b.FirstOffset, "block at %d: the index says %+v, the batches %+v", b.Position, *b, sum)
	}
	v.count(func(r *Report) { r.Batches += batches; r.Records += records; r.Bytes += b.Length })
}
