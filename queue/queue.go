package queue

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/layout"
)

// Queue hands out the records of a stream one by one. It comes from [Open], [Create],
// [Get] or [List]. All methods may be called from any number of goroutines.
//
// After [Queue.Delete] every method returns [ErrQueueNotFound], even if a queue of the
// same name was created since.
type Queue struct {
	db      *braid.DB
	door    companion.DB
	all     *registry
	log     *slog.Logger
	id      layout.QueueID
	name    string
	stream  *braid.Stream
	inner   companion.Stream
	created uint64
	started uint64
	secret  [16]byte

	deleted chan struct{} // closed when the queue is deleted
	loading chan struct{} // holds a token while nobody loads the state
	reading chan struct{} // holds a token while nobody reads ahead

	readPlace companion.Place // where the last read ahead ended; for the goroutine with the token of reading

	mu      sync.Mutex // guards the fields below; under it only the mutex that counts a stream's records is locked
	gone    bool       // the queue is deleted
	loaded  bool       // the state was read from the store
	waiters waiters
	state
}

// Open returns the queue of that name. If there is none, it creates one with the options.
// An existing queue keeps its settings; [Queue.Update] changes them.
//
// The name has 1 to 128 characters of a-z, A-Z, 0-9, '_', '.' and '-', and is unique in
// the database. Errors: braid.ErrInvalidArgument for the name and the options;
// [ErrQueueExists] if the queue belongs to a stream other than options.Stream (an empty
// options.Stream matches any); braid.ErrStreamNotFound; and others of package braid.
func Open(ctx context.Context, db *braid.DB, name string, options *Options) (*Queue, error) {
	for {
		q, err := Get(ctx, db, name)
		switch {
		case err == nil && options != nil && options.Stream != "" && options.Stream != q.stream.Name():
			return nil, wrap("open", name, fmt.Errorf("%w: it belongs to stream %q, not to %.140q", ErrQueueExists, q.stream.Name(), options.Stream))
		case !errors.Is(err, ErrQueueNotFound):
			return q, err
		}
		q, err = Create(ctx, db, name, options)
		if !errors.Is(err, ErrQueueExists) {
			return q, err
		}
		// It was created in the meantime: take it, unless it was deleted again.
	}
}

// Create creates a queue, as [Open] does. If a queue of that name exists, the error is
// [ErrQueueExists]. Kinesis: CreateQueue.
func Create(ctx context.Context, db *braid.DB, name string, options *Options) (*Queue, error) {
	q, err := create(ctx, db, name, options)
	return q, wrap("create", name, err)
}

func create(ctx context.Context, db *braid.DB, name string, options *Options) (*Queue, error) {
	if err := braid.ValidateStreamName(name); err != nil { // queues have the same rule
		return nil, err
	}
	opts, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	if opts.Stream == "" {
		return nil, invalid("Stream", `""`, "must be the name of a stream")
	}
	all, err := registryOf(ctx, db)
	if err != nil {
		return nil, err
	}
	stream, err := db.Stream(opts.Stream)
	if err != nil {
		return nil, err
	}
	q := all.newQueue(newID(), name, stream)
	q.created = q.door.Now()
	if _, err := rand.Read(q.secret[:]); err != nil {
		return nil, err
	}
	start, cursors, err := q.begin(ctx, opts.Start)
	if err != nil {
		return nil, err
	}
	opts.Start = braid.Position{}
	q.state = newState(q.id, opts, start)
	q.cursors, q.loaded = cursors, true
	// After ErrOutcomeUnknown this function may still run; the queue then belongs to it.
	err = q.door.Commit(ctx, false, 200, func(rows companion.Rows) (func(), error) {
		all.mu.Lock()
		defer all.mu.Unlock()
		if all.byName[name] != nil {
			return nil, ErrQueueExists
		}
		if err := q.inner.AddQueues(1); err != nil {
			return nil, err
		}
		all.addLocked(q)
		rows.Set(layout.QueueKey(q.id), q.row())
		for shard, c := range cursors {
			key := layout.CursorKey(q.id, shard)
			rows.Set(key, c.CursorRow.Encode(key))
		}
		return nil, nil
	})
	if err != nil {
		return nil, err
	}
	return q, nil
}

// begin makes the queue's start concrete: the counter of the first record that it may
// hand out, and how many records of each shard lie before it.
func (q *Queue) begin(ctx context.Context, at braid.Position) (start uint64, cursors map[uint32]*cursor, err error) {
	if start, err = q.inner.Resolve(at); err != nil {
		return 0, nil, err
	}
	if start > q.created+1 && !at.Equal(braid.Latest()) {
		return 0, nil, invalid("Start", at, "must not lie in the future")
	}
	cursors = make(map[uint32]*cursor)
	q.started = min(q.created, max(start, uint64(q.stream.CreatedAt().UnixNano())))
	if keeps := uint64(q.inner.Retention()); keeps > 0 {
		q.started = max(q.started, q.created-min(q.created, keeps))
	}
	oldest := q.created
	for _, sh := range q.stream.Shards() {
		inner := companion.ShardOf(sh)
		first, ordinal, err := inner.Ahead(ctx, start)
		if err != nil {
			return 0, nil, err
		}
		if first != 0 {
			oldest = min(oldest, first)
		}
		cursors[inner.Index()] = &cursor{CursorRow: layout.CursorRow{Counter: start - 1, Ordinal: ordinal}}
	}
	switch {
	case at.Equal(braid.TrimHorizon()):
		q.started = oldest
	case at.Equal(braid.Latest()):
		q.started = q.created
	}
	return start, cursors, nil
}

// row returns the queue's row.
func (q *Queue) row() []byte {
	o, gone := &q.settings, q.expired.less(q.wasted)
	return layout.QueueRow{
		Name: q.name, Stream: q.inner.Number(), Created: q.created, Start: q.start, Started: q.started, Secret: q.secret,
		Visibility: uint64(max(0, o.VisibilityTimeout)), MaxReceives: uint64(max(0, o.MaxReceives)),
		MaxInFlight: uint64(o.MaxInFlight), MaxWaiting: uint64(o.MaxWaiting),
		OrderByKey: o.OrderByKey, BlockAtDead: o.BlockAtDead,
		ExpiredUnreceived: gone.unreceived, ExpiredReceived: gone.received, ExpiredDead: gone.dead,
	}.Encode(q.id)
}

// flush drops what has expired, and adds the new counts of expired records to a commit.
func (q *Queue) flush(rows companion.Rows) {
	q.discard(rows)
	if counts := q.expired.less(q.wasted); counts != q.stored {
		q.stored = counts
		rows.Set(layout.QueueKey(q.id), q.row())
	}
}

// Get returns the queue with that name or [Queue.ID]. Errors: [ErrQueueNotFound], and
// those of package braid.
func Get(ctx context.Context, db *braid.DB, name string) (*Queue, error) {
	all, err := registryOf(ctx, db)
	if err != nil {
		return nil, wrap("get", name, err)
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	q := all.byName[name]
	if raw, err := idText.DecodeString(name); q == nil && err == nil && len(raw) == len(q.id) {
		q = all.byID[layout.QueueID(raw)]
	}
	if q == nil {
		return nil, wrap("get", name, ErrQueueNotFound)
	}
	return q, nil
}

// List returns the queues of a stream, or, with an empty name, of all streams, in the
// order of their creation. A stream that does not exist has none. Errors: those of
// package braid. Kinesis: ListQueues.
func List(ctx context.Context, db *braid.DB, stream string) ([]*Queue, error) {
	all, err := registryOf(ctx, db)
	if err != nil {
		return nil, wrap("list", stream, err)
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	found := slices.Collect(maps.Keys(all.of[stream]))
	if stream == "" {
		found = slices.Collect(maps.Values(all.byName))
	}
	slices.SortFunc(found, func(a, b *Queue) int {
		return cmp.Or(cmp.Compare(a.created, b.created), strings.Compare(a.name, b.name))
	})
	return found, nil
}

// Name returns the queue's name.
func (q *Queue) Name() string { return q.name }

// ID returns 26 random lower-case letters and digits that identify the queue. No other
// queue has the same ID, whatever its name or database.
func (q *Queue) ID() string { return idText.EncodeToString(q.id[:]) }

// Stream returns the stream whose records the queue hands out.
func (q *Queue) Stream() *braid.Stream { return q.stream }

// CreatedAt returns when the queue was created.
func (q *Queue) CreatedAt() time.Time { return timeOf(q.created) }

// StartedAt returns the time at which the queue starts: its records are those that
// arrived then or later. For braid.AtTime it is the given time or, if that is later, the
// beginning of the stream's retention when the queue was created. For braid.Latest it is the
// time of creation, and for braid.TrimHorizon the arrival of the oldest record at that time.
func (q *Queue) StartedAt() time.Time { return timeOf(q.started) }

func timeOf(nanoseconds uint64) time.Time { return time.Unix(0, int64(nanoseconds)) }

// idText encodes 16 bytes as 26 characters that are valid in a host name.
var idText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func newID() (id layout.QueueID) {
	_, _ = rand.Read(id[:]) // it never fails
	return id
}

// registry holds the queues of an open database.
type registry struct {
	db   *braid.DB
	door companion.DB
	turn chan struct{} // holds a token while nobody loads

	mu     sync.Mutex // guards the fields below; a leaf
	loaded bool
	byName map[string]*Queue // committed queues, and those that are about to be
	byID   map[layout.QueueID]*Queue
	of     map[string]map[*Queue]struct{} // by stream; no set is empty
}

// registryOf returns the registry of a database, and loads it at the first use.
func registryOf(ctx context.Context, db *braid.DB) (*registry, error) {
	if db == nil {
		return nil, invalid("db", nil, "must not be nil")
	}
	door := companion.DBOf(db)
	all := door.Attach("queue", func() any {
		r := &registry{db: db, door: door, turn: newTurn()}
		r.byName, r.byID = make(map[string]*Queue), make(map[layout.QueueID]*Queue)
		r.of = make(map[string]map[*Queue]struct{})
		return r
	}).(*registry)
	if door.Life().Err() != nil {
		return nil, context.Cause(door.Life())
	}
	return all, all.load(ctx)
}

// load reads the rows of all queues, once.
func (all *registry) load(ctx context.Context) error {
	all.mu.Lock()
	loaded := all.loaded
	all.mu.Unlock()
	if loaded {
		return ctx.Err()
	}
	if err := takeTurn(ctx, all.door, all.turn); err != nil {
		return err
	}
	defer giveTurn(all.turn)
	var queues []*Queue
	err := all.db.View(ctx, func(tx *braid.Tx) error {
		inner := companion.TxOf(tx)
		for row, err := range inner.Scan(layout.QueueSpan()) {
			if err != nil {
				return err
			}
			q, err := all.decode(inner, row)
			if err != nil {
				return err
			}
			queues = append(queues, q)
		}
		return nil
	})
	if err != nil {
		return err
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	if !all.loaded { // nothing is created before that
		for _, q := range queues {
			all.addLocked(q)
		}
	}
	all.loaded = true
	return nil
}

// addLocked adds a queue; the caller need not hold the queue's mutex.
func (all *registry) addLocked(q *Queue) {
	all.byName[q.name], all.byID[q.id] = q, q
	of := all.of[q.stream.Name()]
	if of == nil {
		of = make(map[*Queue]struct{})
		all.of[q.stream.Name()] = of
	}
	of[q] = struct{}{}
}

// remove removes a queue; the caller holds the queue's mutex.
func (all *registry) remove(q *Queue) {
	all.mu.Lock()
	defer all.mu.Unlock()
	delete(all.byName, q.name)
	delete(all.byID, q.id)
	of := all.of[q.stream.Name()]
	if delete(of, q); len(of) == 0 {
		delete(all.of, q.stream.Name())
	}
}

// decode makes a queue from its row. It reads no other row than that of its stream.
func (all *registry) decode(tx companion.Tx, row companion.Row) (*Queue, error) {
	id, err := layout.DecodeQueueKey(row.Key)
	if err != nil {
		return nil, companion.Corrupt(err)
	}
	r, err := layout.DecodeQueueRow(id, row.Value)
	if err != nil {
		return nil, companion.Corrupt(err)
	}
	value, err := tx.Get(layout.StreamKey(r.Stream))
	if err != nil {
		return nil, err
	}
	of, err := layout.DecodeStreamRow(r.Stream, value)
	if err != nil {
		return nil, companion.Corrupt(fmt.Errorf("queue %q belongs to stream %d: %w", r.Name, r.Stream, err))
	}
	stream, err := all.db.Stream(of.Name)
	if err != nil {
		return nil, err
	}
	q := all.newQueue(id, r.Name, stream)
	q.created, q.started, q.secret = r.Created, r.Started, r.Secret
	q.state = newState(id, Options{
		Stream: stream.Name(), VisibilityTimeout: time.Duration(r.Visibility), MaxReceives: int(r.MaxReceives),
		MaxInFlight: int(r.MaxInFlight), MaxWaiting: int(r.MaxWaiting), OrderByKey: r.OrderByKey, BlockAtDead: r.BlockAtDead,
	}, r.Start)
	q.expired = expired{r.ExpiredUnreceived, r.ExpiredReceived, r.ExpiredDead}
	q.stored = q.expired
	if q.settings.MaxReceives == 0 {
		q.settings.MaxReceives = -1
	}
	if q.settings.VisibilityTimeout == 0 {
		q.settings.VisibilityTimeout = -1
	}
	return q, nil
}

func (all *registry) newQueue(id layout.QueueID, name string, stream *braid.Stream) *Queue {
	return &Queue{
		db: all.db, door: all.door, all: all, log: all.door.Log().(*slog.Logger),
		id: id, name: name, stream: stream, inner: companion.StreamOf(stream),
		deleted: make(chan struct{}), loading: newTurn(), reading: newTurn(),
	}
}

// load reads the unsettled records, once, before the queue is used for the first time.
func (q *Queue) load(ctx context.Context) error {
	q.mu.Lock()
	loaded := q.loaded
	q.mu.Unlock()
	if loaded {
		return q.over(ctx)
	}
	if err := takeTurn(ctx, q.door, q.loading); err != nil {
		return err
	}
	defer giveTurn(q.loading)
	q.mu.Lock()
	loaded, s := q.loaded, newState(q.id, q.settings, q.start)
	s.expired, s.stored = q.expired, q.stored
	q.mu.Unlock()
	if loaded {
		return q.over(ctx)
	}
	now := q.door.Now()
	// Before the queue is loaded, only its deletion writes its rows.
	err := q.db.View(ctx, func(tx *braid.Tx) error { return s.load(tx, now, q.door.ClosedWell()) })
	if err != nil {
		return err
	}
	now = q.door.Now()
	q.passedIn(&s, now, math.MaxInt) // nobody waits for it
	s.sweepAll(now)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.state, q.loaded = s, true
	q.stats = counts{} // what has lapsed or died by now may have been counted before the database was opened
	return q.overLocked(ctx)
}

// load reads the rows of a queue.
func (s *state) load(tx *braid.Tx, now uint64, closedWell bool) error {
	door := companion.TxOf(tx)
	for row, err := range door.Scan(layout.QueueCursorsSpan(s.id)) {
		if err != nil {
			return err
		}
		_, shard, err := layout.DecodeCursorKey(row.Key)
		if err != nil {
			return companion.Corrupt(err)
		}
		c, err := layout.DecodeCursorRow(row.Key, row.Value)
		if err != nil {
			return companion.Corrupt(err)
		}
		s.cursors[shard] = &cursor{CursorRow: c}
		s.next = max(s.next, c.Counter+1)
	}
	s.readAt = s.next
	var found []*entry
	for row, err := range door.Scan(layout.QueueDeliveriesSpan(s.id)) {
		if err != nil {
			return err
		}
		_, shard, counter, err := layout.DecodeDeliveryKey(row.Key)
		if err != nil {
			return companion.Corrupt(err)
		}
		r, err := layout.DecodeDeliveryRow(row.Key, row.Value)
		if err != nil {
			return companion.Corrupt(err)
		}
		found = append(found, restored(place{shard, counter}, r, now, closedWell))
	}
	slices.SortFunc(found, func(a, b *entry) int { return cmp.Compare(a.counter, b.counter) })
	for _, e := range found { // by arrival, across shards
		s.add(e)
	}
	return nil
}

// over returns why the queue cannot be used, or nil.
func (q *Queue) over(ctx context.Context) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.overLocked(ctx)
}

func (q *Queue) overLocked(ctx context.Context) error {
	switch life := q.door.Life(); {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case life.Err() != nil:
		return context.Cause(life)
	case q.gone:
		return ErrQueueNotFound
	}
	return nil
}

// newTurn returns a channel that holds the one token of a turn.
func newTurn() chan struct{} {
	turn := make(chan struct{}, 1)
	giveTurn(turn)
	return turn
}

func giveTurn(turn chan struct{}) { turn <- struct{}{} }

// takeTurn waits for the token.
func takeTurn(ctx context.Context, door companion.DB, turn chan struct{}) error {
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-door.Life().Done():
		return context.Cause(door.Life())
	}
}
