package braid

import (
	"context"
	"maps"
	"time"

	"github.com/braidstream/braid/internal/epoch"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/tail"
)

// StreamDescription describes a stream at one time.
type StreamDescription struct {
	Name           string
	CreatedAt      time.Time
	MaxRecordBytes int           // the maximum size of a record's Data
	Retention      time.Duration // how long a record can be read; negative: it does not expire
	RetentionBytes int64         // the size above which the oldest records are trimmed; 0: no bound
	Capacity       Capacity
	EncryptionKey  string            // the id of the key that encrypts new records; empty: none does
	Tags           map[string]string // the caller's own
	Records        int64             // records that can be read
	Bytes          int64             // bytes of their partition keys and data
	Queues         int               // queues of package queue; the stream cannot be deleted while it has any
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
		Queues:         int(s.queues.Load()),
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

// ShardDescription describes a shard at one time.
type ShardDescription struct {
	ID           ShardID
	HashKeyRange HashKeyRange
	Parents      []ShardID // the shards that this one came from: see [Shard.Parents]
	Children     []ShardID // the shards that came from this one
	Closed       bool      // no record will follow

	// CreatedAt is when the shard was created. ClosedAt is when it was closed, zero for an open
	// shard. The shard's records arrived at CreatedAt or later, and before ClosedAt. Do not derive
	// these times from sequence numbers: if reshards follow each other within a second, the second
	// of creation in the numbers runs ahead of the clock.
	CreatedAt time.Time
	ClosedAt  time.Time `json:",omitzero"`

	// StartingSequenceNumber comes before every record of the shard. EndingSequenceNumber
	// comes after every record; it is zero for an open shard.
	StartingSequenceNumber, EndingSequenceNumber SequenceNumber

	// First and Last are the numbers of the first record that can be read and of the
	// last record. Both are zero if no record can be read.
	First, Last SequenceNumber

	Records int64 // records that can be read
	Bytes   int64 // bytes of their partition keys and data

	// RecordsPut and BytesPut count all records ever put, and the bytes of their partition
	// keys and data. They never fall, so their difference over time is the shard's load.
	RecordsPut, BytesPut int64
}

// Describe returns the shard's range, lineage and content. Kinesis: ListShards.
func (sh *Shard) Describe() ShardDescription { return sh.describe(sh.stream.topology.Load()) }

// describe describes the shard as part of a topology, so that the descriptions of a
// stream's shards agree.
func (sh *Shard) describe(t *topology) ShardDescription {
	horizon, extents := sh.view()
	if above, _, err := sh.readable(context.Background(), 0, horizon, extents); err == nil {
		horizon = above
	}
	end, children := sh.closing.Load(), sh.children(t)
	if len(children) == 0 && t.shard(sh.index) == sh {
		end = nil // it was closed after the topology was read
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

// first returns the number of the first record at or above the horizon. If the horizon cuts
// through an extent, that takes a read; if the read fails, it returns the lowest number that
// the record can have.
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
