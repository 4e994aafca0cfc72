package wreck

import (
	"bytes"
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
)

// LogEnd says how a log ends.
type LogEnd struct {
	// Closed is set if the log has the end mark of its writer. Otherwise either a crash has
	// ended it, or its last bytes are lost; it is unknown which.
	Closed bool

	First, Last uint64 // numbers of the first and the last change; 0 if there is none
}

// ReadLog reads a log. It skips a damaged place if the place certainly was durable once:
// because of later chunks, because of File.Durable, or because nothing was written after this
// log. Otherwise the log ends there, as it does for Pebble when it opens a store after a
// crash. A later part of a torn write could contradict what was written after that crash.
//
// A file that begins as another log has no changes, unless that is an earlier log and changes
// of this one follow.
func (w *Wreck) ReadLog(ctx context.Context, f File, v Visitor) (end LogEnd, err error) {
	chunks, closeFile, err := openChunks(w.fs, w.path(f.Name))
	if err != nil {
		return end, v.Lost(Place{File: f.Name, Err: err})
	}
	defer closeFile()
	r := logReader{visitor: v, file: f.Name, durable: f.Durable, chunks: chunks}
	r.newest = f.number == w.Logs[len(w.Logs)-1].number
	err = r.run(ctx)
	return r.end, err
}

// logReader puts batches together from chunks.
type logReader struct {
	visitor Visitor
	file    string
	durable int64 // File.Durable
	newest  bool  // whether no log was begun after it
	chunks  *chunkReader
	end     LogEnd

	batch  []byte // the parts of the current batch
	inside bool   // whether its first part was read

	// held has the batches since a damaged place that is not known to have been durable: at
	// most a log, and so a memtable.
	held      [][]byte
	holes     []Place
	holeFirst int64 // the offset of the first of them
}

func (r *logReader) run(ctx context.Context) error {
	for {
		if err := ended(ctx); err != nil {
			return err
		}
		c, ok := r.chunks.next()
		if bad := r.chunks.bad; bad >= 0 {
			to := bad
			if ok {
				to = c.offset
			}
			if len(r.holes) == 0 {
				r.holeFirst = bad
			}
			err := damaged("a part of the log has no checksum that matches")
			switch {
			case r.chunks.failed != nil:
				err = r.chunks.failed
			case r.chunks.other:
				err, to = damaged("the file begins as another log"), bad // 0 bytes: to the end
			}
			r.holes = append(r.holes, Place{File: r.file, Offset: bad, Bytes: to - bad, Seq: r.end.Last, Err: err})
			r.inside = false
		}
		if n := len(r.holes); n > 0 && (ok && c.synced > uint64(r.holeFirst) || r.holes[n-1].Offset < r.durable) {
			if err := r.release(); err != nil {
				return err
			}
		}
		if !ok {
			break
		}
		if err := r.add(c); err != nil {
			return err
		}
	}
	// A crash does not make a disk return read errors: those are damage anywhere in the log.
	if len(r.holes) > 0 && (r.chunks.closed || r.newest && len(r.held) > 0 || r.chunks.failed != nil) {
		if err := r.release(); err != nil {
			return err
		}
	}
	r.end.Closed = r.chunks.closed
	return nil
}

// release passes on the batches that were held back.
func (r *logReader) release() error {
	for _, hole := range r.holes {
		if err := r.visitor.Lost(hole); err != nil {
			return err
		}
	}
	r.holes = r.holes[:0]
	for _, batch := range r.held {
		if err := r.give(batch); err != nil {
			return err
		}
	}
	clear(r.held)
	r.held = r.held[:0]
	return nil
}

func (r *logReader) add(c chunk) error {
	switch {
	case c.part == chunkWhole || c.part == chunkFirst:
		r.batch, r.inside = append(r.batch[:0], c.payload...), true
	case !r.inside:
		return nil // the first part of its batch is lost
	default:
		r.batch = append(r.batch, c.payload...)
	}
	if c.part == chunkFirst || c.part == chunkMiddle {
		return nil
	}
	r.inside = false
	if len(r.holes) == 0 {
		return r.give(r.batch)
	}
	r.held = append(r.held, bytes.Clone(r.batch))
	return nil
}

// give passes on the changes of a batch.
func (r *logReader) give(batch []byte) error {
	if r.chunks.other {
		return nil
	}
	header, ok := batchrepr.ReadHeader(batch)
	if !ok {
		return r.visitor.Lost(Place{File: r.file, Seq: r.end.Last, Err: damaged("a batch has no header")})
	}
	seq := uint64(header.SeqNum)
	reader := batchrepr.Read(batch)
	var refused error // the visitor's error
	err := guard(func() error {
		for {
			kind, key, value, ok, err := reader.Next()
			if err != nil || !ok {
				return err
			}
			if refused = r.change(kind, key, value, seq); refused != nil {
				return refused
			}
			if kind != pebble.InternalKeyKindLogData {
				r.end.First = min(r.end.First-1, seq-1) + 1 // the zero value counts as the highest number
				r.end.Last = max(r.end.Last, seq)
				seq++
			}
		}
	})
	if refused != nil || err == nil {
		return refused
	}
	return r.visitor.Lost(Place{File: r.file, Seq: r.end.Last, Err: errors.Join(damaged("a batch is malformed"), err)})
}

func (r *logReader) change(kind pebble.InternalKeyKind, key, value []byte, seq uint64) error {
	switch kind {
	case pebble.InternalKeyKindSet, pebble.InternalKeyKindSetWithDelete:
		return r.visitor.Change(Change{Key: key, Value: value, Seq: seq})
	case pebble.InternalKeyKindDelete, pebble.InternalKeyKindSingleDelete, pebble.InternalKeyKindDeleteSized:
		return r.visitor.Change(Change{Key: key, Seq: seq, Deleted: true})
	case pebble.InternalKeyKindRangeDelete, pebble.InternalKeyKindExcise:
		return r.visitor.DeleteRange(Deletion{Start: key, End: value, Seq: seq})
	default:
		return nil
	}
}

// IsOther reports whether a file with the name of a log begins as another log. An error is
// the disk's.
func IsOther(files FS, name string) (bool, error) {
	chunks, closeFile, err := openChunks(files, name)
	if err != nil {
		return false, err
	}
	defer closeFile()
	chunks.next()
	return chunks.other, chunks.failed
}

// IsShort reports whether the records of a log end within the first n bytes of its file: no
// chunk of it follows them. The file may be longer if it was another log's before. An
// error is the disk's.
func IsShort(files FS, name string, n int64) (bool, error) {
	chunks, closeFile, err := openChunks(files, name)
	if err != nil {
		return false, err
	}
	defer closeFile()
	for {
		c, ok := chunks.next()
		if !ok {
			return true, chunks.failed
		}
		if c.offset+int64(len(c.payload)) >= n {
			return false, nil
		}
	}
}

func openChunks(files FS, name string) (_ *chunkReader, closeFile func() error, err error) {
	file, err := files.Open(name)
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	number, _ := NumberOf(files.PathBase(name))
	return newChunkReader(file, info.Size(), number), file.Close, nil
}
