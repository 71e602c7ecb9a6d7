package s3bed_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/s3blob"

	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/test/s3bed"
)

func TestAStoreServesConditionalWritesAndComesBackAfterAKill(t *testing.T) {
	store := s3bed.Start(t)
	for _, v := range store.Env() {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	bucket, err := blob.OpenBucket(ctx, store.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer bucket.Close()

	repo, err := repository.Create(ctx, bucket)
	if err != nil {
		t.Fatal(err)
	}

	// Large enough for several parts.
	for name, size := range map[string]int{"small": 10, "multipart": 12 << 20} {
		var won, lost atomic.Int32
		var racers sync.WaitGroup
		for i := range 4 {
			racers.Go(func() {
				_, err := repo.Create(ctx, name, bytes.Repeat([]byte{byte(i)}, size), "application/octet-stream")
				switch {
				case err == nil:
					won.Add(1)
				case errors.Is(err, repository.ErrExists):
					lost.Add(1)
				default:
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		racers.Wait()
		if won.Load() != 1 || lost.Load() != 3 {
			t.Errorf("%s: %d of 4 racers won, %d lost", name, won.Load(), lost.Load())
		}
	}
	if err := store.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := store.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	data, err := bucket.ReadAll(ctx, "multipart")
	if err != nil || len(data) != 12<<20 {
		t.Errorf("after the kill: %d bytes, %v", len(data), err)
	}

	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	if stranger, err := blob.OpenBucket(ctx, store.URL()); err == nil {
		defer stranger.Close()
		if _, err := stranger.ReadAll(ctx, "small"); err == nil {
			t.Error("a wrong secret key is served")
		}
	}
}
