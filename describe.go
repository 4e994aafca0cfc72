package braid

import (
	"context"
	"maps"
	"time"

	"github.com/braidstream/braid/internal/epoch"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/tail"
)

// StreamDescription is what is known of a stream at one time.
type StreamDescription struct {
	Name           string
	CreatedAt      time.Time
	MaxRecordBytes int           // the largest Data of a record
	Retention      time.Duration // how long a record can be read; negative: it does not expire
	RetentionBytes int64         // beyond which the oldest records are trimmed; 0: no bound
	Capacity       Capacity
	EncryptionKey  string            // the id of the key that new records are encrypted with; empty: they are not
	Tags           map[string]string // the caller's own
	Records        int64             // that can be read
	Bytes          int64             // partition keys and data of those records
	Shards         []ShardDescription
}

// Describe returns the stream's settings, and for each shard its range, lineage
// and content. Kinesis: DescribeStream.
func (s *Stream) Describe() StreamDescription {
	set := s.settings.Load()
	d := StreamDescription{
		Name:           s.name,
		CreatedAt:      s.CreatedAt(),
		MaxRecordBytes: set.maxData,
		Retention:      set.retention,
		RetentionBytes: set.retentionBytes,
		Capacity:       set.capacity,
		EncryptionKey:  set.keyID,
		Tags:           maps.Clone(set.tags),
	}
	if d.Retention == 0 {
		d.Retention = -1 // as StreamOptions have it, where 0 is the default
	}
	t := s.topology.Load()
	for _, sh := range t.shards {
		shard := sh.describe(t)
		d.Records += shard.Records
		d.Bytes += shard.Bytes
		d.Shards = append(d.Shards, shard)
	}
	return d
}

// ShardDescription is what is known of a shard at one time.
type ShardDescription struct {
	ID           ShardID
	HashKeyRange HashKeyRange
	Parents      []ShardID // as [Shard.Parents]
	Children     []ShardID // the shards that came from this one
	Closed       bool      // no record will follow

	// CreatedAt is when the shard was made, and ClosedAt when it was closed; that
	// is zero for an open one. A shard's records arrived at CreatedAt or later and
	// before ClosedAt. Its numbers do not tell: where reshards follow each other
	// within a second, the second of creation in them runs ahead of the clock.
	CreatedAt time.Time
	ClosedAt  time.Time `json:",omitzero"`

	// StartingSequenceNumber comes before every record of the shard;
	// EndingSequenceNumber, which an open shard does not have, comes after.
	StartingSequenceNumber, EndingSequenceNumber SequenceNumber

	// First and Last are the numbers of the first record that can be read and
	// of the last one there was; both are zero if there is none to read.
	First, Last SequenceNumber

	Records int64 // that can be read
	Bytes   int64 // partition keys and data of those records

	// RecordsPut and BytesPut count the records that were ever put, and their partition
	// keys and data. They never fall, so a difference over time is the shard's load.
	RecordsPut, BytesPut int64
}

// Describe returns the shard's range, lineage and content. Kinesis: ListShards.
func (sh *Shard) Describe() ShardDescription { return sh.describe(sh.stream.topology.Load()) }

// describe describes the shard as it is at one time, so that a stream's shards fit.
func (sh *Shard) describe(t *topology) ShardDescription {
	horizon, extents := sh.view()
	if above, _, err := sh.readable(context.Background(), 0, horizon, extents); err == nil {
		horizon = above
	}
	end, children := sh.closing.Load(), sh.children(t)
	if len(children) == 0 && t.shard(sh.index) == sh {
		end = nil // it was closed since
	}
	tip := sh.log.Tip()
	d := ShardDescription{
		ID:                     sh.id,
		HashKeyRange:           sh.hashKeys,
		Parents:                sh.Parents(),
		Children:               children,
		Closed:                 end != nil,
		CreatedAt:              time.Unix(0, int64(sh.createdCounter)),
		StartingSequenceNumber: sh.starting(),
		Records:                int64(tip.Ordinal - min(horizon.Ordinal, tip.Ordinal)),
		Bytes:                  int64(tip.Offset - min(horizon.Offset, tip.Offset)),
		RecordsPut:             int64(tip.Ordinal),
		BytesPut:               int64(tip.Offset),
	}
	if end != nil {
		d.ClosedAt = time.Unix(0, int64(end.counter))
		d.EndingSequenceNumber = newSequenceNumber(int64(sh.createdSeconds), endingCounter, int64(end.seconds), sh.index)
	}
	if d.Records > 0 {
		d.Last = sh.number(tip.LastCounter)
		d.First = sh.first(horizon, extents, tip)
	}
	return d
}

// first returns the number of the first record at or above the horizon. Where
// the horizon cuts through an extent that takes a read; if that fails, the lowest
// number that the record can have stands in.
func (sh *Shard) first(horizon layout.Horizon, extents epoch.Extents, tip tail.Tip) SequenceNumber {
	if len(extents) > 0 && extents[0].FirstOrdinal >= horizon.Ordinal {
		return sh.number(extents[0].FirstCounter)
	}
	page, err := sh.page(context.Background(), pageQuery{from: horizon.Counter, to: tip.LastCounter, records: 1, bytes: 1, bare: true}, nil)
	if err != nil || len(page.records) == 0 {
		return sh.number(horizon.Counter)
	}
	return sh.number(page.records[0].Counter)
}
