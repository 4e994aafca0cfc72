package braid

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
)

// Limits of what is said about a stream.
const (
	maxStreamNameChars = 128
	maxShards          = 10_000 // Kinesis: shards per stream
	maxTags            = 50     // Kinesis: tags per stream
	maxTagKeyChars     = 128
	maxTagValueChars   = 256

	// defaultRetention is also the least that a period can be changed to: below
	// it, only a new stream can go.
	defaultRetention = 24 * time.Hour
	maxRetention     = 8760 * time.Hour
)

// StreamOptions are the settings of a stream. They are stored with it when it is
// created. The zero value, and a nil pointer, mean the defaults.
type StreamOptions struct {
	// Shards is the number of shards the stream starts with, 1 to 10,000, or to
	// Capacity.MaxShards if the capacity is [OnDemand]. They divide the hash-key
	// space evenly. 0 means 1, or 4 if the capacity is OnDemand.
	Shards int

	// MaxRecordBytes is the largest Data that a record may have, 1 to
	// 10,485,760 (10 MiB). 0 means 1,048,576 (1 MiB). The partition key does not
	// count. It can be changed by [Stream.UpdateMaxRecordBytes]. Kinesis:
	// MaxRecordSizeInKiB.
	MaxRecordBytes int

	// Retention is how long a record can be read, counted from its arrival, a
	// nanosecond to 8,760 hours (a year). 0 means 24 hours; negative means that
	// records do not expire. It can be changed by [Stream.IncreaseRetention] and
	// [Stream.DecreaseRetention]. Kinesis: RetentionPeriodHours, which does not go
	// below 24 hours.
	Retention time.Duration

	// RetentionBytes bounds what the stream keeps, in bytes of partition keys and
	// data: beyond it the oldest records are trimmed, whatever their age. It
	// works in steps of an epoch, so up to about [Options].MemtableBytes more can
	// be kept, and never less than this. 0 means no bound; a negative value is
	// refused. It can be changed by [Stream.UpdateRetentionBytes].
	RetentionBytes int64

	// Capacity is how much each shard takes, and whether the number of shards
	// follows the load. The zero value is [Unlimited]. It can be changed by
	// [Stream.UpdateCapacity]. Kinesis: StreamModeDetails.
	Capacity Capacity

	// Tags are the application's own words about the stream: up to 50, with keys
	// of 1 to 128 characters and values of up to 256, as Unicode code points. They
	// can be changed by [Stream.AddTags] and [Stream.RemoveTags].
	Tags map[string]string

	// MustMatch makes [DB.OpenStream] refuse a stream that exists with other
	// settings, by a [StreamMismatchError]. What is not zero here is compared: Shards
	// with the number of open shards, unless the capacity is [OnDemand]; Capacity as
	// a whole; of Tags, those given. It is not stored.
	MustMatch bool
}

// withDefaults returns a copy whose zero fields are filled in, after checking
// the others.
func (o *StreamOptions) withDefaults() (opts StreamOptions, err error) {
	if o != nil {
		opts = *o
	}
	if opts.Shards == 0 {
		opts.Shards = 1
		if opts.Capacity.Mode == OnDemand {
			opts.Shards = onDemandShards
		}
	}
	orDefault(&opts.MaxRecordBytes, defaultDataBytes)
	orDefault(&opts.Retention, defaultRetention)
	opts.Retention = max(0, opts.Retention)
	if opts.Shards < 1 || opts.Shards > maxShards {
		return opts, &InvalidArgumentError{"Shards", opts.Shards, fmt.Sprintf("must be 1 to %d", maxShards)}
	}
	if err := validateMaxRecordBytes(opts.MaxRecordBytes); err != nil {
		return opts, err
	}
	if opts.Retention > maxRetention {
		return opts, &InvalidArgumentError{"Retention", opts.Retention, "must be at most " + hours(maxRetention)}
	}
	if err := validateRetentionBytes(opts.RetentionBytes); err != nil {
		return opts, err
	}
	if opts.Capacity, err = opts.Capacity.withDefaults(); err != nil {
		return opts, err
	}
	if most := opts.Capacity.MaxShards; opts.Capacity.Mode == OnDemand && opts.Shards > most {
		return opts, &InvalidArgumentError{"Shards", opts.Shards, fmt.Sprintf("must be at most Capacity.MaxShards, %d", most)}
	}
	return opts, validateTags(opts.Tags)
}

// settings are what can be changed of a stream while it is used. They are never
// changed themselves; others replace them.
type settings struct {
	maxData        int
	retention      time.Duration // 0: records do not expire
	retentionBytes int64         // 0: as many as there are
	floor          uint64        // counters below it have expired for good
	capacity       Capacity
	keyID          string            // what is put is encrypted with it; empty: not at all
	tags           map[string]string // never changed
}

func newSettings(opts StreamOptions) *settings {
	return &settings{
		maxData:        opts.MaxRecordBytes,
		retention:      opts.Retention,
		retentionBytes: opts.RetentionBytes,
		capacity:       opts.Capacity,
		tags:           maps.Clone(opts.Tags),
	}
}

// restoreSettings is the inverse of what save stores.
func restoreSettings(row *layout.StreamRow) *settings {
	set := &settings{
		maxData:        int(row.MaxRecordBytes),
		retention:      time.Duration(row.Retention),
		retentionBytes: int64(row.RetentionBytes),
		floor:          row.Floor,
		capacity: Capacity{
			Mode:                  CapacityMode(row.Mode),
			WriteRecordsPerSecond: int(row.WriteRecords),
			WriteBytesPerSecond:   int(row.WriteBytes),
			ReadsPerSecond:        int(row.Reads),
			ReadBytesPerSecond:    int(row.ReadBytes),
			MaxShards:             int(row.MaxShards),
		},
		keyID: row.KeyID,
	}
	for _, tag := range row.Tags {
		if set.tags == nil {
			set.tags = make(map[string]string, len(row.Tags))
		}
		set.tags[tag.Key] = tag.Value
	}
	return set
}

// save stores the stream's row, as the appender has it.
func (s *Stream) save(batch *kv.Batch) {
	set := s.w.settings
	row := layout.StreamRow{
		Name:           s.name,
		Created:        s.createdCounter,
		NextShard:      s.w.topology.next,
		MaxRecordBytes: uint64(set.maxData),
		Retention:      uint64(set.retention),
		RetentionBytes: uint64(set.retentionBytes),
		Floor:          set.floor,
		Expired:        s.w.topology.expired,
		Mode:           uint32(set.capacity.Mode),
		WriteRecords:   uint64(set.capacity.WriteRecordsPerSecond),
		WriteBytes:     uint64(set.capacity.WriteBytesPerSecond),
		Reads:          uint64(set.capacity.ReadsPerSecond),
		ReadBytes:      uint64(set.capacity.ReadBytesPerSecond),
		MaxShards:      uint32(set.capacity.MaxShards),
		KeyID:          set.keyID,
		NextDataKey:    s.w.nextDataKey,
	}
	for key, value := range set.tags {
		row.Tags = append(row.Tags, layout.Tag{Key: key, Value: value})
	}
	slices.SortFunc(row.Tags, func(a, b layout.Tag) int { return cmp.Compare(a.Key, b.Key) })
	batch.Set(layout.StreamKey(s.number), row.Encode(s.number))
}

// update changes the stream's settings by fn, which gets a copy, and can refuse.
// Puts and reads that begin after it has returned go by the new ones.
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
		a.schedule(s) // it may keep less now, or for a shorter time
		return func() { s.settings.Store(next) }, nil
	})
}

// UpdateMaxRecordBytes changes the largest Data that a record may have, 1 to
// 10,485,760 bytes. Larger records that are stored already can still be read.
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

func validateMaxRecordBytes(bytes int) error {
	if bytes < 1 || bytes > maxDataBytes {
		return &InvalidArgumentError{"MaxRecordBytes", bytes, fmt.Sprintf("must be 1 to %d", maxDataBytes)}
	}
	return nil
}

// AddTags adds tags to the stream; a key that it has already gets the new value.
// [Stream.Describe] returns them. The rules are those of [StreamOptions].Tags.
//
// Errors: [ErrInvalidArgument], [ErrLimitExceeded] for more than 50 tags, and as
// [Stream.UpdateMaxRecordBytes]. Kinesis: AddTagsToStream.
func (s *Stream) AddTags(ctx context.Context, tags map[string]string) error {
	err := validateTags(tags)
	if err == nil {
		tags = maps.Clone(tags) // the caller may go on to use its own
		err = s.update(ctx, func(_ *appender, set *settings, _ *kv.Batch) error {
			all := make(map[string]string, len(set.tags)+len(tags))
			maps.Copy(all, set.tags)
			maps.Copy(all, tags)
			if len(all) > maxTags {
				return fmt.Errorf("%w: the stream would have %d tags, and may have %d", ErrLimitExceeded, len(all), maxTags)
			}
			set.tags = all
			return nil
		})
	}
	return wrapError("add tags", s.name, err)
}

// RemoveTags removes the tags with these keys; a key that the stream does not
// have is no error. Errors: as [Stream.UpdateMaxRecordBytes]. Kinesis:
// RemoveTagsFromStream.
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

func validateTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return &InvalidArgumentError{"Tags", fmt.Sprintf("%d tags", len(tags)), fmt.Sprintf("must be at most %d", maxTags)}
	}
	for key, value := range tags {
		field := fmt.Sprintf("Tags[%.140q]", key)
		switch {
		case !utf8.ValidString(key) || key == "" || utf8.RuneCountInString(key) > maxTagKeyChars:
			return &InvalidArgumentError{field, fmt.Sprintf("%d characters long", utf8.RuneCountInString(key)), fmt.Sprintf("must have a key of 1 to %d characters of UTF-8", maxTagKeyChars)}
		case !utf8.ValidString(value) || utf8.RuneCountInString(value) > maxTagValueChars:
			return &InvalidArgumentError{field, fmt.Sprintf("%d characters long", utf8.RuneCountInString(value)), fmt.Sprintf("must have a value of at most %d characters of UTF-8", maxTagValueChars)}
		}
	}
	return nil
}

// expiry returns the counter below which records have expired.
func (set *settings) expiry(now uint64) uint64 {
	if set.retention == 0 {
		return set.floor
	}
	return max(set.floor, now-min(now, uint64(set.retention)))
}

// hours describes a period in the unit of Kinesis.
func hours(d time.Duration) string {
	if d == 0 {
		return "forever"
	}
	return fmt.Sprintf("%g hours", d.Hours())
}

func validateRetentionBytes(bytes int64) error {
	if bytes < 0 {
		return &InvalidArgumentError{"RetentionBytes", bytes, "must be positive, or 0 for no bound"}
	}
	return nil
}
