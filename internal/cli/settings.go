package cli

import (
	"errors"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

// Categories of flags in the help.
const (
	inCluster   = "Kafka cluster"
	inStorage   = "Storage"
	inOptions   = "Options of the configuration file"
	inApproval  = "Approval"
	inTemporal  = "Temporal service"
	inOperation = "Operation"
)

// settings are flags that say the same as keys of the configuration file, and
// win over it. They are made from the configuration's own types.
type settings struct {
	flags []cli.Flag
	keys  map[string]config.Key // by flag name; Path is the whole key
}

var (
	backupSettings = newSettings(
		section{config.Cluster{}, "source.", "", inCluster, nil},
		section{config.Storage{}, "storage.", "storage-", inStorage, nil},
		section{config.Backup{}, "backup.", "", inOptions, nil},
		section{config.Approval{}, "approval.", "approval-", inApproval, nil},
	)
	restoreSettings = newSettings(
		section{config.Cluster{}, "target.", "", inCluster, []string{"topics."}},
		section{config.Storage{}, "storage.", "storage-", inStorage, nil},
		section{config.Restore{}, "restore.", "", inOptions, nil},
		section{config.Approval{}, "approval.", "approval-", inApproval, nil},
	)
)

// section is a part of the document whose keys become flags.
type section struct {
	value    any
	key      string   // what its keys begin with in the document
	flag     string   // what its flags begin with
	category string   // in the help
	skip     []string // keys that begin so get no flag
}

func newSettings(sections ...section) *settings {
	s := &settings{keys: map[string]config.Key{}}
	s.add("backup-id", config.Key{Path: "backup_id", Doc: "Name of the backup."}, inOperation)
	return s.addSections(sections)
}

// settingsOf are the settings of an operation that is not about one backup.
func settingsOf(sections ...section) *settings {
	s := &settings{keys: map[string]config.Key{}}
	return s.addSections(sections)
}

func (s *settings) addSections(sections []section) *settings {
	for _, sec := range sections {
	keys:
		for _, k := range config.Keys(sec.value) {
			for _, p := range sec.skip {
				if strings.HasPrefix(k.Path, p) {
					continue keys
				}
			}
			if k.Section || k.Nested {
				continue
			}
			name := sec.flag + strings.NewReplacer("_", "-", ".", "-").Replace(strings.TrimPrefix(k.Path, "security."))
			k.Path = sec.key + k.Path
			s.add(name, k, sec.category)
		}
	}
	return s
}

func (s *settings) add(name string, k config.Key, category string) {
	s.keys[name] = k
	text := k.Doc
	if len(k.OneOf) > 0 {
		text += " One of " + strings.Join(k.OneOf, ", ") + "."
	}
	if k.Secret {
		text += " Given as ${VARIABLE} or file:/path."
	}
	if k.Bool {
		s.flags = append(s.flags, &cli.BoolFlag{Name: name, Usage: text, Category: category, Value: k.Default == "true"})
		return
	}
	if k.List {
		s.flags = append(s.flags, &cli.StringSliceFlag{Name: name, Usage: text, Category: category, DefaultText: k.Default})
		return
	}
	s.flags = append(s.flags, &cli.StringFlag{Name: name, Usage: text, Category: category, DefaultText: k.Default})
}

// overrides returns what the flags say.
func (s *settings) overrides(c *cli.Context) ([]config.Override, error) {
	var set []config.Override
	for _, f := range s.flags {
		name := f.Names()[0]
		if !c.IsSet(name) {
			continue
		}
		k := s.keys[name]
		text := c.String(name)
		switch {
		case k.Bool:
			text = strconv.FormatBool(c.Bool(name))
		case k.List:
			text = joined(c, name)
		}
		if k.Secret && config.NewSecret(text).Literal() {
			return nil, usage("--%s: a secret on the command line can be read by every user of this machine; "+
				"give ${VARIABLE} (in single quotes) or file:/path", name)
		}
		set = append(set, config.Override{Key: k.Path, Text: text, From: "--" + name})
	}
	return set, nil
}

// joined is a list flag's text, with commas: what it was given each time.
func joined(c *cli.Context, name string) string { return strings.Join(c.StringSlice(name), ",") }

var configFlag = &cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "Configuration file (YAML); - is standard input.", Category: inOperation}

// load reads the configuration for an operation that a worker will carry out.
// implied is what the command itself says, beyond file and flags.
func (s *settings) load(c *cli.Context, use config.Use, implied ...config.Override) (*config.Document, error) {
	if c.Args().Present() {
		return nil, usage("unexpected argument %q", c.Args().First())
	}
	if !c.IsSet("config") && c.NumFlags() == 0 {
		return nil, usage("say what to do with --config FILE (or with flags, see --help)")
	}
	set, err := s.overrides(c)
	if err != nil {
		return nil, err
	}
	doc, err := config.Load(use, c.String("config"), append(set, implied...)...)
	if err != nil {
		return nil, err
	}
	return doc, absolute(doc)
}

// checkSecrets refuses secrets that are written out: they would be readable in
// the workflow's history.
func checkSecrets(doc *config.Document) error {
	problems := doc.LiteralSecrets()
	if len(problems) == 0 {
		return nil
	}
	return &config.Error{Problems: problems}
}

// absolute makes the paths of a document independent of the folder that the
// command runs in: a worker runs in another one.
func absolute(doc *config.Document) error {
	paths := []*string{&doc.Storage.Path, &doc.Storage.CredentialsFile}
	for _, s := range []*config.Security{&doc.Source.Security, &doc.Target.Security} {
		paths = append(paths, &s.SSLCALocation, &s.SSLCertificateLocation, &s.SSLKeyLocation, &s.OAuthCALocation)
	}
	var errs []error
	for _, p := range paths {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		*p, errs = abs, append(errs, err)
	}
	return errors.Join(errs...)
}
