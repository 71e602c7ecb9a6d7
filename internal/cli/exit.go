package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/storage"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
)

// Exit codes.
const (
	ExitDone        = 0   // done
	ExitFailed      = 1   // failed
	ExitUsage       = 2   // wrong usage or configuration; nothing was changed
	ExitPartly      = 3   // done in part; the report says what is missing
	ExitWaiting     = 8   // waiting for approval
	ExitInterrupted = 130 // interrupted; an operation that was started goes on
)

// exitError is an error with its exit code. A nil err is one that was told to
// the user already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usage is an error in how the command was called.
func usage(format string, args ...any) error {
	return &exitError{ExitUsage, fmt.Errorf(format, args...)}
}

// told ends the command with a code and no further message.
func told(code int) error {
	if code == ExitDone {
		return nil
	}
	return &exitError{code: code}
}

// exitCode returns the exit code for what a command returned.
func exitCode(err error) int {
	var exit *exitError
	var configuration *config.Error
	var literal *config.LiteralSecretError
	var secret *config.SecretError
	var profile *temporalservice.ProfileError
	var format *render.FormatError
	var request *offsets.RequestError
	switch {
	case err == nil:
		return ExitDone
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &configuration), errors.As(err, &literal), errors.As(err, &secret),
		errors.As(err, &profile), errors.As(err, &format), errors.As(err, &request),
		errors.Is(err, repository.ErrID), errors.Is(err, storage.ErrInvalid), errors.Is(err, storage.ErrBucketMissing):
		return ExitUsage
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	default:
		return codeOf(err)
	}
}

// message is what the user is told about an error.
func message(err error) string {
	var exit *exitError
	if errors.As(err, &exit) && exit.err != nil {
		err = exit.err
	}
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	return err.Error()
}
