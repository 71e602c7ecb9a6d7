package repository

import (
	"bytes"
	"context"
	"errors"
	"net"
	"syscall"
	"testing"

	"gocloud.dev/blob/memblob"

	"github.com/kafka-backup/kafka-backup/internal/storage/storageerr"
)

// A store that closes the connection while an object is sent that it will not
// have, as there is one, says that there is one; a broken connection says
// nothing of the kind.
func TestABrokenConnectionIsLookedInto(t *testing.T) {
	r, err := Create(t.Context(), memblob.OpenBucket(nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Create(t.Context(), "there", []byte("x"), typeBinary); err != nil {
		t.Fatal(err)
	}
	broken := storageerr.Wrap(&net.OpError{Op: "write", Net: "tcp", Err: syscall.ECONNRESET}, "create", "k")
	if err := r.refused(t.Context(), "there", broken); !errors.Is(err, ErrExists) || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("there is one: %v", err)
	}
	if err := r.refused(t.Context(), "nowhere", broken); err != broken {
		t.Errorf("there is none: %v", err)
	}
	if err := r.refused(t.Context(), "there", context.Canceled); err != context.Canceled {
		t.Errorf("it was stopped: %v", err)
	}
	if ok, err := r.bucket.ReadAll(t.Context(), "there"); err != nil || !bytes.Equal(ok, []byte("x")) {
		t.Errorf("%q %v", ok, err)
	}
}
