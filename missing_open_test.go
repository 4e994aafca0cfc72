package braid

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"path"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/salvage"
	"github.com/braidstream/braid/internal/testdisk"
)

// These tests check, case by case, which records the error of a refused open reports as
// missing. The sweep over all kinds of damage is in internal/modeltest.

// refusedOpen opens a damaged database and returns the error. The open must not change
// anything, not even for a moment.
func refusedOpen(t *testing.T, mem *vfs.MemFS, readOnly bool) *FileDamageError {
	t.Helper()
	before := filesOf(t, mem, salvageFrom)
	disk := testdisk.On(mem)
	disk.Before(func(op testdisk.Op) error {
		if op.Changes() {
			t.Errorf("a refused open changes a file: %v", op)
		}
		return nil
	})
	_, err := open(salvageFrom, &Options{ReadOnly: readOnly}, environment{fs: disk})
	var damage *FileDamageError
	require.ErrorAs(t, err, &damage)
	require.Equal(t, before, filesOf(t, mem, salvageFrom))
	require.ErrorContains(t, err, strings.TrimPrefix(damage.missingText(), "; "))
	return damage
}

// requireLost requires that Missing covers exactly the records that Salvage does not save.
func requireLost(t *testing.T, mem *vfs.MemFS, truth contents, missing []LostRecords) {
	t.Helper()
	report, got := salvageOn(t, mem)
	require.NoError(t, mem.RemoveAll(salvageTo))
	var lost int64
	for number, r := range truth.by {
		if _, ok := got.by[number]; ok {
			continue
		}
		lost++
		named := false
		for _, l := range missing {
			named = named || l.Stream+"/"+string(l.Shard) == r.shard && l.FirstLost.Compare(number) <= 0 && number.Compare(l.FirstAvailable) < 0
		}
		require.True(t, named, "%s of %s is lost, and not named", number, r.shard)
	}
	n, _ := recordsIn(missing)
	require.Equal(t, lost, n)
	var reported int64
	for _, l := range report.Lost {
		reported += l.Records
	}
	require.Equal(t, reported, n)
}

// tableOf returns the table that has a record.
func tableOf(t *testing.T, mem *vfs.MemFS, data []byte) (file string, content []byte) {
	t.Helper()
	file, content, _, err := testdisk.Find(mem, salvageFrom+"/store", data)
	require.NoError(t, err)
	return file, content
}

// TestAMissingTableIsNamedByItsRecords: exactly the records of the table are counted, with
// and without ReadOnly. When the table is put back, all records are there.
func TestAMissingTableIsNamedByItsRecords(t *testing.T) {
	src := buildSalvage(t, manyTables, false)
	records := src.truth.records["a/shardId-000000000001"]
	file, content := tableOf(t, src.mem, records[10].Data)
	content = append([]byte(nil), content...)
	require.NoError(t, src.mem.Remove(file))
	for _, readOnly := range []bool{false, true} {
		damage := refusedOpen(t, src.mem, readOnly)
		require.True(t, damage.Complete)
		require.Empty(t, damage.Doubt)
		require.NotEmpty(t, damage.Missing)
		require.Equal(t, damage.Missing, damage.GivenUp, "a table has nothing behind it")
		for _, l := range damage.Missing {
			require.True(t, l.Exact)
		}
		requireLost(t, src.mem, src.truth, damage.Missing)
	}
	writeMem(t, src.mem, file, content)
	db := openSalvage(t, src.mem, salvageFrom)
	require.Equal(t, src.truth, contentsOf(t, db))
	require.NoError(t, db.Close())
}

// TestTablesThatHaveChangedPlacesLackNothing: no record is missing, but AcceptLoss would give
// both tables up.
func TestTablesThatHaveChangedPlacesLackNothing(t *testing.T) {
	src := buildSalvage(t, manyTables, false)
	records := src.truth.records["a/shardId-000000000001"]
	file, content := tableOf(t, src.mem, records[10].Data)
	content = append([]byte(nil), content...)
	other, otherContent := tableOf(t, src.mem, records[len(records)-1].Data)
	require.NotEqual(t, file, other)
	writeMem(t, src.mem, file, append([]byte(nil), otherContent...))
	writeMem(t, src.mem, other, content)
	damage := refusedOpen(t, src.mem, false)
	require.Equal(t, "foreign", damage.Damage)
	require.ErrorContains(t, damage, "is what store/"+path.Base(other)+" has to be")
	require.True(t, damage.Complete)
	require.Empty(t, damage.Missing)
	n, exact := recordsIn(damage.GivenUp)
	require.True(t, exact)
	require.Greater(t, n, int64(100))
	require.ErrorContains(t, damage, "no record is missing; AcceptLoss would give up ")
	requireLost(t, src.mem, src.truth, damage.Missing)
}

// TestALogThatIsCutNamesTheEndOfEachShard: the records at the ends cannot be counted, and
// missing encrypted records are reported without their key.
func TestALogThatIsCutNamesTheEndOfEachShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, truth := killedWithLedger(t)
		logs := namesIn(t, mem, ".log")
		log := logs[len(logs)-1]
		content := filesOf(t, mem, salvageFrom)[log]
		writeMem(t, mem, log, []byte(content)[:2*len(content)/3])
		damage := refusedOpen(t, mem, false)
		require.Equal(t, "short", damage.Damage)
		require.False(t, damage.Complete, "streams may have been created last")
		require.Equal(t, damage.Missing, damage.GivenUp)
		require.Len(t, damage.Missing, 1)
		lost := damage.Missing[0]
		require.Equal(t, "s", lost.Stream)
		require.False(t, lost.Exact)
		before, within := 0, 0
		for number := range truth.by {
			switch {
			case number.Compare(lost.FirstLost) < 0:
				before++
			case number.Compare(lost.FirstAvailable) < 0:
				within++
			}
		}
		require.Positive(t, before)
		require.Positive(t, within)
		require.Equal(t, len(truth.by), before+within, "what may be missing ends above all that were given out")
		require.ErrorContains(t, damage, `missing: any number of records of shardId-000000000000 of stream "s" from `)
		require.ErrorContains(t, damage, "streams and shards that were created last may be missing altogether")
	})
}

// TestAHoleInALogIsCounted, and so are the records after it, which AcceptLoss would give up
// and Salvage keeps.
func TestAHoleInALogIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, truth := killedWithLedger(t)
		logs := namesIn(t, mem, ".log")
		log := logs[len(logs)-1]
		content := []byte(filesOf(t, mem, salvageFrom)[log])
		content[len(content)/2] ^= 1
		writeMem(t, mem, log, content)
		damage := refusedOpen(t, mem, false)
		require.Equal(t, "changed", damage.Damage)
		missing, _ := recordsIn(damage.Missing)
		givenUp, _ := recordsIn(damage.GivenUp)
		require.Positive(t, missing)
		require.Greater(t, givenUp, missing)
		require.True(t, damage.Missing[0].Exact)
		require.ErrorContains(t, damage, " records that Salvage keeps")
		requireLost(t, mem, truth, damage.Missing)

		db, err := open(salvageFrom, &Options{AcceptLoss: true, KeyProvider: blockKeys}, environment{fs: mem})
		require.NoError(t, err)
		left := contentsOf(t, db)
		require.Equal(t, int64(len(truth.by)-len(left.by)), givenUp)
		require.NoError(t, db.Close())
	})
}

// killedWithTwoLogs returns the disk of a database that was killed while it could not write
// tables. The records of an epoch that has ended are only in a log, and those of the next
// epoch only in a later one. It also returns these logs, two or more, and the contents.
func killedWithTwoLogs(t *testing.T) (killed *vfs.MemFS, logs []string, truth contents) {
	t.Helper()
	mem := vfs.NewCrashableMem()
	disk := testdisk.On(mem)
	options := &Options{TailBytes: -1, MemtableBytes: minMemtableBytes, Logger: slog.New(slog.DiscardHandler)}
	db, err := open(salvageFrom, options, environment{fs: disk, byHand: true})
	require.NoError(t, err)
	s, err := db.CreateStream(t.Context(), "s", nil)
	require.NoError(t, err)
	disk.Before(func(op testdisk.Op) error {
		if op.OnTable() && op.Changes() {
			return errors.New("no table can be written")
		}
		return nil
	})
	random := rand.New(rand.NewPCG(1, 2))
	old := len(namesIn(t, mem, ".log")) - 1
	for db.Metrics().Epochs < 2 || len(namesIn(t, mem, ".log")) < old+2 {
		putSome(t, db, s, random, 20, 20_000)
	}
	putSome(t, db, s, random, 20, 1000)
	logs, truth = namesIn(t, mem, ".log")[old:], contentsOf(t, db)
	<-time.After(2 * time.Second)
	synctest.Wait()
	killed = mem.CrashClone(vfs.CrashCloneCfg{})
	disk.Before(nil)
	require.NoError(t, db.Close())
	return killed, logs, truth
}

// TestAMissingLogBehindAnotherNamesItsRecords: the last log is missing or empty. The log
// before it still has records of the same shard, which no table has.
func TestAMissingLogBehindAnotherNamesItsRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, left := range []string{"nothing", "an empty file"} {
			killed, logs, truth := killedWithTwoLogs(t)
			last := logs[len(logs)-1]
			if left == "nothing" {
				require.NoError(t, killed.Remove(last))
			} else {
				writeMem(t, killed, last, nil)
			}
			damage := refusedOpen(t, killed, false)
			require.Len(t, damage.Missing, 1, "%s: %v", left, damage)
			lost := damage.Missing[0]
			report, got := salvageOn(t, killed)
			require.Equal(t, report.Lost, damage.Missing)
			require.Less(t, len(got.by), len(truth.by))
			require.NotEmpty(t, got.by)
			for number := range truth.by {
				_, is := got.by[number]
				require.Equal(t, !is, lost.FirstLost.Compare(number) <= 0)
			}
			require.NotEmpty(t, got.told["s/shardId-000000000000"])
		}
	})
}

// TestRecordsThatAreOnlyInADamagedLogAreMissed, even if the row with the end of their epoch
// is in a later, undamaged log.
func TestRecordsThatAreOnlyInADamagedLogAreMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		killed, logs, truth := killedWithTwoLogs(t)
		content := []byte(filesOf(t, killed, salvageFrom)[logs[0]])
		content[len(content)/2] ^= 1
		writeMem(t, killed, logs[0], content)
		damage := refusedOpen(t, killed, false)
		require.Len(t, damage.Missing, 1, "%v", damage)
		require.True(t, damage.Missing[0].Exact)
		requireLost(t, killed, truth, damage.Missing)
		behind := 0
		for number := range truth.by {
			if damage.Missing[0].FirstLost.Compare(number) <= 0 {
				behind++
			}
		}
		givenUp, _ := recordsIn(damage.GivenUp)
		require.Equal(t, int64(behind), givenUp, "AcceptLoss gives up all that follows")
	})
}

// TestWhatADamagedManifestHidesIsNotClaimed: without the manifest it is unknown which files
// the database had.
func TestWhatADamagedManifestHidesIsNotClaimed(t *testing.T) {
	src := buildSalvage(t, manyTables, false)
	for name, content := range filesOf(t, src.mem, salvageFrom) {
		if strings.Contains(name, "MANIFEST-") {
			writeMem(t, src.mem, name, []byte(content)[:len(content)/2])
		}
	}
	damage := refusedOpen(t, src.mem, false)
	require.False(t, damage.Complete)
	require.Empty(t, damage.Missing)
	require.Empty(t, damage.GivenUp)
	require.Contains(t, damage.Doubt, "MANIFEST-")
	require.ErrorContains(t, damage, "it is unknown which records are missing: other files cannot be compared")
	require.ErrorContains(t, damage, "AcceptLoss may give up many more")
}

// TestNothingIsClaimedOfWhatIsGone: no table and no log is left.
func TestNothingIsClaimedOfWhatIsGone(t *testing.T) {
	src := buildSalvage(t, manyTables, false)
	for name := range filesOf(t, src.mem, salvageFrom) {
		if strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".log") {
			require.NoError(t, src.mem.Remove(name))
		}
	}
	damage := refusedOpen(t, src.mem, false)
	require.False(t, damage.Complete)
	require.Empty(t, damage.Missing)
	require.Empty(t, damage.GivenUp)
	require.Equal(t, "nothing is left that says which streams there were", damage.Doubt)
	require.ErrorContains(t, damage, "it is unknown which records are missing: nothing is left")
}

// TestAStreamWhoseNameIsLostHasNone: its Stream in Missing is empty.
func TestAStreamWhoseNameIsLostHasNone(t *testing.T) {
	src := buildSalvage(t, manyTables, false)
	changeRows(t, src.mem, true, func(batch *kv.Batch) { batch.Set(layout.StreamKey(1), []byte("this is not a row")) })
	file, _ := tableOf(t, src.mem, src.truth.records["a/shardId-000000000001"][10].Data)
	require.NoError(t, src.mem.Remove(file))
	damage := refusedOpen(t, src.mem, false)
	require.False(t, damage.Complete)
	require.NotEmpty(t, damage.Missing)
	require.Empty(t, damage.Missing[0].Stream)
	require.ErrorContains(t, damage, "of a stream whose name is lost")
}

// TestLookingForWhatIsMissingIsBounded by bytes, memory, the context and the clock. When a
// bound is reached, the error says so, and lists nothing.
func TestLookingForWhatIsMissingIsBounded(t *testing.T) {
	src := buildSalvage(t, manyTables, false)
	file, _ := tableOf(t, src.mem, src.truth.records["a/shardId-000000000001"][10].Data)
	require.NoError(t, src.mem.Remove(file))
	_, err := kv.Open(kv.Config{Dir: salvageFrom, FS: src.mem, Logger: slog.Default(), MemTableBytes: minMemtableBytes})
	found := kv.FileDamages(err)
	require.Len(t, found, 1)
	look := func(ctx context.Context, bytes, memory int64) error {
		_, err := salvage.Look(ctx, salvage.Config{FS: src.mem, From: salvageFrom, MaxBytes: bytes, MaxMemory: memory}, found)
		return err
	}
	require.NoError(t, look(t.Context(), lookBytes, lookMemory))
	require.ErrorContains(t, look(t.Context(), 1000, lookMemory), "would have to be read")
	require.ErrorContains(t, look(t.Context(), lookBytes, 1000), "kept in memory")
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	require.ErrorContains(t, look(ended, lookBytes, lookMemory), "enough")

	synctest.Test(t, func(t *testing.T) {
		disk := testdisk.On(src.mem)
		disk.Before(func(op testdisk.Op) error {
			if op.OnTable() {
				<-time.After(lookPatience / 4)
			}
			return nil
		})
		begun := time.Now()
		_, err := open(salvageFrom, nil, environment{fs: disk})
		var damage *FileDamageError
		require.ErrorAs(t, err, &damage)
		require.Empty(t, damage.Missing)
		require.Empty(t, damage.GivenUp)
		require.False(t, damage.Complete)
		require.Equal(t, "the search takes longer than 2s", damage.Doubt)
		require.Less(t, time.Since(begun), time.Minute)
	})
}

// TestALongListOfWhatIsMissingIsCutOff, and the error says so.
func TestALongListOfWhatIsMissingIsCutOff(t *testing.T) {
	losses := make([]salvage.Loss, maxMissing+6)
	e := &FileDamageError{Complete: true, Err: ErrCorrupt}
	e.Missing = e.listed(losses[:maxMissing])
	require.True(t, e.Complete)
	e.Missing = e.listed(losses)
	require.Len(t, e.Missing, maxMissing)
	require.False(t, e.Complete)
	require.Equal(t, "there are 6 more ranges", e.Doubt)
	require.ErrorContains(t, e, "and 61 more ranges; there may be more: there are 6 more ranges")
}

// TestOnlyTheFilesThatMatterAreRead: of an undamaged table, only the newest records and the
// rows about streams are read.
func TestOnlyTheFilesThatMatterAreRead(t *testing.T) {
	src := buildSalvage(t, manyTables, false)
	records := src.truth.records["a/shardId-000000000001"]
	file, _ := tableOf(t, src.mem, records[10].Data)
	whole, _ := tableOf(t, src.mem, records[len(records)/2].Data)
	require.NotEqual(t, file, whole)
	require.NoError(t, src.mem.Remove(file))
	_, err := kv.Open(kv.Config{Dir: salvageFrom, FS: src.mem, Logger: slog.Default(), MemTableBytes: minMemtableBytes})
	disk := testdisk.On(src.mem)
	reads := 0
	disk.Before(func(op testdisk.Op) error {
		if path.Base(op.Path) == path.Base(whole) && (op.Kind == errorfs.OpOpen || op.Kind == errorfs.OpFileReadAt) {
			reads++
		}
		return nil
	})
	_, err = salvage.Look(t.Context(), salvage.Config{FS: disk, From: salvageFrom, MaxBytes: lookBytes, MaxMemory: lookMemory}, kv.FileDamages(err))
	require.NoError(t, err)
	require.Zero(t, reads)
}
