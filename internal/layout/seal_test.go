package layout_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/layout"
)

// A sealed record opens where it was put, with its own key and numbers, and
// nowhere else. Checksums are not what holds it: they could be made to fit.
func TestASealedRecordIsBoundToItsPlace(t *testing.T) {
	secret := bytes.Repeat([]byte{7}, layout.DataKeyBytes)
	database := [16]byte{1}
	newKey := func(number uint32, database [16]byte, secret []byte) *layout.DataKey {
		k, err := layout.NewDataKey(number, database, secret)
		require.NoError(t, err)
		return k
	}
	k := newKey(2, database, secret)
	place := layout.RecordKey{Epoch: 3, Stream: 7, Shard: 4, Counter: 1_700_003_700_000_000_001}
	r := layout.Record{Ordinal: 300, Offset: 9, PartitionKey: "customer-42", Data: []byte("paid")}
	payload := layout.EncodePayload(make([]byte, layout.PayloadBytes(r.PartitionKey, false, len(r.Data))), r.PartitionKey, nil, r.Data)
	value := make([]byte, k.RecordBytes(&r, payload))
	k.PutRecord(value, place.Bytes(), &r, payload, new(layout.SealScratch))
	require.NotContains(t, string(value), "customer")
	require.NotContains(t, string(value), "paid")
	require.LessOrEqual(t, len(value), r.Size()+layout.MaxRecordOverhead)

	open := func(k *layout.DataKey, place layout.RecordKey, change func(r *layout.StoredRecord)) error {
		got, err := layout.DecodeRecord(layout.RecordKey{Epoch: 3, Stream: 7, Shard: 4, Counter: 1_700_003_700_000_000_001}.Bytes(), value)
		require.NoError(t, err)
		change(&got)
		return k.Open(place.Bytes(), &got, new(layout.SealScratch))
	}
	same := func(*layout.StoredRecord) {}
	require.NoError(t, open(k, place, same))
	for name, move := range map[string]func(p *layout.RecordKey){
		"epoch":   func(p *layout.RecordKey) { p.Epoch++ },
		"stream":  func(p *layout.RecordKey) { p.Stream++ },
		"shard":   func(p *layout.RecordKey) { p.Shard++ },
		"counter": func(p *layout.RecordKey) { p.Counter++ },
	} {
		other := place
		move(&other)
		require.ErrorIs(t, open(k, other, same), layout.ErrCorrupt, name)
	}
	require.ErrorIs(t, open(k, place, func(r *layout.StoredRecord) { r.Ordinal++ }), layout.ErrCorrupt)
	require.ErrorIs(t, open(newKey(3, database, secret), place, same), layout.ErrCorrupt)
	require.ErrorIs(t, open(newKey(2, [16]byte{2}, secret), place, same), layout.ErrCorrupt)
	require.ErrorIs(t, open(newKey(2, database, bytes.Repeat([]byte{8}, layout.DataKeyBytes)), place, same), layout.ErrCorrupt)

	for i := range value { // and the checksum finds damage without a key
		damaged := bytes.Clone(value)
		damaged[i] ^= 1
		_, err := layout.DecodeRecord(place.Bytes(), damaged)
		require.ErrorIs(t, err, layout.ErrCorrupt)
	}
	_, err := layout.NewDataKey(1, database, secret[:31])
	require.Error(t, err)
	require.NotEqual(t, layout.DataKeyCheck(secret), layout.DataKeyCheck(secret[1:]))
}
