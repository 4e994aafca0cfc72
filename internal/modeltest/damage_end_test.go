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

// These tests prove that where damage ends, and where a shard does, is found, or said
// to be lost, and that nothing else is taken for damage.

// TestDamagedTipThatIsNotKnown: a table of the open epoch, written before a crash, is
// damaged where a shard ends, and no row says where that is.
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
		require.Positive(t, told[0].FirstAvailable.Compare(lost), "the lost records are not skipped for what comes next")
		page, err := s.Shards()[0].GetRecords(ctx, braid.AfterSequence(got[found-1].SequenceNumber), nil)
		require.ErrorIs(t, err, braid.ErrCorrupt)
		require.Nil(t, page)

		res, err := s.PutRecord(ctx, "key", []byte("new"))
		require.NoError(t, err)
		require.Positive(t, res.SequenceNumber.Compare(last), "a number that was given out before")
		last = res.SequenceNumber
		require.NoError(t, db.Close())
	}
}

// TestDamagedTipOfATrimmedShard: as TestDamagedTipThatIsNotKnown, for a shard that was
// trimmed up to where it can no longer be read, or shortly before.
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
			require.Greater(t, s.Shards()[0].Describe().Records, int64(len(got)), "what is lost counts")
			res, err := s.PutRecord(ctx, "key", []byte("new"))
			require.NoError(t, err)
			require.Positive(t, res.SequenceNumber.Compare(last), "a number that was given out before")
			last = res.SequenceNumber
			require.NoError(t, inside.DBOf(db).CheckBooks(ctx))
			require.NoError(t, db.Close())
		}
	}
}

// TestOpenTellsDamageFromWhatMayPass: the last record of a shard is damaged, and where
// it ends has to be looked for in a table that cannot be read at the moment. Taking
// what was not looked at for lost would give its place to other records.
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

// TestAShortageIsNotTakenForDamage: a reader that looks for the end of the damage
// meets a shortage. It must not be sent on past records that are in order.
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

// TestAReaderPastDamageGetsOn: a table holds records of shards 0 and 2, and the same
// epoch those of shard 1 in another table. A block of shard 2 is damaged, to which a look
// for shard 1 goes in the first table. Readers of all come to the end, and find what was
// put later.
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
		_, told := readAround(t, sh, braid.TrimHorizon()) // each step of which must get on
		require.LessOrEqual(t, len(told), 2)
		later := put(shard)
		records, _ := readAround(t, sh, braid.TrimHorizon())
		require.NotEmpty(t, records)
		require.Equal(t, later, records[len(records)-1].Data)
	}
	require.NoError(t, db.Close())
}

// TestAReopenKeepsDamageFromNeighbours: as TestAReaderPastDamageGetsOn, but the database
// was opened again between the two tables. So they are not of one epoch, and nothing of
// shard 1 is lost.
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

// TestManyOpensMakeFewEpochs: a database that is opened for a record each time has
// as many epochs as its records fill, and not one for each open.
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
