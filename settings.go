package braid

import (
	"fmt"
	"maps"
	"time"
	"unicode/utf8"

	"github.com/braidstream/braid/internal/layout"
)

// Limits of a stream's settings.
const (
	maxStreamNameChars = 128
	maxTags            = 50 // Kinesis: tags per stream
	maxTagKeyChars     = 128
	maxTagValueChars   = 256

	// defaultRetention is also the shortest period to which a stream can be changed; only a
	// new stream can have a shorter one.
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

	// MaxRecordBytes is the maximum size of a record's Data, 1 to 10,485,760 (10 MiB). 0 means
	// 1,048,576 (1 MiB). The partition key does not count. [Stream.UpdateMaxRecordBytes] changes
	// it. Kinesis: MaxRecordSizeInKiB.
	MaxRecordBytes int

	// Retention is how long a record can be read after its arrival, 1 nanosecond to 8,760 hours (a
	// year). 0 means 24 hours; a negative value means that records do not expire.
	// [Stream.IncreaseRetention] and [Stream.DecreaseRetention] change it. Kinesis:
	// RetentionPeriodHours, which is at least 24 hours.
	Retention time.Duration

	// RetentionBytes bounds the size of the stream, in bytes of partition keys and data. Beyond
	// it, the oldest records are trimmed, whatever their age. Trimming works in steps of an epoch,
	// so up to about [Options].MemtableBytes more can be kept, and never less than this. 0 means
	// no bound; a negative value is refused. [Stream.UpdateRetentionBytes] changes it.
	RetentionBytes int64

	// Capacity has the budgets of each shard, and determines whether the number of shards follows
	// the load. The zero value is [Unlimited]. [Stream.UpdateCapacity] changes it. Kinesis:
	// StreamModeDetails.
	Capacity Capacity

	// Tags are the application's own labels for the stream. There may be up to 50, with keys of 1
	// to 128 characters and values of up to 256; a character is a Unicode code point.
	// [Stream.AddTags] and [Stream.RemoveTags] change them.
	Tags map[string]string

	// MustMatch makes [DB.OpenStream] return a [StreamMismatchError] for an existing stream with
	// other settings. Only fields that are not zero are compared: Shards with the number of open
	// shards, unless the capacity is [OnDemand]; Capacity as a whole; Tags only by the given keys.
	// MustMatch itself is not stored.
	MustMatch bool
}

// withDefaults returns a copy whose zero fields have their defaults, and checks the
// others.
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

// settings are the settings of a stream that can be changed while it is used. The values are
// immutable: a change replaces the whole struct.
type settings struct {
	maxData        int
	retention      time.Duration // 0: records do not expire
	retentionBytes int64         // 0: no bound
	floor          uint64        // counters below it have expired for good
	capacity       Capacity
	keyID          string            // the provider's key for new records; empty: they are not encrypted
	tags           map[string]string // immutable
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

// restoreSettings returns the settings that save has stored.
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

func validateMaxRecordBytes(bytes int) error {
	if bytes < 1 || bytes > maxDataBytes {
		return &InvalidArgumentError{"MaxRecordBytes", bytes, fmt.Sprintf("must be 1 to %d", maxDataBytes)}
	}
	return nil
}

func validateTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return &InvalidArgumentError{"Tags", fmt.Sprintf("%d tags", len(tags)), fmt.Sprintf("must be at most %d", maxTags)}
	}
	for key, value := range tags {
		field := fmt.Sprintf("Tags[%.140q]", key)
		switch {
		case !utf8.ValidString(key) || key == "" || utf8.RuneCountInString(key) > maxTagKeyChars:
			return &InvalidArgumentError{
				field, fmt.Sprintf("%d characters long", utf8.RuneCountInString(key)),
				fmt.Sprintf("must have a key of 1 to %d characters of UTF-8", maxTagKeyChars),
			}
		case !utf8.ValidString(value) || utf8.RuneCountInString(value) > maxTagValueChars:
			return &InvalidArgumentError{
				field, fmt.Sprintf("%d characters long", utf8.RuneCountInString(value)),
				fmt.Sprintf("must have a value of at most %d characters of UTF-8", maxTagValueChars),
			}
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

// hours returns a period as text, in hours as in Kinesis.
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
