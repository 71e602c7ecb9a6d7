package config

import (
	"fmt"
	"net"
	"net/url"
	"reflect"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"
)

var (
	backupID     = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$`)
	topicName    = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)
	topicPattern = regexp.MustCompile(`^[A-Za-z0-9._*?-]{1,249}$`)
)

// Check reports, as an [*Error], what is wrong with the values as they stand for a use.
// Load has done it already; it is for documents that were made or changed in code.
func (d *Document) Check(use Use) error {
	r := &report{origin: d.origin}
	d.check(r, use)
	return r.err()
}

// Check reports, as an [*Error], what is wrong with the cluster; keys are relative to it.
func (c Cluster) Check() error {
	r := &report{}
	c.check(r, "", true)
	return r.err()
}

// Check reports, as an [*Error], what is wrong with the storage; keys are relative to it.
func (s Storage) Check() error {
	r := &report{}
	s.check(r, "", true)
	return r.err()
}

// LiteralSecrets lists the secrets that are written out in the document, which
// therefore cannot go to a worker in another process.
func (d *Document) LiteralSecrets() []Problem {
	r := &report{origin: d.origin}
	var walk func(v reflect.Value, key string)
	walk = func(v reflect.Value, key string) {
		for _, f := range fieldsOf(v.Type()) {
			fv := v.Field(f.index)
			if s, ok := fv.Interface().(Secret); ok && s.Literal() {
				e := &LiteralSecretError{Key: child(key, f.name)}
				r.add(e.Key, "%s", strings.TrimPrefix(e.Error(), e.Key+" "))
			} else if isSection(f.typ) {
				walk(fv, child(key, f.name))
			}
		}
	}
	walk(reflect.ValueOf(d).Elem(), "")
	return r.problems
}

func (d *Document) check(r *report, use Use) {
	if d.Mode != "" && use != ForAnything && d.Mode != string(use) {
		r.add("mode", "the file is for a %s, and this is a %s; give the right file, or change or remove mode", d.Mode, use)
		return // the rest is judged as what the file is not
	}
	if d.BackupID != "" && use == ForRestore && !backupID.MatchString(d.BackupID) {
		r.add("backup_id", "%q is not possible here; write 1 to 128 letters, digits, dots, underscores and hyphens, not beginning with a dot", d.BackupID)
	} else if d.BackupID != "" {
		if err := wrongBackupID(d.BackupID); err != nil {
			r.add("backup_id", "%v", err)
		}
	}
	if d.BackupID == "" && use == ForRestore {
		r.add("backup_id", "it is missing; name the backup to restore (kafka-backup list shows them)")
	}
	d.Source.check(r, "source", use == ForBackup)
	d.Target.check(r, "target", use == ForRestore)
	if len(d.Target.Topics.Include)+len(d.Target.Topics.Exclude) > 0 {
		r.add("target.topics", "a target has no topic selection; write it under restore.topics")
	}
	d.Storage.check(r, "storage", use != ForAnything)
	d.Backup.check(r, "backup")
	d.Restore.check(r, "restore")
	d.Approval.check(r, "approval")
	d.Notifications.check(r, "notifications")
	d.Retention.check(r, "retention")
}

func (c Cluster) check(r *report, key string, needed bool) {
	if needed && len(c.BootstrapServers) == 0 {
		r.add(child(key, "bootstrap_servers"), "it is missing; write the addresses of some brokers, as in [kafka-1:9092, kafka-2:9092]")
	}
	for i, addr := range c.BootstrapServers {
		if msg := wrongAddress(addr); msg != "" {
			r.add(indexed(child(key, "bootstrap_servers"), i), "%q is not an address: %s", addr, msg)
		}
	}
	c.Topics.check(r, child(key, "topics"))
	c.Security.check(r, child(key, "security"))
}

func wrongAddress(addr string) string {
	if scheme, rest, ok := strings.Cut(addr, "://"); ok {
		return fmt.Sprintf("write %s and give %s as security.security_protocol", rest, strings.ToUpper(scheme))
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		if strings.Count(addr, ":") > 1 && !strings.HasPrefix(addr, "[") {
			return "an IPv6 address stands in brackets, as in [::1]:9092"
		}
		return "write host:port, as in kafka-1:9092"
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return "the port is a number from 1 to 65535"
	}
	if host == "" {
		return "the host is missing; write host:port, as in kafka-1:9092"
	}
	return ""
}

func (s Security) check(r *report, key string) {
	at := func(name string) string { return child(key, name) }
	sasl := s.SASLMechanism != "" || s.SASLUsername != "" || !s.SASLPassword.IsZero() || s.oauth()
	if !s.SASL() && sasl {
		r.add(at("security_protocol"), "SASL is configured and the protocol is %s; write SASL_SSL (or SASL_PLAINTEXT), or remove the sasl_ keys", orPlain(s.SecurityProtocol))
	}
	if !s.TLS() {
		for name, set := range map[string]bool{
			"ssl_ca_location": s.SSLCALocation != "", "ssl_certificate_location": s.SSLCertificateLocation != "", "ssl_key_location": s.SSLKeyLocation != "",
			"ssl_key_password": !s.SSLKeyPassword.IsZero(), "ssl_server_name": s.SSLServerName != "", "ssl_insecure_skip_verify": s.SSLInsecureSkipVerify,
		} {
			if set {
				r.add(at(name), "TLS is configured and the protocol is %s; write security_protocol: SSL or SASL_SSL, or remove the key", orPlain(s.SecurityProtocol))
			}
		}
	}
	if (s.SSLCertificateLocation == "") != (s.SSLKeyLocation == "") {
		name, other := "ssl_key_location", "ssl_certificate_location"
		if s.SSLCertificateLocation == "" {
			name, other = other, name
		}
		r.add(at(name), "it is missing; a client certificate needs both %s and %s", other, name)
	}
	if s.SSLInsecureSkipVerify && s.SSLCALocation != "" {
		r.add(at("ssl_insecure_skip_verify"), "it makes ssl_ca_location meaningless; remove one of the two")
	}
	if !s.SASL() {
		return
	}
	switch s.SASLMechanism {
	case "":
		r.add(at("sasl_mechanism"), "it is missing; write one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER")
	case "OAUTHBEARER":
		s.checkOAuth(r, at)
	default:
		if s.SASLUsername == "" {
			r.add(at("sasl_username"), "it is missing; %s needs sasl_username and sasl_password", s.SASLMechanism)
		}
		if s.SASLPassword.IsZero() {
			r.add(at("sasl_password"), "it is missing; write ${NAME} (an environment variable) or file:/path")
		}
		if s.oauth() {
			r.add(at("sasl_mechanism"), "sasl_oauthbearer_ keys are given and the mechanism is %s; write OAUTHBEARER or remove them", s.SASLMechanism)
		}
	}
}

func (s Security) oauth() bool {
	return !s.OAuthToken.IsZero() || s.OAuthTokenEndpointURL != "" || s.OAuthClientID != "" || !s.OAuthClientSecret.IsZero() || s.OAuthScope != "" || len(s.OAuthExtensions) > 0 || s.OAuthCALocation != ""
}

func (s Security) checkOAuth(r *report, at func(string) string) {
	if s.SASLUsername != "" || !s.SASLPassword.IsZero() {
		r.add(at("sasl_username"), "OAUTHBEARER takes no user name and password; remove sasl_username and sasl_password")
	}
	if !s.OAuthToken.IsZero() {
		if s.OAuthTokenEndpointURL != "" || s.OAuthClientID != "" || !s.OAuthClientSecret.IsZero() {
			r.add(at("sasl_oauthbearer_token"), "a fixed token and a token endpoint exclude each other; remove one of the two")
		}
		return
	}
	if s.OAuthTokenEndpointURL == "" {
		r.add(at("sasl_oauthbearer_token_endpoint_url"), "it is missing; OAUTHBEARER needs sasl_oauthbearer_token, or an endpoint with sasl_oauthbearer_client_id and sasl_oauthbearer_client_secret")
		return
	}
	u, err := url.Parse(s.OAuthTokenEndpointURL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		r.add(at("sasl_oauthbearer_token_endpoint_url"), "%q is not an address; write https://host/path", s.OAuthTokenEndpointURL)
	case u.Scheme == "http" && !loopback(u.Hostname()):
		r.add(at("sasl_oauthbearer_token_endpoint_url"), "the client secret would go unencrypted to %s; write https://", u.Host)
	case u.User != nil:
		r.add(at("sasl_oauthbearer_token_endpoint_url"), "credentials do not belong into the address; write sasl_oauthbearer_client_id and sasl_oauthbearer_client_secret")
	}
	if s.OAuthClientID == "" {
		r.add(at("sasl_oauthbearer_client_id"), "it is missing; the token endpoint needs it")
	}
	if s.OAuthClientSecret.IsZero() {
		r.add(at("sasl_oauthbearer_client_secret"), "it is missing; write ${NAME} (an environment variable) or file:/path")
	}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func orPlain(protocol string) string {
	if protocol == "" {
		return "PLAINTEXT"
	}
	return protocol
}

func (f TopicFilter) check(r *report, key string) {
	for name, list := range map[string][]string{"include": f.Include, "exclude": f.Exclude} {
		for i, p := range list {
			if !topicPattern.MatchString(p) {
				r.add(indexed(child(key, name), i), "%q matches no topic: names have letters, digits, dots, underscores and hyphens, and the wildcards are * and ? (no regular expressions)", p)
			}
		}
	}
}

// backendKeys are the keys that belong to each backend; the first is required.
var backendKeys = map[string][]string{
	"filesystem": {"path"},
	"s3":         {"bucket", "prefix", "region", "endpoint", "path_style", "access_key", "secret_key", "session_token"},
	"azure":      {"container", "prefix", "endpoint", "account_name", "account_key", "sas_token"},
	"gcs":        {"bucket", "prefix", "endpoint", "credentials_file"},
	"memory":     {"prefix"},
	"":           {"url", "prefix"},
}

func (s Storage) check(r *report, key string, needed bool) {
	if reflect.ValueOf(s).IsZero() {
		if needed {
			r.add(child(key, "backend"), "it is missing; write one of filesystem, s3, azure, gcs, memory, or a url")
		}
		return
	}
	v := reflect.ValueOf(s)
	allowed := backendKeys[s.Backend]
	for _, f := range fieldsOf(v.Type()) {
		set := !v.Field(f.index).IsZero()
		switch {
		case f.name == "backend":
		case f.name == allowed[0] && !set && s.Backend == "":
			r.add(child(key, "backend"), "it is missing; write one of filesystem, s3, azure, gcs, memory, or a url")
		case f.name == allowed[0] && !set && s.Backend != "memory":
			r.add(child(key, f.name), "it is missing; backend %s needs it", s.Backend)
		case set && !contains(allowed, f.name) && s.Backend != "":
			r.add(child(key, f.name), "backend %s has no such key; it has %s", s.Backend, strings.Join(allowed, ", "))
		case set && !contains(allowed, f.name) && s.URL != "":
			r.add(child(key, f.name), "it does not go together with url; put it into the url, or write backend in place of url")
		}
	}
	if s.AccessKey.IsZero() != s.SecretKey.IsZero() {
		r.add(child(key, "access_key"), "access_key and secret_key belong together; write both or none")
	}
	if !s.AccountKey.IsZero() && !s.SASToken.IsZero() {
		r.add(child(key, "sas_token"), "account_key and sas_token exclude each other; remove one of the two")
	}
	if s.Endpoint != "" {
		if u, err := url.Parse(s.Endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			r.add(child(key, "endpoint"), "%q is not an address; write http://host:port or https://host", s.Endpoint)
		}
	}
	if strings.HasPrefix(s.Prefix, "/") || strings.Contains(s.Prefix, "//") || strings.Contains("/"+s.Prefix+"/", "/../") {
		r.add(child(key, "prefix"), "%q is not a folder in a bucket; write it as in backups/production", s.Prefix)
	}
}

func (b Backup) check(r *report, key string) {
	if b.BlockMaxBytes > b.SegmentMaxBytes && b.SegmentMaxBytes > 0 {
		r.add(child(key, "block_max_bytes"), "%v is more than segment_max_bytes (%v); a block is a part of a segment", b.BlockMaxBytes, b.SegmentMaxBytes)
	}
	if b.FetchPartitionMax > b.FetchMaxBytes && b.FetchMaxBytes > 0 {
		r.add(child(key, "fetch_max_partition_bytes"), "%v is more than fetch_max_bytes (%v)", b.FetchPartitionMax, b.FetchMaxBytes)
	}
	if b.CheckpointInterval < Duration(time.Second) && b.Continuous {
		r.add(child(key, "checkpoint_interval"), "%v is too short; write 1s or more", b.CheckpointInterval)
	}
	if !b.IncludeConsumerGroups && len(b.ConsumerGroups.Include) > 0 {
		r.add(child(key, "include_consumer_groups"), "groups are selected and none is captured; write true or remove consumer_groups")
	}
}

func (s Restore) check(r *report, key string) {
	at := func(name string) string { return child(key, name) }
	s.Topics.check(r, at("topics"))
	if s.TimeWindowStart != nil && s.TimeWindowEnd != nil && *s.TimeWindowStart > *s.TimeWindowEnd {
		r.add(at("time_window_end"), "%v is before time_window_start (%v)", *s.TimeWindowEnd, *s.TimeWindowStart)
	}
	if s.ResetConsumerOffsets && s.ConsumerGroupStrategy != "header-based" {
		r.add(at("consumer_group_strategy"), "reset_consumer_offsets needs header-based; with skip, groups are left alone")
	}
	if len(s.ConsumerGroups) > 0 && !s.ResetConsumerOffsets {
		r.add(at("consumer_groups"), "groups are named and nothing is reset; write reset_consumer_offsets: true or remove the groups")
	}
	for i, g := range s.ConsumerGroups {
		if g == "" {
			r.add(indexed(at("consumer_groups"), i), "a group name is not empty")
		}
	}
	targets := map[string]string{}
	for _, from := range sorted(s.TopicMapping) {
		to := s.TopicMapping[from]
		if !topicName.MatchString(from) {
			r.add(child(at("topic_mapping"), from), "%q is not a topic name", from)
		}
		if !topicName.MatchString(to) || to == "." || to == ".." {
			r.add(child(at("topic_mapping"), from), "%q is not a topic name; write 1 to 249 letters, digits, dots, underscores and hyphens", to)
		}
		if other, dup := targets[to]; dup {
			r.add(child(at("topic_mapping"), from), "%s goes to %s too; each topic needs a target of its own", other, to)
		}
		targets[to] = from
	}
	for _, name := range []string{"partitions", "exclude_partitions"} {
		lists := s.Partitions
		if name == "exclude_partitions" {
			lists = s.ExcludePartitions
		}
		for _, topic := range sorted(lists) {
			for i, p := range lists[topic] {
				if p < 0 {
					r.add(indexed(child(at(name), topic), i), "%d is not a partition; they count from 0", p)
				}
			}
		}
	}
	if s.ReplicationFactor < -1 {
		r.add(at("replication_factor"), "%d is not possible; write -1, 0 or a count", s.ReplicationFactor)
	}
	for name, patterns := range map[string][]string{"topic_config": sorted(s.TopicConfig), "partition_count": sorted(s.PartitionCount)} {
		for _, p := range patterns {
			if !topicPattern.MatchString(p) {
				r.add(child(at(name), p), "%q is not a topic name or a pattern with * and ?", p)
			}
		}
	}
}

func (a Approval) check(r *report, key string) {
	if !a.Required && (len(a.Approvers) > 0 || a.FourEyes) {
		r.add(child(key, "required"), "it says who may approve and nothing needs approval; write required: true or remove approvers and four_eyes")
	}
	for i, name := range a.Approvers {
		if strings.TrimSpace(name) == "" {
			r.add(indexed(child(key, "approvers"), i), "a name is not empty")
		}
	}
	if a.FourEyes && a.OnTimeout == "proceed" {
		r.add(child(key, "on_timeout"), "proceed carries out what nobody approved, and four_eyes forbids that; write fail or remind, or remove four_eyes")
	}
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

func indexed(key string, i int) string { return fmt.Sprintf("%s[%d]", key, i) }

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
