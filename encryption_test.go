package braid_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// boxRing makes a key ring whose keys are derived from their ids.
func boxRing(t *testing.T, ids ...string) *braid.KeyRing {
	t.Helper()
	keys := make(map[string][]byte)
	for _, id := range ids {
		keys[id] = bytes.Repeat([]byte(id[:1]), 32)
	}
	ring, err := braid.NewKeyRing(keys)
	require.NoError(t, err)
	return ring
}

// boxFiles calls fn with the content of every file under dir.
func boxFiles(t *testing.T, dir string, fn func(path string, content []byte)) {
	t.Helper()
	seen := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the database has just removed it
		}
		fn(path, content)
		seen++
		return err
	}))
	require.Positive(t, seen, "no file was looked at")
}

// No file has a byte of the records in the clear, whichever call put them: neither while the
// database is in use, as a crash would leave it, nor after it was closed.
func TestNoFileHasAnythingInTheClear(t *testing.T) {
	for _, encrypt := range []bool{true, false} {
		t.Run(fmt.Sprint(encrypt), func(t *testing.T) {
			dir := t.TempDir()
			db := boxOpenDir(t, dir, &braid.Options{KeyProvider: boxRing(t, "main"), MemtableBytes: 1 << 20})
			stream := boxOpenStream(t, db, "s", 3)
			if encrypt {
				require.NoError(t, stream.StartEncryption(t.Context(), "main"))
				require.Equal(t, "main", stream.Describe().EncryptionKey)
			}
			noise := rand.NewChaCha8([32]byte{1})
			hash := braid.HashKeyOf("somewhere")
			for i := range 60 {
				data := make([]byte, 40_000) // so much that tables are written, too
				_, _ = noise.Read(data)
				copy(data[20_000:], "TOP-SECRET-DATA")
				_, err := stream.PutRecord(t.Context(), "TOP-SECRET-KEY-"+strconv.Itoa(i), data)
				require.NoError(t, err)
				_, err = stream.PutRecords(t.Context(), []braid.Entry{{PartitionKey: "TOP-SECRET", ExplicitHashKey: &hash, Data: []byte("TOP-SECRET")}})
				require.NoError(t, err)
				require.NoError(t, db.Update(t.Context(), func(tx *braid.Tx) error {
					return tx.PutRecord("s", "TOP-SECRET-TX", []byte("TOP-SECRET"))
				}))
			}
			find := func() (found []string) {
				boxFiles(t, dir, func(path string, content []byte) {
					if bytes.Contains(content, []byte("TOP-SECRET")) {
						found = append(found, path)
					}
				})
				return found
			}
			require.Equal(t, !encrypt, len(find()) > 0, "%v", find())
			require.NoError(t, db.Close())
			require.Equal(t, !encrypt, len(find()) > 0, "%v", find())

			db = boxOpenDir(t, dir, &braid.Options{KeyProvider: boxRing(t, "main")})
			stream = boxOpenStream(t, db, "s", 0)
			secret := 0
			for r, err := range stream.Records(t.Context(), braid.TrimHorizon()) {
				require.NoError(t, err)
				require.Contains(t, r.PartitionKey, "TOP-SECRET")
				require.Contains(t, string(r.Data), "TOP-SECRET")
				if r.ExplicitHashKey != nil {
					require.Equal(t, hash, *r.ExplicitHashKey)
				}
				secret++
			}
			require.Equal(t, 180, secret)
		})
	}
}

func TestEncryptionStartsStopsAndChangesItsKey(t *testing.T) {
	for _, tail := range []int64{0, -1} {
		synctest.Test(t, func(t *testing.T) { testEncryptionChanges(t, tail) })
	}
}

func testEncryptionChanges(t *testing.T, tail int64) {
	db := boxOpen(t, &braid.Options{KeyProvider: boxRing(t, "a", "b"), TailBytes: tail})
	stream := boxOpenStream(t, db, "s", 1)
	follower := boxFollow(stream.Follow(t.Context(), braid.TrimHorizon()))
	require.NoError(t, stream.StopEncryption(t.Context()), "there is nothing to stop")
	var want []string
	put := func(key string) {
		t.Helper()
		require.Equal(t, key, stream.Describe().EncryptionKey)
		data := fmt.Sprint(len(want))
		put, err := stream.PutRecord(t.Context(), "k", []byte(data))
		require.NoError(t, err)
		require.Equal(t, key != "", put.Encrypted)
		want = append(want, data)
		require.Equal(t, want, boxAll(t, stream.Records(t.Context(), braid.TrimHorizon())))
		for rec, err := range stream.Records(t.Context(), braid.AtSequence(put.SequenceNumber)) {
			require.NoError(t, err)
			require.Equal(t, put.Encrypted, rec.Encrypted)
		}
		page, err := stream.Shards()[0].GetRecords(t.Context(), braid.TrimHorizon(), &braid.GetRecordsOptions{LimitBytes: 1})
		require.NoError(t, err)
		require.EqualValues(t, len(want)-1, page.BehindRecords)
	}
	put("")
	require.NoError(t, stream.StartEncryption(t.Context(), "a"))
	put("a")
	require.NoError(t, stream.StartEncryption(t.Context(), "a"))
	put("a")
	require.NoError(t, stream.StartEncryption(t.Context(), "b"))
	put("b")
	require.NoError(t, stream.StopEncryption(t.Context()))
	put("")
	require.NoError(t, stream.StartEncryption(t.Context(), "b"))
	put("b")
	boxInvalid(t, stream.StartEncryption(t.Context(), "c"), "KeyID")
	boxInvalid(t, stream.StartEncryption(t.Context(), ""), "KeyID")
	boxInvalid(t, boxOpenStream(t, boxOpen(t, nil), "s", 1).StartEncryption(t.Context(), "a"), "KeyID")
	put("b")
	synctest.Wait()
	require.NoError(t, db.Close())
	require.ErrorIs(t, <-follower.ended, braid.ErrClosed)
	require.Equal(t, want, follower.data)
}

// provider is a key ring with a fault.
type provider struct {
	braid.KeyProvider
	fault func(ctx context.Context, op string) error
	wrong bool
}

func (p *provider) DescribeKey(ctx context.Context, id string) (string, error) {
	if err := p.fault(ctx, "describe"); err != nil {
		return "", err
	}
	return p.KeyProvider.DescribeKey(ctx, id)
}

func (p *provider) WrapKey(ctx context.Context, id string, key []byte, stream, purpose string) ([]byte, error) {
	if err := p.fault(ctx, "wrap"); err != nil {
		return nil, err
	}
	return p.KeyProvider.WrapKey(ctx, id, key, stream, purpose)
}

func (p *provider) UnwrapKey(ctx context.Context, id string, wrapped []byte, stream, purpose string) ([]byte, error) {
	if err := p.fault(ctx, "unwrap"); err != nil {
		return nil, err
	}
	if p.wrong {
		return bytes.Repeat([]byte{1}, 32), nil
	}
	return p.KeyProvider.UnwrapKey(ctx, id, wrapped, stream, purpose)
}

func TestWithoutItsKeyNothingIsReadOrPut(t *testing.T) {
	dir := t.TempDir()
	ring := boxRing(t, "main", "other")
	db := boxOpenDir(t, dir, &braid.Options{KeyProvider: ring})
	stream := boxOpenStream(t, db, "s", 1)
	boxPut(t, stream, "in the clear")
	require.NoError(t, stream.StartEncryption(t.Context(), "main"))
	numbers := boxPut(t, stream, "secret", "too")
	require.NoError(t, db.Close())

	otherwise, err := braid.NewKeyRing(map[string][]byte{"main": bytes.Repeat([]byte("x"), 32)})
	require.NoError(t, err)
	down := errors.New("the key service is down")
	fault := func(err error) func(context.Context, string) error {
		return func(context.Context, string) error { return err }
	}
	for name, keys := range map[string]braid.KeyProvider{
		"no provider": nil,
		"missing":     boxRing(t, "other"),
		"wrong":       otherwise,
		"down":        &provider{ring, fault(down), false},
		"mistaken":    &provider{ring, func(_ context.Context, op string) error { return map[string]error{"wrap": down}[op] }, true},
	} {
		t.Run(name, func(t *testing.T) {
			db := boxOpenDir(t, dir, &braid.Options{KeyProvider: keys})
			defer func() { require.NoError(t, db.Close()) }()
			stream := boxOpenStream(t, db, "s", 0)
			data, err := boxRead(stream.Records(t.Context(), braid.TrimHorizon()))
			require.ErrorIs(t, err, braid.ErrKeyUnavailable)
			require.NotErrorIs(t, err, braid.ErrCorrupt)
			require.NotErrorIs(t, err, braid.ErrInvalidArgument)
			require.Equal(t, []string{"in the clear"}, data, "what is in the clear can be read")
			page, err := stream.Shards()[0].GetRecords(t.Context(), braid.TrimHorizon(), nil)
			require.NoError(t, err)
			require.Len(t, page.Records, 1)
			require.Equal(t, "in the clear", string(page.Records[0].Data))
			require.EqualValues(t, 2, page.BehindRecords)
			_, err = stream.PutRecord(t.Context(), "k", []byte("x"))
			require.ErrorIs(t, err, braid.ErrKeyUnavailable)
			require.NotErrorIs(t, err, braid.ErrOutcomeUnknown)
			_, err = stream.PutRecords(t.Context(), []braid.Entry{{PartitionKey: "k"}})
			require.ErrorIs(t, err, braid.ErrKeyUnavailable)
			err = db.Update(t.Context(), func(tx *braid.Tx) error { return tx.PutRecord("s", "k", nil) })
			require.ErrorIs(t, err, braid.ErrKeyUnavailable)
			require.EqualValues(t, 3, stream.Describe().Records)
			if name == "down" {
				require.ErrorIs(t, err, down)
			}
		})
	}

	// Everything else works without keys.
	db = boxOpenDir(t, dir, nil)
	stream = boxOpenStream(t, db, "s", 0)
	require.Equal(t, numbers[1], stream.Describe().Shards[0].Last)
	require.NoError(t, stream.Trim(t.Context(), braid.AtSequence(numbers[1])))
	require.EqualValues(t, 1, stream.Describe().Records)
	require.Equal(t, numbers[1], stream.Describe().Shards[0].First)
	_, _, err = stream.SplitShard(t.Context(), stream.Shards()[0].ID(), nil)
	require.NoError(t, err)
	copied := filepath.Join(t.TempDir(), "copy")
	require.NoError(t, db.Backup(t.Context(), copied, nil))
	require.NoError(t, db.DeleteStream(t.Context(), "s"))
	require.NoError(t, db.Close())
	db = boxOpenDir(t, copied, &braid.Options{KeyProvider: ring})
	stream = boxOpenStream(t, db, "s", 0)
	require.Equal(t, []string{"too"}, boxAll(t, stream.Records(t.Context(), braid.TrimHorizon())))
	boxPut(t, stream, "in a copy")
}

func TestAProviderThatDoesNotAnswerHoldsNobodyForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &provider{boxRing(t, "main"), func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}, false}
		ok := slow.fault
		slow.fault = func(context.Context, string) error { return nil }
		db := boxOpen(t, &braid.Options{KeyProvider: slow})
		stream, err := db.OpenStream(t.Context(), "s", &braid.StreamOptions{Retention: -1})
		require.NoError(t, err)
		other := boxOpenStream(t, db, "other", 1)
		require.NoError(t, stream.StartEncryption(t.Context(), "main"))
		boxPut(t, stream, "0")
		slow.fault = ok
		boxPut(t, stream, "1") // the data key is still there
		<-time.After(25 * time.Hour)
		var waiting sync.WaitGroup
		for range 5 {
			waiting.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				_, err := stream.PutRecord(ctx, "k", nil)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.NotErrorIs(t, err, braid.ErrOutcomeUnknown)
			})
		}
		boxPut(t, other, "nobody else waits")
		require.NoError(t, stream.Trim(t.Context(), braid.TrimHorizon()))
		waiting.Wait()
		slow.fault = func(context.Context, string) error { return nil }
		boxPut(t, stream, "2")
		require.Equal(t, "012", joined(boxAll(t, stream.Records(t.Context(), braid.TrimHorizon()))))
	})
}

// Whatever the provider does, acknowledged records can be read once it works again. Until
// then reads return ErrKeyUnavailable and no other error.
func TestAFaultyProviderDoesNoHarm(t *testing.T) {
	rounds := 1000
	if testing.Short() {
		rounds = 200
	}
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		broken := errors.New("broken")
		var faulty bool
		p := &provider{KeyProvider: boxRing(t, "a", "b")}
		p.fault = func(ctx context.Context, _ string) error {
			if !faulty {
				return nil
			}
			select {
			case <-time.After(time.Duration(random.IntN(2000)) * time.Millisecond):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			return []error{nil, broken}[random.IntN(2)]
		}
		dir := t.TempDir()
		options := &braid.Options{KeyProvider: p, TailBytes: -1, Durability: braid.NoSync}
		db, err := braid.Open(dir, options)
		require.NoError(t, err)
		stream, err := db.CreateStream(t.Context(), "s", &braid.StreamOptions{Retention: -1})
		require.NoError(t, err)
		var want []string
		faults := 0
		allowed := func(err error) {
			t.Helper()
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				require.ErrorIs(t, err, braid.ErrKeyUnavailable)
				faults++
			}
		}
		for i := range rounds {
			// Not at a whole millisecond, when a provider may answer: the outcome of a put
			// would then be unknown.
			ctx, cancel := context.WithTimeout(t.Context(), time.Second+time.Microsecond)
			faulty, p.wrong = random.IntN(4) > 0, random.IntN(3) == 0
			switch random.IntN(8) {
			case 0:
				allowed(stream.StartEncryption(ctx, string("ab"[random.IntN(2)])))
			case 1:
				<-time.After(25 * time.Hour)
			case 2:
				require.NoError(t, db.Close())
				db, err = braid.Open(dir, options)
				require.NoError(t, err)
				stream, err = db.Stream("s")
				require.NoError(t, err)
			case 3:
				data, err := boxRead(stream.Records(ctx, braid.TrimHorizon()))
				allowed(err)
				require.Equal(t, joined(want[:len(data)]), joined(data))
				require.True(t, err != nil || len(data) == len(want))
			default:
				_, err := stream.PutRecord(ctx, "k", []byte(strconv.Itoa(i)))
				allowed(err)
				if err == nil {
					want = append(want, strconv.Itoa(i))
				}
			}
			cancel()
		}
		require.Greater(t, faults, rounds/20)
		faulty, p.wrong = false, false
		require.Equal(t, want, boxAll(t, stream.Records(t.Context(), braid.TrimHorizon())))
		require.NoError(t, db.Close())
	})
}

// Producers put while the key is changed, and while encryption is stopped and started. No
// record is missing, and all are in order.
func TestEncryptionChangesUnderLoad(t *testing.T) {
	db := boxOpen(t, &braid.Options{KeyProvider: boxRing(t, "a", "b"), TailBytes: -1, Durability: braid.NoSync})
	stream := boxOpenStream(t, db, "s", 2)
	var producers sync.WaitGroup
	const each = 500
	for p := range 4 {
		producers.Go(func() {
			for i := range each {
				_, err := stream.PutRecord(t.Context(), strconv.Itoa(p), []byte(strconv.Itoa(i)))
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 30 {
		var err error
		switch i % 3 {
		case 0:
			err = stream.StartEncryption(t.Context(), "a")
		case 1:
			err = stream.StartEncryption(t.Context(), "b")
		default:
			err = stream.StopEncryption(t.Context())
		}
		require.NoError(t, err)
	}
	producers.Wait()
	next := make(map[string]int)
	for r, err := range stream.Records(t.Context(), braid.TrimHorizon()) {
		require.NoError(t, err)
		require.Equal(t, strconv.Itoa(next[r.PartitionKey]), string(r.Data))
		next[r.PartitionKey]++
	}
	for p := range 4 {
		require.Equal(t, each, next[strconv.Itoa(p)])
	}
}

func TestAKeyRingComesFromAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32))
	write := func(mode fs.FileMode, text string) error {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.NoError(t, os.Chmod(path, mode))
		_, err := braid.OpenKeyRing(path)
		return err
	}
	require.NoError(t, write(0o600, "# our keys\n\nmain "+key+" # since May\nold\t"+key+"\n"))
	require.NoError(t, write(0o400, "main "+key))
	ring, err := braid.OpenKeyRing(path)
	require.NoError(t, err)
	wrapped, err := ring.WrapKey(t.Context(), "main", []byte("data key"), "orders", "records")
	require.NoError(t, err)
	unwrapped, err := ring.UnwrapKey(t.Context(), "main", wrapped, "orders", "records")
	require.NoError(t, err)
	require.Equal(t, "data key", string(unwrapped))
	_, err = ring.DescribeKey(t.Context(), "nobody")
	boxInvalid(t, err, "KeyID")
	for _, bad := range [][]byte{nil, wrapped[:5], wrapped[:12], append(bytes.Clone(wrapped), 0)} {
		_, err = ring.UnwrapKey(t.Context(), "main", bad, "orders", "records")
		require.Error(t, err)
	}

	for _, text := range []string{"main", "main " + key + " x", "main " + key[:10], "main " + key + "\nmain " + key, "main *" + key[1:]} {
		e := boxInvalid(t, write(0o600, text), "Path")
		require.NotContains(t, fmt.Sprint(e, e.Value), key[:10], "what is secret is not shown")
	}
	boxInvalid(t, write(0o600, "main "+base64.StdEncoding.EncodeToString([]byte("too short"))), "Keys")
	if runtime.GOOS != "windows" {
		require.Contains(t, boxInvalid(t, write(0o640, "main "+key), "Path").Rule, "chmod 600")
	}
	_, err = braid.OpenKeyRing(path + "x")
	require.ErrorIs(t, err, fs.ErrNotExist)
	for _, id := range []string{"", "a b", "a#", strings.Repeat("x", 2049)} {
		_, err = braid.NewKeyRing(map[string][]byte{id: make([]byte, 32)})
		boxInvalid(t, err, "Keys")
	}
}

// An ARN of KMS means the key with the id at its end, unless the ring has the ARN itself as
// an id. The length of an id is counted in characters.
func TestAKeyRingUnderstandsARNs(t *testing.T) {
	const whole = "arn:aws:kms:us-east-1:123456789012:key/whole"
	long := strings.Repeat("😀", 2048)
	keys := make(map[string][]byte)
	for i, id := range []string{"main", "alias/main", "whole", whole, long} {
		keys[id] = bytes.Repeat([]byte{byte(i)}, 32)
	}
	ring, err := braid.NewKeyRing(keys)
	require.NoError(t, err)
	for given, id := range map[string]string{
		"main":       "main",
		"alias/main": "alias/main",
		whole:        whole,
		long:         long,
		"arn:aws:kms:us-east-1:123456789012:key/main":      "main",
		"arn:aws:kms:us-east-1:123456789012:alias/main":    "alias/main",
		"arn:aws-cn:kms:cn-north-1:123456789012:key/whole": "whole",
	} {
		got, err := ring.DescribeKey(t.Context(), given)
		require.NoError(t, err)
		require.Equal(t, id, got, given)
	}
	for _, given := range []string{"key/main", "arn:aws:kms:us-east-1:123456789012:main", "arn:aws:kms:us-east-1:key/main", "arn:aws:s3:us-east-1:123456789012:key/main", "arn:aws:kms:us-east-1:123456789012:"} {
		_, err := ring.DescribeKey(t.Context(), given)
		boxInvalid(t, err, "KeyID")
	}

	stream := boxOpenStream(t, boxOpen(t, &braid.Options{KeyProvider: ring}), "s", 1)
	require.NoError(t, stream.StartEncryption(t.Context(), long))
	boxInvalid(t, stream.StartEncryption(t.Context(), long+"x"), "KeyID")
	_, err = stream.PutRecord(t.Context(), "a", []byte("data"))
	require.NoError(t, err)
}

// toldUses is a key ring that records what its keys are used for.
type toldUses struct {
	braid.KeyProvider
	uses []string
}

func (p *toldUses) WrapKey(ctx context.Context, id string, key []byte, stream, purpose string) ([]byte, error) {
	p.uses = append(p.uses, fmt.Sprintf("wrap %s %s", stream, purpose))
	return p.KeyProvider.WrapKey(ctx, id, key, stream, purpose)
}

func (p *toldUses) UnwrapKey(ctx context.Context, id string, wrapped []byte, stream, purpose string) ([]byte, error) {
	p.uses = append(p.uses, fmt.Sprintf("unwrap %s %s", stream, purpose))
	return p.KeyProvider.UnwrapKey(ctx, id, wrapped, stream, purpose)
}

func TestProvidersAreToldWhatADataKeyIsFor(t *testing.T) {
	dir := t.TempDir()
	provider := &toldUses{KeyProvider: boxRing(t, "main")}
	db := boxOpenDir(t, dir, &braid.Options{KeyProvider: provider})
	for _, name := range []string{"orders", "invoices"} {
		stream := boxOpenStream(t, db, name, 1)
		require.NoError(t, stream.StartEncryption(t.Context(), "main"))
		_, err := stream.PutRecord(t.Context(), "key", []byte("data"))
		require.NoError(t, err)
	}
	require.Equal(t, []string{"wrap orders records", "wrap invoices records"}, provider.uses)
	require.NoError(t, db.Close())

	provider.uses = nil
	db = boxOpenDir(t, dir, &braid.Options{KeyProvider: provider})
	for rec, err := range boxOpenStream(t, db, "invoices", 1).Records(t.Context(), braid.TrimHorizon()) {
		require.NoError(t, err)
		require.Equal(t, "data", string(rec.Data))
	}
	require.Equal(t, []string{"unwrap invoices records"}, provider.uses)
}
