package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid"
)

// A Source is where records come from. [New] uses the streams of the database;
// another implementation stands behind [Config].Source, and has to pass the tests
// of package sourcetest. Its methods may be called from any number of goroutines.
//
// Positions that are given to Peek and Open are concrete: they have come from the
// source, or name a record. Resolve gets any.
//
// An error that cannot go away by itself is a [PermanentError]. Every other one is taken
// to be temporary, and what has failed is tried again.
type Source interface {
	// Stream returns the shards of a stream. Workers remember the answer: they ask again
	// when Changed says so, when a shard has ended whose page did not say which shards
	// follow, and, if Changed is nil, at the pace of [Config].ShardSyncInterval. Errors:
	// braid.ErrStreamNotFound.
	Stream(ctx context.Context, name string) (StreamInfo, error)

	// Changed returns a channel that is closed at the next change of what streams
	// and shards there are; nil if the source cannot tell, and has to be asked.
	Changed() <-chan struct{}

	// Resolve makes a position in a shard concrete: the checkpoint that it returns
	// names that place whenever it is used later, whatever records have come by
	// then. A place that has no number is a braid.AtToken. It is at ShardEnd if no
	// record can ever come there.
	Resolve(ctx context.Context, stream string, shard braid.ShardID, from braid.Position) (Checkpoint, error)

	// Peek returns what follows a position, for [App.Status]: up to one record, and how far
	// the shard goes on after it. It does not wait, and no reader notices: one that is open
	// keeps its place and its subscription. A page without a record that is not AtTip means that
	// none was found yet: the shard has not caught up, and is looked at again. Errors: as Next of a [ShardReader], and
	// braid.ErrTrimmed (a *braid.TrimmedError) where that has a Gap.
	Peek(ctx context.Context, stream string, shard braid.ShardID, from braid.Position) (Page, error)

	// Open returns a reader of a shard that begins at a position. It may leave it to
	// Next to find out that there is no such shard. A worker has at most one reader for
	// each lease, and closes it when it stops reading. So a subscription, of which a service
	// has one for each shard, belongs to the reader; another worker that takes the lease
	// of one that hangs takes the subscription over.
	Open(ctx context.Context, stream string, shard braid.ShardID, from braid.Position) (ShardReader, error)
}

// A ShardReader reads a shard from where it was opened, page after page. Its methods are
// called by one goroutine at a time.
type ShardReader interface {
	// Next returns the next page: where the page before it ended, or where the reader was
	// opened. It returns as soon as there is something to say:
	//
	//   - records, up to limits; but always one if there is one
	//   - the end of the shard
	//   - that the tip is reached, by an empty page AtTip: once. The Next after that one
	//     waits until something follows.
	//
	// An empty page that is not AtTip says nothing: Next is called again at once, and may
	// get other limits. So a source that polls may return what each call has brought, and
	// keeps its pace itself.
	//
	// After an error the reader is closed; the worker opens another one at the end of the
	// last page. Errors: braid.ErrStreamNotFound and braid.ErrShardNotFound if there is
	// nothing to be read any more; braid.ErrBeyondTip if the position is of a newer copy
	// of the stream, which stops the shard until App.Seek moves it; a [PermanentError],
	// which stops it until App.Resume; the cause of ctx. Others are temporary.
	Next(ctx context.Context, limits Limits) (Page, error)

	// Close ends the reader, and returns when nothing of it runs any more. It may be
	// called after an error of Next.
	Close()
}

// Limits bound the records of a page.
type Limits struct {
	Records int // at most; at least 1

	// Bytes is about how many bytes of partition keys and data the page may have; at
	// least 1. A source whose records come in larger portions keeps the rest for the next
	// page. While a reader waits at the tip it is small: one that finds more there may
	// return an empty page that is not AtTip, and is asked again for as much as may be
	// read then.
	Bytes int
}

// StreamInfo is what a [Source] knows of a stream.
type StreamInfo struct {
	// Incarnation tells streams apart that have the same name at different times.
	// It is never 0.
	Incarnation uint64

	Shards []ShardInfo
}

// ShardInfo is what a [Source] knows of a shard.
type ShardInfo struct {
	ID           braid.ShardID
	Parents      []braid.ShardID // also those that have expired
	HashKeyRange braid.HashKeyRange

	// Start is the position before the first record that the shard ever had. If
	// that was trimmed, the first page from there has a Gap.
	Start braid.Position
}

// Page is a stretch of a shard.
type Page struct {
	// Gap says that records between the last page, or where the reader was opened, and
	// this page were removed before they were read. If the source can only suspect so,
	// Gap is Suspected. nil means that nothing is missing.
	Gap *braid.TrimmedError `json:",omitzero"`

	Records []braid.Record
	Next    braid.Position // where to read on

	// How far the end of the page is behind the tip of the shard. A source that
	// does not know one of them says 0.
	BehindRecords, BehindBytes int64
	BehindLatest               time.Duration

	// AtTip means that there was nothing more to be read when the page was, and
	// EndOfShard that there never will be.
	AtTip, EndOfShard bool

	// Children are the shards that follow at the EndOfShard; empty if the source does
	// not know: then it is asked for the shards of the stream.
	Children []ShardInfo `json:",omitempty"`
}

// PermanentError is an error of a [Source] or a [LeaseStore] that cannot go away by
// trying again: access is denied, or a name is not one. One of a shard stops the shard,
// and one of a stream the stream, until [App.Resume] or a new worker; one of the store
// ends Run of the worker.
type PermanentError struct {
	Err error
}

// Error gives the text of Err.
func (e *PermanentError) Error() string { return fmt.Sprintf("permanent: %v", e.Err) }

// Unwrap returns Err.
func (e *PermanentError) Unwrap() error { return e.Err }

func isPermanent(err error) bool {
	var permanent *PermanentError
	return errors.As(err, &permanent)
}

// fetched is a page with its records in one of two forms: as they were stored, if they are
// to be taken apart, or else as the processor gets them.
type fetched struct {
	Page
	whole []Record
	bytes int // of the partition keys and data
}

func (f *fetched) count() int { return len(f.Records) + len(f.whole) }

// feed reads the shard of a hold: it opens a reader when there is none, and after an error
// another one where the last page ended. It belongs to the hold's goroutine.
type feed struct {
	source Source
	key    LeaseKey
	at     braid.Position
	apart  bool // records are to be taken apart
	reader ShardReader
	kept   *fetched // that is to come again
	reuse  bool     // records of pages that are done are nobody's
	spare  []Record // memory of such a page, cleared
}

// next returns the next page. The database puts records where processors get them; those
// of another source are copied.
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

// unread has the last page come again.
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

// done takes back a page whose records the processor has had.
func (f *feed) done(page *fetched) {
	if f.reuse {
		clear(page.whole)
		f.spare = page.whole[:0]
	}
}

// rest gives up memory that is kept for the next page.
func (f *feed) rest() { f.spare = nil }

func (f *feed) close() {
	f.rest()
	if f.reader != nil {
		f.reader.Close()
		f.reader = nil
	}
}
