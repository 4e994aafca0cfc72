package kv_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/testdisk"
)

// TestACopyIsOfOneMoment: while a copy is made, an excise comes, then a commit that notes its
// end. The copy has neither.
func TestACopyIsOfOneMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := testdisk.New()
		s := open(t, configOn(d))
		mustPut(t, s, "row", "there are records")
		mustPut(t, s, "record", "1")
		require.NoError(t, s.Flush())
		release := d.Hold(func(op testdisk.Op) bool { return op.Kind == errorfs.OpLink })
		copied := inBackground(func() error { return s.Backup(t.Context(), "/copy", nil, nil) })
		<-d.Held()
		removed := inBackground(func() error {
			if err := s.Excise(t.Context(), []byte("record"), []byte("record1")); err != nil {
				return err
			}
			b := s.NewBatch()
			defer b.Close()
			b.Delete([]byte("row"))
			return b.Commit(true)
		})
		synctest.Wait() // the excise has ended, or waits for the copy
		release()
		require.NoError(t, <-copied)
		require.NoError(t, <-removed)
		require.Empty(t, pairs(t, s, nil, []byte("z")))
		require.NoError(t, s.Close())

		cfg := configOn(d)
		cfg.Dir = "/copy"
		s = open(t, cfg)
		has := pairs(t, s, nil, []byte("z"))
		require.NoError(t, s.Close())
		require.Equal(t, []string{"record=1", "row=there are records"}, has)
	})
}

// TestACopyOfMemoryIsOfOneMoment: in memory there is no log, so a copy with an excise could
// lack commits before it.
func TestACopyOfMemoryIsOfOneMoment(t *testing.T) {
	d := testdisk.New()
	cfg := configInMemory()
	cfg.FS = d
	s := open(t, cfg)
	const records = 300
	for i := range records {
		require.NoError(t, put(s, fmt.Sprintf("record%03d", i), "1", false))
	}
	require.NoError(t, s.Flush())
	var user sync.WaitGroup
	defer func() {
		user.Wait()
		require.NoError(t, s.Close())
	}()
	user.Go(func() {
		for i := range records {
			err := put(s, fmt.Sprintf("gone%03d", i), "", false)
			if err == nil {
				err = s.Excise(context.Background(), fmt.Appendf(nil, "record%03d", i), fmt.Appendf(nil, "record%03d1", i))
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	for n := 0; ; n++ {
		dir := fmt.Sprintf("/copy%d", n)
		require.NoError(t, s.Backup(t.Context(), dir, nil, nil))
		copied := configOn(d)
		copied.Dir, copied.ReadOnly = dir, true
		c := open(t, copied)
		gone := len(pairs(t, c, []byte("gone"), []byte("gonf")))
		left := len(pairs(t, c, []byte("record"), []byte("recore")))
		require.NoError(t, c.Close())
		require.GreaterOrEqual(t, gone+left, records, "nothing is gone that is not said to be")
		require.LessOrEqual(t, gone+left, records+1, "what is said to be gone is gone, or about to be")
		if gone == records {
			break
		}
	}
}
