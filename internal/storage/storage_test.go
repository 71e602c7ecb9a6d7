package storage_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gocloud.dev/blob"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/storage"
	"github.com/kafka-backup/kafka-backup/internal/storage/storagetest"
)

// conformanceURL names an environment variable with the URL of an empty bucket to try as well, such
// as s3://bucket?endpoint=http://127.0.0.1:7070&use_path_style=true&region=us-east-1.
const conformanceURL = "KAFKA_BACKUP_TEST_BUCKET_URL"

func TestIdentity(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range []config.Storage{
		{Backend: "s3", Bucket: "b", Prefix: "p"}, {Backend: "s3", Bucket: "b", Prefix: "p", Endpoint: "http://a:9000"},
		{Backend: "s3", Bucket: "b", Prefix: "p", Endpoint: "http://b:9000"}, {Backend: "azure", Container: "c", AccountName: "x"},
		{Backend: "azure", Container: "c", AccountName: "y"}, {URL: "s3://b/q?endpoint=http://a:9000"}, {URL: "s3://b/q?endpoint=http://b:9000"},
	} {
		id := storage.Identity(s)
		if seen[id] || !strings.HasPrefix(id, storage.Describe(s)) {
			t.Errorf("%+v has the identity %q", s, id)
		}
		seen[id] = true
	}
	if a, b := storage.Identity(config.Storage{Backend: "filesystem", Path: "/a"}), storage.Describe(config.Storage{Backend: "filesystem", Path: "/a"}); a != b {
		t.Errorf("a folder has the identity %q", a)
	}
}

func TestConformance(t *testing.T) {
	t.Run("file", func(t *testing.T) {
		storagetest.Run(t, func(t *testing.T) *blob.Bucket {
			return open(t, config.Storage{Backend: "filesystem", Path: t.TempDir(), Prefix: "some/prefix"})
		})
	})
	t.Run("memory", func(t *testing.T) {
		storagetest.Run(t, func(t *testing.T) *blob.Bucket {
			return open(t, config.Storage{URL: "mem://" + strings.ReplaceAll(t.Name(), "/", "-")})
		})
	})
	t.Run("url", func(t *testing.T) {
		url := os.Getenv(conformanceURL)
		if url == "" {
			t.Skipf("%s is not set", conformanceURL)
		}
		storagetest.Run(t, func(t *testing.T) *blob.Bucket {
			return open(t, config.Storage{URL: url, Prefix: fmt.Sprintf("conformance/%d", time.Now().UnixNano())})
		})
	})
}

func open(t *testing.T, s config.Storage) *blob.Bucket {
	t.Helper()
	b, err := storage.Open(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, b *blob.Bucket, key, text string) {
	t.Helper()
	if err := b.Upload(t.Context(), key, strings.NewReader(text), &blob.WriterOptions{ContentType: "text/plain"}); err != nil {
		t.Fatal(err)
	}
}

func TestLocations(t *testing.T) {
	folder := t.TempDir()
	for _, location := range []string{folder, "file://" + folder, "file://localhost" + folder + "?create_dir=1&metadata=skip"} {
		s, err := storage.ParseLocation(location)
		if err != nil {
			t.Fatal(err)
		}
		b := open(t, s)
		write(t, b, "x", location)
		b.Close()
		if data, err := os.ReadFile(filepath.Join(folder, "x")); err != nil || string(data) != location {
			t.Errorf("%s: the file holds %q, %v", location, data, err)
		}
	}
	t.Run("relative", func(t *testing.T) {
		t.Chdir(folder)
		for _, location := range []string{"sub", "./sub", "file://sub", "file://./sub"} {
			s, _ := storage.ParseLocation(location)
			b := open(t, s)
			write(t, b, "y", location)
			b.Close()
			if data, err := os.ReadFile(filepath.Join(folder, "sub", "y")); err != nil || string(data) != location {
				t.Errorf("%s: the file holds %q, %v", location, data, err)
			}
		}
	})
	if _, err := storage.ParseLocation(""); !errors.Is(err, storage.ErrInvalid) {
		t.Errorf("an empty location gives %v", err)
	}
}

func TestPrefixesOfURLsAddUp(t *testing.T) {
	base := "mem://" + strings.ReplaceAll(t.Name(), "/", "-")
	b := open(t, config.Storage{URL: base + "/one/two", Prefix: "/three/"})
	write(t, b, "x", "text")
	all := open(t, config.Storage{URL: base})
	if data, err := all.ReadAll(t.Context(), "one/two/three/x"); err != nil || string(data) != "text" {
		t.Errorf("got %q, %v", data, err)
	}
	b.Close() // closes only that handle
	if _, err := all.ReadAll(t.Context(), "one/two/three/x"); err != nil {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	for name, c := range map[string]struct {
		storage config.Storage
		want    error
	}{
		"backend":     {config.Storage{Backend: "ftp"}, storage.ErrInvalid},
		"scheme":      {config.Storage{URL: "ftp://x/y"}, storage.ErrInvalid},
		"bad url":     {config.Storage{URL: "s3://x\x00"}, storage.ErrInvalid},
		"parameter":   {config.Storage{URL: "file:///tmp?mode=1"}, storage.ErrInvalid},
		"no path":     {config.Storage{Backend: "filesystem"}, storage.ErrInvalid},
		"a file":      {config.Storage{Backend: "filesystem", Path: file}, storage.ErrInvalid},
		"below file":  {config.Storage{Backend: "filesystem", Path: filepath.Join(file, "x")}, storage.ErrInvalid},
		"no account":  {config.Storage{Backend: "azure", Container: "x"}, storage.ErrInvalid},
		"unreachable": {config.Storage{Backend: "s3", Bucket: "b", Region: "r", PathStyle: true, Endpoint: "http://127.0.0.1:1", AccessKey: config.NewSecret("AKIDSECRETID"), SecretKey: config.NewSecret("verysecret")}, storage.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := storage.Open(ctx, c.storage)
			if err == nil {
				b.Close()
			}
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "verysecret") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestDescribeShowsNoSecrets(t *testing.T) {
	for want, s := range map[string]config.Storage{
		"s3://bucket/a/b": {Backend: "s3", Bucket: "bucket", Prefix: "/a/b/"},
		"s3://bucket/a/c": {URL: "s3://id:secret@bucket/a?key=secret", Prefix: "c"},
		"/data/x":         {Backend: "filesystem", Path: "/data/x/"},
		"azblob://c":      {Backend: "azure", Container: "c", SASToken: config.NewSecret("sig")},
		"gs://b":          {Backend: "gcs", Bucket: "b"},
	} {
		if got := storage.Describe(s); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestRemoveAbandoned(t *testing.T) {
	folder := t.TempDir()
	b := open(t, config.Storage{Backend: "filesystem", Path: folder, Prefix: "p"})
	defer b.Close()
	write(t, b, "x", "text")
	// A writer that was killed left this behind.
	if err := os.WriteFile(filepath.Join(folder, ".tmp", "write-1"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if files, _, err := storage.RemoveAbandoned(b, time.Hour); files != 0 || err != nil {
		t.Errorf("removed %d young files, %v", files, err)
	}
	if files, bytes, err := storage.RemoveAbandoned(b, 0); files != 1 || bytes != 4 || err != nil {
		t.Errorf("removed %d files of %d bytes, %v", files, bytes, err)
	}
	if o, err := b.List(nil).Next(t.Context()); err != nil || o.Key != "x" {
		t.Errorf("the object is gone: %v", err)
	}
	m := open(t, config.Storage{URL: "mem://" + t.Name()})
	defer m.Close()
	if files, _, err := storage.RemoveAbandoned(m, 0); files != 0 || err != nil {
		t.Errorf("memory: removed %d files, %v", files, err)
	}
	if _, err := m.List(nil).Next(t.Context()); err != io.EOF {
		t.Error(err)
	}
}
