// Package s3bed starts the S3 object store of test/objectstore for tests. Its
// binary is built on first use, in a module of its own, into the user's cache
// folder.
//
// The store ends with the process that started it: it watches its standard input.
package s3bed

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Store is a running object store.
type Store struct {
	Endpoint  string `json:"endpoint"` // http://127.0.0.1:port
	Bucket    string `json:"bucket"`
	Region    string `json:"region"`
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`

	binary, dir string
	cmd         *exec.Cmd
	stdin       io.Closer
	done        chan struct{}
}

// TB is the part of testing.TB that Start needs.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
	Cleanup(func())
	TempDir() string
}

// Start starts a store for one test, with its objects in the test's temporary
// folder, and takes it down with the test.
func Start(t TB) *Store {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	s, err := Run(ctx, t.TempDir())
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Logf("%v", err)
		}
	})
	return s
}

// Run builds the store if need be and starts it with its objects and its log in
// dir. ctx bounds the build and the start only.
func Run(ctx context.Context, dir string) (*Store, error) {
	binary, err := build(ctx)
	if err != nil {
		return nil, err
	}
	s := &Store{binary: binary, dir: dir}
	if err := s.start(ctx, ""); err != nil {
		return nil, err
	}
	return s, nil
}

// URL opens the store's bucket by gocloud.dev/blob (credentials apart: Env).
func (s *Store) URL() string {
	query := url.Values{"endpoint": {s.Endpoint}, "region": {s.Region}, "use_path_style": {"true"}}
	return "s3://" + s.Bucket + "?" + query.Encode()
}

// Env are the environment variables by which AWS's clients find the credentials.
func (s *Store) Env() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + s.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s.SecretKey, "AWS_REGION=" + s.Region}
}

// BucketDir is the folder that holds the bucket's objects as plain files, for
// tests that damage them.
func (s *Store) BucketDir() string { return filepath.Join(s.dir, "buckets", s.Bucket) }

// MakeBucket makes another, empty bucket.
func (s *Store) MakeBucket(name string) error {
	if err := os.Mkdir(filepath.Join(s.dir, "buckets", name), 0o755); err != nil {
		return fmt.Errorf("s3bed: %w", err)
	}
	return nil
}

// Kill ends the store at once; its objects stay.
func (s *Store) Kill() error {
	_ = s.cmd.Process.Kill() // gone already: the wait tells
	return s.await(10 * time.Second)
}

// Restart starts a store that was killed or closed, at the address it had.
func (s *Store) Restart(ctx context.Context) error {
	return s.start(ctx, strings.TrimPrefix(s.Endpoint, "http://"))
}

// Close ends the store, in an orderly way if it can.
func (s *Store) Close() error {
	_ = s.stdin.Close()
	if s.await(10*time.Second) == nil {
		return nil
	}
	return s.Kill()
}

func (s *Store) await(patience time.Duration) error {
	select {
	case <-s.done:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("s3bed: process %d does not end; its log is %s", s.cmd.Process.Pid, s.log())
	}
}

func (s *Store) log() string { return filepath.Join(s.dir, "objectstore.log") }

func (s *Store) start(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	log, err := os.OpenFile(s.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("s3bed: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(s.binary, "-dir", s.dir, "-address", address)
	cmd.Stderr = log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("s3bed: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("s3bed: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("s3bed: %w", err)
	}
	s.cmd, s.stdin, s.done = cmd, stdin, make(chan struct{})
	ready := make(chan error, 1)
	go func(done chan struct{}) {
		line, err := bufio.NewReader(stdout).ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, s)
		}
		ready <- err
		_, _ = io.Copy(io.Discard, stdout)
		_ = cmd.Wait() // killed, or ended by its standard input
		close(done)
	}(s.done)
	select {
	case err = <-ready:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		text, _ := os.ReadFile(s.log())
		return errors.Join(fmt.Errorf("s3bed: the object store did not start: %w; its log %s says:\n%s", err, s.log(), text), s.Kill())
	}
	return nil
}

// build makes the binary in the cache folder; where nothing changed, Go's own
// cache makes it short.
func build(ctx context.Context) (string, error) {
	source, err := sourceDir()
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("s3bed: %w", err)
	}
	cache = filepath.Join(cache, "kafka-backup")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("s3bed: %w", err)
	}
	temp, err := os.MkdirTemp(cache, "objectstore-*")
	if err != nil {
		return "", fmt.Errorf("s3bed: %w", err)
	}
	defer os.RemoveAll(temp)
	made, binary := filepath.Join(temp, "objectstore"), filepath.Join(cache, "objectstore")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", made, ".")
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("s3bed: go build in %s: %w\n%s", source, err, out)
	}
	// In one step, so that a process that starts it now finds it whole.
	if err := os.Rename(made, binary); err != nil {
		return "", fmt.Errorf("s3bed: %w", err)
	}
	return binary, nil
}

// sourceDir finds test/objectstore from the folder of whatever package is tested.
func sourceDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("s3bed: %w", err)
	}
	for {
		source := filepath.Join(dir, "test", "objectstore")
		if _, err := os.Stat(filepath.Join(source, "go.mod")); err == nil {
			return source, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("s3bed: test/objectstore is in no parent folder of the working directory; run this within the source tree")
		}
		dir = parent
	}
}
