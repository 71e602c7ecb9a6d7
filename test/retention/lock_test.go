package retention

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/prune"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/retention"
	"github.com/kafka-backup/kafka-backup/internal/storage"
	"github.com/kafka-backup/kafka-backup/test/s3bed"
)

// A bucket with object lock: what is locked stays, is said, and is no error;
// a backup whose manifest is locked is not dropped.
func TestPruneUnderObjectLock(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	store := s3bed.Start(t)
	t.Setenv("LOCK_ACCESS", store.AccessKey)
	t.Setenv("LOCK_SECRET", store.SecretKey)
	cl := s3.New(s3.Options{BaseEndpoint: &store.Endpoint, Region: store.Region, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(store.AccessKey, store.SecretKey, "")})
	name := "locked"
	_, err := cl.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name, ObjectLockEnabledForBucket: aws.Bool(true)})
	check(err)
	bucket, err := storage.Open(ctx, config.Storage{Backend: "s3", Bucket: name, Region: store.Region, Endpoint: store.Endpoint, PathStyle: true,
		AccessKey: config.NewSecret("${LOCK_ACCESS}"), SecretKey: config.NewSecret("${LOCK_SECRET}"), Prefix: "some/where"})
	check(err)
	defer bucket.Close()
	repo, err := repository.Create(ctx, bucket)
	check(err)

	began := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	for i := range 4 {
		id := fmt.Sprintf("b%d", i)
		_, err := repo.Create(ctx, repository.PlanKey(id), []byte("{}"), "application/json")
		check(err)
		shard := &repository.Shard{}
		at, _, err := repo.AdoptIndex(ctx, id, 0, shard)
		check(err)
		_, err = repo.WriteManifest(ctx, &repository.Manifest{BackupID: id, ClusterID: "c", CreatedAt: began.Add(time.Duration(i) * time.Minute),
			FinishedAt: began.Add(time.Duration(i) * time.Minute), Index: []repository.ObjectRef{at}})
		check(err)
	}
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	lock := func(key string) {
		t.Helper()
		_, err := cl.PutObjectRetention(ctx, &s3.PutObjectRetentionInput{Bucket: &name, Key: aws.String("some/where/" + key),
			Retention: &types.ObjectLockRetention{Mode: types.ObjectLockRetentionModeCompliance, RetainUntilDate: &until}})
		check(err)
	}
	lock(repository.ManifestKey("b0"))
	lock(repository.IndexKey("b1", 0))

	found, err := storage.Locked(ctx, bucket, repository.ManifestKey("b0"))
	check(err)
	if found == nil || !found.Until.Equal(until) {
		t.Fatalf("the lock is %+v, want until %v", found, until)
	}
	p := prune.Pruner{Repository: repo, Options: prune.Options{Policy: retention.Policy{Last: 1}, MinAge: -time.Hour},
		Running: func(context.Context) ([]prune.Operation, error) { return nil, nil }}
	plan, err := prune.MakePlan(ctx, repo, p.Options, nil)
	check(err)
	if got := fmt.Sprint(plan.Drops()); got != "[b1 b2]" {
		t.Fatalf("the plan drops %s", got)
	}
	if why := plan.Backups[0].Keep; len(why) != 1 || why[0] != "locked by the store until "+until.Format(time.RFC3339) {
		t.Errorf("b0 is kept because of %q", why)
	}
	dropped, err := p.Drop(ctx, plan)
	check(err)
	swept, err := p.Sweep(ctx)
	check(err)
	if len(dropped.Dropped) != 2 || swept.Locked.Objects != 1 || swept.LockedKey != repository.IndexKey("b1", 0) || !swept.LockedUntil.Equal(until) || swept.Left != 1 {
		t.Errorf("dropped %+v, swept %+v", dropped, swept)
	}
	if _, err := repo.ReadManifest(ctx, "b0"); err != nil {
		t.Error(err)
	}
	if pruned, err := repo.IsPruned(ctx, "b1"); err != nil || !pruned {
		t.Errorf("the id of b1 is free: %v", err)
	}
}
