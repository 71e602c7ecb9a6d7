package e2e

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/test/kafkabed"
	"github.com/kafka-backup/kafka-backup/test/oracle"
	"github.com/kafka-backup/kafka-backup/test/rig"
)

// TestSecuredCluster backs up and restores over every way into a secured
// cluster, with the fewest rights, and with secrets that only the environment
// holds.
func TestSecuredCluster(t *testing.T) {
	u, c := newUser(t, 5*time.Minute), large(t)
	u.env = []string{"ALICE_PASSWORD=" + kafkabed.Users["alice"], "BOB_PASSWORD=" + kafkabed.Users["bob"], "WRONG_PASSWORD=open-sesame"}
	w := u.worker()
	u.create(c, "secured", 2, 3)
	u.produce(c, "secured", 2, 0, 50, time.Now())
	u.commit(c, "secured-group", "secured", 20, 50)
	want, before := content(u, c, "secured"), committed(u, c, "secured-group")
	for _, who := range []string{"User:alice", kafkabed.ClientPrincipal} {
		// What the product needs, and nothing else.
		u.allow(c, who, kadm.NewACLs().Topics("secured").Operations(kadm.OpRead, kadm.OpDescribe, kadm.OpDescribeConfigs))
		u.allow(c, who, kadm.NewACLs().Groups("secured-group").Operations(kadm.OpRead, kadm.OpDescribe))
		u.allow(c, who, kadm.NewACLs().Topics("safe-").ResourcePatternType(kadm.ACLPatternPrefixed).
			Operations(kadm.OpCreate, kadm.OpDescribe, kadm.OpRead, kadm.OpWrite, kadm.OpDescribeConfigs, kadm.OpAlterConfigs))
		u.allow(c, who, kadm.NewACLs().Clusters().Operations(kadm.OpIdempotentWrite))
	}
	password := func(listener kafkabed.Listener, mechanism string) rig.Document {
		d := rig.Document{"security_protocol": string(listener), "sasl_mechanism": mechanism, "sasl_username": "alice", "sasl_password": "${ALICE_PASSWORD}"}
		if listener == kafkabed.SASLSSL {
			d["ssl_ca_location"] = c.PKI.CA
		}
		return d
	}
	at := func(listener kafkabed.Listener, security rig.Document) rig.Document {
		return rig.Document{"bootstrap_servers": c.Addresses(listener), "security": security}
	}
	mtls := rig.Document{"security_protocol": "SSL", "ssl_ca_location": c.PKI.CA, "ssl_certificate_location": c.PKI.ClientCert, "ssl_key_location": c.PKI.ClientKey}
	token := rig.Document{"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER", "ssl_ca_location": c.PKI.CA,
		"sasl_oauthbearer_token_endpoint_url": c.TokenEndpoint(), "sasl_oauthbearer_client_id": "alice", "sasl_oauthbearer_client_secret": "${ALICE_PASSWORD}"}

	for name, cluster := range map[string]rig.Document{
		"sasl-ssl-scram-256":       at(kafkabed.SASLSSL, password(kafkabed.SASLSSL, "SCRAM-SHA-256")),
		"sasl-ssl-scram-512":       at(kafkabed.SASLSSL, password(kafkabed.SASLSSL, "SCRAM-SHA-512")),
		"sasl-ssl-plain":           at(kafkabed.SASLSSL, password(kafkabed.SASLSSL, "PLAIN")),
		"sasl-plaintext-scram-256": at(kafkabed.SASLPlaintext, password(kafkabed.SASLPlaintext, "SCRAM-SHA-256")),
		"oauthbearer":              at(kafkabed.SASLSSL, token),
		"mtls":                     at(kafkabed.MTLS, mtls),
	} {
		t.Run(name, func(t *testing.T) {
			u := *u
			u.t = t
			// One of the two clusters by the file, the other by flags.
			byFile := slices.Contains([]string{"mtls", "sasl-ssl-scram-256", "sasl-ssl-plain"}, name)
			source, backup := rig.Document{"topics": rig.Document{"include": []string{"secured"}}}, []string{"backup", "--output", "json"}
			mapping := map[string]string{"secured": "safe-" + name}
			d := threePhases(rig.Document{"backup_id": name, "restore": rig.Document{"topic_mapping": mapping, "consumer_groups": []string{"secured-group"}}})
			restore := []string{"three-phase-restore", "--output", "json"}
			if byFile {
				maps.Copy(source, cluster)
				restore = append(restore, asFlags(cluster)...)
			} else {
				backup = append(backup, asFlags(cluster)...)
				d["target"] = cluster
			}
			u.succeed(u.with(rig.Document{"backup_id": name, "source": source, "backup": rig.Document{
				"consumer_groups": rig.Document{"include": []string{"secured-group"}}}}, backup...), new(activities.BackupReport))
			u.succeed(u.with(d, restore...), new(activities.RestoreReport))
			same(&u, want, content(&u, c, "safe-"+name), oracle.Plan{Mapping: mapping}, before, committed(&u, c, "secured-group"))
		})
	}

	bob := at(kafkabed.SASLSSL, rig.Document{"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "ssl_ca_location": c.PKI.CA,
		"sasl_username": "bob", "sasl_password": "${BOB_PASSWORD}"})
	wrong := at(kafkabed.SASLSSL, rig.Document{"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "ssl_ca_location": c.PKI.CA,
		"sasl_username": "bob", "sasl_password": "${WRONG_PASSWORD}"})
	unset := at(kafkabed.SASLSSL, rig.Document{"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "ssl_ca_location": c.PKI.CA,
		"sasl_username": "bob", "sasl_password": "${NOBODY_SET_THIS}"})
	stranger := at(kafkabed.SASLSSL, rig.Document{"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "ssl_ca_location": c.PKI.OtherCA,
		"sasl_username": "alice", "sasl_password": "${ALICE_PASSWORD}"})
	unencrypted := at(kafkabed.SASLSSL, nil)
	for name, test := range map[string]struct {
		cluster rig.Document
		code    int
		words   []string
	}{
		"no rights":      {bob, 1, []string{"secured"}},
		"wrong password": {wrong, 1, []string{"refuses the credentials", "sasl_password"}},
		"unset secret":   {unset, 2, []string{"NOBODY_SET_THIS"}},
		"wrong CA":       {stranger, 2, []string{"ssl_ca_location"}},
		"no TLS":         {unencrypted, 2, []string{"security_protocol"}},
	} {
		t.Run(name, func(t *testing.T) {
			u := *u
			u.t = t
			unchanged(&u, c, func() {
				source := rig.Document{"topics": rig.Document{"include": []string{"secured"}}}
				for k, v := range test.cluster {
					source[k] = v
				}
				backup := u.with(rig.Document{"backup_id": "refused", "source": source}, "backup")
				refused(t, backup, test.code, test.words...)
				restore := u.with(threePhases(rig.Document{"backup_id": "mtls", "target": test.cluster, "restore": rig.Document{
					"topic_mapping": rig.Document{"secured": "safe-refused"}}}), "three-phase-restore")
				words := test.words
				if name == "no rights" {
					words = []string{"safe-refused", "User:bob lacks DESCRIBE, WRITE, DESCRIBE_CONFIGS, ALTER_CONFIGS, READ"}
				}
				refused(t, restore, test.code, words...)
			})
		})
	}

	// With some rights, but not all that are needed, nothing is begun either.
	rights := func(name string, grant func(), d rig.Document, command, sees string, words ...string) {
		grant()
		t.Run(name, func(t *testing.T) {
			u := *u
			u.t = t
			// A broker hears of rights some time after they were granted.
			u.await("the rights", func() bool {
				o := u.with(d, command)
				return strings.Contains(o.Out+o.Err, sees)
			})
			unchanged(&u, c, func() { refused(t, u.with(d, command), 1, words...) })
		})
	}
	source := maps.Clone(bob)
	source["topics"] = rig.Document{"include": []string{"secured"}}
	rights("to describe", func() {
		u.allow(c, "User:bob", kadm.NewACLs().Topics("secured").Operations(kadm.OpDescribe))
	}, rig.Document{"backup_id": "refused", "source": source}, "backup", "READ, DESCRIBE_CONFIGS", "topic secured", "nothing was copied")
	bobs := threePhases(rig.Document{"backup_id": "mtls", "target": bob, "restore": rig.Document{
		"topic_mapping": rig.Document{"secured": "bobs-secured"}, "consumer_groups": []string{"secured-group"}}})
	rights("to create topics", func() {
		u.allow(c, "User:bob", kadm.NewACLs().Topics("bobs-").ResourcePatternType(kadm.ACLPatternPrefixed).Operations(kadm.OpCreate, kadm.OpDescribe))
	}, bobs, "three-phase-restore", "WRITE, DESCRIBE_CONFIGS, ALTER_CONFIGS, READ", "topic bobs-secured", "nothing was changed")
	rights("to fill topics", func() {
		u.allow(c, "User:bob", kadm.NewACLs().Topics("bobs-").ResourcePatternType(kadm.ACLPatternPrefixed).
			Operations(kadm.OpWrite, kadm.OpRead, kadm.OpDescribeConfigs, kadm.OpAlterConfigs))
	}, bobs, "three-phase-restore", "User:bob lacks DESCRIBE, READ", "group secured-group", "nothing was changed")

	// No secret is in the repository, in the workflows' histories, in
	// configuration files or in logs.
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{u.dir, u.rig.Dir} {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			text, err := os.ReadFile(path)
			for _, secret := range []string{kafkabed.Users["alice"], kafkabed.Users["bob"], "open-sesame"} {
				if bytes.Contains(text, []byte(secret)) {
					t.Errorf("%s holds the secret %s", path, secret)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// asFlags says the same of a cluster as its section in the file.
func asFlags(cluster rig.Document) (flags []string) {
	for key, value := range cluster {
		if key == "security" {
			flags = append(flags, asFlags(value.(rig.Document))...)
			continue
		}
		flags = append(flags, "--"+strings.ReplaceAll(key, "_", "-"), value.(string))
	}
	return flags
}

// allow gives a principal rights.
func (u *user) allow(c *cluster, who string, b *kadm.ACLBuilder) {
	u.t.Helper()
	r, err := c.adm.CreateACLs(u.ctx, b.Allow(who).AllowHosts())
	if err != nil {
		u.t.Fatal(err)
	}
	for _, one := range r {
		if one.Err != nil {
			u.t.Fatal(one.Err)
		}
	}
}
