package braidtest_test

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/braidtest"
)

func put(t *testing.T, db *braid.DB, data ...string) {
	t.Helper()
	stream, err := db.OpenStream(t.Context(), "orders", nil)
	require.NoError(t, err)
	for _, d := range data {
		_, err := stream.PutRecord(t.Context(), "key", []byte(d))
		require.NoError(t, err)
	}
}

func read(t *testing.T, db *braid.DB) (data []string) {
	t.Helper()
	stream, err := db.Stream("orders")
	require.NoError(t, err)
	for rec, err := range stream.Records(t.Context(), braid.TrimHorizon()) {
		require.NoError(t, err)
		data = append(data, string(rec.Data))
	}
	return data
}

func open(t *testing.T, disk *braidtest.Disk, options *braid.Options) *braid.DB {
	t.Helper()
	db, err := disk.Open(options)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() }) // a second Close is an error
	return db
}

func TestAPowerCutKeepsWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	disk := braidtest.NewDisk()
	db := open(t, disk, nil)
	put(t, db, "one", "two")
	cut := disk.PowerCut()
	put(t, db, "three")
	require.NoError(t, db.Close())

	db = open(t, cut, nil)
	require.Equal(t, []string{"one", "two"}, read(t, db))
	put(t, db, "four")
	require.Equal(t, []string{"one", "two", "four"}, read(t, open(t, cut.PowerCut(), nil)))

	db = open(t, disk, nil)
	require.Equal(t, []string{"one", "two", "three"}, read(t, db), "the disk itself goes on")
}

func TestAPowerCutTakesWhatWasNotSynced(t *testing.T) {
	t.Parallel()
	disk := braidtest.NewDisk()
	db := open(t, disk, nil)
	put(t, db, "synced")
	require.NoError(t, db.Close())

	db = open(t, disk, &braid.Options{Durability: braid.NoSync})
	want := []string{"synced"}
	for i := range 10 {
		put(t, db, fmt.Sprint(i))
		want = append(want, fmt.Sprint(i))
	}
	got := read(t, open(t, disk.PowerCut(), nil))
	require.Less(t, len(got), len(want))
	require.Equal(t, want[:len(got)], got, "a prefix is left")
}

// While a writer continues, over many logs and tables, every image has everything that
// was acknowledged before it, without a gap.
func TestImagesOfABusyDisk(t *testing.T) {
	t.Parallel()
	options := &braid.Options{MemtableBytes: 1 << 20}
	disk := braidtest.NewDisk()
	db := open(t, disk, options)
	stream, err := db.OpenStream(t.Context(), "orders", nil)
	require.NoError(t, err)
	var acknowledged atomic.Int64
	var writer sync.WaitGroup
	writer.Go(func() {
		for n := range 600 {
			if _, err := stream.PutRecord(t.Context(), "key", binary.BigEndian.AppendUint32(make([]byte, 8192), uint32(n))); err != nil {
				t.Error(err)
				return
			}
			acknowledged.Add(1)
		}
	})
	defer writer.Wait()
	for acknowledged.Load() < 550 && !t.Failed() {
		least := acknowledged.Load()
		image := disk.PowerCut()
		for range 2 { // including an image of an image
			image = image.PowerCut()
			got := read(t, open(t, image, options))
			require.GreaterOrEqual(t, len(got), int(least))
			for n, data := range got {
				require.EqualValues(t, n, binary.BigEndian.Uint32([]byte(data[8192:])))
			}
		}
	}
}

// A backup creates a directory with a log of its own, and removes it.
func TestAPowerCutAfterABackup(t *testing.T) {
	t.Parallel()
	disk := braidtest.NewDisk()
	db := open(t, disk, nil)
	put(t, db, "one")
	require.NoError(t, db.Backup(t.Context(), filepath.Join(t.TempDir(), "backup"), nil))
	put(t, db, "two")
	db = open(t, disk.PowerCut(), nil)
	require.Equal(t, []string{"one", "two"}, read(t, db))
	require.NoError(t, db.Backup(t.Context(), filepath.Join(t.TempDir(), "backup"), nil), "what is left of the first is not in the way")
}
