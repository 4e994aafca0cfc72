package main

import (
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// The floors of T8. Both have readers in memory; in one, raw Pebble stores each record first.
var (
	wakeFloorSystem   = system{name: "floor: put and wake", open: openFanOut(true)}
	fanOutFloorSystem = system{name: "floor: fan-out", open: openFanOut(false)}
)

// noteFloorSystem is the floor of Q5: the first floor of T8 with a row of raw Pebble that is
// written before a reader gets the record, and deleted afterwards, since a queue must store its
// deliveries.
var noteFloorSystem = system{name: "floor: put, wake and note", open: func(dir string, s settings) (store, error) {
	st, err := openFanOut(true)(dir, s)
	if err != nil {
		return nil, err
	}
	return noteStore{st.(*fanOutStore)}, nil
}}

// noteStore is a fanOutStore that stores a row for each delivery.
type noteStore struct{ *fanOutStore }

// noteBytes is about the size of a queue's row.
const noteBytes = 60

func (s noteStore) follow(shard int, fn func([]byte)) error {
	raw, note := s.pebble, make([]byte, noteBytes)
	var key [pebbleKeyBytes]byte
	var n uint64
	return s.fanOutStore.follow(shard, func(value []byte) {
		n++
		putPebbleKey(key[:], len(s.tails)+shard, n) // after the rows of all shards
		if raw.db.Set(key[:], note, pebble.NoSync) != nil {
			return // the database has failed, and the producers get the error
		}
		fn(value)
		_ = raw.db.Delete(key[:], pebble.NoSync) // as above
	})
}

// fanOutStore passes records to readers and keeps the last ones of each shard in a slice. A put
// closes a channel, which wakes the readers.
type fanOutStore struct {
	pebble  *pebbleStore // nil if puts are in memory only
	tails   []*memoryTail
	closing chan struct{}
	readers sync.WaitGroup
}

// memoryTail is a shard.
type memoryTail struct {
	mu      sync.Mutex // guards the fields below
	values  [][]byte   // the last ones
	first   int        // the number of values before them
	changed chan struct{}
}

// tailRecords is the minimal number of values kept of a shard. A reader that is further behind
// misses records, which lowers this floor and not braid's result.
const tailRecords = 2048

func openFanOut(withPut bool) func(dir string, s settings) (store, error) {
	return func(dir string, s settings) (store, error) {
		f := &fanOutStore{closing: make(chan struct{})}
		for range s.shards {
			f.tails = append(f.tails, &memoryTail{changed: make(chan struct{})})
		}
		if withPut {
			st, err := openPebble(dir, s)
			if err != nil {
				return nil, err
			}
			f.pebble = st.(*pebbleStore)
		}
		return f, nil
	}
}

func (f *fanOutStore) close() error {
	close(f.closing)
	f.readers.Wait()
	if f.pebble != nil {
		return f.pebble.close()
	}
	return nil
}

func (f *fanOutStore) producer(n int) (producer, error) {
	return &fanOutProducer{store: f, next: n}, nil
}

type fanOutProducer struct {
	store *fanOutStore
	next  int
	key   [pebbleKeyBytes]byte
}

func (p *fanOutProducer) put(value []byte) error {
	p.next++
	shard := p.next % len(p.store.tails)
	if raw := p.store.pebble; raw != nil {
		putPebbleKey(p.key[:], shard, raw.last.Add(1))
		if err := raw.db.Set(p.key[:], value, pebble.NoSync); err != nil {
			return err
		}
	}
	p.store.tails[shard].add(slices.Clone(value)) // the caller may reuse its slice
	return nil
}

func (p *fanOutProducer) putBatch(values [][]byte) error {
	for _, v := range values {
		if err := p.put(v); err != nil {
			return err
		}
	}
	return nil
}

func (t *memoryTail) add(value []byte) {
	t.mu.Lock()
	if len(t.values) == 2*tailRecords {
		copy(t.values, t.values[tailRecords:])
		t.values = t.values[:tailRecords]
		t.first += tailRecords
	}
	t.values = append(t.values, value)
	changed := t.changed
	t.changed = make(chan struct{})
	t.mu.Unlock()
	close(changed)
}

// after appends the values after the first n to page, and returns the number of all values, and
// a channel that is closed when there are more.
func (t *memoryTail) after(n int, page [][]byte) (_ [][]byte, end int, changed <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	end = t.first + len(t.values)
	return append(page, t.values[max(0, n-t.first):]...), end, t.changed
}

func (f *fanOutStore) follow(shard int, fn func([]byte)) error {
	tail := f.tails[shard]
	_, end, changed := tail.after(0, nil)
	f.readers.Go(func() {
		var page [][]byte
		for {
			select {
			case <-changed:
			case <-f.closing:
				return
			}
			page, end, changed = tail.after(end, page[:0])
			for _, v := range page {
				fn(v)
			}
		}
	})
	return nil
}
