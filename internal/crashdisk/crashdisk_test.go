package crashdisk_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/crashdisk"
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

func open(t *testing.T, disk *crashdisk.Disk, options *braid.Options) *braid.DB {
	t.Helper()
	db, err := crashdisk.Open(disk, options)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() }) // a second Close is an error
	return db
}

func TestAPowerCutKeepsWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	disk := crashdisk.New()
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
	disk := crashdisk.New()
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
