package storage

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
	"gocloud.dev/blob"
	"gocloud.dev/blob/gcsblob"
	"gocloud.dev/blob/s3blob"
	"gocloud.dev/gcp"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/option"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

// openS3 opens a bucket of AWS or of a server that speaks its protocol. What the configuration
// leaves out comes from the AWS SDK's usual sources: environment, profile, role.
func openS3(ctx context.Context, s config.Storage) (*blob.Bucket, error) {
	// What the SDK would write to stderr comes back as an error where it matters.
	load := []func(*awsconfig.LoadOptions) error{awsconfig.WithLogger(logging.Nop{})}
	if s.Region != "" {
		load = append(load, awsconfig.WithRegion(s.Region))
	}
	if !s.AccessKey.IsZero() {
		key, err := s.AccessKey.Resolve()
		if err != nil {
			return nil, fmt.Errorf("storage.access_key: %w", err)
		}
		secret, err := s.SecretKey.Resolve()
		if err != nil {
			return nil, fmt.Errorf("storage.secret_key: %w", err)
		}
		session := ""
		if !s.SessionToken.IsZero() {
			if session, err = s.SessionToken.Resolve(); err != nil {
				return nil, fmt.Errorf("storage.session_token: %w", err)
			}
		}
		load = append(load, awsconfig.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(key, secret, session)))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		if s.Endpoint == "" {
			return nil, invalid("the region is missing: write storage.region or set AWS_REGION")
		}
		cfg.Region = "us-east-1" // what most other servers sign with
	}
	client := s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.UsePathStyle = s.PathStyle
		if s.Endpoint != "" {
			o.BaseEndpoint = aws.String(s.Endpoint)
		}
	})
	// The upload manager does not take this over from the client by itself.
	return s3blob.OpenBucket(ctx, client, s.Bucket, &s3blob.Options{RequestChecksumCalculation: cfg.RequestChecksumCalculation})
}

// openGCS opens a bucket of Google Cloud Storage, or of an emulator at storage.endpoint or
// STORAGE_EMULATOR_HOST, which is spoken to without credentials.
func openGCS(ctx context.Context, s config.Storage) (*blob.Bucket, error) {
	var options gcsblob.Options
	client := gcp.NewAnonymousHTTPClient(gcp.DefaultTransport())
	switch {
	case s.CredentialsFile != "":
		data, err := os.ReadFile(s.CredentialsFile)
		if err != nil {
			return nil, fmt.Errorf("storage.credentials_file: %w", err)
		}
		found, err := google.CredentialsFromJSONWithType(ctx, data, google.ServiceAccount, "https://www.googleapis.com/auth/cloud-platform")
		if err != nil {
			return nil, invalid("storage.credentials_file %q is not the key of a service account", s.CredentialsFile)
		}
		if client, err = gcp.NewHTTPClient(gcp.DefaultTransport(), found.TokenSource); err != nil {
			return nil, err
		}
	case s.Endpoint == "" && os.Getenv("STORAGE_EMULATOR_HOST") == "":
		found, err := gcp.DefaultCredentials(ctx)
		if err != nil {
			return nil, fmt.Errorf("find Google credentials (write storage.credentials_file, or set GOOGLE_APPLICATION_CREDENTIALS): %w", err)
		}
		if client, err = gcp.NewHTTPClient(gcp.DefaultTransport(), gcp.CredentialsTokenSource(found)); err != nil {
			return nil, err
		}
	}
	if s.Endpoint != "" {
		options.ClientOptions = append(options.ClientOptions, option.WithEndpoint(strings.TrimSuffix(s.Endpoint, "/")+"/storage/v1/"))
		if s.CredentialsFile == "" {
			options.ClientOptions = append(options.ClientOptions, option.WithoutAuthentication(), option.WithHTTPClient(http.DefaultClient))
		}
	}
	return gcsblob.OpenBucket(ctx, client, s.Bucket, &options)
}
