package braid

import (
	"fmt"
	"math/rand/v2"
	"path"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// killedWithLedger returns the disk of a database that was killed while its ledger was up to
// date, and the contents: encrypted records that are only in the log.
func killedWithLedger(t *testing.T) (killed *vfs.MemFS, truth contents) {
	t.Helper()
	mem := vfs.NewCrashableMem()
	db := openSalvage(t, mem, salvageFrom)
	s, err := db.CreateStream(t.Context(), "s", nil)
	require.NoError(t, err)
	require.NoError(t, s.StartEncryption(t.Context(), "main"))
	putSome(t, db, s, rand.New(rand.NewPCG(1, 2)), 60, 2000)
	truth = contentsOf(t, db)
	<-time.After(2 * time.Second)
	synctest.Wait()
	killed = mem.CrashClone(vfs.CrashCloneCfg{})
	require.NoError(t, db.Close())
	return killed, truth
}

// The ledger also has the id of the database, which encrypted records need.
func TestSalvageTakesTheIDFromTheLedger(t *testing.T) {
	synctest.Test(t, testSalvageTakesTheIDFromTheLedger)
}

func testSalvageTakesTheIDFromTheLedger(t *testing.T) {
	t.Helper()
	killed, truth := killedWithLedger(t)
	for _, identity := range [][]byte{nil, []byte("damaged")} {
		mem := killed.CrashClone(vfs.CrashCloneCfg{})
		name := path.Join(salvageFrom, "BRAID")
		if identity == nil {
			require.NoError(t, mem.Remove(name))
		} else {
			writeMem(t, mem, name, identity)
		}
		report, got := salvageOn(t, mem)
		require.False(t, report.NewID)
		require.Len(t, report.Damaged, 1)
		require.Empty(t, report.Lost)
		require.Equal(t, truth.by, got.by)

		for n := 1; n <= 2; n++ {
			require.NoError(t, mem.Remove(fmt.Sprintf("%s/LEDGER.%d", salvageFrom, n)))
		}
		require.NoError(t, mem.RemoveAll(salvageTo))
		report, _ = salvageOn(t, mem)
		require.True(t, report.NewID)
	}
}

// After a kill, the log is cut or missing. Without the ledger it would look like a kill at an
// earlier time.
func TestSalvageKnowsFromTheLedgerThatALogIsCut(t *testing.T) {
	synctest.Test(t, testSalvageKnowsFromTheLedgerThatALogIsCut)
}

func testSalvageKnowsFromTheLedgerThatALogIsCut(t *testing.T) {
	t.Helper()
	killed, truth := killedWithLedger(t)
	logs := namesIn(t, killed, ".log")
	log := logs[len(logs)-1]
	content := filesOf(t, killed, salvageFrom)[log]
	require.NotEmpty(t, content)
	for n := 0; n < len(content)-1; n += max(1, len(content)/40) {
		mem := killed.CrashClone(vfs.CrashCloneCfg{})
		writeMem(t, mem, log, []byte(content)[:n])
		report, got := salvageOn(t, mem)
		require.False(t, report.Closed)
		require.NotEmpty(t, report.Damaged, "cut at %d of %d", n, len(content))
		if len(got.by) < len(truth.by) && len(got.streams) > 0 {
			require.NotEmpty(t, report.Lost, "cut at %d of %d", n, len(content))
		}
	}
	require.NoError(t, killed.Remove(log))
	report, _ := salvageOn(t, killed)
	require.False(t, report.Closed)
	require.NotEmpty(t, report.Damaged)
}
