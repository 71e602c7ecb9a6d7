// Package storageerr gives errors of an object store a kind and a hint.
//
// It depends on no driver, so that packages which only take a *blob.Bucket do not link the cloud
// clients. Kinds are found from codes (gcerrors, the store's own error code, errno), never from
// the text of an error.
package storageerr

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"

	"gocloud.dev/gcerrors"
)

// Kinds of failure; test with errors.Is.
var (
	// ErrNotFound: there is no object with that key.
	ErrNotFound = errors.New("not found")
	// ErrExists: a create-if-absent write found an object with that key; nothing was changed.
	ErrExists = errors.New("already exists")
	// ErrConflict: the store refused a conditional write because another one was in flight; try again.
	ErrConflict = errors.New("conflicting write in progress")
	// ErrAccess: the credentials are wrong, expired, or lack a right.
	ErrAccess = errors.New("access denied")
	// ErrNoCredentials: none were found anywhere.
	ErrNoCredentials = errors.New("no credentials")
	// ErrBucketMissing: the bucket or container does not exist.
	ErrBucketMissing = errors.New("bucket does not exist")
	// ErrFull: no space or no quota is left.
	ErrFull = errors.New("storage is full")
	// ErrUnavailable: the store cannot be reached.
	ErrUnavailable = errors.New("storage cannot be reached")
	// ErrInvalid: the key, the configuration or the file system cannot do what was asked for.
	ErrInvalid = errors.New("invalid storage request")
)

// Error is a failed operation on an object store.
type Error struct {
	// Op says what was tried, for example "read".
	Op string
	// Key of the object, empty when the operation has none.
	Key string
	// Kind is one of this package's errors, nil when the cause is not known.
	Kind error
	// Hint says what to do, empty when there is nothing to say.
	Hint string
	// Err is the driver's error.
	Err error
}

func (e *Error) Error() string {
	s := "storage: " + e.Op
	if e.Key != "" {
		s += fmt.Sprintf(" %q", e.Key)
	}
	if e.Kind != nil {
		s += ": " + e.Kind.Error()
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Unwrap gives the kind and the driver's error to errors.Is and errors.As.
func (e *Error) Unwrap() []error {
	var all []error
	if e.Kind != nil {
		all = append(all, e.Kind)
	}
	if e.Err != nil {
		all = append(all, e.Err)
	}
	return all
}

// Retryable reports whether the same operation may succeed when tried again: an unknown cause, a
// conflicting write, or a store that cannot be reached; not a missing object, right, bucket or space.
func Retryable(err error) bool {
	for _, kind := range []error{ErrNotFound, ErrExists, ErrAccess, ErrBucketMissing, ErrInvalid, context.Canceled} {
		if errors.Is(err, kind) {
			return false
		}
	}
	return err != nil
}

// Wrap makes err an *Error with operation, key, kind and hint. It returns nil for nil, and an error
// that is already an *Error as it is.
func Wrap(err error, op, key string) error {
	if err == nil {
		return nil
	}
	var already *Error
	if errors.As(err, &already) {
		return err
	}
	kind, hint := classify(err)
	return &Error{Op: op, Key: key, Kind: kind, Hint: hint, Err: err}
}

func classify(err error) (kind error, hint string) {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil, ""
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return ErrFull, "free some space or enlarge the volume; what was being written has been removed"
	}
	if errors.Is(err, syscall.EROFS) {
		return ErrAccess, "the file system is mounted read-only"
	}
	// The store's own code, where it has one: S3 and everything that speaks its protocol.
	var coded interface {
		error
		ErrorCode() string
	}
	if errors.As(err, &coded) {
		switch coded.ErrorCode() {
		case "NoSuchBucket":
			return ErrBucketMissing, "check storage.bucket and storage.region, or create the bucket"
		case "InvalidAccessKeyId", "XAdminUserNotFound", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired":
			return ErrAccess, "check the access key and secret key, and this machine's clock"
		case "ConditionalRequestConflict", "OperationAborted":
			return ErrConflict, "try again"
		case "SlowDown", "ServiceUnavailable", "InternalError":
			return ErrUnavailable, "the store asks to slow down; try again"
		case "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException":
			return ErrInvalid, "check storage.region and storage.endpoint"
		}
	}
	if asksMachine(err) {
		return ErrNoCredentials, "give storage.access_key and storage.secret_key, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role for the process that opens the storage: the worker, in an operation"
	}
	switch gcerrors.Code(err) {
	case gcerrors.NotFound:
		return ErrNotFound, ""
	case gcerrors.AlreadyExists, gcerrors.FailedPrecondition:
		return ErrExists, ""
	case gcerrors.PermissionDenied:
		return ErrAccess, "check the credentials and the rights they have on this bucket or folder"
	case gcerrors.ResourceExhausted:
		// Full disks were recognised above; clouds mean that there are too many requests.
		return ErrUnavailable, "the store asks to slow down; try again"
	case gcerrors.InvalidArgument:
		return ErrInvalid, ""
	}
	if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.EEXIST) {
		return ErrInvalid, "a file is where a folder is needed, or the other way round"
	}
	// A bare errno is a net.Error by its methods, but not from the network.
	var local *fs.PathError
	var unreachable net.Error
	if errors.As(err, &unreachable) && !errors.As(err, &local) {
		return ErrUnavailable, "check storage.endpoint and the network"
	}
	return nil, ""
}

// asksMachine tells whether an error is one of asking the machine itself for credentials, which
// AWS's clients do when they have found none anywhere else.
func asksMachine(err error) bool {
	var call interface {
		error
		Service() string
		Unwrap() error
	}
	for ; errors.As(err, &call); err = call.Unwrap() {
		if call.Service() == "ec2imds" {
			return true
		}
	}
	return false
}
