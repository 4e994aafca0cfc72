package braid

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/braidstream/braid/internal/epoch"
	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/tail"
)

// epochShare is the part of a memtable that an epoch fills. The rest has room for the
// largest group, so that an epoch is flushed as one table.
const epochShareNum, epochShareDen = 3, 4

// initStore writes the rows of a new database.
func initStore(batch *kv.Batch) error {
	batch.Set(layout.FormatKey(), layout.FormatRow{
		Version:      layout.FormatVersion,
		OldestReader: layout.OldestReader,
	}.Encode())
	batch.Set(layout.ClockKey(), layout.ClockRow{NextStream: 1}.Encode())
	return nil
}

// verifyStore reads all rows that an open needs, before the open may change anything. So
// damaged or missing rows are found while every file is still as it was. [DB.load] takes over
// what it has read: nothing is written in between.
func (db *DB) verifyStore(r kv.Reader) error {
	value, err := r.Get(layout.FormatKey())
	if errors.Is(err, kv.ErrNotFound) {
		return fmt.Errorf("%w: the row of the format", kv.ErrDataLoss)
	}
	if err != nil {
		return err
	}
	format, err := layout.DecodeFormatRow(value)
	switch {
	case err != nil:
		return corrupt(err)
	case format.Version < layout.OldestReadable:
		return fmt.Errorf("%w: it is in format %d, and the oldest that can be read is %d", kv.ErrFormatTooOld, format.Version, layout.OldestReadable)
	case format.OldestReader > layout.FormatVersion:
		return fmt.Errorf("%w: it is in format %d, which a version that knows format %d or later can read", kv.ErrFormatTooNew, format.Version, format.OldestReader)
	}
	l := db.newLoader()
	if err := l.run(r); err != nil {
		return err
	}
	db.loaded = l
	return nil
}

// loader reads the state of a database from its rows. Rows come in the order of
// their columns: streams, their shards, epochs, extents.
type loader struct {
	clock   layout.ClockRow
	streams []loadedStream // in the order of their numbers
	epochs  *epoch.Index
	last    uint64       // the highest counter in any row
	now     uint64       // the wall clock
	current []*Shard     // those with records in the open epoch
	unknown []unknownEnd // shards whose end is unknown
	reads   int          // how many blocks of records were read, for tests of an open's cost
	queues  int64        // how many there are
}

// loadedStream is a stream and its rows.
type loadedStream struct {
	*Stream
	nextShard uint32
	expired   layout.ExpiredShard
	shards    []*Shard
}

func (db *DB) newLoader() *loader {
	return &loader{
		epochs: epoch.NewIndex(int(db.opts.MemtableBytes) / epochShareDen * epochShareNum),
		now:    uint64(max(0, db.clock().UnixNano())),
	}
}

// load builds the state of the database from the rows that verifyStore has read. It reads
// those of a new database itself.
func (db *DB) load() error {
	l := db.loaded
	if db.loaded = nil; l == nil {
		l = db.newLoader()
		if err := l.run(db.store); err != nil {
			return err
		}
	}
	for _, lost := range l.unknown {
		db.opts.Logger.Error("the last records of a shard are damaged; their number is unknown",
			"shard", lost.shard.String(), "fromOrdinal", lost.end.Ordinal-1)
	}
	a := &appender{
		db:         db,
		mode:       db.opts.Durability,
		epochs:     l.epochs,
		tails:      tail.NewCache(int(max(0, db.opts.TailBytes))),
		names:      make(map[string]bool, len(l.streams)),
		last:       l.last,
		nextStream: l.clock.NextStream,
		loose:      make(map[uint32]struct{}),
		cuts:       make(epoch.Cuts),
		current:    l.current,
		reopen:     true,
		wasClosed:  l.clock.Closed,
	}
	db.appender = a
	db.closedWell = l.clock.Closed
	db.snapshots.store = db.store
	db.visible.Store(l.last)
	db.aging = newRetentionClock(db.clock(), l.last)
	a.counts.epochs.Store(int64(l.epochs.Len()))
	a.counts.queues.Store(l.queues)
	a.counts.loaded = l.reads
	for _, s := range l.streams {
		s.db = db
		s.w.trims.Value = s.Stream
		s.settings.Store(s.w.settings)
		s.topology.Store(s.w.topology)
		s.latest.Raise(l.last)
		db.streams[s.name] = s.Stream
		a.names[s.name] = true
		a.counts.shards.Add(int64(len(s.shards)))
		a.restoreTrims(s.Stream)
	}
	for _, id := range a.epochs.IDs() {
		a.loose[id] = struct{}{} // a crash may have left something there
	}
	if db.store.LossesUnmarked() && !db.opts.ReadOnly {
		return a.markLosses(l.now)
	}
	return nil
}

func (l *loader) run(r kv.Reader) error {
	steps := []func(kv.Reader) error{l.loadClock, l.loadStreams, l.loadShards, l.loadQueues, l.loadEpochs, l.loadExtents, l.loadDataKeys, l.loadTips}
	for _, step := range steps {
		if err := step(r); err != nil {
			return err
		}
	}
	l.epochs.Reopen()
	return nil
}

// stream returns the stream of that number, nil if there is none.
func (l *loader) stream(number uint32) *loadedStream {
	i, found := slices.BinarySearchFunc(l.streams, number, func(s loadedStream, number uint32) int { return cmp.Compare(s.number, number) })
	if !found {
		return nil
	}
	return &l.streams[i]
}

func (l *loader) loadClock(r kv.Reader) error {
	value, err := r.Get(layout.ClockKey())
	if errors.Is(err, kv.ErrNotFound) {
		return fmt.Errorf("%w: the row of the clock, which bounds the counters", kv.ErrDataLoss)
	}
	if err != nil {
		return err
	}
	if l.clock, err = layout.DecodeClockRow(value); err != nil {
		return corrupt(err)
	}
	l.last = l.clock.Counter
	return nil
}

func (l *loader) loadStreams(r kv.Reader) error {
	lower, upper := layout.StreamSpan()
	return scan(r, lower, upper, func(key, value []byte) error {
		number, err := layout.DecodeStreamKey(key)
		if err != nil {
			return corrupt(err)
		}
		row, err := layout.DecodeStreamRow(number, value)
		if err != nil {
			return corrupt(err)
		}
		if number >= l.clock.NextStream {
			return fmt.Errorf("%w: stream number %d exists, although the next one to be created has number %d", ErrCorrupt, number, l.clock.NextStream)
		}
		l.streams = append(l.streams, loadedStream{
			Stream: &Stream{
				number:         number,
				name:           row.Name,
				createdCounter: row.Created,
				w:              streamWriter{settings: restoreSettings(&row), nextDataKey: row.NextDataKey},
			},
			nextShard: row.NextShard,
			expired:   row.Expired,
		})
		// A record must not be put below the floor, even if the clock has gone back.
		l.last = max(l.last, row.Created, row.Floor)
		return nil
	})
}

func (l *loader) loadShards(r kv.Reader) error {
	lower, upper := layout.ShardSpan()
	err := scan(r, lower, upper, func(key, value []byte) error {
		number, index, err := layout.DecodeShardKey(key)
		if err != nil {
			return corrupt(err)
		}
		row, err := layout.DecodeShardRow(number, index, value)
		if err != nil {
			return corrupt(err)
		}
		s := l.stream(number)
		if s == nil || index >= s.nextShard {
			return fmt.Errorf("%w: a row of shard %d of stream %d, which has no such shard", ErrCorrupt, index, number)
		}
		s.shards = append(s.shards, newShard(s.Stream, index, row))
		l.last = max(l.last, row.Created, row.Closed)
		return nil
	})
	if err != nil {
		return err
	}
	for _, s := range l.streams {
		s.w.topology = newTopology(s.shards, s.nextShard, s.expired)
		if err := s.w.topology.check(); err != nil {
			return fmt.Errorf("%w: stream %s: %w", ErrCorrupt, s.name, err)
		}
	}
	return nil
}

func (l *loader) loadEpochs(r kv.Reader) error {
	lower, upper := layout.EpochSpan()
	return scan(r, lower, upper, func(key, value []byte) error {
		id, err := layout.DecodeEpochKey(key)
		if err != nil {
			return corrupt(err)
		}
		row, err := layout.DecodeEpochRow(id, value)
		if err != nil {
			return corrupt(err)
		}
		l.epochs.Restore(id, row.FirstCounter)
		l.last = max(l.last, row.FirstCounter-1)
		return nil
	})
}

func (l *loader) loadExtents(r kv.Reader) error {
	lower, upper := layout.ExtentSpan()
	return scan(r, lower, upper, func(key, value []byte) error {
		number, index, id, err := layout.DecodeExtentKey(key)
		if err != nil {
			return corrupt(err)
		}
		row, err := layout.DecodeExtentRow(number, index, id, value)
		if err != nil {
			return corrupt(err)
		}
		var sh *Shard
		if s := l.stream(number); s != nil {
			sh = s.w.topology.shard(index)
		}
		if sh == nil || !l.epochs.Has(id) {
			return fmt.Errorf("%w: a row of an extent of epoch %d, shard %d, stream %d, one of which does not exist", ErrCorrupt, id, index, number)
		}
		sh.w.extents = append(sh.w.extents, epoch.Extent{Epoch: id, ExtentRow: row})
		l.epochs.AddExtent(id)
		return nil
	})
}

func (l *loader) loadDataKeys(r kv.Reader) error {
	lower, upper := layout.DataKeySpan()
	return scan(r, lower, upper, func(key, value []byte) error {
		number, dataKey, err := layout.DecodeDataKeyKey(key)
		if err != nil {
			return corrupt(err)
		}
		row, err := layout.DecodeDataKeyRow(number, dataKey, value)
		if err != nil {
			return corrupt(err)
		}
		s := l.stream(number)
		if s == nil || dataKey >= s.w.nextDataKey {
			return fmt.Errorf("%w: a row of data key %d of stream %d, which has no such data key", ErrCorrupt, dataKey, number)
		}
		s.keys.addLocked(dataKey, row) // nobody else knows the stream
		l.last = max(l.last, row.Created)
		return nil
	})
}

// loadTips finds the end of each shard. The row of the last extent has it, if it is exact;
// otherwise the end is after the last record, or at the horizon if there is no record. A last
// record that cannot be read does not prevent the open: the row has a lower bound of the end,
// and the records above it are reported as lost.
func (l *loader) loadTips(r kv.Reader) error {
	for _, s := range l.streams {
		for _, sh := range s.shards {
			end := sh.horizon
			if n := len(sh.w.extents); n > 0 {
				last := sh.w.extents[n-1]
				var lost bool
				var err error
				if end, lost, err = l.endOf(r, sh, last); err != nil {
					return err
				}
				if end.Ordinal <= last.FirstOrdinal || end.Counter < sh.horizon.Counter {
					return fmt.Errorf("%w: %s ends before its records of epoch %d begin", ErrDataLoss, sh, last.Epoch)
				}
				sh.w.savedEnd = last.End
				if last.Epoch == l.epochs.Open() {
					sh.w.epoch = last.Epoch
					l.current = append(l.current, sh)
					records := int(end.Ordinal - last.FirstOrdinal)
					l.epochs.Grow(int(end.Offset-last.FirstOffset) + records*(layout.BlockKeyBytes+layout.MaxRecordOverhead+blockMemtableBytes))
				}
				if lost {
					l.last = max(l.last, end.Counter-min(end.Counter, 1))
					l.unknown = append(l.unknown, unknownEnd{sh, end})
					continue
				}
			}
			sh.setTip(end)
			l.last = max(l.last, end.Counter-min(end.Counter, 1))
		}
	}
	if len(l.unknown) == 0 {
		return nil
	}
	// The lost records may have had any number that was given out until now. All of those are
	// below the new end, and none is in a later epoch, so no new record can get one of them.
	l.last = max(l.last, l.now)
	for _, lost := range l.unknown {
		lost.end.Counter = l.last + 1
		lost.shard.setTip(lost.end)
	}
	return nil
}

// unknownEnd is a shard whose last records can be neither read nor counted, and the end of
// the records before them.
type unknownEnd struct {
	shard *Shard
	end   layout.Horizon
}

// endOf returns the end of a shard whose last extent is given. It reads no record if the
// extent's row has the exact end, as it does in an epoch that has ended and in a database that
// was closed: reading records would be the largest cost of an open. If the end is lost, it
// returns a lower bound, and counts one of the lost records.
func (l *loader) endOf(r kv.Reader, sh *Shard, last epoch.Extent) (end layout.Horizon, lost bool, err error) {
	if last.End.Counter != 0 && (l.clock.Closed || last.Epoch != l.epochs.Open()) {
		return last.End, false, nil
	}
	l.reads++
	key := layout.BlockKey{Epoch: last.Epoch, Stream: sh.stream.number, Shard: sh.index, Counter: maxCounter + 1}
	end, err = lastEnd(r, key)
	if isDamage(err) && last.Epoch == l.epochs.Open() {
		l.epochs.Retire() // see noteDamage
	}
	switch {
	case err == nil && end.Ordinal < last.End.Ordinal:
		return end, false, fmt.Errorf("%w: the last record of %s has ordinal %d, although %d records were stored", ErrDataLoss, sh, end.Ordinal-1, last.End.Ordinal)
	case err == nil, errors.Is(err, ErrDataLoss): // whole tables are missing, not only a record
		return end, false, err
	case !isCorrupt(err): // an error of the disk, which may be temporary
		return end, false, err
	}
	end, err = lastReadable(r, key, last, sh.horizon)
	if isCorrupt(err) {
		end.Ordinal++
		return end, true, nil
	}
	return end, false, err
}

// lastReadable reads the blocks of an extent up to the first that cannot be reached. It
// returns the end of the last one before that, and the error; key is above all of them. It
// begins at the last border that is known: the beginning of the extent, the end in its row, or
// the horizon.
//
// A block that is reached but does not decode has only lost its content: the ordinal of the
// next block shows how many records it had. If no block follows, that block is the one that
// cannot be read, and only the counter of the border is above it.
func lastReadable(r kv.Reader, key layout.BlockKey, s epoch.Extent, horizon layout.Horizon) (end layout.Horizon, err error) {
	end = layout.Horizon{Counter: s.FirstCounter, Ordinal: s.FirstOrdinal, Offset: s.FirstOffset}
	for _, known := range []layout.Horizon{s.End, horizon} {
		if known.Counter > end.Counter {
			end = known
		}
	}
	lower := key
	lower.Counter = end.Counter
	var unreadable error // of the last block
	err = scan(r, lower.Bytes(), key.Bytes(), func(key, value []byte) error {
		place, err := layout.DecodeBlockKey(key)
		if err != nil {
			return corrupt(err)
		}
		block, err := layout.DecodeBlock(key, value)
		if err != nil {
			end.Counter, unreadable = place.Counter+1, corrupt(err)
			return nil
		}
		end, unreadable = block.End(), nil
		return nil
	})
	return end, cmp.Or(err, unreadable)
}
