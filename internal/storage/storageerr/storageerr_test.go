package storageerr

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"testing"
)

// coded is an error of a store that has codes, as those of S3.
type coded string

func (c coded) Error() string     { return "the store says " + string(c) }
func (c coded) ErrorCode() string { return string(c) }

// call is an error of a call to a service, as those of AWS's clients.
type call struct {
	service string
	err     error
}

func (c call) Error() string   { return c.service + ": " + c.err.Error() }
func (c call) Service() string { return c.service }
func (c call) Unwrap() error   { return c.err }

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		err       error
		kind      error
		retryable bool
	}{
		{coded("NoSuchBucket"), ErrBucketMissing, false},
		{coded("SignatureDoesNotMatch"), ErrAccess, false},
		{coded("ConditionalRequestConflict"), ErrConflict, true},
		{coded("SlowDown"), ErrUnavailable, true},
		{coded("SomethingNew"), nil, true},
		{call{"S3", errors.New("no")}, nil, true},
		{call{"S3", fmt.Errorf("no role: %w", call{"ec2imds", errors.New("403")})}, ErrNoCredentials, true},
		{&fs.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC}, ErrFull, true},
		{&fs.PathError{Op: "write", Path: "/x", Err: syscall.EROFS}, ErrAccess, false},
		{&fs.PathError{Op: "open", Path: "/x", Err: syscall.ENOTDIR}, ErrInvalid, false},
		{&fs.PathError{Op: "read", Path: "/x", Err: syscall.EIO}, nil, true},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, ErrUnavailable, true},
		{context.Canceled, context.Canceled, false},
		{context.DeadlineExceeded, context.DeadlineExceeded, true},
	} {
		err := Wrap(fmt.Errorf("deeper: %w", c.err), "create", "some/key")
		var typed *Error
		if !errors.As(err, &typed) || !errors.Is(err, c.err) || c.kind != nil && !errors.Is(err, c.kind) {
			t.Errorf("%v: %v, want %v", c.err, err, c.kind)
			continue
		}
		if c.kind == nil && typed.Kind != nil {
			t.Errorf("%v has kind %v", c.err, typed.Kind)
		}
		if Retryable(err) != c.retryable {
			t.Errorf("%v: retryable %v", err, !c.retryable)
		}
		if s := err.Error(); !strings.Contains(s, "create") || !strings.Contains(s, `"some/key"`) || !strings.Contains(s, c.err.Error()) {
			t.Errorf("the message %q lacks operation, key or cause", s)
		}
		if again := Wrap(err, "read", "other"); again != err {
			t.Errorf("it was wrapped twice: %v", again)
		}
	}
	if Wrap(nil, "read", "x") != nil || Retryable(nil) {
		t.Error("nil is an error")
	}
}
