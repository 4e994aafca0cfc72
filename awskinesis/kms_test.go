package awskinesis_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/braidtest"
)

const keyARN = "arn:aws:kms:us-east-1:000000000000:key/1234"

// fakeKMS is AWS KMS with one key. It "wraps" a key by encoding the arguments of the call, and
// returns the key if the encryption context is the same.
type fakeKMS struct {
	mu    sync.Mutex // guards the fields below
	key   types.KeyMetadata
	err   error
	delay time.Duration
	calls []string
}

func newFakeKMS() *fakeKMS {
	return &fakeKMS{key: types.KeyMetadata{
		Arn:      aws.String(keyARN),
		KeyState: types.KeyStateEnabled,
		KeyUsage: types.KeyUsageTypeEncryptDecrypt,
		KeySpec:  types.KeySpecSymmetricDefault,
	}}
}

func (k *fakeKMS) call(ctx context.Context, op string, keyID *string) error {
	k.mu.Lock()
	k.calls = append(k.calls, op)
	delay, err := k.delay, k.err
	k.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return fmt.Errorf("operation error KMS: %w", ctx.Err())
	}
	if id := aws.ToString(keyID); err == nil && id != keyARN && id != "1234" && id != "alias/orders" {
		err = &types.NotFoundException{Message: aws.String("Alias or key is not found.")}
	}
	return err
}

func (k *fakeKMS) DescribeKey(ctx context.Context, in *kms.DescribeKeyInput, _ ...func(*kms.Options)) (*kms.DescribeKeyOutput, error) {
	if err := k.call(ctx, "DescribeKey", in.KeyId); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	key := k.key
	return &kms.DescribeKeyOutput{KeyMetadata: &key}, nil
}

func encode(c map[string]string) (text []byte) {
	for _, name := range slices.Sorted(maps.Keys(c)) {
		text = fmt.Appendf(text, "%s=%s;", name, c[name])
	}
	return append(text, '\n')
}

func (k *fakeKMS) Encrypt(ctx context.Context, in *kms.EncryptInput, _ ...func(*kms.Options)) (*kms.EncryptOutput, error) {
	if err := k.call(ctx, "Encrypt", in.KeyId); err != nil {
		return nil, err
	}
	return &kms.EncryptOutput{CiphertextBlob: append(encode(in.EncryptionContext), in.Plaintext...)}, nil
}

func (k *fakeKMS) Decrypt(ctx context.Context, in *kms.DecryptInput, _ ...func(*kms.Options)) (*kms.DecryptOutput, error) {
	if err := k.call(ctx, "Decrypt", in.KeyId); err != nil {
		return nil, err
	}
	secret, ok := bytes.CutPrefix(in.CiphertextBlob, encode(in.EncryptionContext))
	if !ok {
		return nil, &types.InvalidCiphertextException{}
	}
	return &kms.DecryptOutput{Plaintext: secret}, nil
}

// set changes the service's behavior.
func (k *fakeKMS) set(change func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change()
}

// take returns the calls since the last take.
func (k *fakeKMS) take() (calls []string) {
	k.set(func() { calls, k.calls = k.calls, nil })
	return calls
}

func newKMS(t testing.TB, client *fakeKMS, opts *awskinesis.KMSOptions) *awskinesis.KMS {
	t.Helper()
	k, err := awskinesis.NewKMS(client, opts)
	require.NoError(t, err)
	return k
}

// the stream and purpose of the tests' data keys
const stream, purpose = "orders", "records"

func TestADatabaseWithKeysInKMS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := newFakeKMS()
		disk := braidtest.NewDisk()
		open := func() (*braid.DB, *braid.Stream) {
			db, err := disk.Open(&braid.Options{KeyProvider: newKMS(t, service, &awskinesis.KMSOptions{EncryptionContext: map[string]string{"database": "shop"}})})
			require.NoError(t, err)
			stream, err := db.OpenStream(t.Context(), "orders", nil)
			require.NoError(t, err)
			return db, stream
		}
		read := func(stream *braid.Stream) (data []string, err error) {
			for rec, err := range stream.Records(t.Context(), braid.TrimHorizon()) {
				if err != nil {
					return data, err
				}
				data = append(data, string(rec.Data))
			}
			return data, nil
		}
		db, stream := open()
		require.ErrorIs(t, stream.StartEncryption(t.Context(), "alias/missing"), braid.ErrInvalidArgument)
		service.take()
		require.NoError(t, stream.StartEncryption(t.Context(), "alias/orders"))
		_, err := stream.PutRecord(t.Context(), "key", []byte("secret"))
		require.NoError(t, err)
		require.Equal(t, []string{"DescribeKey", "Encrypt"}, service.take())
		require.NoError(t, db.Close())

		db, stream = open()
		data, err := read(stream)
		require.NoError(t, err)
		require.Equal(t, []string{"secret"}, data)
		require.Equal(t, []string{"Decrypt"}, service.take())
		require.NoError(t, db.Close())

		service.set(func() { service.err = &types.DisabledException{} })
		db, stream = open()
		_, err = read(stream)
		require.ErrorIs(t, err, braid.ErrKeyUnavailable)
		time.Sleep(time.Second)
		service.set(func() { service.err = nil })
		data, err = read(stream)
		require.NoError(t, err)
		require.Equal(t, []string{"secret"}, data)
		require.NoError(t, db.Close())
	})
}

func TestADataKeyIsBoundToItsStream(t *testing.T) {
	service := newFakeKMS()
	k := newKMS(t, service, &awskinesis.KMSOptions{EncryptionContext: map[string]string{"database": "shop"}})
	secret := bytes.Repeat([]byte{7}, 32)
	wrapped, err := k.WrapKey(t.Context(), keyARN, secret, stream, purpose)
	require.NoError(t, err)
	require.Equal(t, "braid:purpose=records;braid:stream=orders;database=shop;\n"+string(secret), string(wrapped))
	got, err := k.UnwrapKey(t.Context(), keyARN, wrapped, stream, purpose)
	require.NoError(t, err)
	require.Equal(t, secret, got)
	for _, other := range [][2]string{{"invoices", "records"}, {"orders", "other"}} {
		_, err = k.UnwrapKey(t.Context(), keyARN, wrapped, other[0], other[1])
		require.ErrorIs(t, err, braid.ErrKeyUnavailable)
	}
	_, err = newKMS(t, service, nil).UnwrapKey(t.Context(), keyARN, wrapped, stream, purpose)
	require.ErrorIs(t, err, braid.ErrKeyUnavailable)
}

func TestAnswersOfKMSAreUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := newFakeKMS()
		k := newKMS(t, service, &awskinesis.KMSOptions{CacheFor: time.Minute, CacheEntries: 3})
		wrapped, err := k.WrapKey(t.Context(), keyARN, make([]byte, 32), stream, purpose)
		require.NoError(t, err)
		service.take()
		unwrap := func(wrapped []byte) {
			t.Helper()
			got, err := k.UnwrapKey(t.Context(), keyARN, wrapped, stream, purpose)
			require.NoError(t, err)
			require.Len(t, got, 32)
			clear(got) // the caller owns it
			got[0] = 1
		}
		for range 3 {
			unwrap(wrapped)
			id, err := k.DescribeKey(t.Context(), "1234")
			require.NoError(t, err)
			require.Equal(t, keyARN, id)
		}
		got, err := k.UnwrapKey(t.Context(), keyARN, wrapped, stream, purpose)
		require.NoError(t, err)
		require.Equal(t, make([]byte, 32), got, "a caller's change of its key does not affect the cache")
		require.Equal(t, []string{"Decrypt", "DescribeKey"}, service.take())
		time.Sleep(time.Minute)
		unwrap(wrapped)
		require.Equal(t, []string{"Decrypt"}, service.take())

		// If there are more data keys than fit, the last ones are cached.
		for n := range 10 {
			other, err := k.WrapKey(t.Context(), keyARN, bytes.Repeat([]byte{byte(n)}, 32), stream, purpose)
			require.NoError(t, err)
			unwrap(other)
			service.take()
			unwrap(other)
			require.Empty(t, service.take())
		}
		never := newKMS(t, service, &awskinesis.KMSOptions{CacheFor: -1})
		for range 2 {
			_, err := never.UnwrapKey(t.Context(), keyARN, wrapped, stream, purpose)
			require.NoError(t, err)
		}
		require.Equal(t, []string{"Decrypt", "Decrypt"}, service.take())
	})
}

func TestKMSThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := newFakeKMS()
		k := newKMS(t, service, nil)
		wrapped, err := k.WrapKey(t.Context(), keyARN, make([]byte, 32), stream, purpose)
		require.NoError(t, err)
		service.take()

		// A failure is cached for a second.
		service.set(func() { service.err = errors.New("no route to host") })
		for range 3 {
			_, err = k.UnwrapKey(t.Context(), keyARN, wrapped, stream, purpose)
			require.ErrorIs(t, err, braid.ErrKeyUnavailable)
			require.ErrorContains(t, err, `decrypt with "`+keyARN+`": no route to host`)
			_, err = k.DescribeKey(t.Context(), "1234")
			require.ErrorIs(t, err, braid.ErrKeyUnavailable)
			require.NotErrorIs(t, err, braid.ErrInvalidArgument)
		}
		require.Equal(t, []string{"Decrypt", "DescribeKey"}, service.take())
		_, err = k.WrapKey(t.Context(), keyARN, make([]byte, 32), stream, purpose)
		require.ErrorIs(t, err, braid.ErrKeyUnavailable)
		time.Sleep(time.Second)

		// A call that takes too long is abandoned.
		service.set(func() { service.err, service.delay = nil, time.Hour })
		start := time.Now()
		_, err = k.UnwrapKey(t.Context(), keyARN, wrapped, stream, purpose)
		require.ErrorIs(t, err, braid.ErrKeyUnavailable)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 5*time.Second, time.Since(start))
		_, err = k.WrapKey(t.Context(), keyARN, make([]byte, 32), stream, purpose)
		require.ErrorIs(t, err, braid.ErrKeyUnavailable)
		require.Equal(t, 10*time.Second, time.Since(start))

		// A caller that gives up earlier says nothing about the key, so nothing is remembered.
		cause := errors.New("enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, cause)
		defer cancel()
		_, err = k.UnwrapKey(ctx, keyARN, wrapped, stream, purpose)
		require.ErrorIs(t, err, cause)
		require.NotErrorIs(t, err, braid.ErrKeyUnavailable)
		_, err = k.WrapKey(ctx, keyARN, make([]byte, 32), stream, purpose)
		require.ErrorIs(t, err, cause)
		service.set(func() { service.delay = 0 })
		_, err = k.UnwrapKey(t.Context(), keyARN, wrapped, stream, purpose)
		require.NoError(t, err)
	})
}

func TestKeysThatCannotBeUsed(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(k *types.KeyMetadata)
		is     error
		text   string
	}{
		{"disabled", func(k *types.KeyMetadata) { k.KeyState = types.KeyStateDisabled }, braid.ErrKeyUnavailable, "is Disabled; it must be Enabled"},
		{"deleted soon", func(k *types.KeyMetadata) { k.KeyState = types.KeyStatePendingDeletion }, braid.ErrKeyUnavailable, "is PendingDeletion"},
		{"for signing", func(k *types.KeyMetadata) { k.KeyUsage = types.KeyUsageTypeSignVerify }, braid.ErrInvalidArgument, "must be a symmetric key for encryption"},
		{"of two halves", func(k *types.KeyMetadata) { k.KeySpec = types.KeySpecRsa2048 }, braid.ErrInvalidArgument, "must be a symmetric key for encryption"},
		{"without an ARN", func(k *types.KeyMetadata) { k.Arn = nil }, braid.ErrKeyUnavailable, "without an ARN"},
	} {
		t.Run(row.name, func(t *testing.T) {
			service := newFakeKMS()
			row.change(&service.key)
			_, err := newKMS(t, service, nil).DescribeKey(t.Context(), "1234")
			require.ErrorIs(t, err, row.is)
			require.ErrorContains(t, err, row.text)
		})
	}
	_, err := newKMS(t, newFakeKMS(), nil).DescribeKey(t.Context(), "missing")
	require.ErrorIs(t, err, braid.ErrInvalidArgument)
}

func TestNewKMS(t *testing.T) {
	for _, opts := range []awskinesis.KMSOptions{
		{Timeout: -1},
		{CacheEntries: -1},
		{EncryptionContext: map[string]string{"": "x"}},
		{EncryptionContext: map[string]string{"aws:kinesis:arn": "x"}},
		{EncryptionContext: map[string]string{"braid:stream": "x"}},
	} {
		_, err := awskinesis.NewKMS(newFakeKMS(), &opts)
		require.ErrorIs(t, err, braid.ErrInvalidArgument)
	}
	_, err := awskinesis.NewKMS(nil, nil)
	require.ErrorIs(t, err, braid.ErrInvalidArgument)
}
