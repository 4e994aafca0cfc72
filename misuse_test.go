package braid_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/errorkind"
)

// ugly is a name that must not be printed to a terminal as it is.
const ugly = "a\x00\n\x1b[31mb\xff"

var long = strings.Repeat("é", 3000)

// misuse is a call that must be refused.
type misuse struct {
	call  string // the function or method, and how it is misused
	class error
	err   func() error
}

// oneOf returns the error of a call that also returns a value.
func oneOf[T any](_ T, err error) error { return err }

func ended[T any](records iter.Seq2[T, error]) error {
	for _, err := range records {
		if err != nil {
			return err
		}
	}
	return nil
}

// requireUseful requires that an error belongs to one class, and that its text can be printed
// anywhere.
func requireUseful(t *testing.T, what string, err, class error) {
	t.Helper()
	require.Error(t, err, what)
	for _, kind := range errorkind.All {
		require.Equal(t, kind.Err == class, errors.Is(err, kind.Err), "%s: %s: %v", what, kind.Name, err)
	}
	text := err.Error()
	require.Less(t, len(text), 2000, what)
	require.LessOrEqual(t, strings.Count(text, "braid: "), 1, text)
	require.False(t, strings.HasSuffix(text, "."), text)
	for _, r := range text {
		require.True(t, unicode.IsPrint(r), "%s: %q", what, text)
	}
	var invalid *braid.InvalidArgumentError
	if class == braid.ErrInvalidArgument {
		require.ErrorAs(t, err, &invalid, what)
		require.NotEmpty(t, invalid.Field, what)
		require.NotEmpty(t, invalid.Rule, what)
	}
}

func TestEveryMisuseHasAClassAndAUsefulText(t *testing.T) {
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "db")
	ring := readOnlyRing
	db := boxOpenDir(t, dir, &braid.Options{KeyProvider: ring})
	plain := boxOpen(t, nil) // without keys
	s := boxOpenStream(t, db, "s", 2)
	other := boxOpenStream(t, db, "other", 2)
	gone := boxOpenStream(t, db, "gone", 1)
	goneShard := gone.Shards()[0]
	require.NoError(t, db.DeleteStream(ctx, "gone"))
	onDemand, err := db.OpenStream(ctx, "ondemand", &braid.StreamOptions{Capacity: braid.Capacity{Mode: braid.OnDemand}})
	require.NoError(t, err)
	slow, err := db.OpenStream(ctx, "slow", &braid.StreamOptions{Capacity: braid.Capacity{Mode: braid.Provisioned, WriteBytesPerSecond: 1, ReadBytesPerSecond: 1}})
	require.NoError(t, err)
	day := make([]byte, 24*60*60) // uses up the budgets of a day, for reads and for writes
	require.NoError(t, oneOf(slow.PutRecord(ctx, "k", day)))
	require.NoError(t, oneOf(slow.Shards()[0].GetRecords(ctx, braid.TrimHorizon(), nil)))
	trimmed := boxPut(t, s, "one", "two")
	foreign := shifted(t, trimmed[0], 1, 148) // a number of a shard created a second later
	require.NoError(t, s.Trim(ctx, braid.Latest()))
	_, _, err = s.SplitShard(ctx, "0", nil)
	require.NoError(t, err)
	sh, err := s.Shard(trimmed[0].ShardID())
	require.NoError(t, err)
	newer := boxBeyond(t, trimmed[1])
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte("main not-base64"), 0o600))
	uglyDir := filepath.Join(t.TempDir(), "a\n\x1b[31mb") // a valid name of a directory
	require.NoError(t, os.MkdirAll(filepath.Join(uglyDir, "full\n"), 0o755))
	boxOpenDir(t, filepath.Join(uglyDir, "db\n"), nil)
	open := filepath.Join(t.TempDir(), "open")
	require.NoError(t, os.WriteFile(open, nil, 0o644))
	require.NoError(t, os.Chmod(open, 0o644))

	free, closed := filepath.Join(t.TempDir(), "free"), t.TempDir()
	saved, err := braid.Open(closed, nil)
	require.NoError(t, err)
	require.NoError(t, saved.Close())
	opening := func(dir string, options *braid.Options) func() error {
		return func() error { return oneOf(braid.Open(dir, options)) }
	}
	creating := func(name string, options *braid.StreamOptions) func() error {
		return func() error { return oneOf(db.CreateStream(ctx, name, options)) }
	}
	update := func(fn func(tx *braid.Tx) error) func() error { return func() error { return db.Update(ctx, fn) } }
	view := func(fn func(tx *braid.Tx) error) func() error { return func() error { return db.View(ctx, fn) } }
	getting := func(p braid.Position, options *braid.GetRecordsOptions) func() error {
		return func() error { return oneOf(sh.GetRecords(ctx, p, options)) }
	}
	late := func(fn func(tx *braid.Tx) error) func() error { // after the transaction has ended
		return func() error {
			var kept *braid.Tx
			if err := db.Update(ctx, func(tx *braid.Tx) error { kept = tx; return nil }); err != nil {
				return err
			}
			return fn(kept)
		}
	}
	tags := make(map[string]string)
	for i := range 51 {
		tags[fmt.Sprint(i)] = ""
	}
	invalid := braid.ErrInvalidArgument
	misused := make(map[string]bool) // the methods in the table
	for _, m := range []misuse{
		{"Open: empty", invalid, opening("", nil)},
		{"Open: NUL", invalid, opening("a\x00b", nil)},
		{"Open: a file", invalid, opening(file, nil)},
		{"Open: below a file", invalid, opening(filepath.Join(file, "db"), nil)},
		{"Open: something else", invalid, opening(filepath.Dir(file), nil)},
		{"Open: open already", braid.ErrLocked, opening(dir, nil)},
		{"Open: an ugly directory", invalid, opening(uglyDir, nil)},
		{"Open: an ugly directory, open already", braid.ErrLocked, opening(filepath.Join(uglyDir, "db\n"), nil)},
		{"Open: an ugly directory to read", invalid, opening(filepath.Join(uglyDir, "full\n"), &braid.Options{ReadOnly: true})},
		{"Open: open already, to read", braid.ErrLocked, opening(dir, &braid.Options{ReadOnly: true})},
		{"Open: nothing to read", invalid, opening(t.TempDir(), &braid.Options{ReadOnly: true})},
		{"Open: nowhere to read", invalid, opening(filepath.Join(dir, "none"), &braid.Options{ReadOnly: true})},
		{"Open: a loss to accept and to read", invalid, opening(dir, &braid.Options{ReadOnly: true, AcceptLoss: true})},
		{"Open: a loss to accept in memory", invalid, opening(braid.InMemory, &braid.Options{AcceptLoss: true})},
		{"Open: memory to read", invalid, opening(braid.InMemory, &braid.Options{ReadOnly: true})},
		{"Open: Durability", invalid, opening(braid.InMemory, &braid.Options{Durability: 7})},
		{"Open: SyncInterval of Sync", invalid, opening(braid.InMemory, &braid.Options{SyncInterval: time.Second})},
		{"Open: SyncInterval", invalid, opening(braid.InMemory, &braid.Options{Durability: braid.Interval, SyncInterval: 1})},
		{"Open: MemtableBytes", invalid, opening(braid.InMemory, &braid.Options{MemtableBytes: 1})},
		{"Open: MaxTxBytes", invalid, opening(braid.InMemory, &braid.Options{MaxTxBytes: 1 << 40})},
		{"NewKeyRing: id", invalid, func() error { return oneOf(braid.NewKeyRing(map[string][]byte{ugly: make([]byte, 32)})) }},
		{"NewKeyRing: key", invalid, func() error { return oneOf(braid.NewKeyRing(map[string][]byte{"a": nil})) }},
		{"OpenKeyRing: content", invalid, func() error { return oneOf(braid.OpenKeyRing(file)) }},
		{"OpenKeyRing: permissions", invalid, func() error { return oneOf(braid.OpenKeyRing(open)) }},
		{"KeyRing.DescribeKey", invalid, func() error { return oneOf(ring.DescribeKey(ctx, ugly)) }},
		{"KeyRing.WrapKey", invalid, func() error { return oneOf(ring.WrapKey(ctx, ugly, nil, "orders", "records")) }},
		{"KeyRing.UnwrapKey: id", invalid, func() error { return oneOf(ring.UnwrapKey(ctx, ugly, nil, "orders", "records")) }},
		{"KeyRing.UnwrapKey: key", braid.ErrKeyUnavailable, func() error { return oneOf(ring.UnwrapKey(ctx, "a", make([]byte, 60), "orders", "records")) }},
		{"ParseHashKey", invalid, func() error { return oneOf(braid.ParseHashKey(ugly)) }},
		{"ParseHashKey: long", invalid, func() error { return oneOf(braid.ParseHashKey(long)) }},
		{"ParseSequenceNumber", invalid, func() error { return oneOf(braid.ParseSequenceNumber(ugly)) }},
		{"ParseSequenceNumber: long", invalid, func() error { return oneOf(braid.ParseSequenceNumber(long)) }},
		{"ParsePosition", invalid, func() error { return oneOf(braid.ParsePosition(ugly)) }},
		{"ParseShardID", invalid, func() error { return oneOf(braid.ParseShardID(ugly)) }},
		{"ParseShardID: long", invalid, func() error { return oneOf(braid.ParseShardID(long)) }},
		{"ValidateStreamName", invalid, func() error { return braid.ValidateStreamName(ugly) }},
		{"ValidateStreamName: long", invalid, func() error { return braid.ValidateStreamName(long) }},
		{"ParsePosition: number", invalid, func() error { return oneOf(braid.ParsePosition("AT_SEQUENCE_NUMBER " + ugly)) }},

		{"Salvage: from empty", invalid, func() error { return oneOf(braid.Salvage(ctx, "", free, nil)) }},
		{"Salvage: from NUL", invalid, func() error { return oneOf(braid.Salvage(ctx, ugly, free, nil)) }},
		{"Salvage: from absent", invalid, func() error { return oneOf(braid.Salvage(ctx, filepath.Join(free, "a"), free, nil)) }},
		{"Salvage: from another directory", invalid, func() error { return oneOf(braid.Salvage(ctx, filepath.Dir(file), free, nil)) }},
		{"Salvage: from a file", invalid, func() error { return oneOf(braid.Salvage(ctx, file, free, nil)) }},
		{"Salvage: from ugly", invalid, func() error { return oneOf(braid.Salvage(ctx, uglyDir, free, nil)) }},
		{"Salvage: from a database in use", braid.ErrLocked, func() error { return oneOf(braid.Salvage(ctx, dir, free, nil)) }},
		{"Salvage: from memory", invalid, func() error { return oneOf(braid.Salvage(ctx, braid.InMemory, free, nil)) }},
		{"Salvage: to memory", invalid, func() error { return oneOf(braid.Salvage(ctx, closed, braid.InMemory, nil)) }},
		{"Salvage: to empty", invalid, func() error { return oneOf(braid.Salvage(ctx, closed, "", nil)) }},
		{"Salvage: to not empty", invalid, func() error { return oneOf(braid.Salvage(ctx, closed, filepath.Dir(file), nil)) }},
		{"Salvage: to own", invalid, func() error { return oneOf(braid.Salvage(ctx, closed, closed, nil)) }},
		{"Salvage: to inside", invalid, func() error { return oneOf(braid.Salvage(ctx, closed, filepath.Join(closed, "a", "b"), nil)) }},
		{"Salvage: to a file", invalid, func() error { return oneOf(braid.Salvage(ctx, closed, file, nil)) }},
		{"Salvage: to below a file", invalid, func() error { return oneOf(braid.Salvage(ctx, closed, filepath.Join(file, "a"), nil)) }},
		{"DB.Backup: empty", invalid, func() error { return db.Backup(ctx, "", nil) }},
		{"DB.Backup: NUL", invalid, func() error { return db.Backup(ctx, ugly, nil) }},
		{"DB.Backup: not empty", invalid, func() error { return db.Backup(ctx, filepath.Dir(file), nil) }},
		{"DB.Backup: ugly", invalid, func() error { return db.Backup(ctx, uglyDir, nil) }},
		{"DB.Backup: own", invalid, func() error { return db.Backup(ctx, dir, nil) }},
		{"DB.Backup: inside", invalid, func() error { return db.Backup(ctx, filepath.Join(dir, "a", "b"), nil) }},
		{"DB.Backup: a file", invalid, func() error { return db.Backup(ctx, file, nil) }},
		{"DB.Backup: below a file", invalid, func() error { return db.Backup(ctx, filepath.Join(file, "a"), nil) }},
		{"DB.CreateStream: name", invalid, creating(ugly, nil)},
		{"DB.CreateStream: no name", invalid, creating("", nil)},
		{"DB.CreateStream: long name", invalid, creating(long, nil)},
		{"DB.CreateStream: exists", braid.ErrStreamExists, creating("s", nil)},
		{"DB.CreateStream: Shards", invalid, creating("t", &braid.StreamOptions{Shards: -1})},
		{"DB.CreateStream: too many", invalid, creating("t", &braid.StreamOptions{Shards: 10_001})},
		{"DB.CreateStream: MaxRecordBytes", invalid, creating("t", &braid.StreamOptions{MaxRecordBytes: -1})},
		{"DB.CreateStream: Retention", invalid, creating("t", &braid.StreamOptions{Retention: math.MaxInt64})},
		{"DB.CreateStream: RetentionBytes", invalid, creating("t", &braid.StreamOptions{RetentionBytes: -1})},
		{"DB.CreateStream: Capacity", invalid, creating("t", &braid.StreamOptions{Capacity: braid.Capacity{Mode: 9}})},
		{"DB.CreateStream: budgets without mode", invalid, creating("t", &braid.StreamOptions{Capacity: braid.Capacity{ReadsPerSecond: 1}})},
		{"DB.CreateStream: MaxShards without mode", invalid, creating("t", &braid.StreamOptions{Capacity: braid.Capacity{Mode: braid.Provisioned, MaxShards: 5}})},
		{"DB.CreateStream: negative budget", invalid, creating("t", &braid.StreamOptions{Capacity: braid.Capacity{Mode: braid.Provisioned, ReadsPerSecond: -1}})},
		{"DB.CreateStream: Shards above MaxShards", invalid, creating("t", &braid.StreamOptions{Shards: 5, Capacity: braid.Capacity{Mode: braid.OnDemand, MaxShards: 4}})},
		{"DB.CreateStream: Tags", invalid, creating("t", &braid.StreamOptions{Tags: tags})},
		{"DB.CreateStream: tag", invalid, creating("t", &braid.StreamOptions{Tags: map[string]string{ugly: ""}})},
		{"DB.CreateStream: tag value", invalid, creating("t", &braid.StreamOptions{Tags: map[string]string{"a": long}})},
		{"DB.OpenStream: name", invalid, func() error { return oneOf(db.OpenStream(ctx, ugly, nil)) }},
		{"DB.OpenStream: options", invalid, func() error { return oneOf(db.OpenStream(ctx, "s", &braid.StreamOptions{Shards: -1})) }},
		{"DB.OpenStream: MustMatch", braid.ErrStreamExists, func() error {
			return oneOf(db.OpenStream(ctx, "s", &braid.StreamOptions{Shards: 8, MustMatch: true}))
		}},
		{"DB.Stream", braid.ErrStreamNotFound, func() error { return oneOf(db.Stream(ugly)) }},
		{"DB.Stream: long", braid.ErrStreamNotFound, func() error { return oneOf(db.Stream(long)) }},
		{"DB.Stream: empty", braid.ErrStreamNotFound, func() error { return oneOf(db.Stream("")) }},
		{"DB.DeleteStream", braid.ErrStreamNotFound, func() error { return db.DeleteStream(ctx, ugly) }},
		{"DB.Update: too large", braid.ErrTxTooLarge, update(func(tx *braid.Tx) error {
			_ = tx.Set([]byte("k"), make([]byte, 9<<20))
			return nil
		})},
		{"DB.Verify: MaxProblems", invalid, func() error {
			return oneOf(db.Verify(ctx, &braid.VerifyOptions{MaxProblems: -1}))
		}},
		{"DB.View: write", invalid, view(func(tx *braid.Tx) error { return tx.Set([]byte("k"), nil) })},

		{"Tx.Get: no such key", braid.ErrKeyNotFound, view(func(tx *braid.Tx) error { return oneOf(tx.Get([]byte(ugly))) })},
		{"Tx.Get: no key", invalid, view(func(tx *braid.Tx) error { return oneOf(tx.Get(nil)) })},
		{"Tx.Get: late", invalid, late(func(tx *braid.Tx) error { return oneOf(tx.Get([]byte("k"))) })},
		{"Tx.Set: no key", invalid, update(func(tx *braid.Tx) error { return tx.Set(nil, nil) })},
		{"Tx.Set: long key", invalid, update(func(tx *braid.Tx) error { return tx.Set(make([]byte, 17<<10), nil) })},
		{"Tx.Set: large", braid.ErrTxTooLarge, update(func(tx *braid.Tx) error { return tx.Set([]byte("k"), make([]byte, 9<<20)) })},
		{"Tx.Set: late", invalid, late(func(tx *braid.Tx) error { return tx.Set([]byte("k"), nil) })},
		{"Tx.Delete: no key", invalid, update(func(tx *braid.Tx) error { return tx.Delete(nil) })},
		{"Tx.Delete: view", invalid, view(func(tx *braid.Tx) error { return tx.Delete([]byte("k")) })},
		{"Tx.Scan: late", invalid, late(func(tx *braid.Tx) error { return ended(tx.Scan(nil, nil)) })},
		{"Tx.PutRecord: stream", braid.ErrStreamNotFound, update(func(tx *braid.Tx) error { return tx.PutRecord(ugly, "k", nil) })},
		{"Tx.PutRecord: key", invalid, update(func(tx *braid.Tx) error { return tx.PutRecord("s", "", nil) })},
		{"Tx.PutRecord: view", invalid, view(func(tx *braid.Tx) error { return tx.PutRecord("s", "k", nil) })},
		{"Tx.PutEntry: data", invalid, update(func(tx *braid.Tx) error {
			return tx.PutEntry("s", braid.Entry{PartitionKey: "k", Data: make([]byte, 2<<20)})
		})},
		{"Tx.PutEntry: throughput", braid.ErrThroughputExceeded, update(func(tx *braid.Tx) error {
			return tx.PutEntry("slow", braid.Entry{PartitionKey: "k"})
		})},

		{"Stream.Shard", braid.ErrShardNotFound, func() error { return oneOf(s.Shard(ugly)) }},
		{"Stream.Shard: long", braid.ErrShardNotFound, func() error { return oneOf(s.Shard(braid.ShardID(long))) }},
		{"Stream.PutRecord: no key", invalid, func() error { return oneOf(s.PutRecord(ctx, "", nil)) }},
		{"Stream.PutRecord: key", invalid, func() error { return oneOf(s.PutRecord(ctx, ugly, nil)) }},
		{"Stream.PutRecord: long key", invalid, func() error { return oneOf(s.PutRecord(ctx, long, nil)) }},
		{"Stream.PutRecord: data", invalid, func() error { return oneOf(s.PutRecord(ctx, "k", make([]byte, 2<<20))) }},
		{"Stream.PutRecord: throughput", braid.ErrThroughputExceeded, func() error { return oneOf(slow.PutRecord(ctx, "k", nil)) }},
		{"Stream.PutRecordWait: key", invalid, func() error { return oneOf(s.PutRecordWait(ctx, ugly, nil)) }},
		{"Stream.PutRecords: key", invalid, func() error { return oneOf(s.PutRecords(ctx, make1(ugly))) }},
		{"Stream.PutRecords: size", invalid, func() error {
			entry := braid.Entry{PartitionKey: "k", Data: make([]byte, 1<<20)}
			entries := make([]braid.Entry, 17)
			for i := range entries {
				entries[i] = entry
			}
			return oneOf(s.PutRecords(ctx, entries))
		}},
		{"Stream.PutRecordsWait: key", invalid, func() error { return oneOf(s.PutRecordsWait(ctx, make1(ugly))) }},
		{"Stream.Trim: foreign", invalid, func() error { return s.Trim(ctx, braid.AtSequence(foreign)) }},
		{"Stream.Trim: beyond", braid.ErrBeyondTip, func() error { return s.Trim(ctx, braid.AfterSequence(newer)) }},
		{"Stream.Records: trimmed", braid.ErrTrimmed, func() error { return ended(s.Records(ctx, braid.AtSequence(trimmed[0]))) }},
		{"Stream.Records: beyond", braid.ErrBeyondTip, func() error { return ended(s.Records(ctx, braid.AtSequence(newer))) }},
		{"Stream.BorrowRecords: beyond", braid.ErrBeyondTip, func() error { return ended(s.BorrowRecords(ctx, braid.AtSequence(newer))) }},
		{"Stream.Follow: trimmed", braid.ErrTrimmed, func() error { return ended(s.Follow(ctx, braid.AtSequence(trimmed[0]))) }},
		{"Stream.Follow: beyond", braid.ErrBeyondTip, func() error { return ended(s.Follow(ctx, braid.AfterSequence(newer))) }},
		{"Stream.SplitShard: none", braid.ErrShardNotFound, func() error { _, _, err := s.SplitShard(ctx, ugly, nil); return err }},
		{"Stream.SplitShard: closed", invalid, func() error { _, _, err := s.SplitShard(ctx, "0", nil); return err }},
		{"Stream.SplitShard: key", invalid, func() error { _, _, err := s.SplitShard(ctx, "1", new(braid.HashKey)); return err }},
		{"Stream.SplitShard: on demand", invalid, func() error { _, _, err := onDemand.SplitShard(ctx, "0", nil); return err }},
		{"Stream.MergeShards: none", braid.ErrShardNotFound, func() error { return oneOf(s.MergeShards(ctx, "1", ugly)) }},
		{"Stream.MergeShards: itself", invalid, func() error { return oneOf(s.MergeShards(ctx, "1", "1")) }},
		{"Stream.MergeShards: no neighbours", invalid, func() error { return oneOf(s.MergeShards(ctx, "2", "1")) }},
		{"Stream.UpdateShardCount: 0", invalid, func() error { return s.UpdateShardCount(ctx, 0) }},
		{"Stream.UpdateShardCount: many", invalid, func() error { return s.UpdateShardCount(ctx, 10_001) }},
		{"Stream.UpdateMaxRecordBytes", invalid, func() error { return s.UpdateMaxRecordBytes(ctx, 0) }},
		{"Stream.UpdateRetentionBytes", invalid, func() error { return s.UpdateRetentionBytes(ctx, -1) }},
		{"Stream.UpdateCapacity", invalid, func() error { return s.UpdateCapacity(ctx, braid.Capacity{MaxShards: 1}) }},
		{"Stream.AddTags: key", invalid, func() error { return s.AddTags(ctx, map[string]string{"": ""}) }},
		{"Stream.AddTags: many", invalid, func() error { return s.AddTags(ctx, tags) }},
		{"Stream.AddTags: too many together", braid.ErrLimitExceeded, func() error {
			delete(tags, "0")
			if err := other.AddTags(ctx, tags); err != nil {
				return err
			}
			return other.AddTags(ctx, map[string]string{"more": ""})
		}},
		{"Stream.RemoveTags: gone", braid.ErrStreamNotFound, func() error { return gone.RemoveTags(ctx, ugly) }},
		{"Stream.IncreaseRetention: less", invalid, func() error { return s.IncreaseRetention(ctx, time.Hour) }},
		{"Stream.IncreaseRetention: much", invalid, func() error { return s.IncreaseRetention(ctx, math.MaxInt64) }},
		{"Stream.DecreaseRetention: more", invalid, func() error { return s.DecreaseRetention(ctx, 48*time.Hour) }},
		{"Stream.StartEncryption: no id", invalid, func() error { return s.StartEncryption(ctx, "") }},
		{"Stream.StartEncryption: id", invalid, func() error { return s.StartEncryption(ctx, ugly) }},
		{"Stream.StartEncryption: long id", invalid, func() error { return s.StartEncryption(ctx, long) }},
		{"Stream.StartEncryption: no provider", invalid, func() error { return boxOpenStream(t, plain, "p", 1).StartEncryption(ctx, ugly) }},
		{"Stream.StopEncryption: gone", braid.ErrStreamNotFound, func() error { return gone.StopEncryption(ctx) }},

		{"Shard.GetRecords: Limit", invalid, getting(braid.Latest(), &braid.GetRecordsOptions{Limit: -1})},
		{"Shard.GetRecords: LimitBytes", invalid, getting(braid.Latest(), &braid.GetRecordsOptions{LimitBytes: -1})},
		{"Shard.GetRecords: token", invalid, getting(braid.AtToken("a\n\x1b[31mb"), nil)},
		{"Stream.Trim: token", invalid, func() error { return s.Trim(ctx, braid.AtToken("iterator 7")) }},
		{"Shard.GetRecords: foreign", invalid, getting(braid.AtSequence(foreign), nil)},
		{"Shard.GetRecords: trimmed", braid.ErrTrimmed, getting(braid.AtSequence(trimmed[0]), nil)},
		{"Shard.GetRecords: beyond", braid.ErrBeyondTip, getting(braid.AfterSequence(newer), nil)},
		{"Shard.GetRecords: throughput", braid.ErrThroughputExceeded, func() error {
			return oneOf(slow.Shards()[0].GetRecords(ctx, braid.TrimHorizon(), nil))
		}},
		{"Shard.GetRecords: gone", braid.ErrStreamNotFound, func() error { return oneOf(goneShard.GetRecords(ctx, braid.TrimHorizon(), nil)) }},
		{"Shard.Records: beyond", braid.ErrBeyondTip, func() error { return ended(sh.Records(ctx, braid.AtSequence(newer))) }},
		{"Shard.BorrowRecords: beyond", braid.ErrBeyondTip, func() error { return ended(sh.BorrowRecords(ctx, braid.AtSequence(newer))) }},
		{"Shard.Follow: beyond", braid.ErrBeyondTip, func() error { return ended(sh.Follow(ctx, braid.AtSequence(newer))) }},
	} {
		t.Run(m.call, func(t *testing.T) {
			requireUseful(t, m.call, m.err(), m.class)
			method, _, _ := strings.Cut(m.call, ":")
			misused[method] = true
		})
	}
	for _, v := range []any{db, s, sh, &braid.Tx{}} {
		typ := reflect.TypeOf(v)
		for i := range typ.NumMethod() {
			method := typ.Elem().Name() + "." + typ.Method(i).Name
			out := typ.Method(i).Type.String()
			if strings.HasSuffix(out, "error)") || strings.HasSuffix(out, "error") || strings.Contains(out, "iter.Seq2") {
				require.True(t, misused[method] || strings.HasPrefix(method, "DB.Close"), "%s is never misused here", method)
			}
		}
	}
	require.Empty(t, mustEntries(t, filepath.Join(dir, "a")), "a refused backup has made nothing")
	require.NoError(t, db.Close())
	requireClosed(t, ctx, db, s, sh)
}

// requireClosed requires that every method that can fail returns ErrClosed.
func requireClosed(t *testing.T, ctx context.Context, db *braid.DB, s *braid.Stream, sh *braid.Shard) {
	t.Helper()
	for what, err := range map[string]error{
		"Close":         db.Close(),
		"CloseContext":  db.CloseContext(ctx),
		"CreateStream":  oneOf(db.CreateStream(ctx, "t", nil)),
		"OpenStream":    oneOf(db.OpenStream(ctx, "s", nil)),
		"Stream":        oneOf(db.Stream("s")),
		"DeleteStream":  db.DeleteStream(ctx, "s"),
		"Backup":        db.Backup(ctx, filepath.Join(t.TempDir(), "to"), nil),
		"Verify":        oneOf(db.Verify(ctx, nil)),
		"Update":        db.Update(ctx, func(*braid.Tx) error { return nil }),
		"View":          db.View(ctx, func(*braid.Tx) error { return nil }),
		"PutRecord":     oneOf(s.PutRecord(ctx, "k", nil)),
		"PutRecords":    oneOf(s.PutRecords(ctx, make1("k"))),
		"Trim":          s.Trim(ctx, braid.Latest()),
		"Records":       ended(s.Records(ctx, braid.TrimHorizon())),
		"Follow":        ended(s.Follow(ctx, braid.TrimHorizon())),
		"AddTags":       s.AddTags(ctx, map[string]string{"a": "b"}),
		"StartEnc":      s.StartEncryption(ctx, "a"),
		"SplitShard":    func() error { _, _, err := s.SplitShard(ctx, "1", nil); return err }(),
		"GetRecords":    oneOf(sh.GetRecords(ctx, braid.TrimHorizon(), nil)),
		"Shard.Records": ended(sh.Records(ctx, braid.TrimHorizon())),
		"Shard.Follow":  ended(sh.Follow(ctx, braid.TrimHorizon())),
	} {
		requireUseful(t, what, err, braid.ErrClosed)
	}
}

// shifted returns n with by added at a bit.
func shifted(t *testing.T, n braid.SequenceNumber, by int64, bit uint) braid.SequenceNumber {
	t.Helper()
	value, ok := new(big.Int).SetString(n.String(), 10)
	require.True(t, ok)
	value.Add(value, new(big.Int).Lsh(big.NewInt(by), bit))
	n, err := braid.ParseSequenceNumber(value.String())
	require.NoError(t, err)
	return n
}

// boxBeyond returns the number of a record of the same shard that arrives an hour later.
func boxBeyond(t *testing.T, n braid.SequenceNumber) braid.SequenceNumber {
	t.Helper()
	return shifted(t, n, int64(time.Hour), 80)
}

func mustEntries(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if !errors.Is(err, os.ErrNotExist) {
		require.NoError(t, err)
	}
	return entries
}
