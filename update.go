package braid

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
)

// save stores the stream's row, with the appender's state.
func (s *Stream) save(batch *kv.Batch) {
	row := s.row(s.w.settings, s.w.topology, s.w.nextDataKey)
	batch.Set(layout.StreamKey(s.number), row.Encode(s.number))
}

// row returns the stream's row with these settings and shards.
func (s *Stream) row(set *settings, t *topology, nextDataKey uint32) layout.StreamRow {
	row := layout.StreamRow{
		Name:           s.name,
		Created:        s.createdCounter,
		NextShard:      t.next,
		MaxRecordBytes: uint64(set.maxData),
		Retention:      uint64(set.retention),
		RetentionBytes: uint64(set.retentionBytes),
		Floor:          set.floor,
		Expired:        t.expired,
		Mode:           uint32(set.capacity.Mode),
		WriteRecords:   uint64(set.capacity.WriteRecordsPerSecond),
		WriteBytes:     uint64(set.capacity.WriteBytesPerSecond),
		Reads:          uint64(set.capacity.ReadsPerSecond),
		ReadBytes:      uint64(set.capacity.ReadBytesPerSecond),
		MaxShards:      uint32(set.capacity.MaxShards),
		KeyID:          set.keyID,
		NextDataKey:    nextDataKey,
	}
	for key, value := range set.tags {
		row.Tags = append(row.Tags, layout.Tag{Key: key, Value: value})
	}
	slices.SortFunc(row.Tags, func(a, b layout.Tag) int { return cmp.Compare(a.Key, b.Key) })
	return row
}

// update changes the stream's settings. fn changes a copy of them, and may refuse. Puts and
// reads that begin after update has returned use the new settings.
func (s *Stream) update(ctx context.Context, fn func(a *appender, set *settings, batch *kv.Batch) error) error {
	return s.db.control(ctx, func(a *appender, batch *kv.Batch) (func(), error) {
		if s.w.deleted {
			return nil, ErrStreamNotFound
		}
		next := new(settings)
		*next = *s.w.settings
		if err := fn(a, next, batch); err != nil {
			return nil, err
		}
		s.w.settings = next
		s.save(batch)
		a.schedule(s) // the stream may now keep fewer records, or keep them for a shorter time
		return func() {
			s.settings.Store(next)
			s.listeners.changed() // other records may expire from now on
		}, nil
	})
}

// UpdateMaxRecordBytes changes the maximum size of a record's Data, 1 to 10,485,760 bytes.
// Larger records that are already stored can still be read.
//
// Errors: [ErrInvalidArgument], [ErrStreamNotFound], [ErrDiskFull], [ErrFailed],
// [ErrClosed], [ErrOutcomeUnknown]. Kinesis: UpdateMaxRecordSize.
func (s *Stream) UpdateMaxRecordBytes(ctx context.Context, bytes int) error {
	err := validateMaxRecordBytes(bytes)
	if err == nil {
		err = s.update(ctx, func(_ *appender, set *settings, _ *kv.Batch) error {
			set.maxData = bytes
			return nil
		})
	}
	return wrapError("update max record bytes", s.name, err)
}

// UpdateCapacity changes the stream's capacity mode and budgets. The call does not change the
// shards, whatever the old and new modes are.
//
// Errors: [ErrInvalidArgument], and those of [Stream.UpdateMaxRecordBytes]. Kinesis:
// UpdateStreamMode.
func (s *Stream) UpdateCapacity(ctx context.Context, capacity Capacity) error {
	capacity, err := capacity.withDefaults()
	if err == nil {
		err = s.update(ctx, func(_ *appender, set *settings, _ *kv.Batch) error {
			set.capacity = capacity
			return nil
		})
	}
	return wrapError("update capacity", s.name, err)
}

// AddTags adds tags to the stream. A key that the stream already has gets the new value.
// [Stream.Describe] returns the tags. The rules are those of [StreamOptions].Tags.
//
// Errors: [ErrInvalidArgument], [ErrLimitExceeded] for more than 50 tags, and those of
// [Stream.UpdateMaxRecordBytes]. Kinesis: AddTagsToStream.
func (s *Stream) AddTags(ctx context.Context, tags map[string]string) error {
	err := validateTags(tags)
	if err == nil {
		tags = maps.Clone(tags) // the caller may change its own
		err = s.update(ctx, func(_ *appender, set *settings, _ *kv.Batch) error {
			all := make(map[string]string, len(set.tags)+len(tags))
			maps.Copy(all, set.tags)
			maps.Copy(all, tags)
			if len(all) > maxTags {
				return fmt.Errorf("%w: the stream would have %d tags, but may have at most %d", ErrLimitExceeded, len(all), maxTags)
			}
			set.tags = all
			return nil
		})
	}
	return wrapError("add tags", s.name, err)
}

// RemoveTags removes the tags with these keys. A key that the stream does not have is no
// error. Errors: as [Stream.UpdateMaxRecordBytes]. Kinesis: RemoveTagsFromStream.
func (s *Stream) RemoveTags(ctx context.Context, keys ...string) error {
	keys = slices.Clone(keys)
	err := s.update(ctx, func(_ *appender, set *settings, _ *kv.Batch) error {
		set.tags = maps.Clone(set.tags)
		for _, key := range keys {
			delete(set.tags, key)
		}
		return nil
	})
	return wrapError("remove tags", s.name, err)
}
