package storage_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/storage"
)

// overURL is a fresh prefix of the bucket of conformanceURL.
func overURL(t *testing.T) config.Storage {
	t.Helper()
	if os.Getenv(conformanceURL) == "" {
		t.Skipf("%s is not set", conformanceURL)
	}
	return config.Storage{URL: os.Getenv(conformanceURL), Prefix: fmt.Sprintf("storage-test/%d", time.Now().UnixNano())}
}

// Segments of several parts of an upload: one of racing attempts wins, the others find it, aborted
// ones leave nothing.
func TestSegmentsOverURL(t *testing.T) {
	b := open(t, overURL(t))
	defer b.Close()
	r, err := repository.Create(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	tp := repository.TopicPartition{Topic: "t", TopicID: "id"}
	raw := make([]byte, 6<<20)
	write := func(sequence int, mark byte, raw []byte, abort bool) error {
		w, err := r.NewSegment(t.Context(), "b", 0, sequence)
		if err != nil {
			return err
		}
		defer w.Abort()
		data := bytes.Clone(raw)
		data[0] = mark
		for i := range int64(3) {
			e, err := repository.EncodeBlock(repository.CodecNone, 0, data)
			if err != nil {
				return err
			}
			block := repository.Block{FirstOffset: i, LastOffset: i, Records: 1}
			block.SetEncoded(e)
			if err := w.Append(tp, block, e.Stored...); err != nil {
				return err
			}
		}
		if abort {
			return nil
		}
		_, err = w.Close([]repository.SegmentPartition{{TopicPartition: tp, NextOffset: 3}})
		return err
	}
	for sequence := range 2 {
		if err := write(sequence, 0, raw, true); err != nil {
			t.Fatal(err)
		}
		if _, err := r.FindSegment(t.Context(), "b", 0, sequence); !errors.Is(err, repository.ErrNotFound) {
			t.Errorf("an aborted segment is there: %v", err)
		}
	}
	// One that is small enough to be sent at once takes the place.
	if err := write(1, 1, raw[:100], false); err != nil {
		t.Error(err)
	}
	if _, err := r.FindSegment(t.Context(), "b", 0, 1); err != nil {
		t.Error(err)
	}
	var winner atomic.Int32
	var all sync.WaitGroup
	for i := range 5 {
		all.Go(func() {
			err := write(0, byte(i+1), raw, false)
			if err == nil && !winner.CompareAndSwap(0, int32(i+1)) {
				t.Errorf("attempts %d and %d won", winner.Load(), i+1)
			} else if err != nil && !errors.Is(err, repository.ErrExists) {
				t.Errorf("attempt %d: %v", i, err)
			}
		})
	}
	all.Wait()
	s, err := r.FindSegment(t.Context(), "b", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	err = s.ReadBlocks(t.Context(), s.Blocks(tp), &repository.Buffer{}, func(_ *repository.Block, data []byte) error {
		if n++; int32(data[0]) != winner.Load() || !bytes.Equal(data[1:], raw[1:]) {
			t.Errorf("block %d is not the winner's", n)
		}
		return nil
	})
	if err != nil || n != 3 {
		t.Errorf("%d blocks, %v", n, err)
	}
	// A segment that is shorter than its reference says is corrupt, not a failed request.
	short := s.Ref
	short.Size *= 2
	if _, err := r.OpenSegment(t.Context(), short); !errors.Is(err, repository.ErrCorrupt) {
		t.Errorf("a truncated segment: %v", err)
	}
	if left, err := r.ListBackups(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("backups: %v, %v", left, err)
	}
}

// What is wrong with the configuration of an S3 bucket is told when it is opened.
func TestS3Refuses(t *testing.T) {
	u, err := url.Parse(overURL(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	if u.Scheme != "s3" || u.Query().Get("endpoint") == "" {
		t.Skip("not an S3 server of our own")
	}
	good := config.Storage{
		Backend: "s3", Bucket: u.Host, Region: u.Query().Get("region"), Endpoint: u.Query().Get("endpoint"), PathStyle: true,
		AccessKey: config.NewSecret("${AWS_ACCESS_KEY_ID}"), SecretKey: config.NewSecret("${AWS_SECRET_ACCESS_KEY}"),
	}
	open(t, good).Close()
	for name, c := range map[string]struct {
		change func(*config.Storage)
		want   error
	}{
		"bucket":     {func(s *config.Storage) { s.Bucket = "there-is-no-such-bucket" }, storage.ErrBucketMissing},
		"secret key": {func(s *config.Storage) { s.SecretKey = config.NewSecret("wrong") }, storage.ErrAccess},
		"access key": {func(s *config.Storage) { s.AccessKey = config.NewSecret("wrong") }, storage.ErrAccess},
		"unset":      {func(s *config.Storage) { s.SecretKey = config.NewSecret("${THIS_IS_NOT_SET_ANYWHERE}") }, nil},
	} {
		s := good
		c.change(&s)
		b, err := storage.Open(t.Context(), s)
		if err == nil {
			b.Close()
			t.Errorf("%s: it was opened", name)
		} else if c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
