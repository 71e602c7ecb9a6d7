package offsets

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// maxShard bounds the size of a decompressed shard.
const maxShard = 1 << 30

// Both serve any number of goroutines, and are costly to make.
var (
	encoder = sync.OnceValues(func() (*zstd.Encoder, error) {
		return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithLowerEncoderMem(true))
	})
	decoder = sync.OnceValues(func() (*zstd.Decoder, error) {
		return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxShard))
	})
)

// pack makes an object of v: JSON, compressed with zstd.
func pack(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	enc, err := encoder()
	if err != nil {
		return nil, err
	}
	return enc.EncodeAll(data, nil), nil
}

func unpack(key string, data []byte, v any) error {
	dec, err := decoder()
	if err != nil {
		return err
	}
	raw, err := dec.DecodeAll(data, nil)
	if err != nil {
		return &repository.CorruptError{Key: key, Detail: "zstd: " + err.Error()}
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return &repository.CorruptError{Key: key, Detail: err.Error()}
	}
	return nil
}

const typeZstd = "application/zstd"

// adopt writes v if there is no object with that key, else it reads the one
// that is there into v.
func adopt[T any](ctx context.Context, repo *repository.Repository, key string, v *T) (repository.ObjectRef, error) {
	data, err := pack(v)
	if err != nil {
		return repository.ObjectRef{}, fmt.Errorf("write %q: %w", key, err)
	}
	ref, content, created, err := repo.Adopt(ctx, key, data, typeZstd)
	if err != nil || created {
		return ref, err
	}
	var there T
	if err := unpack(key, content, &there); err != nil {
		return ref, err
	}
	*v = there
	return ref, nil
}

// read reads an object that is referred to.
func read(ctx context.Context, repo *repository.Repository, ref repository.ObjectRef, v any) error {
	data, err := repo.Get(ctx, ref)
	if err != nil {
		return err
	}
	return unpack(ref.Key, data, v)
}

// Folder is where a run of an operation keeps its objects.
type Folder struct {
	Repository *repository.Repository
	// Prefix of the keys, with a slash at its end.
	Prefix string
}

// OperationFolder is the folder of a run of a workflow.
func OperationFolder(repo *repository.Repository, workflowID, runID string) Folder {
	return Folder{repo, repository.OperationKey(workflowID, runID+"/offsets/")}
}

func (f Folder) key(format string, args ...any) string {
	return f.Prefix + fmt.Sprintf(format, args...)
}

// StorePlan runs a planner and writes its plan. name tells plans of one run
// apart. A plan that is there already, from an earlier attempt, is adopted.
func (f Folder) StorePlan(ctx context.Context, name string, run func(emit func(*Shard) error) (*Plan, error)) (*Plan, repository.ObjectRef, error) {
	head := f.key("plan-%s.json", name)
	var there Plan
	ref, err := f.Repository.ReadDocument(ctx, head, &there)
	if err == nil || !errors.Is(err, repository.ErrNotFound) {
		return &there, ref, err
	}
	var shards []repository.ObjectRef
	plan, err := run(func(s *Shard) error {
		data, err := pack(s.pack())
		if err != nil {
			return err
		}
		// Attempts may find different things: each shard is named by what it holds.
		key := f.key("plan-%s/%05d-%s.json.zst", name, len(shards), digest(data))
		ref, _, _, err := f.Repository.Adopt(ctx, key, data, typeZstd)
		shards = append(shards, ref)
		return err
	})
	if err != nil {
		return nil, ref, err
	}
	plan.Format, plan.Version, plan.Shards = formatPlan, repository.FormatVersion, shards
	ref, _, err = repository.AdoptDocument(ctx, f.Repository, head, plan)
	return plan, ref, err
}

// Fix gives a strategy that counts back from now the same time in all plans of
// a run: that of the first. So an approved plan, made again, is the same one.
func (f Folder) Fix(ctx context.Context, s *Strategy) (*Strategy, error) {
	if s == nil || s.Ago == nil {
		return s, nil
	}
	now := struct {
		Now time.Time `json:"now"`
	}{time.Now().UTC()}
	_, _, err := repository.AdoptDocument(ctx, f.Repository, f.key("now.json"), &now)
	return s.From(now.Now), err
}

// ReadPlan reads the head of a plan.
func ReadPlan(ctx context.Context, repo *repository.Repository, key string) (*Plan, error) {
	p := new(Plan)
	_, err := repo.ReadDocument(ctx, key, p)
	return p, err
}

// ReadShard reads a shard of a plan, by number from 0.
func (p *Plan) ReadShard(ctx context.Context, repo *repository.Repository, n int) (*Shard, error) {
	if n < 0 || n >= len(p.Shards) {
		return nil, fmt.Errorf("the plan has %d shards; there is no number %d", len(p.Shards), n)
	}
	packed := new(packedShard)
	if err := read(ctx, repo, p.Shards[n], packed); err != nil {
		return nil, err
	}
	s, err := packed.unpack()
	if err != nil {
		return nil, &repository.CorruptError{Key: p.Shards[n].Key, Detail: err.Error()}
	}
	return s, nil
}

// EachShard reads the shards of a plan, one after the other, until one cannot be
// read.
func (p *Plan) EachShard(ctx context.Context, repo *repository.Repository) iter.Seq2[*Shard, error] {
	return func(yield func(*Shard, error) bool) {
		for n := range p.Shards {
			if s, err := p.ReadShard(ctx, repo, n); !yield(s, err) || err != nil {
				return
			}
		}
	}
}

// digest is the beginning of a SHA-256, for names.
func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:6])
}

// Store writes a saved plan into a repository, where a workflow reads it. It is
// named by what it holds, to the last note: the same file is there once.
func (s *SavedPlan) Store(ctx context.Context, repo *repository.Repository) (repository.ObjectRef, error) {
	f := Folder{repo, repository.OperationsPrefix + "offset-plans/"}
	data, err := json.Marshal(s)
	if err != nil {
		return repository.ObjectRef{}, err
	}
	sum := sha256.Sum256(data)
	_, ref, err := f.StorePlan(ctx, hex.EncodeToString(sum[:]), func(emit func(*Shard) error) (*Plan, error) {
		shard := &Shard{}
		for _, g := range s.Groups {
			shard.Groups = append(shard.Groups, g)
			if shard.Rows() >= 20_000 {
				if err := emit(shard); err != nil {
					return nil, err
				}
				shard = &Shard{}
			}
		}
		if len(shard.Groups) > 0 {
			if err := emit(shard); err != nil {
				return nil, err
			}
		}
		p := s.Plan
		return &p, nil
	})
	return ref, err
}
