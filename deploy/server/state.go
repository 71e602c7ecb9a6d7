package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/headers"
	sqliteplugin "go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/common/primitives/timestamp"
	sqliteschema "go.temporal.io/server/schema/sqlite"
)

// clusterName is the name of the one Temporal cluster that the server is. It is
// in the state file.
const clusterName = "active"

// searchAttributesText has a Name=Type a line: what a namespace that is made
// here has. The product's own list (internal/temporalservice) is tested to be
// the same.
//
//go:embed search-attributes.txt
var searchAttributesText string

// state is the folder with the server's state, locked for this process.
type state struct {
	dir  string
	file string // the SQLite file
	lock *os.File
}

// openState locks the folder and sees to it that the state file is there,
// complete, and has the namespace.
func openState(o options) (*state, error) {
	dir, err := filepath.Abs(o.state)
	if err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if errors.Is(err, errLocked) {
		return nil, fmt.Errorf("state folder %s is in use by another %s%s: stop that one, or give another folder with --state", dir, program, holder(lock))
	} else if err != nil {
		return nil, fmt.Errorf("lock state folder: %w", err)
	}
	if free, err := freeSpace(dir); err == nil && free < minSpace {
		_ = lock.Close()
		return nil, fmt.Errorf("state folder %s: %w (%d MiB are left, %d are needed to start)", dir, syscall.ENOSPC, free>>20, minSpace>>20)
	}
	s := &state{dir: dir, file: filepath.Join(dir, "temporal-"+headers.ServerVersion+".db"), lock: lock}
	if err := s.prepare(o); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// close lets another server have the folder. The kernel does it as well when
// the process dies.
func (s *state) close() { _ = s.lock.Close() }

// prepare makes the state file if it is not there, in a side file first, so
// that a crash in the middle leaves nothing that looks like state. The file is
// private to the user: it holds the inputs of workflows. In a file that is
// there it makes the namespace if that is new.
func (s *state) prepare(o options) error {
	attributes, err := searchAttributes()
	if err != nil {
		return err
	}
	ns, err := sqliteschema.NewNamespaceConfig(clusterName, o.namespace, false, attributes)
	if err != nil {
		return fmt.Errorf("namespace %q: %w", o.namespace, err)
	}
	ns.Detail.Config.Retention = timestamp.DurationPtr(o.retention)

	_, err = os.Stat(s.file)
	if err == nil {
		if err := sqliteschema.CreateNamespaces(sqlConfig(s.file, "wal"), ns); err != nil {
			return fmt.Errorf("state file %s: %w", s.file, err)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("state file: %w", err)
	}
	side := s.file + ".new"
	for _, leftover := range []string{side, side + "-journal"} {
		if err := os.Remove(leftover); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove what a crash left behind: %w", err)
		}
	}
	// SQLite makes the files beside it with the same mode.
	f, err := os.OpenFile(side, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make state file: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("make state file: %w", err)
	}
	if err := sqliteschema.SetupSchema(sqlConfig(side, "delete")); err != nil {
		if cause := sqliteError(nil); errors.As(err, &cause) {
			err = cause // without the statement, which tells a user nothing
		}
		return fmt.Errorf("make state file %s: %w", s.file, err)
	}
	if err := sqliteschema.CreateNamespaces(sqlConfig(side, "delete"), ns); err != nil {
		return fmt.Errorf("make state file %s: %w", s.file, err)
	}
	if err := os.Rename(side, s.file); err != nil {
		return fmt.Errorf("make state file: %w", err)
	}
	return syncDir(s.dir)
}

// otherVersions returns the names of the state files of other server versions.
func (s *state) otherVersions() []string {
	files, _ := filepath.Glob(filepath.Join(s.dir, "temporal-*.db")) // the pattern is right
	var names []string
	for _, f := range files {
		if f != s.file {
			names = append(names, filepath.Base(f))
		}
	}
	return names
}

// sqlConfig says how to open a state file.
func sqlConfig(file, journal string) *config.SQL {
	// The plugin puts the name into a URI as it is.
	name := strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(file)
	return &config.SQL{PluginName: sqliteplugin.PluginName, DatabaseName: name, ConnectAttributes: map[string]string{
		"mode": "rwc", "busy_timeout": "10000", "journal_mode": journal, "synchronous": "full",
	}}
}

// searchAttributes returns the search attributes of a new namespace.
func searchAttributes() (map[string]enums.IndexedValueType, error) {
	attributes := map[string]enums.IndexedValueType{}
	for _, line := range strings.Fields(searchAttributesText) {
		name, text, _ := strings.Cut(line, "=")
		t, err := enums.IndexedValueTypeFromString(text)
		if err != nil {
			return nil, fmt.Errorf("search attribute %s: %w", line, err)
		}
		attributes[name] = t
	}
	return attributes, nil
}

// holder says who holds the lock, as far as the file says.
func holder(lock *os.File) string {
	if lock == nil {
		return ""
	}
	defer lock.Close()
	text, _ := io.ReadAll(io.LimitReader(lock, 20))
	if pid := strings.TrimSpace(string(text)); pid != "" {
		return " (pid " + pid + ")"
	}
	return ""
}

// SQLite's result codes that a user can do something about.
// https://www.sqlite.org/rescode.html
const (
	sqliteReadonly = 8
	sqliteCorrupt  = 11
	sqliteFull     = 13
	sqliteCantOpen = 14
	sqliteNotADB   = 26
)

// sqliteError is an error of SQLite with its result code.
type sqliteError interface {
	error
	Code() int
}

// explain adds to an error what the user can do about it.
func explain(err error) error {
	code := 0
	if coded := sqliteError(nil); errors.As(err, &coded) {
		code = coded.Code() & 0xff // the primary result code
	}
	switch {
	case code == sqliteFull || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w; the disk is full: make room, or give a folder on another disk with --state", err)
	case code == sqliteReadonly || code == sqliteCantOpen || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w; the state folder must be writable for this user: change its owner or mode, or give another with --state", err)
	case code == sqliteCorrupt || code == sqliteNotADB:
		return fmt.Errorf("%w; the state file is damaged: put a copy back, or move it away to start empty (operations that were running are then forgotten, backups are not)", err)
	}
	return err
}

// Free space on the state's disk, in bytes.
const (
	minSpace = 32 << 20  // below this the server does not start
	lowSpace = 256 << 20 // below this a warning is due
)

// watchSpace warns when the disk of the state gets full, and says when it is
// over, until ctx ends.
func (s *state) watchSpace(ctx context.Context, stderr io.Writer) {
	low := false
	for {
		free, err := freeSpace(s.dir)
		switch {
		case err == nil && free < lowSpace && !low:
			low = true
			fmt.Fprintf(stderr, "%s: only %d MiB are left on the disk of %s: when it is full, operations stop until there is room\n", program, free>>20, s.dir)
		case err == nil && free >= lowSpace && low:
			low = false
			fmt.Fprintf(stderr, "%s: there is room again on the disk of %s\n", program, s.dir)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(10 * time.Second):
		}
	}
}
