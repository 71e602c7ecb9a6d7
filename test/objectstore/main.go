// Command objectstore serves a folder as an S3 object store on loopback, for
// tests. It checks signatures, checksums and conditional writes as S3 does.
//
// When it is ready it prints one line of JSON on standard output, with the
// fields endpoint, bucket, region, access_key and secret_key, and it ends when
// its standard input does.
//
// It is a module of its own because the gateway behind it brings a large module
// graph, of which the product is to have nothing.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

// ready is what is printed when the store serves.
type ready struct {
	Endpoint  string `json:"endpoint"`
	Bucket    string `json:"bucket"`
	Region    string `json:"region"`
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`
}

const healthPath = "/objectstore-health"

func main() {
	dir := flag.String("dir", "", "the `folder` to serve; made if absent")
	address := flag.String("address", "", "the `host:port` to listen on; a free port of 127.0.0.1 if empty")
	store := ready{Region: "us-east-1"}
	flag.StringVar(&store.Bucket, "bucket", "backups", "the bucket to make")
	flag.StringVar(&store.AccessKey, "access-key", "test-access", "the root account's access key")
	flag.StringVar(&store.SecretKey, "secret-key", "test-secret", "the root account's secret key")
	flag.Parse()
	out := os.Stdout
	os.Stdout = os.Stderr // the gateway is talkative
	if err := run(out, *dir, *address, store); err != nil {
		fmt.Fprintln(os.Stderr, "objectstore:", err)
		os.Exit(1)
	}
}

func run(out io.Writer, dir, address string, store ready) error {
	if dir == "" {
		return errors.New("-dir is missing")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	root, sidecar := filepath.Join(dir, "buckets"), filepath.Join(dir, "attributes")
	for _, d := range []string{filepath.Join(root, store.Bucket), sidecar} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if address == "" {
		if address, err = freeAddress(); err != nil {
			return err
		}
	}
	// Attributes in files of their own: not every file system has extended ones.
	attributes, err := meta.NewSideCar(sidecar)
	if err != nil {
		return err
	}
	backend, err := posix.New(root, attributes, posix.PosixOpts{SideCarDir: sidecar})
	if err != nil {
		return err
	}
	store.Endpoint = "http://" + address

	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	errEnd := errors.New("standard input ended")
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel(errEnd)
	}()
	go func() {
		if err := awaitHealth(ctx, store.Endpoint+healthPath); err != nil {
			cancel(err)
			return
		}
		if err := json.NewEncoder(out).Encode(store); err != nil {
			cancel(err)
		}
	}()
	err = embedgw.RunVersityGW(ctx, backend, &embedgw.Config{
		RootUserAccess: store.AccessKey,
		RootUserSecret: store.SecretKey,
		Region:         store.Region,
		Ports:          []string{address},
		MaxConnections: 4096, MaxRequests: 2048,
		MultipartMaxParts: 10000,
		HealthPath:        healthPath,
		KeepAlive:         true,
		Quiet:             true,
	})
	if cause := context.Cause(ctx); cause != nil && cause != errEnd {
		return cause
	}
	if context.Cause(ctx) == errEnd {
		return nil
	}
	return err
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func awaitHealth(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(resp.Status)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", err)
		case <-tick.C:
		}
	}
}
