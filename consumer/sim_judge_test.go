package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/internal/companion"
)

// judge checks every commit of a lease, in order.
type judge struct {
	s *simulation

	mu        sync.Mutex // guards the fields below
	leases    map[consumer.LeaseKey]consumer.Lease
	delivered map[epochKey]braid.SequenceNumber
	accepted  map[braid.ShardID]bool // shards whose gaps were accepted at least once
}

type epochKey struct {
	consumer.LeaseKey
	epoch uint64
}

func newJudge(s *simulation) *judge {
	j := &judge{s: s, leases: make(map[consumer.LeaseKey]consumer.Lease), delivered: make(map[epochKey]braid.SequenceNumber), accepted: make(map[braid.ShardID]bool)}
	leases, err := consumer.NewDBLeases(s.db, "sim").List(s.t.Context())
	require.NoError(s.t, err)
	for _, lease := range leases {
		j.leases[lease.LeaseKey] = lease
	}
	return j
}

// gap refuses some gaps. Of the others it notes the removed records, which a checkpoint may
// pass, too.
func (j *judge) gap(_ context.Context, stream string, gap *braid.TrimmedError) error {
	if gap.LastLost.IsZero() {
		j.s.totals.gaps.Add(1)
	}
	j.s.mu.Lock()
	refuses := !j.s.calm && j.s.chaos.IntN(3) == 0
	j.s.mu.Unlock()
	if refuses {
		if gap.LastLost.IsZero() {
			j.s.totals.refusals.Add(1)
		}
		return errRefused
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.s.lossy {
		j.s.t.Errorf("there is a gap: %v", gap)
	}
	key := consumer.LeaseKey{Stream: stream, Shard: gap.Shard}
	j.delivered[epochKey{key, j.leases[key].Epoch}] = gap.LastLost
	j.accepted[gap.Shard] = true
	return nil
}

// isUnread reports whether one of the shards is not done.
func (j *judge) isUnread(shards []braid.ShardID) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, id := range shards {
		if lease, known := j.leases[consumer.LeaseKey{Stream: "in", Shard: id}]; known && !lease.Checkpoint.ShardEnd {
			return true
		}
	}
	return false
}

// deliver notes the records that a processor was given, and checks their order.
func (j *judge) deliver(lease consumer.Lease, batch *consumer.TxBatch) {
	j.mu.Lock()
	defer j.mu.Unlock()
	key := epochKey{lease.LeaseKey, lease.Epoch}
	stored := j.leases[lease.LeaseKey]
	for i, r := range batch.Records {
		if i > 0 && r.SequenceNumber.Compare(batch.Records[i-1].SequenceNumber) <= 0 {
			j.s.t.Errorf("%s: %s came out of order", lease.LeaseKey, r.SequenceNumber)
		}
		if stored.Epoch == lease.Epoch && !stored.Checkpoint.SequenceNumber.IsZero() && r.SequenceNumber.Compare(stored.Checkpoint.SequenceNumber) <= 0 {
			j.s.t.Errorf("%s: %s came again under one epoch", lease.LeaseKey, r.SequenceNumber)
		}
	}
	j.delivered[key] = batch.Records[len(batch.Records)-1].SequenceNumber
	for _, gap := range stored.Gaps {
		if !gap.Accepted {
			j.s.t.Errorf("%s began before the gap of %s was accepted", lease.LeaseKey, gap.Shard)
		}
	}
	sh, err := j.s.stream.Shard(lease.Shard)
	if err != nil {
		return
	}
	for _, parent := range sh.Parents() {
		if _, err := j.s.stream.Shard(parent); err != nil { // it has expired, and may have left a gap
			if p, known := j.leases[consumer.LeaseKey{Stream: lease.Stream, Shard: parent}]; known && !p.Checkpoint.ShardEnd && !hasGap(stored, parent) {
				j.s.t.Errorf("%s began without the gap of %s", lease.LeaseKey, parent)
			}
			continue
		}
		if p, known := j.leases[consumer.LeaseKey{Stream: lease.Stream, Shard: parent}]; known && !p.Checkpoint.ShardEnd {
			j.s.t.Errorf("%s began before %s was done", lease.LeaseKey, parent)
		}
	}
}

// commit checks a row that was written.
func (j *judge) commit(key, value []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if value == nil {
		return
	}
	lease, err := consumer.DecodeLease(key, value)
	if err != nil {
		j.s.t.Errorf("a stored lease: %v", err)
		return
	}
	was, known := j.leases[lease.LeaseKey]
	j.leases[lease.LeaseKey] = lease
	if !known || lease.Shard == "" {
		return
	}
	switch {
	case lease.Version != was.Version+1:
		j.s.t.Errorf("%s: version %d follows %d", lease.LeaseKey, lease.Version, was.Version)
	case lease.Epoch < was.Epoch:
		j.s.t.Errorf("%s: epoch %d was written after %d", lease.LeaseKey, lease.Epoch, was.Epoch)
	case lease.Owner != was.Owner && lease.Owner != "" && lease.Epoch == was.Epoch:
		j.s.t.Errorf("%s: %q has the epoch of %q", lease.LeaseKey, lease.Owner, was.Owner)
	case lease.Checkpoint.Before(was.Checkpoint):
		j.s.t.Errorf("%s: the checkpoint goes from %s back to %s", lease.LeaseKey, was.Checkpoint, lease.Checkpoint)
	case !lease.Checkpoint.Equal(was.Checkpoint) && (lease.Epoch != was.Epoch || lease.Owner != was.Owner):
		j.s.t.Errorf("%s: the checkpoint changes with the owner", lease.LeaseKey)
	case !lease.Checkpoint.Equal(was.Checkpoint) && !lease.Checkpoint.ShardEnd &&
		lease.Checkpoint.SequenceNumber.Compare(j.delivered[epochKey{lease.LeaseKey, lease.Epoch}]) > 0:
		j.s.t.Errorf("%s: the checkpoint %s is ahead of what was delivered", lease.LeaseKey, lease.Checkpoint)
	}
	for _, gap := range was.Gaps {
		if !hasGap(lease, gap.Shard) {
			j.s.t.Errorf("%s has lost the gap of %s", lease.LeaseKey, gap.Shard)
		}
	}
	for _, gap := range lease.Gaps {
		if gap.Accepted && !slices.Contains(was.Gaps, gap) && !j.accepted[gap.Shard] {
			j.s.t.Errorf("%s: nobody has accepted the gap of %s", lease.LeaseKey, gap.Shard)
		}
	}
	if lease.Epoch > was.Epoch {
		j.s.totals.takes.Add(1)
	}
	if !lease.Checkpoint.Equal(was.Checkpoint) {
		j.s.totals.checkpoints.Add(1)
	}
	if lease.Checkpoint.ShardEnd && !was.Checkpoint.ShardEnd {
		j.s.totals.ended.Add(1)
	}
}

func hasGap(lease consumer.Lease, shard braid.ShardID) bool {
	return slices.ContainsFunc(lease.Gaps, func(gap consumer.LeaseGap) bool { return gap.Shard == shard })
}

var errTwice = errors.New("the record had its effect already, or came before an earlier one")

// effect stores in the application's keys that records were processed.
func effect(tx *braid.Tx, records []consumer.Record) error {
	for _, r := range records {
		id, _ := strconv.Atoi(string(r.Data))
		seen := fmt.Appendf(nil, "seen/%06d", id)
		_, err := tx.Get(seen)
		if err == nil {
			return fmt.Errorf("%w: %d", errTwice, id)
		}
		if !errors.Is(err, braid.ErrKeyNotFound) {
			return err
		}
		last, sum := []byte("last/"+r.PartitionKey), []byte("count")
		before, err := readInt(tx, last)
		if err != nil {
			return err
		}
		if before > id {
			return fmt.Errorf("%w: %d after %d", errTwice, id, before)
		}
		n, err := readInt(tx, sum)
		if err != nil {
			return err
		}
		for key, value := range map[string]int{string(seen): id, string(last): id, string(sum): n + 1} {
			if err := tx.Set([]byte(key), []byte(strconv.Itoa(value))); err != nil {
				return err
			}
		}
	}
	return nil
}

func readInt(tx *braid.Tx, key []byte) (int, error) {
	value, err := tx.Get(key)
	if errors.Is(err, braid.ErrKeyNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(value))
}

// checkEffects compares the effects with the records: each happened once, none is missing
// except for trimmed records, and none lacks its record.
func (s *simulation) checkEffects(db *braid.DB, ids int) {
	there := make(map[int]bool)
	stream, err := db.Stream("in")
	require.NoError(s.t, err)
	for r, err := range stream.Records(s.t.Context(), braid.TrimHorizon()) {
		require.NoError(s.t, err)
		id, _ := strconv.Atoi(string(r.Data))
		there[id] = true
	}
	err = db.View(s.t.Context(), func(tx *braid.Tx) error {
		seen := 0
		for kv, err := range tx.Scan([]byte("seen/"), []byte("seen0")) {
			if err != nil {
				return err
			}
			id, _ := strconv.Atoi(string(kv.Value))
			seen++
			if !there[id] && !s.lossy {
				s.t.Errorf("record %d had an effect, and is not there", id)
			}
			delete(there, id)
		}
		count, err := readInt(tx, []byte("count"))
		if err != nil {
			return err
		}
		if count != seen || seen > ids {
			s.t.Errorf("%d records had effects, and %d were counted, of %d", seen, count, ids)
		}
		return nil
	})
	require.NoError(s.t, err)
	if len(there) > 0 {
		s.t.Errorf("records %v had no effect", there)
	}
}

// checkImage opens what a power cut would have left, and continues there.
func (s *simulation) checkImage(image *vfs.MemFS) {
	opened, err := companion.Open("/db", &braid.Options{MemtableBytes: 1 << 20, ReserveBytes: -1}, companion.Environment{FS: vfs.FS(image)})
	require.NoError(s.t, err)
	db := opened.(*braid.DB)
	if _, err := db.Stream("in"); errors.Is(err, braid.ErrStreamNotFound) {
		require.NoError(s.t, db.Close())
		return // it was taken before the application existed
	}
	began := time.Now()
	w, err := consumer.NewTx(db, &consumer.Config{App: "sim", Streams: []string{"in"}, MaxAttempts: 1}, consumer.TxProcessorFunc(
		func(_ context.Context, tx *braid.Tx, batch *consumer.TxBatch) error { return effect(tx, batch.Records) }))
	require.NoError(s.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()
	synctest.Wait()
	app := w.App()
	_ = app.Resume(s.t.Context(), consumer.LeaseKey{Stream: "in"}) // it may have been paused
	synctest.Wait()
	s.checkEffects(db, s.nextID)
	if waited := time.Since(began); waited != 0 {
		s.t.Errorf("it took %v to go on after a crash", waited)
	}
	cancel()
	require.NoError(s.t, <-ended)
	require.NoError(s.t, db.Close())
}
