package storage

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/google/uuid"
	"gocloud.dev/blob"
	"gocloud.dev/blob/azureblob"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

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
		return container.NewClientWithSharedKeyCredential(where, credential, azureOptions())
	case !s.SASToken.IsZero():
		token, err := s.SASToken.Resolve()
		if err != nil {
			return nil, fmt.Errorf("storage.sas_token: %w", err)
		}
		return container.NewClientWithNoCredential(where+"?"+strings.TrimPrefix(token, "?"), azureOptions())
	}
	return environmentAzureClient(azureblob.ServiceURL(service), azureblob.ContainerName(s.Container))
}

// openAzureURL opens azblob://container, with what the environment says of the account and the
// credentials, as gocloud.dev's own opener does.
func openAzureURL(ctx context.Context, u *url.URL) (*blob.Bucket, error) {
	options := azureblob.NewDefaultServiceURLOptions()
	if options.SASToken != "" {
		// The token is part of the address: it is sent wherever that leads.
		for _, elsewhere := range []string{"domain", "protocol", "cdn", "localemu"} {
			if u.Query().Has(elsewhere) {
				return nil, invalid("an azblob url cannot have %q when AZURE_STORAGE_SAS_TOKEN is set: the token would be sent there", elsewhere)
			}
		}
	}
	opener := azureblob.URLOpener{MakeClient: environmentAzureClient, ServiceURLOptions: *options}
	return opener.OpenBucketURL(ctx, u)
}

// environmentAzureClient is azureblob.NewDefaultClient with our options.
func environmentAzureClient(service azureblob.ServiceURL, name azureblob.ContainerName) (*container.Client, error) {
	where, err := url.JoinPath(string(service), string(name))
	if err != nil {
		return nil, err
	}
	account, key := os.Getenv("AZURE_STORAGE_ACCOUNT"), os.Getenv("AZURE_STORAGE_KEY")
	connection := os.Getenv("AZURE_STORAGE_CONNECTION_STRING")
	if connection == "" {
		connection = os.Getenv("AZURE_STORAGEBLOB_CONNECTIONSTRING")
	}
	switch {
	case account != "" && key != "":
		credential, err := azblob.NewSharedKeyCredential(account, key)
		if err != nil {
			return nil, invalid("AZURE_STORAGE_KEY is not base64")
		}
		return container.NewClientWithSharedKeyCredential(where, credential, azureOptions())
	case os.Getenv("AZURE_STORAGE_SAS_TOKEN") != "": // it is in the service's URL
		return container.NewClientWithNoCredential(where, azureOptions())
	case connection != "":
		return container.NewClientFromConnectionString(connection, string(name), azureOptions())
	}
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return nil, err
	}
	return container.NewClient(where, credential, azureOptions())
}

func azureOptions() *container.ClientOptions {
	return &container.ClientOptions{ClientOptions: azcore.ClientOptions{PerCallPolicies: []policy.Policy{overUncommitted{}}}}
}

// overUncommitted creates a blob where an upload was given up. Such an upload leaves blocks that were
// never committed: the blob cannot be read or listed, and yet a Put Blob that is to create it may be
// refused because it exists (Azurite does so). Put Block List with the same condition is not, and is
// as atomic.
type overUncommitted struct{}

// Do implements policy.Policy.
func (overUncommitted) Do(req *policy.Request) (*http.Response, error) {
	resp, err := req.Next()
	raw := req.Raw()
	if err != nil || resp.StatusCode != http.StatusConflict || raw.Method != http.MethodPut || raw.URL.Query().Has("comp") ||
		header(raw, "x-ms-blob-type") != "BlockBlob" || header(raw, "If-None-Match") != "*" {
		return resp, err
	}
	there, err := send(req, http.MethodHead, nil, nil, http.Header{})
	if err != nil || there.StatusCode != http.StatusNotFound {
		return resp, err
	}
	list := "<BlockList></BlockList>"
	if body := req.Body(); body != nil {
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		// All blocks of a blob, also those that were given up, have ids of one length: the SDK's is 64 bytes.
		u := uuid.New()
		id := base64.StdEncoding.EncodeToString(append(u[:], make([]byte, 64-len(u))...))
		staged, err := send(req, http.MethodPut, url.Values{"comp": {"block"}, "blockid": {id}}, body, http.Header{})
		if err != nil || staged.StatusCode != http.StatusCreated {
			return staged, err
		}
		list = "<BlockList><Uncommitted>" + id + "</Uncommitted></BlockList>"
	}
	rest := http.Header{} // content type, metadata and the condition
	for name, values := range raw.Header {
		switch n := strings.ToLower(name); {
		case n == "if-none-match", strings.HasPrefix(n, "x-ms-meta-"), strings.HasPrefix(n, "x-ms-blob-") && n != "x-ms-blob-type":
			rest[name] = values
		}
	}
	return send(req, http.MethodPut, url.Values{"comp": {"blocklist"}}, streaming.NopCloser(strings.NewReader(list)), rest)
}

// header is Header.Get where names are written as they come.
func header(r *http.Request, name string) string {
	for n, values := range r.Header {
		if strings.EqualFold(n, name) && len(values) > 0 {
			return values[0]
		}
	}
	return ""
}

// send sends another request about the blob that a request is about.
func send(about *policy.Request, method string, query url.Values, body io.ReadSeekCloser, headers http.Header) (*http.Response, error) {
	req := about.Clone(about.Raw().Context())
	raw := req.Raw()
	for _, h := range []string{"x-ms-version", "Accept"} {
		if v := header(about.Raw(), h); v != "" {
			headers[h] = []string{v}
		}
	}
	raw.Method, raw.Header = method, headers
	q := raw.URL.Query() // a SAS token
	for name, values := range query {
		q[name] = values
	}
	raw.URL.RawQuery = q.Encode()
	raw.Body, raw.GetBody, raw.ContentLength = nil, nil, 0
	if err := req.SetBody(body, "application/octet-stream"); err != nil {
		return nil, err
	}
	return req.Next()
}
