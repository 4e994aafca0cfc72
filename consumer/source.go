package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid"
)

// A Source is where records come from. [New] uses the streams of the database;
// [Config].Source can name another implementation, which must pass the tests of package
// sourcetest. Its methods may be called from any number of goroutines.
//
// Positions passed to Peek and Open are concrete: they come from the source, or name a
// record. Resolve must accept any position.
//
// An error that retrying cannot fix must be a [PermanentError]. Every other error counts
// as temporary, and the call is retried.
type Source interface {
	// Stream returns the shards of a stream. Workers remember the answer. They ask again when
	// Changed announces a change, when a shard has ended whose last page did not list its
	// children, and, if Changed is nil, at [Config].ShardSyncInterval. Errors:
	// braid.ErrStreamNotFound.
	Stream(ctx context.Context, name string) (StreamInfo, error)

	// Changed returns a channel that is closed at the next change of streams or shards, or
	// nil if the source cannot announce changes.
	Changed() <-chan struct{}

	// Resolve makes a position in a shard concrete: the checkpoint that it returns always
	// means the same place, even after more records have come. A place without a number is a
	// braid.AtToken. The checkpoint has ShardEnd set if no record can ever come at that
	// position.
	Resolve(ctx context.Context, stream string, shard braid.ShardID, from braid.Position) (Checkpoint, error)

	// Peek returns what follows a position, for [App.Status]: up to one record, and how much of the
	// shard follows it. It does not wait, and does not disturb an open reader, which keeps its
	// place and its subscription. A page without a record that is not AtTip means that none was
	// found so far: the shard has not caught up, and Peek is called again. Errors: as Next of a
	// [ShardReader], and braid.ErrTrimmed (a *braid.TrimmedError) where Next would return a Gap.
	Peek(ctx context.Context, stream string, shard braid.ShardID, from braid.Position) (Page, error)

	// Open returns a reader of a shard that begins at a position. If the shard does not
	// exist, Open may leave the error to Next. A worker has at most one reader for each
	// lease, and closes it when it stops reading. A subscription, of which a service allows
	// one per shard, therefore belongs to the reader. If a worker hangs, the worker that
	// takes its lease also takes over the subscription.
	Open(ctx context.Context, stream string, shard braid.ShardID, from braid.Position) (ShardReader, error)
}

// A ShardReader reads a shard page by page, from where it was opened. Its methods are
// called by one goroutine at a time.
type ShardReader interface {
	// Next returns the next page: from the end of the previous one, or from where the reader
	// was opened. It returns as soon as it has one of these:
	//
	//   - records, up to limits, but at least one even if that exceeds them
	//   - the end of the shard
	//   - an empty page AtTip when the tip is reached. It returns that once; the next Next
	//     waits until something follows.
	//
	// An empty page that is not AtTip means nothing: Next is called again at once, perhaps
	// with other limits. So a source that polls may return the result of each call, and must
	// pace itself.
	//
	// After an error the reader is closed, and the worker opens another one at the end of the
	// last page. Errors: braid.ErrStreamNotFound and braid.ErrShardNotFound if the stream or
	// shard no longer exists; braid.ErrBeyondTip if the position comes from a newer copy of
	// the stream, which stops the shard until App.Seek moves it; a [PermanentError], which
	// stops the shard until App.Resume; the cause of ctx. All others are temporary.
	Next(ctx context.Context, limits Limits) (Page, error)

	// Close ends the reader. It returns when all of the reader's goroutines have ended. It may be
	// called after an error of Next.
	Close()
}

// Limits bound the records of a page.
type Limits struct {
	Records int // maximum; at least 1

	// Bytes is about how many bytes of partition keys and data the page may have; at least 1.
	// A source whose records come in larger portions keeps the rest for the next page. While
	// a reader waits at the tip, Bytes is small. A reader that finds more than that may
	// return an empty page that is not AtTip, and is then called with larger limits.
	Bytes int
}

// StreamInfo is a [Source]'s description of a stream.
type StreamInfo struct {
	// Incarnation distinguishes streams that have the same name at different times. It is
	// never 0.
	Incarnation uint64

	Shards []ShardInfo
}

// ShardInfo is a [Source]'s description of a shard.
type ShardInfo struct {
	ID           braid.ShardID
	Parents      []braid.ShardID // including parents that have expired
	HashKeyRange braid.HashKeyRange

	// Start is the position before the first record that the shard ever had. If that record
	// was trimmed, the first page from there has a Gap.
	Start braid.Position
}

// Page is a part of a shard, read at once.
type Page struct {
	// Gap means that records between the previous page, or where the reader was opened, and
	// this page were removed before they were read. If the source only suspects that, Gap is
	// Suspected. nil means that nothing is missing.
	Gap *braid.TrimmedError `json:",omitzero"`

	Records []braid.Record
	Next    braid.Position // where to continue reading

	// BehindRecords, BehindBytes and BehindLatest are how far the end of the page is behind
	// the tip of the shard. A source returns 0 for what it does not know.
	BehindRecords, BehindBytes int64
	BehindLatest               time.Duration

	// AtTip means that the page was followed by nothing when it was read. EndOfShard means
	// that it never will be; such a page is also AtTip.
	AtTip, EndOfShard bool

	// Children are the child shards at EndOfShard. If the source leaves them empty, it is
	// asked for the shards of the stream.
	Children []ShardInfo `json:",omitempty"`
}

// PermanentError is an error of a [Source] or a [LeaseStore] that retrying cannot fix:
// access is denied, or a name is invalid. For a shard it stops the shard, and for a
// stream the stream, until [App.Resume] or a new worker. For the store it ends Run of the
// worker.
type PermanentError struct {
	Err error
}

// Error returns "permanent: " and the text of Err.
func (e *PermanentError) Error() string { return fmt.Sprintf("permanent: %v", e.Err) }

// Unwrap returns Err.
func (e *PermanentError) Unwrap() error { return e.Err }

func isPermanent(err error) bool {
	var permanent *PermanentError
	return errors.As(err, &permanent)
}

// fetched is a page with its records in one of two forms: as stored, if they are to be
// unpacked, or as the processor gets them.
type fetched struct {
	Page
	whole []Record
	bytes int // of the partition keys and data
}

func (f *fetched) count() int { return len(f.Records) + len(f.whole) }

// feed reads the shard of a hold. It opens a reader at first and after each error, at the
// end of the last page. It belongs to the hold's goroutine.
type feed struct {
	source Source
	key    LeaseKey
	at     braid.Position
	apart  bool // records are to be unpacked
	reader ShardReader
	kept   *fetched // a page to return again
	reuse  bool     // memory of delivered pages may be used again
	spare  []Record // such memory, cleared
}

// next returns the next page. The database writes records straight into the processor's
// form; records of other sources are copied.
func (f *feed) next(ctx context.Context, limits Limits) (page fetched, err error) {
	if f.kept != nil {
		page, f.kept = *f.kept, nil
		return page, nil
	}
	if f.reader == nil {
		if f.reader, err = f.source.Open(ctx, f.key.Stream, f.key.Shard, f.at); err != nil {
			f.reader = nil
			return fetched{}, err
		}
	}
	if db, is := f.reader.(*dbReader); is {
		room := f.room
		if f.apart {
			room = nil
		}
		page, err = db.next(ctx, limits, room)
	} else if page.Page, err = f.reader.Next(ctx, limits); err == nil {
		page.bytes = bytesOf(page.Records)
		if !f.apart {
			page.whole = f.room(len(page.Records))
			for i := range page.Records {
				page.whole[i].Record = page.Records[i]
			}
			page.Records = nil
		}
	}
	if err != nil {
		f.close()
		return fetched{}, err
	}
	f.at = page.Next
	return page, nil
}

// unread makes the next call of next return the page again.
func (f *feed) unread(page fetched) { f.kept = &page }

// room returns n zero records.
func (f *feed) room(n int) []Record {
	spare := f.spare
	if n > cap(spare) {
		return make([]Record, n)
	}
	f.spare = nil
	return spare[:n]
}

// done takes back the memory of a page that the processor is done with.
func (f *feed) done(page *fetched) {
	if f.reuse {
		clear(page.whole)
		f.spare = page.whole[:0]
	}
}

// rest frees the memory that is kept for the next page.
func (f *feed) rest() { f.spare = nil }

func (f *feed) close() {
	f.rest()
	if f.reader != nil {
		f.reader.Close()
		f.reader = nil
	}
}
