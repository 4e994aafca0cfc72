package braid

import (
	"fmt"
	"maps"
	"time"
	"unicode/utf8"

	"github.com/braidstream/braid/internal/layout"
)

// Limits of what is said about a stream.
const (
	maxStreamNameChars = 128
	maxTags            = 50 // Kinesis: tags per stream
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
