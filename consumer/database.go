package consumer

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/layout"
)

// dbSource is the [Source] of a database's streams.
type dbSource struct{ db *braid.DB }

func (s dbSource) Stream(_ context.Context, name string) (StreamInfo, error) {
	info, _, err := s.describe(name)
	return info, err
}

// dbTopology is the shards of a stream at one time.
type dbTopology struct {
	id     any // differs after each change
	shards []*braid.Shard
}

// describe returns a stream in the form of a source, and its topology.
func (s dbSource) describe(name string) (StreamInfo, dbTopology, error) {
	stream, err := s.db.Stream(name)
	if err != nil {
		return StreamInfo{}, dbTopology{}, err
	}
	t := topologyOf(stream)
	info := StreamInfo{Incarnation: incarnationOf(stream), Shards: make([]ShardInfo, len(t.shards))}
	for i, sh := range t.shards {
		info.Shards[i] = shardOf(sh)
	}
	return info, t, nil
}

// describeShard is describe reduced to one shard and its parents.
func (s dbSource) describeShard(key LeaseKey) (info StreamInfo, found bool) {
	stream, err := s.db.Stream(key.Stream)
	if err != nil {
		return StreamInfo{}, false
	}
	sh, err := stream.Shard(key.Shard)
	if err != nil || sh.ID() != key.Shard { // Shard also accepts short forms of an id
		return StreamInfo{}, false
	}
	info.Incarnation = incarnationOf(stream)
	for _, id := range sh.Parents() {
		if parent, err := stream.Shard(id); err == nil {
			info.Shards = append(info.Shards, shardOf(parent))
		}
	}
	info.Shards = append(info.Shards, shardOf(sh))
	return info, true
}

// isClosed reports whether the shard exists and has ended.
func (s dbSource) isClosed(stream string, shard braid.ShardID) bool {
	sh, err := s.shard(stream, shard)
	return err == nil && sh.Describe().Closed
}

// topologyOf returns a topology whose id is no newer than its shards, so that the next
// pass sees a change that happens in between.
func topologyOf(stream *braid.Stream) dbTopology {
	id := companion.StreamOf(stream).Topology()
	return dbTopology{id, stream.Shards()}
}

func incarnationOf(stream *braid.Stream) uint64 { return uint64(stream.CreatedAt().UnixNano()) }

// shardOf describes a shard without a look at its records.
func shardOf(sh *braid.Shard) ShardInfo {
	inner := companion.ShardOf(sh)
	return ShardInfo{
		ID:           sh.ID(),
		Parents:      sh.Parents(),
		HashKeyRange: sh.HashKeyRange(),
		Start:        braid.AfterSequence(inner.Starting().(braid.SequenceNumber)),
	}
}

// latest returns the current place of braid.Latest in all shards, as a position that does
// not move. (Counters are times of arrival in nanoseconds.)
func (s dbSource) latest() braid.Position {
	return braid.AtTime(time.Unix(0, int64(companion.DBOf(s.db).Visible())+1))
}

func (s dbSource) Changed() <-chan struct{} { return s.db.Changed() }

func (s dbSource) Resolve(ctx context.Context, stream string, shard braid.ShardID, from braid.Position) (Checkpoint, error) {
	sh, err := s.shard(stream, shard)
	if err != nil {
		return Checkpoint{}, err
	}
	if from.Equal(braid.TrimHorizon()) { // without reading a record, which could require a key
		if d := sh.Describe(); d.Records > 0 {
			return Checkpoint{Start: braid.AtSequence(d.First)}, nil
		}
	}
	page, err := sh.GetRecords(ctx, from, &braid.GetRecordsOptions{Limit: 1, LimitBytes: 1, Unmetered: true})
	var damage *braid.CorruptError
	switch {
	case errors.As(err, &damage):
		// A reader of the shard reports it. Here it would hold up the other shards.
		return Checkpoint{Start: from}, nil
	case err != nil:
		return Checkpoint{}, err
	case len(page.Records) > 0:
		return Checkpoint{Start: braid.AtSequence(page.Records[0].SequenceNumber)}, nil
	default:
		return Checkpoint{Start: page.Next, ShardEnd: page.EndOfShard}, nil
	}
}

func (s dbSource) Peek(ctx context.Context, stream string, shard braid.ShardID, from braid.Position) (Page, error) {
	sh, err := s.shard(stream, shard)
	if err != nil {
		return Page{}, err
	}
	page, err := sh.GetRecords(ctx, from, &braid.GetRecordsOptions{Limit: 1, LimitBytes: 1, Unmetered: true})
	if err != nil {
		return Page{}, err
	}
	return s.page(stream, page), nil
}

func (s dbSource) Open(_ context.Context, stream string, shard braid.ShardID, from braid.Position) (ShardReader, error) {
	return &dbReader{source: s, stream: stream, shard: shard, at: from}, nil
}

// page returns a page of a shard in the form of a source.
func (s dbSource) page(stream string, page *braid.RecordsPage) Page {
	return Page{
		Records:       page.Records,
		Next:          page.Next,
		BehindRecords: page.BehindRecords,
		BehindBytes:   page.BehindBytes,
		BehindLatest:  page.BehindLatest,
		AtTip:         page.BehindRecords == 0,
		EndOfShard:    page.EndOfShard,
		Children:      s.children(stream, page.ChildShards),
	}
}

// children describes the child shards, or none of them if one has expired.
func (s dbSource) children(stream string, ids []braid.ShardID) (children []ShardInfo) {
	for _, id := range ids {
		sh, err := s.shard(stream, id)
		if err != nil {
			return nil
		}
		children = append(children, shardOf(sh))
	}
	return children
}

func (s dbSource) shard(stream string, shard braid.ShardID) (*braid.Shard, error) {
	st, err := s.db.Stream(stream)
	if err != nil {
		return nil, err
	}
	return st.Shard(shard)
}

// dbReader is the [ShardReader] of a shard of a database. It holds no resources, neither
// a goroutine nor an iterator.
type dbReader struct {
	source dbSource
	stream string
	shard  braid.ShardID
	at     braid.Position
	told   bool // the tip was reported
}

func (r *dbReader) Next(ctx context.Context, limits Limits) (Page, error) {
	f, err := r.next(ctx, limits, nil)
	return f.Page, err
}

// next is Next with the records in either form: the processor's, if room can hold all of
// them, or as stored.
func (r *dbReader) next(ctx context.Context, limits Limits, room func(n int) []Record) (f fetched, err error) {
	sh, err := r.source.shard(r.stream, r.shard)
	if err != nil {
		return fetched{}, err
	}
	waits := r.told
	r.told = false
	var page *braid.RecordsPage
	if room != nil {
		page, err = r.readWhole(ctx, sh, limits, waits, room, &f)
	} else if page, err = sh.GetRecords(ctx, r.at, &braid.GetRecordsOptions{Limit: limits.Records, LimitBytes: limits.Bytes, Wait: waits, Unmetered: true}); err == nil {
		f.bytes = bytesOf(page.Records)
	}
	var gap *braid.TrimmedError
	switch {
	case errors.As(err, &gap):
		r.at = braid.AtSequence(gap.FirstAvailable)
		return fetched{Page: Page{Gap: gap, Next: r.at}}, nil
	case err != nil:
		return fetched{}, err
	case waits && page.BehindRecords > 0:
		return fetched{Page: Page{Next: r.at}}, nil // the limits are those of the wait
	}
	r.at = page.Next
	f.Page = r.source.page(r.stream, page)
	r.told = f.count() == 0
	return f, nil
}

// readWhole reads records straight into f, in the processor's form. The page itself has
// none.
func (r *dbReader) readWhole(ctx context.Context, sh *braid.Shard, limits Limits, waits bool, room func(n int) []Record, f *fetched) (*braid.RecordsPage, error) {
	read, bytes, err := companion.ShardOf(sh).Read(ctx, r.at, limits.Records, limits.Bytes, waits, func(n int) any {
		f.whole = room(n)
		return func(i int) *braid.Record { return &f.whole[i].Record }
	})
	if err != nil {
		return nil, err
	}
	f.bytes = bytes
	return read.(*braid.RecordsPage), nil
}

func (*dbReader) Close() {}

// dbLeases is the [BatchLeaseStore] of an application in a database. Its rows lie beside
// the application's keys and are written by transactions, so a checkpoint can be part of
// one.
type dbLeases struct {
	db  *braid.DB
	app string
}

func (l dbLeases) List(ctx context.Context) (leases []Lease, err error) {
	lower, upper := layout.AppLeasesSpan(l.app)
	err = l.db.View(ctx, func(tx *braid.Tx) error {
		leases, err = scanLeases(tx, lower, upper)
		return err
	})
	return leases, err
}

// ofStream is List limited to one stream and the application itself.
func (l dbLeases) ofStream(ctx context.Context, stream string) (leases []Lease, err error) {
	lower, upper := layout.StreamLeasesSpan(l.app, stream)
	err = l.db.View(ctx, func(tx *braid.Tx) error {
		if leases, err = scanLeases(tx, lower, upper); err != nil {
			return err
		}
		app, found, err := l.get(tx, LeaseKey{})
		if found {
			leases = append(leases, app)
		}
		return err
	})
	return leases, err
}

func scanLeases(tx *braid.Tx, lower, upper []byte) (leases []Lease, err error) {
	for row, err := range companion.TxOf(tx).Scan(lower, upper) {
		if err != nil {
			return nil, err
		}
		lease, err := decodeLease(row.Key, row.Value)
		if err != nil {
			return nil, err
		}
		leases = append(leases, lease)
	}
	return leases, nil
}

func (l dbLeases) Get(ctx context.Context, key LeaseKey) (lease Lease, found bool, err error) {
	err = l.db.View(ctx, func(tx *braid.Tx) error {
		lease, found, err = l.get(tx, key)
		return err
	})
	return lease, found, err
}

// getAll reads leases at one time; nil stands for a lease that does not exist.
func (l dbLeases) getAll(ctx context.Context, keys []LeaseKey) (leases []*Lease, err error) {
	leases = make([]*Lease, len(keys))
	err = l.db.View(ctx, func(tx *braid.Tx) error {
		for i, key := range keys {
			lease, found, err := l.get(tx, key)
			if err != nil {
				return err
			}
			if found {
				leases[i] = &lease
			}
		}
		return nil
	})
	return leases, err
}

// get reads a lease in a transaction, which commits only if nobody has changed the lease
// meanwhile.
func (l dbLeases) get(tx *braid.Tx, key LeaseKey) (lease Lease, found bool, err error) {
	row := l.key(key)
	value, err := companion.TxOf(tx).Get(row)
	if err != nil || value == nil {
		return Lease{LeaseKey: key}, false, err
	}
	lease, err = decodeLease(row, value)
	return lease, true, err
}

// set writes a lease in a transaction, with the next version.
func (l dbLeases) set(tx *braid.Tx, lease Lease) error {
	lease.Version++
	key := l.key(lease.LeaseKey)
	return companion.TxOf(tx).Set(key, encodeLease(key, lease))
}

func (l dbLeases) CompareAndSet(ctx context.Context, lease Lease) (bool, error) {
	return l.CompareAndSetAll(ctx, []Lease{lease})
}

func (l dbLeases) CompareAndSetAll(ctx context.Context, leases []Lease) (stored bool, err error) {
	err = l.db.Update(ctx, func(tx *braid.Tx) error {
		stored = false
		for _, lease := range leases {
			if old, _, err := l.get(tx, lease.LeaseKey); err != nil || old.Version != lease.Version {
				return err
			}
		}
		for _, lease := range leases {
			if err := l.set(tx, lease); err != nil {
				return err
			}
		}
		stored = true
		return nil
	})
	return stored && err == nil, err
}

func (l dbLeases) Delete(ctx context.Context, lease Lease) (deleted bool, err error) {
	err = l.db.Update(ctx, func(tx *braid.Tx) error {
		old, found, err := l.get(tx, lease.LeaseKey)
		deleted = found && old.Version == lease.Version
		if err != nil || !deleted {
			return err
		}
		return companion.TxOf(tx).Delete(l.key(lease.LeaseKey))
	})
	return deleted && err == nil, err
}

func (dbLeases) LeaseDuration() time.Duration { return 0 }

func (l dbLeases) key(key LeaseKey) []byte {
	return layout.LeaseKey(l.app, key.Stream, string(key.Shard))
}

func encodeLease(key []byte, lease Lease) []byte {
	row := layout.LeaseRow{
		Stream:     lease.Incarnation,
		Version:    lease.Version,
		Epoch:      lease.Epoch,
		Owner:      lease.Owner,
		NextOwner:  lease.NextOwner,
		Paused:     lease.Paused,
		Checkpoint: encodeCheckpoint(lease.Checkpoint),
	}
	if lease.Pending != nil {
		row.Prepared = true
		row.Pending = encodeCheckpoint(*lease.Pending)
		row.State = lease.PendingState
	}
	for _, gap := range lease.Gaps {
		row.Gaps = append(row.Gaps, layout.LeaseGap{Shard: string(gap.Shard), FirstLost: encodeNumber(gap.FirstLost), Accepted: gap.Accepted})
	}
	return row.Encode(key)
}

func encodeCheckpoint(c Checkpoint) layout.LeaseCheckpoint {
	return layout.LeaseCheckpoint{Start: c.Start.String(), Number: encodeNumber(c.SequenceNumber), Sub: uint64(c.SubSequenceNumber), Partial: c.Partial, ShardEnd: c.ShardEnd}
}

func encodeNumber(n braid.SequenceNumber) string {
	if n.IsZero() {
		return ""
	}
	return n.String()
}

func decodeLease(key, value []byte) (Lease, error) {
	_, stream, shard, err := layout.DecodeLeaseKey(key)
	if err != nil {
		return Lease{}, companion.Corrupt(err)
	}
	row, err := layout.DecodeLeaseRow(key, value)
	if err != nil {
		return Lease{}, companion.Corrupt(err)
	}
	lease := Lease{
		LeaseKey:    LeaseKey{stream, braid.ShardID(shard)},
		Incarnation: row.Stream,
		Version:     row.Version,
		Epoch:       row.Epoch,
		Owner:       row.Owner,
		NextOwner:   row.NextOwner,
		Paused:      row.Paused,
	}
	if lease.Checkpoint, err = decodeCheckpoint(row.Checkpoint); err != nil {
		return Lease{}, err
	}
	if row.Prepared {
		pending, err := decodeCheckpoint(row.Pending)
		if err != nil {
			return Lease{}, err
		}
		lease.Pending, lease.PendingState = &pending, slices.Clone(row.State)
	}
	for _, gap := range row.Gaps {
		first, err := decodeNumber(gap.FirstLost)
		if err != nil {
			return Lease{}, err
		}
		lease.Gaps = append(lease.Gaps, LeaseGap{Shard: braid.ShardID(gap.Shard), FirstLost: first, Accepted: gap.Accepted})
	}
	return lease, nil
}

func decodeCheckpoint(row layout.LeaseCheckpoint) (c Checkpoint, err error) {
	c = Checkpoint{SubSequenceNumber: int(row.Sub), Partial: row.Partial, ShardEnd: row.ShardEnd}
	if c.Start, err = braid.ParsePosition(row.Start); err != nil {
		return c, companion.Corrupt(err)
	}
	c.SequenceNumber, err = decodeNumber(row.Number)
	return c, err
}

func decodeNumber(digits string) (n braid.SequenceNumber, err error) {
	if digits == "" {
		return n, nil
	}
	if n, err = braid.ParseSequenceNumber(digits); err != nil {
		return n, companion.Corrupt(err)
	}
	return n, nil
}
