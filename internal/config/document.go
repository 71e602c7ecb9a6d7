// Package config is the configuration document of kafka-backup: its types,
// how it is read from YAML, and what is refused.
//
// Invariants:
//
//   - The types are the only description of the document. Key names, texts,
//     defaults, ranges and allowed values are struct tags; the reader, the
//     command line flags ([Keys], [Set]) and docs/CONFIGURATION.md are made from them.
//   - What is not understood is refused: unknown and duplicate keys, wrong types,
//     values and ranges, each with file, line, column, key and what would be right,
//     all of them at once ([Error]).
//   - A secret is kept as a reference ([Secret]) and read at the place of use. It is
//     never printed, and a literal one does not get into JSON.
//   - A document as returned has its defaults filled in.
package config

//go:generate go test -run TestReferenceIsUpToDate -update .

// Document is one configuration file, for a backup or a restore.
//
// It marshals to JSON with the same key names; secrets stay references (see [Secret]).
type Document struct {
	// Mode is "backup", "restore" or empty (then the command decides).
	Mode string `json:"mode,omitempty" oneof:"backup|restore" doc:"What the file is for. May be left out: the command decides. A command refuses a file made for another mode."`
	// BackupID names the backup. Empty: the command makes one (backup) or asks for one (restore).
	BackupID string  `json:"backup_id,omitempty" doc:"Name of the backup, 1 to 128 characters of letters, digits, dot, underscore and hyphen. Required for a restore. A backup without one gets a name made from the time. For a backup it may have placeholders: {{date}} (2024-12-01), {{time}} (143000), {{year}}, {{month}}, {{day}}, {{hour}}, {{week}} (2024-W48), {{schedule}}."`
	Source   Cluster `json:"source,omitzero" doc:"The cluster that is backed up."`
	Target   Cluster `json:"target,omitzero" doc:"The cluster that is restored into."`
	Storage  Storage `json:"storage,omitzero" doc:"Where the repository is."`
	Backup   Backup  `json:"backup,omitzero" doc:"How a backup is made."`
	Restore  Restore `json:"restore,omitzero" doc:"How a restore is made."`
	// Approval applies to whatever operation the document is for.
	Approval Approval `json:"approval,omitzero" doc:"Who must approve the plan before anything is changed."`
	// Notifications apply to whatever operation the document is for.
	Notifications Notifications `json:"notifications,omitzero" doc:"Who is told how operations end, and that one waits for approval."`
	// Retention is for prune.
	Retention Retention `json:"retention,omitzero" doc:"Which backups prune keeps."`
	Temporal  Temporal  `json:"temporal,omitzero" doc:"Where the operation is carried out."`

	origin origin
}

// Cluster says how a Kafka cluster is reached, and which of its topics are meant.
type Cluster struct {
	// BootstrapServers are host:port addresses; the first that answers is used.
	BootstrapServers []string `json:"bootstrap_servers,omitempty" split:"," doc:"Addresses, host:port, of some of the cluster's brokers. A list, or one text with commas."`
	Security         Security `json:"security,omitzero" doc:"Encryption and authentication."`
	// Topics selects topics. Only a source has them; a restore has restore.topics.
	Topics TopicFilter `json:"topics,omitzero" doc:"Which topics are backed up. Only for the source; for a restore see restore.topics."`
	// ClientID is sent with every request, for the broker's logs and quotas.
	ClientID string `json:"client_id,omitempty" default:"kafka-backup" doc:"Client id sent to the brokers; quotas and request logs go by it."`
	// ConnectTimeout bounds one connection attempt to one broker, handshakes included.
	ConnectTimeout Duration `json:"connect_timeout,omitempty" default:"10s" min:"100ms" max:"10m" doc:"Longest time for connecting to one broker, TLS and SASL included."`
}

// Security is encryption and authentication towards a cluster.
// The key names are those of librdkafka and the Java client, with underscores.
type Security struct {
	SecurityProtocol string `json:"security_protocol,omitempty" default:"PLAINTEXT" oneof:"PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL" doc:"Protocol of the listener."`

	SASLMechanism string `json:"sasl_mechanism,omitempty" oneof:"PLAIN|SCRAM-SHA-256|SCRAM-SHA-512|OAUTHBEARER" alias:"SCRAM-SHA256=SCRAM-SHA-256|SCRAM-SHA512=SCRAM-SHA-512" doc:"SASL mechanism. Required with SASL_PLAINTEXT and SASL_SSL."`
	SASLUsername  string `json:"sasl_username,omitempty" doc:"User name for PLAIN and SCRAM."`
	SASLPassword  Secret `json:"sasl_password,omitzero" doc:"Password for PLAIN and SCRAM."`

	OAuthToken            Secret            `json:"sasl_oauthbearer_token,omitzero" doc:"OAUTHBEARER: a token that does not change while the process runs. A file:/path is read again for each connection."`
	OAuthTokenEndpointURL string            `json:"sasl_oauthbearer_token_endpoint_url,omitempty" doc:"OAUTHBEARER: token endpoint for the client-credentials grant (RFC 6749, 4.4). https, or http on this machine."`
	OAuthClientID         string            `json:"sasl_oauthbearer_client_id,omitempty" doc:"OAUTHBEARER: client id at the token endpoint."`
	OAuthClientSecret     Secret            `json:"sasl_oauthbearer_client_secret,omitzero" doc:"OAUTHBEARER: client secret at the token endpoint."`
	OAuthScope            string            `json:"sasl_oauthbearer_scope,omitempty" doc:"OAUTHBEARER: scopes asked for, separated by spaces."`
	OAuthExtensions       map[string]string `json:"sasl_oauthbearer_extensions,omitempty" doc:"OAUTHBEARER: SASL extensions sent with the token (KIP-342)."`
	OAuthCALocation       string            `json:"sasl_oauthbearer_ca_location,omitempty" doc:"OAUTHBEARER: PEM file with the CA certificates of the token endpoint. Left out: those of the system."`

	SSLCALocation          string `json:"ssl_ca_location,omitempty" doc:"PEM file with the CA certificates of the brokers. Left out: those of the system."`
	SSLCertificateLocation string `json:"ssl_certificate_location,omitempty" doc:"PEM file with the client's certificate and its chain (mTLS)."`
	SSLKeyLocation         string `json:"ssl_key_location,omitempty" doc:"PEM file with the client's private key (mTLS), PKCS#8, PKCS#1 or SEC 1."`
	SSLKeyPassword         Secret `json:"ssl_key_password,omitzero" doc:"Password of the private key, when it is encrypted (PKCS#8)."`
	SSLServerName          string `json:"ssl_server_name,omitempty" doc:"Name that the brokers' certificates are checked against, and that is sent as SNI. Left out: the host of the broker's address."`
	SSLInsecureSkipVerify  bool   `json:"ssl_insecure_skip_verify,omitempty" doc:"Do not check the brokers' certificates. Anybody on the way can then read and change everything; for tests only."`
}

// TLS reports whether the protocol encrypts.
func (s Security) TLS() bool {
	return s.SecurityProtocol == "SSL" || s.SecurityProtocol == "SASL_SSL"
}

// SASL reports whether the protocol authenticates by SASL.
func (s Security) SASL() bool {
	return s.SecurityProtocol == "SASL_PLAINTEXT" || s.SecurityProtocol == "SASL_SSL"
}

// TopicFilter selects topics by name, with the wildcards * (any text) and ? (one character).
type TopicFilter struct {
	// Include: empty means every topic that is not internal.
	Include []string `json:"include,omitempty" doc:"Names, or patterns with * and ?. Left out: all topics that are not internal to Kafka."`
	// Exclude wins over Include.
	Exclude []string `json:"exclude,omitempty" doc:"Names or patterns that are left out although included."`
}

// Storage says where a repository is: a backend with its keys, or a URL.
type Storage struct {
	Backend string `json:"backend,omitempty" oneof:"filesystem|s3|azure|gcs|memory" doc:"Kind of storage. Either this or url."`
	Path    string `json:"path,omitempty" doc:"filesystem: folder of the repository."`
	Bucket  string `json:"bucket,omitempty" doc:"s3, gcs: name of the bucket."`
	// Container is Azure's word for a bucket.
	Container string `json:"container,omitempty" doc:"azure: name of the container."`
	Prefix    string `json:"prefix,omitempty" doc:"s3, azure, gcs: folder inside the bucket that holds the repository. Left out: the bucket's top."`
	Region    string `json:"region,omitempty" doc:"s3: region of the bucket."`
	Endpoint  string `json:"endpoint,omitempty" doc:"s3, azure, gcs: URL of a server that is not the provider's own (http or https)."`
	PathStyle bool   `json:"path_style,omitempty" doc:"s3: address the bucket in the path and not in the host name. Most S3 servers other than AWS need it."`
	AccessKey Secret `json:"access_key,omitzero" doc:"s3: access key id. Left out: the AWS SDK's usual sources (environment, profile, role)."`
	SecretKey Secret `json:"secret_key,omitzero" doc:"s3: secret access key."`
	// SessionToken belongs to temporary credentials.
	SessionToken    Secret `json:"session_token,omitzero" doc:"s3: session token of temporary credentials."`
	AccountName     string `json:"account_name,omitempty" doc:"azure: storage account. Left out: AZURE_STORAGE_ACCOUNT."`
	AccountKey      Secret `json:"account_key,omitzero" doc:"azure: key of the account. Left out: the Azure SDK's usual sources."`
	SASToken        Secret `json:"sas_token,omitzero" doc:"azure: shared access signature, in place of account_key."`
	CredentialsFile string `json:"credentials_file,omitempty" doc:"gcs: file with a service account's key. Left out: the application default credentials."`
	URL             string `json:"url,omitempty" doc:"Any location that gocloud.dev/blob opens: s3://, azblob://, gs://, file://, mem://. In place of backend."`
}
