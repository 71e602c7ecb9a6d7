package activities

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"go.temporal.io/sdk/temporal"

	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/restore"
	"github.com/kafka-backup/kafka-backup/internal/storage/storageerr"
	"github.com/kafka-backup/kafka-backup/internal/transfer"
)

// What trying again does not cure ends the operation; what it may cure does not.
func TestErrorsThatAreTriedAgain(t *testing.T) {
	for _, c := range []struct {
		err   error
		kind  string
		retry bool
	}{
		{io.ErrUnexpectedEOF, Transient, true},
		{&net.OpError{Op: "dial", Err: errors.New("refused")}, Transient, true},
		{kerr.NotLeaderForPartition, Transient, true},
		{&transfer.StallError{Err: kerr.UnknownTopicOrPartition}, Transient, true},
		{storageerr.ErrUnavailable, Unreachable, true},
		{&recordbatch.TooLargeError{}, Refused, false},
		{&restore.LostError{}, Refused, false},
		{&restore.EndedError{}, Refused, false},
		{&restore.BeyondError{}, ForeignWrite, false},
		{&restore.NotOursError{}, ForeignWrite, false},
		{&restore.RecreatedError{}, TopicRecreated, false},
		{&transfer.PartitionError{Err: kerr.InvalidRecord}, Refused, false},
		{&transfer.TruncatedError{}, Truncated, false},
		{&repository.CorruptError{}, Corrupt, false},
		{fmt.Errorf("%w: version 7", repository.ErrVersion), Corrupt, false},
		{kerr.TopicAuthorizationFailed, Authorization, false},
		{storageerr.ErrFull, StorageFull, false},
	} {
		var app *temporal.ApplicationError
		if !errors.As(classify(context.Background(), fmt.Errorf("part 3: %w", c.err), false), &app) || app.Type() != c.kind || app.NonRetryable() == c.retry {
			t.Errorf("%T %v: %v", c.err, c.err, app)
		}
	}
}
