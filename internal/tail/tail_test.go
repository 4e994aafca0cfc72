package tail_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/tail"
)

// records makes records with the counters first, first+10, …, of 100 bytes each.
func records(first uint64, n int) []layout.Record {
	all := make([]layout.Record, n)
	for i := range all {
		counter := first + 10*uint64(i)
		ordinal := counter/10 - 1
		all[i] = layout.Record{Counter: counter, Ordinal: ordinal, Offset: 100 * ordinal, PartitionKey: "k", Data: make([]byte, 99)}
	}
	return all
}

func counters(records []layout.Record) (all []uint64) {
	for _, r := range records {
		all = append(all, r.Counter)
	}
	return all
}

func TestReadKeepsToItsRangeAndLimits(t *testing.T) {
	cache, log := tail.NewCache(1<<20), tail.NewLog(tail.Tip{})
	cache.Append(log, records(10, 3)) // 10, 20, 30
	cache.Append(log, records(40, 1))
	cache.Append(log, records(50, 2)) // 50, 60
	require.Equal(t, tail.Tip{LastCounter: 60, Ordinal: 6, Offset: 600}, log.Tip())
	for _, row := range []struct {
		name         string
		from, to     uint64
		limit, bytes int
		want         []uint64
		next         uint64
	}{
		{"everything", 1, 1000, 100, 10_000, []uint64{10, 20, 30, 40, 50, 60}, 0},
		{"from the middle of a chunk", 20, 1000, 100, 10_000, []uint64{20, 30, 40, 50, 60}, 0},
		{"from between two", 21, 1000, 100, 10_000, []uint64{30, 40, 50, 60}, 0},
		{"up to a record", 1, 40, 100, 10_000, []uint64{10, 20, 30, 40}, 50},
		{"up to between two", 1, 49, 100, 10_000, []uint64{10, 20, 30, 40}, 50},
		{"two records", 1, 1000, 2, 10_000, []uint64{10, 20}, 30},
		{"over a chunk's end", 30, 1000, 2, 10_000, []uint64{30, 40}, 50},
		{"bytes", 1, 1000, 100, 350, []uint64{10, 20, 30}, 40},
		{"bytes exactly", 1, 1000, 100, 400, []uint64{10, 20, 30, 40}, 50},
		{"one, whatever its size", 1, 1000, 100, 1, []uint64{10}, 20},
		{"the last", 60, 1000, 100, 10_000, []uint64{60}, 0},
		{"beyond the tip", 61, 1000, 100, 10_000, nil, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, view := log.Read(nil, row.from, row.to, row.limit, row.bytes)
			require.True(t, view.Covered)
			require.Equal(t, row.want, counters(got))
			require.Equal(t, row.next, view.Next)
			require.Equal(t, log.Tip(), view.Tip)
		})
	}
	got, _ := log.Read(records(1, 1), 60, 1000, 1, 1)
	require.Equal(t, []uint64{1, 60}, counters(got), "it appends")
}

func TestTheOldestRecordsOfAllShardsAreEvicted(t *testing.T) {
	cache := tail.NewCache(10 * (100 + 96)) // ten records
	a, b := tail.NewLog(tail.Tip{}), tail.NewLog(tail.Tip{LastCounter: 5, Ordinal: 1, Offset: 100})
	cache.Append(a, records(10, 4))
	cache.Append(b, records(20, 4))
	_, view := b.Read(nil, 5, 1000, 1, 1)
	require.False(t, view.Covered, "what was before the tail is only in the store")
	_, view = b.Read(nil, 6, 1000, 1, 1)
	require.True(t, view.Covered)

	cache.Append(a, records(50, 4)) // evicts 10 to 40 of a
	_, view = a.Read(nil, 40, 1000, 1, 1)
	require.False(t, view.Covered)
	got, view := a.Read(nil, 41, 1000, 100, 10_000)
	require.True(t, view.Covered)
	require.Equal(t, []uint64{50, 60, 70, 80}, counters(got))
	got, view = b.Read(nil, 20, 1000, 100, 10_000)
	require.True(t, view.Covered)
	require.Len(t, got, 4)
	require.LessOrEqual(t, cache.Bytes(), int64(10*(100+96)))
	require.Equal(t, uint64(80), a.Tip().LastCounter, "the tip stays")

	cache.Append(a, records(90, 100)) // more than fits
	got, view = a.Read(nil, 90, 1000, 100, 10_000)
	require.False(t, view.Covered)
	require.Empty(t, got)
	_, view = a.Read(nil, a.Tip().LastCounter+1, 2000, 1, 1)
	require.True(t, view.Covered, "a reader at the tip needs nothing of the store")
	require.Zero(t, cache.Bytes())
}

// A waiting reader is woken by every record above its counter, and a reader that comes late does
// not wait at all.
func TestWaitIsLevelTriggered(t *testing.T) {
	cache, log := tail.NewCache(1<<20), tail.NewLog(tail.Tip{})
	a, b := tail.NewWaiter(), tail.NewWaiter()
	log.Wait(a, 0)
	log.Wait(b, 0)
	require.False(t, rang(a))
	cache.Append(log, records(10, 1))
	require.True(t, rang(a))
	require.True(t, rang(b), "all are woken")
	cache.Append(log, records(20, 1))
	require.False(t, rang(a), "it has not waited since")
	for _, seen := range []uint64{0, 19} {
		log.Wait(a, seen)
		require.True(t, rang(a))
	}
	log.Wait(a, 20)
	log.Wait(a, 20) // registers a only once
	require.False(t, rang(a))
	log.End()
	require.True(t, rang(a))
	log.Wait(a, 1000)
	require.True(t, rang(a), "nothing will come")
	require.True(t, log.Tip().Ended)
	require.Equal(t, uint64(20), log.Tip().LastCounter)

	var signal tail.Counter
	signal.Wait(a, 7)
	signal.Raise(7)
	require.True(t, rang(a), "it looks again, and waits again")
	signal.Wait(a, 7)
	require.False(t, rang(a))
	signal.Raise(8)
	require.True(t, rang(a))
	require.Equal(t, uint64(8), signal.Last())
	signal.Wait(a, 8)
	signal.End()
	require.True(t, rang(a))
	signal.Wait(a, 100)
	require.True(t, rang(a))
}

// rang reports whether the waiter was woken since the last call.
func rang(w *tail.Waiter) bool {
	select {
	case <-w.C():
		return true
	default:
		return false
	}
}

// A waiter that has left is not woken, and those that stay are.
func TestLeaving(t *testing.T) {
	for name, list := range map[string]interface {
		Wait(*tail.Waiter, uint64)
		Leave(*tail.Waiter)
		End()
	}{"log": tail.NewLog(tail.Tip{}), "counter": new(tail.Counter)} {
		t.Run(name, func(t *testing.T) {
			var all []*tail.Waiter
			for range 5 {
				all = append(all, tail.NewWaiter())
				list.Wait(all[len(all)-1], 0)
			}
			for _, i := range []int{0, 4, 2, 2} { // the first, the last, one in the middle, and that again
				list.Leave(all[i])
			}
			list.Leave(tail.NewWaiter())
			list.End()
			for i, w := range all {
				require.Equal(t, i == 1 || i == 3, rang(w), i)
			}
			list.Leave(all[1]) // after it was woken
		})
	}
}

// Next returns the records that were appended together, from any counter on. It registers the
// waiter only if it has returned the last record.
func TestNextReturnsWhatCameTogether(t *testing.T) {
	cache, log := tail.NewCache(1<<20), tail.NewLog(tail.Tip{LastCounter: 5})
	const chunks = 50
	for i := range uint64(chunks) {
		cache.Append(log, records(10+20*i, 2)) // 10, 20; 30, 40; …
	}
	const last = 20 * chunks
	w := tail.NewWaiter()
	for from := uint64(6); from <= last; from++ {
		run, waiting := log.Next(w, from)
		want := []uint64{(from + 9) / 10 * 10}
		if want[0]%20 == 10 {
			want = append(want, want[0]+10)
		}
		require.Equal(t, want, counters(run), from)
		require.Equal(t, want[len(want)-1] == last, waiting, from)
	}
	w.Ring()
	run, waiting := log.Next(w, last+1)
	require.Empty(t, run)
	require.True(t, waiting)
	require.False(t, rang(w), "an old ring is forgotten")
	run, waiting = log.Next(nil, last)
	require.Len(t, run, 1)
	require.False(t, waiting, "nobody waits")
	cache.Append(log, records(last+10, 1))
	require.True(t, rang(w))
	run, waiting = log.Next(w, 5)
	require.Empty(t, run, "it is only in the store")
	require.False(t, waiting)
	_, waiting = log.Next(w, last+10)
	require.True(t, waiting)
	log.End()
	require.True(t, rang(w))
	run, waiting = log.Next(w, last+10)
	require.Len(t, run, 1)
	require.False(t, waiting, "nothing will come")
}

// Appending without waiters costs nothing, and a wait allocates nothing.
func TestWaitingMakesNothing(t *testing.T) {
	log, w := tail.NewLog(tail.Tip{}), tail.NewWaiter()
	var signal tail.Counter
	round := func() {
		log.Wait(w, 0)
		log.Leave(w)
		log.Next(w, 1)
		log.Leave(w)
		signal.Wait(w, 1<<40)
		signal.Raise(signal.Last() + 1)
		<-w.C()
	}
	round()
	round() // allocates the two lists that take turns
	require.Zero(t, testing.AllocsPerRun(100, round))
}

// One goroutine appends and evicts. Others read, each at its own pace, by pages or with Next. Each
// of them sees every record, or sees that it is only in the store, and none waits for a record
// that already exists.
func TestReadersAndTheWriterAtOnce(t *testing.T) {
	const last = 20_000
	cache := tail.NewCache(500 * (100 + 96))
	logs := []*tail.Log{tail.NewLog(tail.Tip{}), tail.NewLog(tail.Tip{})}
	var running sync.WaitGroup
	for i := range 8 {
		log := logs[i%2]
		running.Go(func() {
			read := readAll
			if i >= 4 {
				read = nextAll
			}
			if err := read(log, last, 1+i*7); err != nil {
				t.Error(err)
			}
		})
	}
	var coming sync.WaitGroup // goroutines that wait and leave
	stop := make(chan struct{})
	for i := range 2 {
		coming.Go(func() {
			for w := tail.NewWaiter(); ; {
				select {
				case <-stop:
					return
				default:
					logs[i].Wait(w, last)
					logs[i].Leave(w)
				}
			}
		})
	}
	for n, i := 1, 0; n <= last/10; i++ {
		count := min(1+i%5, last/10-n+1)
		for _, log := range logs {
			cache.Append(log, records(uint64(10*n), count))
		}
		n += count
	}
	running.Wait()
	close(stop)
	coming.Wait()
	for _, log := range logs {
		log.End()
	}
}

func readAll(log *tail.Log, last uint64, limit int) error {
	w := tail.NewWaiter()
	for from := uint64(1); ; {
		got, view := log.Read(nil, from, 1<<62, limit, 1<<20)
		if !view.Covered { // as if the store were read
			from = view.Tip.LastCounter + 1
			if view.Tip.LastCounter == last {
				return nil
			}
			continue
		}
		if err := follow(got, &from); err != nil || from > last {
			return err
		}
		if view.Next == 0 {
			log.Wait(w, from-1)
			<-w.C()
		}
	}
}

func nextAll(log *tail.Log, last uint64, _ int) error {
	w := tail.NewWaiter()
	for from := uint64(1); ; {
		run, waiting := log.Next(w, from)
		if err := follow(run, &from); err != nil || from > last {
			return err
		}
		if len(run) == 0 && !waiting { // as if the store were read
			from = log.LastCounter() + 1
			if from > last {
				return nil
			}
		}
		if waiting {
			<-w.C()
		}
	}
}

// follow checks that the records begin at a counter and have no gap, and moves the counter on.
func follow(got []layout.Record, from *uint64) error {
	for i := range got {
		if want := (*from + 9) / 10 * 10; got[i].Counter != want {
			return fmt.Errorf("record %d came where %d should", got[i].Counter, want)
		}
		*from = got[i].Counter + 1
	}
	return nil
}
