package braid

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
)

// CreateStream creates a stream. Errors: [ErrStreamExists];
// [ErrInvalidArgument] for the name (1 to 128 characters of a-z, A-Z, 0-9, '_',
// '.' and '-') and the options; [ErrDiskFull]; [ErrFailed]; [ErrClosed];
// [ErrOutcomeUnknown]. Kinesis: CreateStream.
func (db *DB) CreateStream(ctx context.Context, name string, options *StreamOptions) (*Stream, error) {
	stream, err := db.createStream(ctx, name, options)
	return stream, wrapError("create stream", name, err)
}

func (db *DB) createStream(ctx context.Context, name string, options *StreamOptions) (*Stream, error) {
	if err := ValidateStreamName(name); err != nil {
		return nil, err
	}
	opts, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	var stream *Stream
	err = db.control(ctx, func(a *appender, batch *kv.Batch) (func(), error) {
		if a.names[name] {
			return nil, ErrStreamExists
		}
		stream = a.createStream(name, opts, batch)
		return func() { db.addStream(stream) }, nil
	})
	if err != nil {
		return nil, err
	}
	return stream, nil
}

// OpenStream returns the stream of that name. If there is none, it creates one with the
// options. An existing stream keeps its settings, including the number of shards after a
// reshard, and the Logger records at Info level where they differ from the options. Set
// [StreamOptions].MustMatch to get a [StreamMismatchError] instead. To change settings, use
// the methods of [Stream], such as [Stream.UpdateShardCount].
//
// Errors: as [DB.CreateStream], with [ErrStreamExists] for MustMatch only.
func (db *DB) OpenStream(ctx context.Context, name string, options *StreamOptions) (*Stream, error) {
	if _, err := options.withDefaults(); err != nil {
		return nil, wrapError("open stream", name, err)
	}
	for {
		s, err := db.stream(name)
		switch {
		case err == nil:
			if err := s.match(options); err != nil {
				return nil, wrapError("open stream", name, err)
			}
			return s, nil
		case !errors.Is(err, ErrStreamNotFound):
			return nil, wrapError("open stream", name, err)
		}
		s, err = db.createStream(ctx, name, options)
		if !errors.Is(err, ErrStreamExists) {
			return s, wrapError("open stream", name, err)
		}
		// Another caller has just created it: look again, as it may be deleted by now.
	}
}

// Stream returns the stream of that name. Errors: [ErrStreamNotFound],
// [ErrClosed].
func (db *DB) Stream(name string) (*Stream, error) {
	s, err := db.stream(name)
	if err != nil {
		return nil, wrapError("get stream", name, err)
	}
	return s, nil
}

func (db *DB) stream(name string) (*Stream, error) {
	if db.closed.Load() {
		return nil, ErrClosed
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if s := db.streams[name]; s != nil {
		return s, nil
	}
	return nil, ErrStreamNotFound
}

// Streams returns all streams, by name. Kinesis: ListStreams.
func (db *DB) Streams() []*Stream {
	db.mu.Lock()
	defer db.mu.Unlock()
	all := make([]*Stream, 0, len(db.streams))
	for _, s := range db.streams {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *Stream) int { return strings.Compare(a.name, b.name) })
	return all
}

// DeleteStream deletes a stream with all its records. Once it has returned, they cannot be
// read; their space is reclaimed in the background. A stream of the same name may be created
// at once, and shares nothing with the old one. DeleteStream works even while the disk is
// full.
//
// Errors: [ErrStreamNotFound]; [ErrStreamInUse] while the stream has queues of package queue;
// [ErrFailed], [ErrClosed], [ErrOutcomeUnknown]. Kinesis: DeleteStream.
func (db *DB) DeleteStream(ctx context.Context, name string) error {
	s, err := db.stream(name)
	if err != nil {
		return wrapError("delete stream", name, err)
	}
	err = db.control(ctx, func(a *appender, batch *kv.Batch) (func(), error) {
		if s.w.deleted {
			return nil, ErrStreamNotFound
		}
		if n := s.queues.Load(); n > 0 {
			return nil, fmt.Errorf("%w: it has %d, which must be deleted first", ErrStreamInUse, n)
		}
		a.deleteStream(s, batch)
		return func() { db.removeStream(s) }, nil
	})
	return wrapError("delete stream", name, err)
}

// match compares an existing stream with the options that it was opened with. It logs
// differences or, with MustMatch, returns them as an error.
func (s *Stream) match(options *StreamOptions) error {
	if options == nil {
		return nil
	}
	different := s.differences(options)
	switch {
	case len(different) == 0:
	case options.MustMatch:
		return &StreamMismatchError{Stream: s.name, Differences: different}
	default:
		s.db.opts.Logger.Info("opened a stream whose settings differ from the options", "stream", s.name, "differences", different)
	}
	return nil
}

// StreamMismatchError is the [ErrStreamExists] of [StreamOptions].MustMatch.
type StreamMismatchError struct {
	Stream string // the name

	// Differences names each setting that differs, with the stream's value first, such as
	// "Shards is 2, not 8".
	Differences []string
}

// Error names the stream and the differences.
func (e *StreamMismatchError) Error() string {
	return fmt.Sprintf("stream %q exists with other settings: %s", e.Stream, strings.Join(e.Differences, "; "))
}

// Is reports whether target is [ErrStreamExists].
func (e *StreamMismatchError) Is(target error) bool { return target == ErrStreamExists }

// differences lists the given options that differ from the settings of the stream. The
// options are valid.
func (s *Stream) differences(given *StreamOptions) (different []string) {
	set := s.settings.Load()
	compare := func(field string, given, is any) {
		if given != is {
			different = append(different, fmt.Sprintf("%s is %v, not %v", field, is, given))
		}
	}
	if given.Shards != 0 && set.capacity.Mode != OnDemand {
		compare("Shards", given.Shards, len(s.topology.Load().open))
	}
	if given.MaxRecordBytes != 0 {
		compare("MaxRecordBytes", given.MaxRecordBytes, set.maxData)
	}
	if given.Retention != 0 {
		compare("Retention", hours(max(0, given.Retention)), hours(set.retention))
	}
	if given.RetentionBytes != 0 {
		compare("RetentionBytes", given.RetentionBytes, set.retentionBytes)
	}
	if given.Capacity != (Capacity{}) {
		capacity, _ := given.Capacity.withDefaults() // they are valid
		compare("Capacity", fmt.Sprintf("%+v", capacity), fmt.Sprintf("%+v", set.capacity))
	}
	for _, key := range slices.Sorted(maps.Keys(given.Tags)) {
		is := "missing"
		if value, has := set.tags[key]; has {
			is = fmt.Sprintf("%q", value)
		}
		compare(fmt.Sprintf("Tags[%q]", key), fmt.Sprintf("%q", given.Tags[key]), is)
	}
	return different
}

// createStream adds the rows of a new stream, and returns it.
func (a *appender) createStream(name string, opts StreamOptions, batch *kv.Batch) *Stream {
	created := a.nextCounter()
	s := &Stream{
		db:             a.db,
		number:         a.nextStream,
		name:           name,
		createdCounter: created,
		w:              streamWriter{settings: newSettings(opts)},
	}
	s.settings.Store(s.w.settings)
	s.w.trims.Value = s
	a.nextStream++
	a.names[name] = true
	a.boundCounters(batch) // its row also has the number of the next stream
	shards := make([]*Shard, opts.Shards)
	for i, keys := range evenRanges(opts.Shards) {
		row := layout.ShardRow{Start: keys.Start.n, End: keys.End.n, CreatedSeconds: created / uint64(time.Second), Created: created}
		batch.Set(layout.ShardKey(s.number, uint32(i)), row.Encode(s.number, uint32(i)))
		shards[i] = newShard(s, uint32(i), row)
		shards[i].setTip(layout.Horizon{})
	}
	s.w.topology = newTopology(shards, uint32(opts.Shards), layout.ExpiredShard{})
	s.topology.Store(s.w.topology)
	s.save(batch)
	return s
}

// deleteStream removes the stream's rows, in the batch, and adds its records to the cuts
// of their epochs.
func (a *appender) deleteStream(s *Stream, batch *kv.Batch) {
	s.w.deleted = true
	delete(a.names, s.name)
	a.schedule(s)
	a.boundCounters(batch)
	batch.Delete(layout.StreamKey(s.number))
	batch.DeleteRange(layout.StreamShardsSpan(s.number))
	batch.DeleteRange(layout.StreamExtentsSpan(s.number))
	batch.DeleteRange(layout.StreamDataKeysSpan(s.number))
	for _, share := range s.w.ledger.Shares() {
		a.counts.looks.Add(1)
		a.dropExtents(share.Epoch, share.Extents, share.Bytes)
		a.addCut(share.Epoch, s.number, share.Dead+share.Bytes, batch)
	}
}

func (db *DB) addStream(s *Stream) {
	db.appender.counts.shards.Add(int64(len(s.topology.Load().shards)))
	db.mu.Lock()
	db.streams[s.name] = s
	db.mu.Unlock()
	db.noteChange(s.name)
}

func (db *DB) removeStream(s *Stream) {
	s.deleted.Store(true)
	db.mu.Lock()
	if db.streams[s.name] == s {
		delete(db.streams, s.name)
	}
	db.mu.Unlock()
	shards := s.topology.Load().shards
	for _, sh := range shards {
		sh.log.End()
	}
	db.appender.counts.shards.Add(-int64(len(shards)))
	s.latest.End()
	db.reclaiming.Ring()
	db.noteChange(s.name)
}

// ValidateStreamName returns nil if a stream may have that name: 1 to 128
// characters of a-z, A-Z, 0-9, '_', '.' and '-', as in Kinesis. Otherwise the error
// is an [InvalidArgumentError]. The names of applications in package consumer have
// the same rule.
func ValidateStreamName(name string) error {
	valid := len(name) >= 1 && len(name) <= maxStreamNameChars
	for i := 0; valid && i < len(name); i++ {
		c := name[i]
		valid = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-'
	}
	if !valid {
		return &InvalidArgumentError{"Name", fmt.Sprintf("%.140q", name), "must be 1 to 128 characters of a-z, A-Z, 0-9, '_', '.' and '-'"}
	}
	return nil
}
