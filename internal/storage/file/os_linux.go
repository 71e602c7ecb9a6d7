package file

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// umask of this process, read without changing it (umask(2) can only be read by setting it).
var umask = func() fs.FileMode {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0o022
	}
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "Umask:"); ok {
			if n, err := strconv.ParseUint(strings.TrimSpace(text), 8, 32); err == nil {
				return fs.FileMode(n) & fs.ModePerm
			}
		}
	}
	return 0o022
}()

// renameNoReplace is create-if-absent for file systems without hard links.
func renameNoReplace(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EEXIST):
		return &fs.PathError{Op: "create", Path: to, Err: errHas}
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return &fs.PathError{Op: "create", Path: to, Err: errNoLink}
	}
	return &fs.PathError{Op: "create", Path: to, Err: err}
}

// beginFlush asks the system to begin writing a range of a file to the disk, and does not wait for
// it. It is a hint: what fails here is told by the sync at the end.
func beginFlush(f *os.File, from, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), from, n, unix.SYNC_FILE_RANGE_WRITE)
}

// setDirect says whether writes to a file go past the page cache. An error means that this file
// system does not have it.
func setDirect(f *os.File, on bool) error {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	if flags &^= unix.O_DIRECT; on {
		flags |= unix.O_DIRECT
	}
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETFL, flags)
	return err
}
