package braid_test

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// boxSet stores keys with one transaction: "key=value".
func boxSet(t *testing.T, db *braid.DB, pairs ...string) {
	t.Helper()
	require.NoError(t, db.Update(t.Context(), func(tx *braid.Tx) error {
		for _, pair := range pairs {
			key, value, _ := strings.Cut(pair, "=")
			if err := tx.Set([]byte(key), []byte(value)); err != nil {
				return err
			}
		}
		return nil
	}))
}

// boxKeys returns the keys of a scan, in the form that boxSet takes.
func boxKeys(t *testing.T, items iter.Seq2[braid.KeyValue, error]) (pairs []string) {
	t.Helper()
	for item, err := range items {
		require.NoError(t, err)
		pairs = append(pairs, string(item.Key)+"="+string(item.Value))
	}
	return pairs
}

// boxState returns all keys of the application.
func boxState(t *testing.T, db *braid.DB) (pairs []string) {
	t.Helper()
	require.NoError(t, db.View(t.Context(), func(tx *braid.Tx) error {
		pairs = boxKeys(t, tx.Scan(nil, nil))
		return nil
	}))
	return pairs
}

func TestATransactionReadsWhatItWrote(t *testing.T) {
	db := boxOpen(t, nil)
	boxSet(t, db, "a=1", "b=2")
	require.NoError(t, db.Update(t.Context(), func(tx *braid.Tx) error {
		get := func(key string) string {
			value, err := tx.Get([]byte(key))
			if errors.Is(err, braid.ErrKeyNotFound) {
				return "none"
			}
			require.NoError(t, err)
			return string(value)
		}
		require.Equal(t, "1", get("a"))
		require.NoError(t, tx.Set([]byte("a"), []byte("changed")))
		require.NoError(t, tx.Set([]byte("c"), nil))
		require.NoError(t, tx.Delete([]byte("b")))
		require.NoError(t, tx.Delete([]byte("never there")))
		require.Equal(t, "changed", get("a"))
		require.Equal(t, "none", get("b"))
		require.Equal(t, "", get("c"))
		require.Equal(t, "none", get("d"))
		require.NoError(t, tx.Set([]byte("b"), []byte("back")))
		require.Equal(t, "back", get("b"))
		require.NoError(t, tx.Delete([]byte("a")))
		require.Equal(t, "none", get("a"))

		require.Empty(t, boxKeys(t, tx.Scan([]byte("d"), nil)))
		value, err := tx.Get([]byte("c"))
		require.NoError(t, err)
		require.NotNil(t, value, "an empty value is a value")
		return nil
	}))
	require.Equal(t, []string{"b=back", "c="}, boxState(t, db))
}

func TestAScanMergesWhatTheTransactionWrote(t *testing.T) {
	db := boxOpen(t, nil)
	boxSet(t, db, "b=stored", "d=stored", "f=stored", "h=stored")
	require.NoError(t, db.Update(t.Context(), func(tx *braid.Tx) error {
		for _, key := range []string{"a", "c", "d", "i"} {
			require.NoError(t, tx.Set([]byte(key), []byte("own")))
		}
		require.NoError(t, tx.Delete([]byte("f")))
		require.NoError(t, tx.Delete([]byte("e")))
		all := []string{"a=own", "b=stored", "c=own", "d=own", "h=stored", "i=own"}
		for _, test := range []struct {
			start, end string // "" is nil
			want       []string
		}{
			{"", "", all},
			{"a", "", all},
			{"a", "j", all},
			{"a", "i", all[:5]},
			{"b", "d", all[1:3]},
			{"b\x00", "d\x00", all[2:4]},
			{"", "a", nil},
			{"e", "h", nil},
			{"i", "", all[5:]},
			{"j", "", nil},
			{"d", "b", nil},
			{"d", "d", nil},
		} {
			var start, end []byte
			if test.start != "" {
				start = []byte(test.start)
			}
			if test.end != "" {
				end = []byte(test.end)
			}
			require.Equal(t, test.want, boxKeys(t, tx.Scan(start, end)), "%q to %q", test.start, test.end)
		}
		for range tx.Scan(nil, nil) {
			break
		}
		return nil
	}))
}

// A scan may be larger than one page, and the loop may write.
func TestALongScanSeesTheStateAsItBegan(t *testing.T) {
	db := boxOpen(t, nil)
	const n = 300
	value := strings.Repeat("v", 1000) // several pages
	var pairs []string
	for i := range n {
		pairs = append(pairs, fmt.Sprintf("k%03d=%s", i, value))
	}
	boxSet(t, db, pairs...)
	require.NoError(t, db.Update(t.Context(), func(tx *braid.Tx) error {
		require.NoError(t, tx.Set([]byte("k250"), []byte("own")))
		require.NoError(t, tx.Set([]byte("k250x"), []byte("own")))
		i := 0
		for item, err := range tx.Scan(nil, nil) {
			require.NoError(t, err)
			if i == 0 { // the loop's writes appear in the next scan
				require.NoError(t, tx.Set([]byte("k250"), []byte("changed")))
				require.NoError(t, tx.Delete([]byte("k250x")))
				require.NoError(t, tx.Set([]byte("k251"), []byte("changed")))
				require.NoError(t, tx.Set([]byte("k299x"), []byte("new")))
			}
			switch string(item.Key) {
			case "k250", "k250x":
				require.Equal(t, "own", string(item.Value))
			case "k299x":
				require.Fail(t, "written in the loop")
			default:
				require.Equal(t, value, string(item.Value))
			}
			require.NoError(t, tx.Delete(item.Key))
			clear(item.Key) // the key belongs to the loop
			i++
		}
		require.Equal(t, n+1, i)
		require.Equal(t, []string{"k299x=new"}, boxKeys(t, tx.Scan(nil, nil)))
		return nil
	}))
	require.Equal(t, []string{"k299x=new"}, boxState(t, db))
}

func TestKeysAreOneByteTo16KiBOfAnything(t *testing.T) {
	db := boxOpen(t, nil)
	longest := bytes.Repeat([]byte{0xff}, 16<<10)
	keys := [][]byte{{0}, {0, 0}, {0xfe}, {0xff}, longest[:100], longest}
	require.NoError(t, db.Update(t.Context(), func(tx *braid.Tx) error {
		for _, key := range [][]byte{nil, {}, append(longest, 0)} {
			boxInvalid(t, tx.Set(key, nil), "Key")
			boxInvalid(t, tx.Delete(key), "Key")
			_, err := tx.Get(key)
			boxInvalid(t, err, "Key")
		}
		for _, key := range keys {
			require.NoError(t, tx.Set(key, key))
		}
		return nil
	}))
	boxOpenStream(t, db, "rows-of-braid-do-not-show", 1)
	require.NoError(t, db.View(t.Context(), func(tx *braid.Tx) error {
		i := 0
		for item, err := range tx.Scan(nil, nil) {
			require.NoError(t, err)
			require.Equal(t, keys[i], item.Key)
			require.Equal(t, keys[i], item.Value)
			i++
		}
		require.Equal(t, len(keys), i)
		return nil
	}))
}

func TestWhatATransactionTakesAndGivesIsCopied(t *testing.T) {
	db := boxOpen(t, nil)
	key, value := []byte("key"), []byte("value")
	require.NoError(t, db.Update(t.Context(), func(tx *braid.Tx) error {
		require.NoError(t, tx.Set(key, value))
		copy(key, "XXX")
		copy(value, "XXXXX")
		got, err := tx.Get([]byte("key"))
		require.NoError(t, err)
		copy(got, "XXXXX")
		for item, err := range tx.Scan(nil, nil) {
			require.NoError(t, err)
			copy(item.Key, "XXX")
			copy(item.Value, "XXXXX")
		}
		require.Equal(t, []string{"key=value"}, boxKeys(t, tx.Scan(nil, nil)))
		return nil
	}))
	require.NoError(t, db.View(t.Context(), func(tx *braid.Tx) error {
		got, err := tx.Get([]byte("key"))
		require.NoError(t, err)
		copy(got, "XXXXX")
		for item, err := range tx.Scan(nil, nil) {
			require.NoError(t, err)
			copy(item.Key, "XXX")
			copy(item.Value, "XXXXX")
		}
		return nil
	}))
	require.Equal(t, []string{"key=value"}, boxState(t, db))
}

func TestAnErrorOfTheFunctionUndoesEverything(t *testing.T) {
	db, stream := boxStream(t, 1)
	boxSet(t, db, "a=1")
	mine := errors.New("mine")
	err := db.Update(t.Context(), func(tx *braid.Tx) error {
		require.NoError(t, tx.Set([]byte("a"), []byte("2")))
		require.NoError(t, tx.PutRecord("s", "key", []byte("record")))
		return mine
	})
	require.Equal(t, mine, err, "as it was returned")
	require.Equal(t, mine, db.View(t.Context(), func(*braid.Tx) error { return mine }))
	require.PanicsWithValue(t, "mine", func() {
		_ = db.Update(t.Context(), func(tx *braid.Tx) error {
			require.NoError(t, tx.Set([]byte("a"), []byte("2")))
			panic("mine")
		})
	})
	require.Equal(t, []string{"a=1"}, boxState(t, db))
	require.Zero(t, stream.Describe().Records)
	require.Zero(t, db.Metrics().OpenSnapshots)
}

func TestAViewCannotWrite(t *testing.T) {
	db, stream := boxStream(t, 1)
	require.NoError(t, db.View(t.Context(), func(tx *braid.Tx) error {
		boxInvalid(t, tx.Set([]byte("a"), nil), "Tx")
		boxInvalid(t, tx.Delete([]byte("a")), "Tx")
		boxInvalid(t, tx.PutRecord("s", "key", nil), "Tx")
		boxInvalid(t, tx.PutEntry("s", braid.Entry{PartitionKey: "key"}), "Tx")
		return nil
	}))
	require.Empty(t, boxState(t, db))
	require.Zero(t, stream.Describe().Records)
}

func TestATransactionEndsWithItsFunction(t *testing.T) {
	db, _ := boxStream(t, 1)
	boxSet(t, db, "a=1")
	for name, run := range map[string]func(func(*braid.Tx) error) error{
		"update": func(fn func(*braid.Tx) error) error { return db.Update(t.Context(), fn) },
		"view":   func(fn func(*braid.Tx) error) error { return db.View(t.Context(), fn) },
	} {
		var tx *braid.Tx
		var scan iter.Seq2[braid.KeyValue, error]
		require.NoError(t, run(func(given *braid.Tx) error {
			tx, scan = given, given.Scan(nil, nil)
			return nil
		}))
		_, err := tx.Get([]byte("a"))
		boxInvalid(t, err, "Tx")
		boxInvalid(t, tx.Set([]byte("a"), nil), "Tx")
		boxInvalid(t, tx.Delete([]byte("a")), "Tx")
		boxInvalid(t, tx.PutRecord("s", "key", nil), "Tx")
		n := 0
		for _, err := range scan {
			boxInvalid(t, err, "Tx")
			n++
		}
		require.Equal(t, 1, n, name)
	}
	require.Equal(t, []string{"a=1"}, boxState(t, db))
}

func TestAViewReadsOneState(t *testing.T) {
	db := boxOpen(t, nil)
	boxSet(t, db, "a=1", "b=1")
	require.NoError(t, db.View(t.Context(), func(tx *braid.Tx) error {
		before := boxKeys(t, tx.Scan(nil, nil))
		boxSet(t, db, "a=2", "b=2", "c=2")
		require.Equal(t, before, boxKeys(t, tx.Scan(nil, nil)))
		value, err := tx.Get([]byte("b"))
		require.NoError(t, err)
		require.Equal(t, "1", string(value))
		_, err = tx.Get([]byte("c"))
		require.ErrorIs(t, err, braid.ErrKeyNotFound)
		return nil
	}))
	require.Equal(t, []string{"a=2", "b=2", "c=2"}, boxState(t, db))
}

func TestATransactionHasALimit(t *testing.T) {
	const most = 100_000
	db := boxOpen(t, &braid.Options{MaxTxBytes: most})
	stream := boxOpenStream(t, db, "s", 1)
	value := make([]byte, 1000)
	for name, step := range map[string]func(tx *braid.Tx, i int) error{
		"set":    func(tx *braid.Tx, i int) error { return tx.Set(fmt.Append(nil, "key", i), value) },
		"again":  func(tx *braid.Tx, _ int) error { return tx.Set([]byte("key"), value) },
		"delete": func(tx *braid.Tx, i int) error { return tx.Delete(fmt.Append(value, i)) },
		"put":    func(tx *braid.Tx, _ int) error { return tx.PutRecord("s", "key", value) },
		"get": func(tx *braid.Tx, i int) error {
			_, err := tx.Get(fmt.Append(value, i))
			if errors.Is(err, braid.ErrKeyNotFound) {
				return nil
			}
			return err
		},
	} {
		steps := 0
		err := db.Update(t.Context(), func(tx *braid.Tx) error {
			for steps = 0; ; steps++ {
				if err := step(tx, steps); err != nil {
					return err
				}
			}
		})
		require.ErrorIs(t, err, braid.ErrTxTooLarge, name)
		require.InDelta(t, most/1000, steps, 20, name)
	}
	require.Empty(t, boxState(t, db))
	require.Zero(t, stream.Describe().Records)

	err := db.Update(t.Context(), func(tx *braid.Tx) error {
		if err := tx.Set([]byte("small"), nil); err != nil {
			return err
		}
		_ = tx.Set([]byte("large"), make([]byte, most)) // a function that ignores the error
		return nil
	})
	require.ErrorIs(t, err, braid.ErrTxTooLarge, "half of what the function meant must not be stored")
	require.Empty(t, boxState(t, db))
}

func TestAScanMeetsTheLimitToo(t *testing.T) {
	db := boxOpen(t, &braid.Options{MaxTxBytes: 400})
	boxSet(t, db, strings.Repeat("k", 100)+"=v")
	boxSet(t, db, strings.Repeat("l", 100)+"=v")
	boxSet(t, db, strings.Repeat("m", 100)+"=v")
	require.ErrorIs(t, db.Update(t.Context(), func(tx *braid.Tx) error {
		for _, err := range tx.Scan(nil, nil) {
			if err != nil {
				return err
			}
		}
		return tx.Set([]byte("a"), nil)
	}), braid.ErrTxTooLarge)
	require.NotPanics(t, func() { // what was read is counted when the loop breaks
		require.ErrorIs(t, db.Update(t.Context(), func(tx *braid.Tx) error {
			n := 0
			for _, err := range tx.Scan(nil, nil) {
				if err != nil {
					return err
				}
				if n++; n == 3 {
					break
				}
			}
			return tx.Set([]byte("a"), nil)
		}), braid.ErrTxTooLarge)
	})
	require.Len(t, boxState(t, db), 3, "a view has no limit")
}

func TestRecordsOfATransactionAppearWithItInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := boxOpen(t, nil)
		first, second := boxOpenStream(t, db, "first", 3), boxOpenStream(t, db, "second", 1)
		followers := []*boxFollower{
			boxFollow(first.Follow(t.Context(), braid.TrimHorizon())),
			boxFollow(second.Follow(t.Context(), braid.TrimHorizon())),
		}
		require.NoError(t, db.Update(t.Context(), func(tx *braid.Tx) error {
			for i := range 50 {
				require.NoError(t, tx.PutRecord("first", fmt.Sprint("key", i), fmt.Append(nil, i)))
				if i%2 == 0 {
					require.NoError(t, tx.PutRecord("second", "key", fmt.Append(nil, i)))
				}
			}
			synctest.Wait()
			require.Empty(t, followers[0].data, "nothing shows before the commit")
			require.Empty(t, followers[1].data)
			require.Empty(t, boxAll(t, first.Records(t.Context(), braid.TrimHorizon())))
			return nil
		}))
		synctest.Wait()
		var all, even []string
		for i := range 50 {
			all = append(all, fmt.Sprint(i))
			if i%2 == 0 {
				even = append(even, fmt.Sprint(i))
			}
		}
		require.Equal(t, all, followers[0].data)
		require.Equal(t, even, followers[1].data)
		require.NoError(t, db.Close())
		for _, f := range followers {
			require.ErrorIs(t, <-f.ended, braid.ErrClosed)
		}
	})
}

func TestATransactionNeedsItsStreams(t *testing.T) {
	db, stream := boxStream(t, 1)
	require.ErrorIs(t, db.Update(t.Context(), func(tx *braid.Tx) error {
		return tx.PutRecord("none", "key", nil)
	}), braid.ErrStreamNotFound)
	err := db.Update(t.Context(), func(tx *braid.Tx) error {
		require.NoError(t, tx.Set([]byte("a"), nil))
		require.NoError(t, tx.PutRecord("s", "key", nil))
		return db.DeleteStream(t.Context(), "s")
	})
	require.ErrorIs(t, err, braid.ErrStreamNotFound)
	require.Empty(t, boxState(t, db))
	require.Zero(t, stream.Describe().Records)
}
