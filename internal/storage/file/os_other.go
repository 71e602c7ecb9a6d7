//go:build !linux

package file

import (
	"errors"
	"io/fs"
	"os"
)

// umask is assumed: there is no way to read it that is safe beside other goroutines.
const umask fs.FileMode = 0o022

// renameNoReplace is create-if-absent for file systems without hard links: only Linux has it.
func renameNoReplace(_, to string) error {
	return &fs.PathError{Op: "create", Path: to, Err: errNoLink}
}

// beginFlush is for systems that can be asked to begin writing; here the sync at the end does it all.
func beginFlush(*os.File, int64, int64) {}

// setDirect is for systems on which writes can go past the page cache.
func setDirect(*os.File, bool) error { return errors.ErrUnsupported }
