package modeltest

import (
	"bytes"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/inside"
	"github.com/braidstream/braid/internal/testdisk"
)

// These tests prove that the end of damage and the end of a shard are found or reported as lost,
// and that nothing else counts as damage.

// A table of the open epoch, written before a crash, is damaged where a shard ends, and no row
// records that end.
func TestDamagedTipThatIsNotKnown(t *testing.T) {
	ctx := t.Context()
	random := rand.New(rand.NewPCG(3, 3))
	mem := vfs.NewCrashableMem()
	db := openDamaged(t, mem)
	s, err := db.CreateStream(ctx, "damaged", nil)
	require.NoError(t, err)
	var want [][]byte
	var last braid.SequenceNumber
	for range 60 {
		data := randomBytes(random, 2000)
		res, err := s.PutRecord(ctx, "key", data)
		require.NoError(t, err)
		want, last = append(want, data), res.SequenceNumber
	}
	require.NoError(t, inside.DBOf(db).Store().Flush())
	crashed := mem.CrashClone(vfs.CrashCloneCfg{})
	require.NoError(t, db.Close())
	flipRecord(t, crashed, want[59])
	lost := last

	for round := range 3 {
		db = openDamaged(t, crashed)
		s, err = db.Stream("damaged")
		require.NoError(t, err)
		got, told := readAround(t, s.Shards()[0], braid.TrimHorizon())
		require.Len(t, told, 1)
		found := 0
		for found < len(got) && bytes.Equal(got[found].Data, want[found]) {
			found++
		}
		require.Greater(t, found, 60-32<<10/2000-2)
		require.Less(t, found, 60)
		require.Len(t, got[found:], round)
		require.Positive(t, told[0].FirstAvailable.Compare(lost), "later records are available behind the lost ones")
		page, err := s.Shards()[0].GetRecords(ctx, braid.AfterSequence(got[found-1].SequenceNumber), nil)
		require.ErrorIs(t, err, braid.ErrCorrupt)
		require.Nil(t, page)

		res, err := s.PutRecord(ctx, "key", []byte("new"))
		require.NoError(t, err)
		require.Positive(t, res.SequenceNumber.Compare(last), "a sequence number was used twice")
		last = res.SequenceNumber
		require.NoError(t, db.Close())
	}
}

// As TestDamagedTipThatIsNotKnown, for a shard that was trimmed up to the unreadable place, or
// shortly before it.
func TestDamagedTipOfATrimmedShard(t *testing.T) {
	ctx := t.Context()
	for _, kept := range []int{1, 3, 30} {
		random := rand.New(rand.NewPCG(4, 4))
		mem := vfs.NewCrashableMem()
		db := openDamaged(t, mem)
		s, err := db.CreateStream(ctx, "damaged", nil)
		require.NoError(t, err)
		var want [][]byte
		var last braid.SequenceNumber
		for i := range 60 {
			data := randomBytes(random, 2000)
			res, err := s.PutRecord(ctx, "key", data)
			require.NoError(t, err)
			want, last = append(want, data), res.SequenceNumber
			if i == 60-kept {
				require.NoError(t, s.Trim(ctx, braid.AtSequence(last)))
			}
		}
		require.NoError(t, inside.DBOf(db).Store().Flush())
		crashed := mem.CrashClone(vfs.CrashCloneCfg{})
		require.NoError(t, db.Close())
		flipRecord(t, crashed, want[59])

		for round := range 2 {
			db = openDamaged(t, crashed)
			s, err = db.Stream("damaged")
			require.NoError(t, err)
			require.NoError(t, inside.DBOf(db).CheckBooks(ctx))
			got, told := readAround(t, s.Shards()[0], braid.TrimHorizon())
			require.Len(t, told, 1)
			for i := range got[:len(got)-round] {
				require.Equal(t, want[60-kept+i], got[i].Data)
			}
			require.Greater(t, s.Shards()[0].Describe().Records, int64(len(got)), "the lost records count")
			res, err := s.PutRecord(ctx, "key", []byte("new"))
			require.NoError(t, err)
			require.Positive(t, res.SequenceNumber.Compare(last), "a sequence number was used twice")
			last = res.SequenceNumber
			require.NoError(t, inside.DBOf(db).CheckBooks(ctx))
			require.NoError(t, db.Close())
		}
	}
}

// The last record of a shard is damaged, and a table that cannot be read at the moment must be
// searched for the shard's end. If Open treated an unread table as lost, it would give that place
// to other records.
func TestOpenTellsDamageFromWhatMayPass(t *testing.T) {
	ctx := t.Context()
	for _, passing := range []error{syscall.EIO, syscall.EMFILE} {
		random := rand.New(rand.NewPCG(6, 6))
		mem := vfs.NewCrashableMem()
		db := openDamaged(t, mem)
		s, err := db.CreateStream(ctx, "damaged", nil)
		require.NoError(t, err)
		var want [][]byte
		for range 100 {
			data := randomBytes(random, 2000)
			_, err := s.PutRecord(ctx, "key", data)
			require.NoError(t, err)
			want = append(want, data)
		}
		require.NoError(t, inside.DBOf(db).Store().Flush())
		crashed := mem.CrashClone(vfs.CrashCloneCfg{})
		require.NoError(t, db.Close())
		flipRecord(t, crashed, want[99])
		disk := testdisk.On(crashed)
		table, _, at := placeOf(t, crashed, want[40])
		failReads(disk, table, at, passing)
		_, err = openState(disk, &damageOptions)
		require.ErrorIs(t, err, passing)

		disk.Before(nil)
		db = openDamaged(t, disk)
		s, err = db.Stream("damaged")
		require.NoError(t, err)
		got, told := readAround(t, s.Shards()[0], braid.TrimHorizon())
		require.Len(t, told, 1)
		require.Greater(t, len(got), 100-32<<10/2000-2)
		require.NoError(t, db.Close())
	}
}

// A reader that looks for the end of the damage meets a shortage. It must not skip records that are
// intact.
func TestAShortageIsNotTakenForDamage(t *testing.T) {
	ctx := t.Context()
	random := rand.New(rand.NewPCG(7, 7))
	mem := vfs.NewMem()
	disk := testdisk.On(mem)
	db := openDamaged(t, disk)
	s, err := db.CreateStream(ctx, "damaged", nil)
	require.NoError(t, err)
	var want [][]byte
	for range 100 {
		data := randomBytes(random, 2000)
		_, err := s.PutRecord(ctx, "key", data)
		require.NoError(t, err)
		want = append(want, data)
	}
	require.NoError(t, db.Close())
	flipRecord(t, mem, want[0])
	db = openDamaged(t, disk)
	s, err = db.Stream("damaged")
	require.NoError(t, err)
	table, _, at := placeOf(t, mem, want[30])
	failReads(disk, table, at, syscall.EMFILE)
	_, err = s.Shards()[0].GetRecords(ctx, braid.TrimHorizon(), nil)
	require.ErrorIs(t, err, braid.ErrOutOfResources)
	disk.Before(nil)
	requireAround(t, s.Shards()[0], want, 0)
	require.NoError(t, db.Close())
}

// A table holds records of shards 0 and 2; another table of the same epoch holds those of shard 1.
// A block of shard 2 is damaged, and a search for shard 1 meets it in the first table. Readers of
// all shards reach the end, and find records that are put later.
func TestAReaderPastDamageGetsOn(t *testing.T) {
	ctx := t.Context()
	random := rand.New(rand.NewPCG(9, 9))
	mem := vfs.NewMem()
	db := openDamaged(t, mem)
	s, err := db.CreateStream(ctx, "s", &braid.StreamOptions{Shards: 3})
	require.NoError(t, err)
	put := func(shard int) []byte {
		key := s.Shards()[shard].HashKeyRange().Start
		data := randomBytes(random, 5000) // a block of its own
		_, err := s.PutRecords(ctx, []braid.Entry{{PartitionKey: "k", ExplicitHashKey: &key, Data: data}})
		require.NoError(t, err)
		return data
	}
	put(0)
	damaged := put(2)
	require.NoError(t, inside.DBOf(db).Store().Flush())
	for range 4 {
		put(1)
	}
	require.NoError(t, db.Close())
	flipRecord(t, mem, damaged)
	db = openDamaged(t, mem)
	s, err = db.Stream("s")
	require.NoError(t, err)
	for shard, sh := range s.Shards() {
		_, told := readAround(t, sh, braid.TrimHorizon()) // each step must advance
		require.LessOrEqual(t, len(told), 2)
		later := put(shard)
		records, _ := readAround(t, sh, braid.TrimHorizon())
		require.NotEmpty(t, records)
		require.Equal(t, later, records[len(records)-1].Data)
	}
	require.NoError(t, db.Close())
}

// As TestAReaderPastDamageGetsOn, but the database was reopened between the two tables. So they
// belong to two epochs, and nothing of shard 1 is lost.
func TestAReopenKeepsDamageFromNeighbours(t *testing.T) {
	ctx := t.Context()
	random := rand.New(rand.NewPCG(10, 10))
	mem := vfs.NewMem()
	db := openDamaged(t, mem)
	s, err := db.CreateStream(ctx, "s", &braid.StreamOptions{Shards: 3})
	require.NoError(t, err)
	put := func(shard int) []byte {
		key := s.Shards()[shard].HashKeyRange().Start
		data := randomBytes(random, 40_000)
		_, err := s.PutRecords(ctx, []braid.Entry{{PartitionKey: "k", ExplicitHashKey: &key, Data: data}})
		require.NoError(t, err)
		return data
	}
	put(0)
	damaged := put(2)
	require.NoError(t, db.Close())
	db = openDamaged(t, mem)
	s, err = db.Stream("s")
	require.NoError(t, err)
	var want [][]byte
	for range 4 {
		want = append(want, put(1))
	}
	require.NoError(t, db.Close())
	flipRecord(t, mem, damaged)
	db = openDamaged(t, mem)
	s, err = db.Stream("s")
	require.NoError(t, err)
	got, told := readAround(t, s.Shards()[1], braid.TrimHorizon())
	require.Empty(t, told)
	require.Len(t, got, len(want))
	for i := range want {
		require.Equal(t, want[i], got[i].Data)
	}
	require.NoError(t, db.Close())
}

// A database that is reopened for each record has only as many epochs as its records fill, not one
// per open.
func TestManyOpensMakeFewEpochs(t *testing.T) {
	mem := vfs.NewMem()
	for range 100 {
		db := openDamaged(t, mem)
		require.LessOrEqual(t, db.Metrics().Epochs, 5)
		s, err := db.OpenStream(t.Context(), "s", nil)
		require.NoError(t, err)
		_, err = s.PutRecord(t.Context(), "key", make([]byte, 100))
		require.NoError(t, err)
		require.NoError(t, db.Close())
	}
}
