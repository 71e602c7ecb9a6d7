package storage

import (
	"context"
	"errors"
	"time"

	gcs "cloud.google.com/go/storage"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	gocloud "gocloud.dev/blob"

	"github.com/kafka-backup/kafka-backup/internal/storage/storageerr"
)

// Lock is what keeps an object from being deleted.
type Lock struct {
	// Until is when it ends; zero when it has no end of its own: a legal hold.
	Until time.Time
}

// Locked returns the lock that is on an object: S3 object lock (retention, legal hold), Azure immutability
// policy and legal hold, GCS retention and holds. Nil when there is none, or no such object, or a store
// without locks. It costs one look-up.
func Locked(ctx context.Context, bucket *gocloud.Bucket, key string) (*Lock, error) {
	a, err := bucket.Attributes(ctx, key)
	if err != nil {
		if err = storageerr.Wrap(err, "look up", key); errors.Is(err, storageerr.ErrNotFound) {
			return nil, nil
		}
		return nil, err
	}
	var hold bool
	var until time.Time
	var head s3.HeadObjectOutput
	var properties blob.GetPropertiesResponse
	var attrs gcs.ObjectAttrs
	switch {
	case a.As(&head):
		hold = head.ObjectLockLegalHoldStatus == types.ObjectLockLegalHoldStatusOn
		if head.ObjectLockRetainUntilDate != nil {
			until = *head.ObjectLockRetainUntilDate
		}
	case a.As(&properties):
		hold = properties.LegalHold != nil && *properties.LegalHold
		if properties.ImmutabilityPolicyExpiresOn != nil {
			until = *properties.ImmutabilityPolicyExpiresOn
		}
	case a.As(&attrs):
		hold = attrs.EventBasedHold || attrs.TemporaryHold
		until = attrs.RetentionExpirationTime
		if attrs.Retention != nil && attrs.Retention.RetainUntil.After(until) {
			until = attrs.Retention.RetainUntil
		}
	}
	switch {
	case hold:
		return &Lock{}, nil
	case until.After(time.Now()):
		return &Lock{Until: until.UTC()}, nil
	}
	return nil, nil
}

// RefusedByLock tells whether a deletion failed because the object is locked, and returns the lock.
func RefusedByLock(ctx context.Context, bucket *gocloud.Bucket, key string, err error) (*Lock, bool) {
	var azure *azcore.ResponseError
	if errors.As(err, &azure) && (azure.ErrorCode == "BlobImmutableDueToPolicy" || azure.ErrorCode == "BlobImmutableDueToLegalHold") {
		lock, _ := Locked(ctx, bucket, key)
		if lock == nil {
			lock = &Lock{} // a policy of the container, which the blob does not show
		}
		return lock, true
	}
	if !errors.Is(err, storageerr.ErrAccess) {
		return nil, false
	}
	// S3 and GCS say no more than that it is forbidden.
	lock, lookup := Locked(ctx, bucket, key)
	return lock, lookup == nil && lock != nil
}
