package file

import (
	"io"
	"sync"
	"unsafe"
)

// A large upload goes past the system's page cache where the file system has direct writes: its
// bytes are not copied once more, what other programs have in the cache (a broker its log) stays
// there, and the sync at the end has next to nothing left to do. While one piece of it is on its
// way to the disk, the next is read.
const (
	// small is up to which size an upload is written at once, through the page cache.
	small = 256 << 10
	// pieceSize is the size of one write of a large upload.
	pieceSize = 2 << 20
	// alignment is what a direct write's place in memory, its place in the file and its length are
	// multiples of: the most that file systems and disks ask for.
	alignment = 4 << 10
)

// piece is an aligned buffer of pieceSize, and what became of it when it was written.
type piece struct {
	data []byte
	err  error
}

// spare holds pieces between uploads.
var spare = sync.Pool{New: func() any {
	p := make([]byte, pieceSize+alignment)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(p))) % alignment)
	return &piece{data: p[skip : skip+pieceSize]}
}}

// Upload implements driver.Uploader. An error, from r too, makes Close discard the write.
func (w *writer) Upload(r io.Reader) error {
	err := w.upload(r)
	if err != nil {
		w.failed = err
	}
	return err
}

func (w *writer) upload(r io.Reader) error {
	head := make([]byte, small)
	n, err := fill(r, head)
	if err == io.EOF {
		_, err = w.Write(head[:n])
		return err
	}
	if err != nil {
		return err
	}
	w.direct = setDirect(w.file, true) == nil
	empty, full, done := make(chan *piece, 2), make(chan *piece), make(chan struct{})
	go func() {
		defer close(done)
		for p := range full {
			_, p.err = w.Write(p.data)
			empty <- p
		}
	}()
	empty <- spare.Get().(*piece)
	p := spare.Get().(*piece)
	n = copy(p.data, head)
	for err == nil {
		var m int
		m, err = fill(r, p.data[n:])
		n += m
		if err == nil {
			full <- p
			p, n = <-empty, 0
			err = p.err
		}
	}
	close(full)
	<-done
	last := <-empty // the one written last
	if err == io.EOF {
		if err = last.err; err == nil {
			err = w.finish(p.data[:n])
		}
	}
	for _, p := range []*piece{p, last} {
		p.err = nil
		spare.Put(p)
	}
	return err
}

// finish writes what is less than a piece, which need not be a multiple of alignment.
func (w *writer) finish(rest []byte) error {
	if err := w.cached(); err != nil {
		return err
	}
	_, err := w.Write(rest)
	return err
}

// cached ends direct writes.
func (w *writer) cached() error {
	if !w.direct {
		return nil
	}
	w.direct = false
	return setDirect(w.file, false)
}

// fill reads until p is full or r ends, with io.EOF, or fails. Unlike io.ReadFull it passes on an
// io.ErrUnexpectedEOF of r as the failure that it is.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	if n == len(p) && err == io.EOF {
		err = nil // the next read says it again
	}
	return n, err
}
