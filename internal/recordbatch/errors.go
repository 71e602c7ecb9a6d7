package recordbatch

import (
	"errors"
	"fmt"
)

var (
	// ErrShort says that the bytes end inside a batch. It is the normal end of
	// a fetch answer, whose last batch a broker may cut short (KIP-74), and a
	// truncation anywhere else.
	ErrShort = errors.New("bytes end inside a record batch")

	// ErrMagic says that the next entry is a message of format v0 or v1;
	// [Upconverter] turns those into batches.
	ErrMagic = errors.New("message format v0 or v1, not a v2 record batch")

	// ErrCorrupt is what every [*CorruptError] is, for errors.Is.
	ErrCorrupt = errors.New("corrupt record batch")

	// ErrTooLarge is what every [*TooLargeError] is, for errors.Is.
	ErrTooLarge = errors.New("larger than the limit")
)

// CorruptError says that a batch is not what the format allows. The bytes are
// damaged or were never a batch; trying again with the same bytes is useless.
type CorruptError struct {
	Offset int64  // base offset as the batch's header gives it, possibly damaged itself
	Reason string // what is wrong, with the numbers
	Err    error  // the cause (a codec's error), or nil
}

func (e *CorruptError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("corrupt record batch at offset %d: %s: %v", e.Offset, e.Reason, e.Err)
	}
	return fmt.Sprintf("corrupt record batch at offset %d: %s", e.Offset, e.Reason)
}

// Unwrap gives the cause.
func (e *CorruptError) Unwrap() error { return e.Err }

// Is makes every CorruptError an [ErrCorrupt].
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

func corrupt(offset int64, format string, args ...any) *CorruptError {
	return &CorruptError{Offset: offset, Reason: fmt.Sprintf(format, args...)}
}

// TooLargeError says that something exceeds a configured limit; the data
// itself may be sound.
type TooLargeError struct {
	Offset int64  // source offset of the record or base offset of the batch
	What   string // what is too large
	Size   int    // bytes; 0 when it was given up before the size was known
	Limit  int    // bytes
	Hint   string // what to do
}

func (e *TooLargeError) Error() string {
	if e.Size > 0 {
		return fmt.Sprintf("%s at offset %d takes %d bytes, the limit is %d: %s", e.What, e.Offset, e.Size, e.Limit, e.Hint)
	}
	return fmt.Sprintf("%s at offset %d takes more than the limit of %d bytes: %s", e.What, e.Offset, e.Limit, e.Hint)
}

// Is makes every TooLargeError an [ErrTooLarge].
func (e *TooLargeError) Is(target error) bool { return target == ErrTooLarge }
