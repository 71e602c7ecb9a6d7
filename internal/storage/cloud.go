package storage

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"gocloud.dev/blob"
	"gocloud.dev/blob/azureblob"
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
	var load []func(*awsconfig.LoadOptions) error
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

// openAzure opens a container. Without account_key and sas_token the Azure SDK's usual sources are
// asked: environment, workload and managed identity, the Azure command line tool.
func openAzure(s config.Storage) (*blob.Bucket, error) {
	account := s.AccountName
	if account == "" {
		account = os.Getenv("AZURE_STORAGE_ACCOUNT")
	}
	if account == "" {
		return nil, invalid("the storage account is missing: write storage.account_name or set AZURE_STORAGE_ACCOUNT")
	}
	service := "https://" + account + ".blob.core.windows.net"
	if s.Endpoint != "" {
		u, err := url.Parse(s.Endpoint)
		if err != nil {
			return nil, invalid("storage.endpoint is not a URL")
		}
		service = strings.TrimSuffix(s.Endpoint, "/")
		// Emulators have the account in the path, clouds in the host name.
		if !strings.HasPrefix(u.Host, account+".") && strings.Trim(u.Path, "/") == "" {
			service += "/" + account
		}
	}
	client, err := azureClient(s, account, service)
	if err != nil {
		return nil, err
	}
	return azureblob.OpenBucket(context.Background(), client, nil)
}

func azureClient(s config.Storage, account, service string) (*container.Client, error) {
	where := service + "/" + s.Container
	switch {
	case !s.AccountKey.IsZero():
		key, err := s.AccountKey.Resolve()
		if err != nil {
			return nil, fmt.Errorf("storage.account_key: %w", err)
		}
		credential, err := azblob.NewSharedKeyCredential(account, key)
		if err != nil {
			return nil, invalid("storage.account_key is not base64")
		}
		return container.NewClientWithSharedKeyCredential(where, credential, nil)
	case !s.SASToken.IsZero():
		token, err := s.SASToken.Resolve()
		if err != nil {
			return nil, fmt.Errorf("storage.sas_token: %w", err)
		}
		return container.NewClientWithNoCredential(where+"?"+strings.TrimPrefix(token, "?"), nil)
	}
	return azureblob.NewDefaultClient(azureblob.ServiceURL(service), azureblob.ContainerName(s.Container))
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
