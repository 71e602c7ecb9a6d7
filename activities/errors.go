package activities

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/kafka-backup/kafka-backup/internal/backup"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/restore"
	"github.com/kafka-backup/kafka-backup/internal/storage/storageerr"
	"github.com/kafka-backup/kafka-backup/internal/telemetry"
	"github.com/kafka-backup/kafka-backup/internal/transfer"
)

// Types of application errors, as they appear in workflow histories. All but
// the last two are not retried: trying again does not cure them.
const (
	Configuration  = "Configuration"  // the request makes no sense
	Authentication = "Authentication" // credentials are missing or wrong
	Authorization  = "Authorization"  // rights are missing
	Exists         = "Exists"         // a name is taken, a target is not empty
	NotFound       = "NotFound"       // no such backup, topic or partition
	Corrupt        = "Corrupt"        // data is damaged
	ForeignWrite   = "ForeignWrite"   // somebody else writes to the target
	Truncated      = "Truncated"      // the source's log was truncated
	TopicRecreated = "TopicRecreated" // a topic was deleted and created again
	Refused        = "Refused"        // a broker refuses for good, whatever the reason
	StorageFull    = "StorageFull"    // no space left
	Unreachable    = "Unreachable"    // a cluster or storage cannot be reached
	Transient      = "Transient"      // anything that trying again may cure
)

// classify makes the error of an activity out of one of internal/...: its
// type, and whether it is tried again. At the beginning of an operation, when
// nothing has been done yet, what cannot be reached is not waited for: the
// address is more likely wrong than the network broken.
func classify(ctx context.Context, err error, beginning bool) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); errors.Is(cause, errDraining) {
		return temporal.NewApplicationErrorWithOptions(cause.Error(), Transient, temporal.ApplicationErrorOptions{
			Category: temporal.ApplicationErrorCategoryBenign,
		})
	}
	if ctx.Err() != nil {
		return ctx.Err() // the operation was told to stop; what failed of it follows from that
	}
	kind := kindOf(err)
	retry := kind == Transient || kind == Unreachable && !beginning
	return temporal.NewApplicationErrorWithOptions(err.Error(), kind, temporal.ApplicationErrorOptions{NonRetryable: !retry})
}

var errDraining = errors.New("the worker is shutting down; another one goes on")

func kindOf(err error) string {
	var (
		badConfig  *config.Error
		secret     *config.SecretError
		connect    *kafka.ConnectError
		exists     *backup.ExistsError
		pruned     *repository.PrunedError
		unknown    *restore.UnknownBackupError
		against    *restore.PlanError
		recreated  *restore.RecreatedError
		ended      *restore.EndedError
		lost       *restore.LostError
		beyond     *restore.BeyondError
		noTopics   *backup.NoTopicsError
		foreign    *transfer.ForeignWriteError
		notOurs    *restore.NotOursError
		wentBack   *restore.WentBackError
		truncated  *transfer.TruncatedError
		stall      *transfer.StallError
		refused    *transfer.PartitionError
		app        *temporal.ApplicationError
		wrongTopic = errors.Is(err, kerr.InconsistentTopicID) || errors.Is(err, kerr.UnknownTopicID)
	)
	if kind := offsetKind(err); kind != "" {
		return kind
	}
	switch {
	case errors.As(err, &app):
		return app.Type()
	case errors.As(err, &badConfig), errors.As(err, &secret), errors.As(err, &noTopics), errors.Is(err, repository.ErrID):
		return Configuration
	case errors.As(err, &against):
		if against.Filled() {
			return Exists
		}
		return Configuration
	case errors.As(err, &exists), errors.As(err, &pruned):
		return Exists
	case errors.As(err, &unknown):
		return NotFound
	case errors.As(err, &recreated):
		return TopicRecreated
	case errors.As(err, &foreign), errors.As(err, &notOurs), errors.As(err, &beyond):
		return ForeignWrite
	case errors.As(err, &ended), errors.As(err, &lost), errors.Is(err, recordbatch.ErrTooLarge):
		return Refused
	case errors.As(err, &truncated):
		return Truncated
	case errors.As(err, &connect):
		return connectKind(connect)
	case kafka.Unauthorized(err):
		return Authorization
	case errors.Is(err, repository.ErrCorrupt), errors.Is(err, recordbatch.ErrCorrupt), errors.Is(err, repository.ErrVersion):
		return Corrupt
	case errors.Is(err, storageerr.ErrFull):
		return StorageFull
	case errors.Is(err, storageerr.ErrAccess):
		return Authorization
	case errors.Is(err, storageerr.ErrBucketMissing), errors.Is(err, storageerr.ErrInvalid):
		return Configuration
	case errors.Is(err, repository.ErrNotRepository), errors.Is(err, repository.ErrNotFound):
		return NotFound
	case errors.Is(err, storageerr.ErrUnavailable), errors.Is(err, storageerr.ErrNoCredentials):
		return Unreachable
	case errors.As(err, &stall), errors.As(err, &wentBack):
		return Transient
	case wrongTopic:
		return TopicRecreated
	case errors.As(err, &refused):
		return Refused
	case kafka.Retryable(err):
		return Transient
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return NotFound
	}
	return Refused
}

func connectKind(e *kafka.ConnectError) string {
	switch e.Reason {
	case kafka.BadCredentials, kafka.TokenRefused, kafka.ClientCertRequired, kafka.ClientCertRefused, kafka.SASLExpected, kafka.MechanismNotEnabled:
		return Authentication
	case kafka.NoRights:
		return Authorization
	case kafka.BadConfiguration, kafka.NotKafka, kafka.TLSExpected, kafka.TLSNotSpoken, kafka.TLSFailed, kafka.UnknownCA,
		kafka.HostnameMismatch, kafka.CertificateInvalid, kafka.SASLNotSpoken:
		return Configuration
	case kafka.Cancelled:
		return Transient
	}
	return Unreachable
}

// draining returns a context that also ends when the worker is stopped, so
// that the activity comes to a safe point and another worker takes it over.
func draining(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(telemetry.WithLog(ctx, activity.GetLogger(ctx)))
	stop := activity.GetWorkerStopChannel(ctx)
	go func() {
		select {
		case <-stop:
			cancel(errDraining)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}
