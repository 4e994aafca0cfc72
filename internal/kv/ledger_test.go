package kv_test

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/testdisk"
)

// newestLedger returns the newest ledger on a disk.
func newestLedger(t *testing.T, mem *vfs.MemFS) (newest layout.Ledger) {
	t.Helper()
	for i := range 2 {
		data, err := mem.UnsafeGetFileDataBuffer(fmt.Sprintf("%s/LEDGER.%d", memDir, i+1))
		require.NoError(t, err)
		if l, err := layout.DecodeLedger(data); err == nil && l.Sequence > newest.Sequence {
			newest = l
		}
	}
	return newest
}

// TestLedgerFollowsAndRests: the ledger is at most a second behind, and a store in which
// nothing happens writes none.
func TestLedgerFollowsAndRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := testdisk.New()
		s := open(t, configOn(d))
		first := newestLedger(t, d.Mem)
		require.True(t, first.Ready)
		for i := range 100 {
			mustPut(t, s, fmt.Sprintf("k%d", i), "value")
		}
		require.Equal(t, first.Sequence, newestLedger(t, d.Mem).Sequence, "not with each commit")
		<-time.After(time.Second + time.Millisecond)
		synctest.Wait()
		second := newestLedger(t, d.Mem)
		require.Equal(t, first.Sequence+1, second.Sequence)
		var logged int64
		for _, f := range second.Files {
			if strings.HasSuffix(f.Name, ".log") {
				logged = max(logged, f.Size)
			}
		}
		require.Greater(t, logged, int64(100*len("value")))
		changes := d.Changes()
		<-time.After(24 * time.Hour)
		require.Equal(t, changes, d.Changes(), "an idle store changes nothing")
		require.NoError(t, s.Close())
	})
}

// TestManifestStatesTheLogs: the manifest says which logs are needed. Flushed logs may be
// missing, reused or damaged.
func TestManifestStatesTheLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := testdisk.New()
		s := open(t, configOn(d))
		for i := range 5 {
			mustPut(t, s, fmt.Sprintf("k%d", i), "value")
			require.NoError(t, s.Flush())
		}
		mustPut(t, s, "last", "value")
		<-time.After(2 * time.Second)
		synctest.Wait()
		killed := d.PowerCut()
		require.NoError(t, s.Close())
		names, err := killed.Mem.List(memDir + "/store")
		require.NoError(t, err)
		var logs []string
		for _, name := range names {
			if strings.HasSuffix(name, ".log") {
				logs = append(logs, memDir+"/store/"+name)
			}
		}
		require.Greater(t, len(logs), 1, "there are obsolete ones")
		last := logs[0]
		for _, name := range logs {
			last = max(last, name)
		}
		for _, name := range logs {
			if name != last {
				require.NoError(t, killed.Mem.Remove(name))
			}
		}
		for _, readOnly := range []bool{true, false} {
			cfg := configOn(killed)
			cfg.ReadOnly = readOnly
			s = open(t, cfg)
			requireValue(t, s, "last", "value")
			require.NoError(t, s.VerifyFiles(t.Context(), nil, func(_ string, damage error) { require.NoError(t, damage) }))
			require.NoError(t, s.Close())
		}
	})
}

// TestVerifyFiles: damage of a table is found while the store is in use, and nothing
// else is.
func TestVerifyFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, table, cfg := withDamagedTable(t)
		s := open(t, cfg)
		synctest.Wait() // until Pebble has removed the log that it replayed
		verify := func() (found []error) {
			read, whole := int64(0), 0
			pace := func(n int) error { read += int64(n); return nil }
			require.NoError(t, s.VerifyFiles(t.Context(), pace, func(file string, damage error) {
				if damage == nil {
					whole++
					return
				}
				require.Contains(t, damage.Error(), file)
				found = append(found, damage)
			}))
			require.Equal(t, s.DurableBytes(), read)
			require.Greater(t, whole, 2, "the manifest, a log and a table")
			return found
		}
		mustPut(t, s, "more", "value")
		require.Empty(t, verify())
		data, err := d.Mem.UnsafeGetFileDataBuffer(table)
		require.NoError(t, err)
		data[len(data)/2] ^= 1
		found := verify()
		require.Len(t, found, 1)
		require.ErrorIs(t, found[0], kv.ErrCorrupt)
		var damage *kv.FileDamageError
		require.ErrorAs(t, found[0], &damage)
		require.Equal(t, kv.FileChanged, damage.Damage)
		require.True(t, strings.HasSuffix(table, damage.File), damage.File)
		data[len(data)/2] ^= 1
		require.Empty(t, verify())

		enough := errors.New("enough")
		require.ErrorIs(t, s.VerifyFiles(t.Context(), func(int) error { return enough }, nil), enough)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(enough)
		require.ErrorIs(t, s.VerifyFiles(ctx, nil, nil), enough)
		require.NoError(t, s.Close())
		require.ErrorIs(t, s.VerifyFiles(t.Context(), nil, nil), kv.ErrClosed)
	})
}

// TestDamageOfTheLastSecondIsAccepted: a log is damaged beyond the bytes that the ledger lists,
// where Pebble does not mistake the damage for the end. The error names the log, and AcceptLoss
// keeps the records before the damage.
func TestDamageOfTheLastSecondIsAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := testdisk.New()
		s := open(t, configOn(d))
		for i := range 50 {
			mustPut(t, s, fmt.Sprintf("k%02d", i), strings.Repeat("v", 2000))
		}
		cut := d.PowerCut()
		require.NoError(t, s.Close())
		var log string
		names, err := cut.Mem.List(memDir + "/store")
		require.NoError(t, err)
		for _, name := range names {
			if strings.HasSuffix(name, ".log") {
				log = max(log, name)
			}
		}
		data, err := cut.Mem.UnsafeGetFileDataBuffer(memDir + "/store/" + log)
		require.NoError(t, err)
		data[len(data)/2] ^= 1
		cfg := configOn(cut)
		_, err = kv.Open(cfg)
		var damage *kv.FileDamageError
		require.ErrorAs(t, err, &damage)
		require.Equal(t, "store/"+log, damage.File)
		require.ErrorContains(t, err, "nothing was changed")
		cfg.AcceptLoss = true
		s = open(t, cfg)
		requireValue(t, s, "k00", strings.Repeat("v", 2000))
		require.Len(t, s.Losses(), 1)
		require.NoError(t, s.Close())
	})
}

// TestARefusedAcceptanceSaysWhatItChanged: if the first loss cannot be accepted, nothing was
// changed; otherwise the error says where the replaced files are.
func TestARefusedAcceptanceSaysWhatItChanged(t *testing.T) {
	d := testdisk.New()
	s := open(t, configOn(d))
	mustPut(t, s, "k", "value")
	require.NoError(t, s.Close())
	names, err := d.Mem.List(memDir + "/store")
	require.NoError(t, err)
	for _, name := range names {
		if strings.HasPrefix(name, "MANIFEST-") {
			require.NoError(t, d.Mem.Remove(memDir+"/store/"+name))
		}
	}
	cfg := configOn(d)
	cfg.AcceptLoss = true
	changes := d.Changes()
	_, err = kv.Open(cfg)
	require.ErrorIs(t, err, kv.ErrDataLoss)
	require.ErrorContains(t, err, "; nothing was changed")
	require.Equal(t, changes, d.Changes())

	for i := range 2 { // this can be accepted, the manifest afterwards cannot
		require.NoError(t, d.Mem.Remove(fmt.Sprintf("%s/TABLES.%d", memDir, i+1)))
	}
	_, err = kv.Open(cfg)
	require.ErrorIs(t, err, kv.ErrDataLoss)
	require.NotContains(t, err.Error(), "nothing was changed")
	require.ErrorContains(t, err, `the files that were replaced are in "lost"`)
}

// TestNoLedgerIsWrittenAfterAFailedOpen: an open that fails waits for a write of the ledger in
// progress before it unlocks the directory.
func TestNoLedgerIsWrittenAfterAFailedOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := testdisk.New()
		release := d.Hold(func(op testdisk.Op) bool {
			base := path.Base(op.Path)
			return op.Changes() && (strings.HasPrefix(base, "LEDGER.") || strings.HasPrefix(base, "TABLES."))
		})
		refused := errors.New("refused")
		cfg := configOn(d)
		cfg.Init = func(*kv.Batch) error {
			<-time.After(2 * time.Second)
			return refused
		}
		opened := make(chan error, 1)
		go func() {
			_, err := kv.Open(cfg)
			opened <- err
		}()
		<-d.Held()
		<-time.After(5 * time.Second)
		synctest.Wait()
		require.Empty(t, opened, "a ledger is being written")
		release()
		require.ErrorIs(t, <-opened, refused)
		changes := d.Changes()
		<-time.After(time.Minute)
		require.Equal(t, changes, d.Changes())
		s := open(t, configOn(d))
		mustPut(t, s, "k", "value")
		require.NoError(t, s.Close())
	})
}
