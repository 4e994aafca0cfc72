package envelope

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

var (
	plain  = New(nil)
	packed = New(&Options{Compress: true})
)

func sample() *Message {
	return &Message{Headers: []Header{{TraceParent, "00-01-02-01"}, {ID, "7"}, {"ключ", ""}}, Data: []byte("data")}
}

func mustAppend(t testing.TB, c *Codec, m *Message) []byte {
	t.Helper()
	data, err := c.Append(nil, m)
	require.NoError(t, err)
	return data
}

// seal appends the checksum to the bytes.
func seal(data []byte) []byte {
	return binary.BigEndian.AppendUint32(slices.Clone(data), crc32.Checksum(data, castagnoli))
}

// The format is a promise: data stored today must be readable in a year.
func TestTheFormat(t *testing.T) {
	m := &Message{Headers: []Header{{"id", "7"}}, Data: []byte("xyz")}
	require.Equal(t, "e5627264"+"01"+"00"+"01"+"02"+hex.EncodeToString([]byte("id"))+"01"+"37"+"03"+"78797a"+"e56cd9a1",
		hex.EncodeToString(mustAppend(t, plain, m)))
	got, enveloped, err := plain.Decode(mustAppend(t, plain, m))
	require.NoError(t, err)
	require.True(t, enveloped)
	require.Equal(t, *m, got)

	// A frame that the reference implementation of Zstandard wrote, of 100 times "a".
	frame, err := hex.DecodeString("28b52ffd206445000010616101003f012c")
	require.NoError(t, err)
	body := append([]byte(magic+"\x01\x01\x00\x64"), frame...)
	got, enveloped, err = plain.Decode(seal(body))
	require.NoError(t, err)
	require.True(t, enveloped)
	require.Equal(t, strings.Repeat("a", 100), string(got.Data))
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for n := range 500 {
		m := Message{Data: bytes.Repeat([]byte(fmt.Sprint(n)), random.IntN(300))}
		if random.IntN(3) == 0 { // not compressible
			for i := range m.Data {
				m.Data[i] = byte(random.Uint32())
			}
		}
		for i := range random.IntN(5) {
			m.Set(fmt.Sprint("key-", i), strings.Repeat("v", random.IntN(300)))
		}
		for _, c := range []*Codec{plain, packed} {
			data, err := c.Append([]byte("before"), &m)
			require.NoError(t, err)
			require.Less(t, len(data), len("before")+len(m.Data)+len(m.Headers)*320+30, "little overhead")
			got, enveloped, err := plain.Decode(data[len("before"):])
			require.NoError(t, err)
			require.True(t, enveloped)
			require.Equal(t, m.Headers, got.Headers)
			require.True(t, bytes.Equal(m.Data, got.Data))
		}
	}
	text := &Message{Data: bytes.Repeat([]byte("the same again, "), 1000)}
	require.Less(t, len(mustAppend(t, packed, text)), 200)
}

func TestHeaders(t *testing.T) {
	m := sample()
	require.Equal(t, "7", m.Get(ID))
	require.Empty(t, m.Get("missing"))
	m.Set(ID, "8")
	m.Set(ContentType, "text/plain")
	require.Equal(t, []Header{{TraceParent, "00-01-02-01"}, {ID, "8"}, {"ключ", ""}, {ContentType, "text/plain"}}, m.Headers)
}

func TestOtherDataIsAMessageWithoutHeaders(t *testing.T) {
	for _, data := range []string{"", "text", magic[:3], "\xE5brD and more"} {
		m, enveloped, err := plain.Decode([]byte(data))
		require.NoError(t, err)
		require.False(t, enveloped)
		require.Empty(t, m.Headers)
		require.Equal(t, data, string(m.Data))
	}
}

func TestInvalidMessages(t *testing.T) {
	many := make([]Header, maxHeaders+1)
	for i := range many {
		many[i].Key = fmt.Sprint(i)
	}
	_, err := plain.Append(nil, &Message{Headers: many[:maxHeaders]})
	require.NoError(t, err)
	for _, headers := range [][]Header{
		many,
		{{Key: ""}},
		{{Key: strings.Repeat("k", maxKey+1)}},
		{{Key: "\xff"}},
		{{Key: "k", Value: strings.Repeat("v", maxValue+1)}},
		{{Key: "k", Value: "\xff"}},
		{{Key: "k"}, {Key: "k"}},
	} {
		_, err := plain.Append(nil, &Message{Headers: headers})
		require.ErrorIs(t, err, ErrInvalidMessage)
	}
}

func TestDamageIsNoticed(t *testing.T) {
	for _, c := range []*Codec{plain, packed} {
		m := sample()
		m.Data = bytes.Repeat([]byte("data"), 20)
		data := mustAppend(t, c, m)
		for n := len(magic); n < len(data); n++ {
			_, enveloped, err := c.Decode(data[:n])
			require.True(t, enveloped)
			require.ErrorIs(t, err, ErrCorrupt)
		}
		for i := 8 * len(magic); i < 8*len(data); i++ {
			data[i/8] ^= 1 << (i % 8)
			_, _, err := c.Decode(data)
			require.ErrorIs(t, err, ErrCorrupt)
			data[i/8] ^= 1 << (i % 8)
		}
	}
}

func TestMalformedEnvelopesUnderAGoodChecksum(t *testing.T) {
	for _, row := range []struct {
		name, body string
		is         error
	}{
		{"a later version", "\x02\x00\x00\x00", ErrUnsupported},
		{"a flag that is not known", "\x01\x02\x00\x00", ErrUnsupported},
		{"too many headers", "\x01\x00\x65\x00", ErrCorrupt},
		{"a key that is cut off", "\x01\x00\x01\x05k", ErrCorrupt},
		{"an empty key", "\x01\x00\x01\x00\x00\x00", ErrCorrupt},
		{"less data than it says", "\x01\x00\x00\x05data", ErrCorrupt},
		{"more data than it says", "\x01\x00\x00\x03data", ErrCorrupt},
		{"a number of eleven bytes", "\x01\x00" + strings.Repeat("\xff", 11), ErrCorrupt},
		{"a body that is no frame", "\x01\x01\x00\x04data", ErrCorrupt},
		{"data of 2^62 bytes", "\x01\x01\x00\x80\x80\x80\x80\x80\x80\x80\x80\x40data", ErrTooLarge},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, enveloped, err := plain.Decode(seal([]byte(magic + row.body)))
			require.True(t, enveloped)
			require.ErrorIs(t, err, row.is)
		})
	}
}

func TestDataIsNotExpandedBeyondTheLimit(t *testing.T) {
	zeros := mustAppend(t, packed, &Message{Data: make([]byte, 8<<20)})
	require.Less(t, len(zeros), 10_000)
	small := New(&Options{MaxBytes: 1000})
	_, _, err := small.Decode(zeros)
	require.ErrorIs(t, err, ErrTooLarge)
	_, _, err = small.Decode(make([]byte, 1001))
	require.ErrorIs(t, err, ErrTooLarge)
	_, _, err = small.Decode(mustAppend(t, packed, &Message{Data: make([]byte, 1000)}))
	require.NoError(t, err)

	// An envelope with a wrong size of its frame.
	frame := packed.encoder.EncodeAll(make([]byte, 8<<20), nil)
	lie := seal(append([]byte(magic+"\x01\x01\x00\x64"), frame...))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, err = small.Decode(lie)
	runtime.ReadMemStats(&after)
	require.ErrorIs(t, err, ErrCorrupt)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20))
}

func TestACodecIsSharedAndMadeInABubble(t *testing.T) {
	for range 2 {
		synctest.Test(t, func(t *testing.T) {
			c := New(&Options{Compress: true})
			var all sync.WaitGroup
			for range 10 {
				all.Go(func() {
					m := &Message{Data: make([]byte, 1000)}
					got, _, err := c.Decode(mustAppend(t, c, m))
					require.NoError(t, err)
					require.Equal(t, m.Data, got.Data)
				})
			}
			all.Wait()
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add(mustAppend(f, plain, sample()))
	f.Add(mustAppend(f, packed, &Message{Data: make([]byte, 1000)}))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, data := range [][]byte{data, seal(append([]byte(magic), data...))} { // a fuzzer does not guess checksums
			m, enveloped, err := plain.Decode(data)
			if err != nil || !enveloped {
				continue
			}
			again, _, err := plain.Decode(mustAppend(t, packed, &m))
			require.NoError(t, err)
			require.Equal(t, m.Headers, again.Headers)
			require.True(t, bytes.Equal(m.Data, again.Data))
		}
	})
}

func Example() {
	codec := New(&Options{Compress: true})
	m := Message{Data: []byte(`{"total": 4200}`)}
	m.Set(TraceParent, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	m.Set(ID, "order-7")
	data, err := codec.Append(nil, &m)
	if err != nil {
		fmt.Println(err)
		return
	}
	read, enveloped, err := codec.Decode(data)
	fmt.Println(read.Get(ID), string(read.Data), enveloped, err)

	old, enveloped, err := codec.Decode([]byte("put before there were envelopes"))
	fmt.Println(string(old.Data), enveloped, err)
	// Output:
	// order-7 {"total": 4200} true <nil>
	// put before there were envelopes false <nil>
}

func BenchmarkCodec(b *testing.B) {
	m := &Message{Headers: sample().Headers, Data: bytes.Repeat([]byte(`{"customer": 42, "total": 4200}`), 30)}
	for _, row := range []struct {
		name  string
		codec *Codec
	}{{"plain", plain}, {"zstd", packed}} {
		b.Run(row.name, func(b *testing.B) {
			var data []byte
			b.SetBytes(int64(len(m.Data)))
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if data, err = row.codec.Append(data[:0], m); err != nil {
					b.Fatal(err)
				}
				if _, _, err = row.codec.Decode(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
