package wire

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"
)

func bindCBOR(t *testing.T, body []byte) every {
	t.Helper()
	v, err := ParseCBOR(body)
	require.NoError(t, err)
	require.True(t, v.IsMap())
	var got every
	require.NoError(t, Bind(v, &got))
	return got
}

// member is a CBOR map with one member.
func member(name string, value ...byte) []byte {
	return append(appendCBORText([]byte{cborMap<<5 | 1}, name), value...)
}

func TestCBORForms(t *testing.T) {
	text := func(s ...string) []byte {
		body := []byte{cborText<<5 | 31}
		for _, s := range s {
			body = appendCBORText(body, s)
		}
		return append(body, cborBreak)
	}
	for _, c := range []struct {
		body []byte
		want every
	}{
		{[]byte{0xa0}, every{}},
		{[]byte{0xbf, 0xff}, every{}},
		// Integers of each width.
		{member("Long", 0x05), every{Long: new(int64(5))}},
		{member("Long", 0x18, 0x05), every{Long: new(int64(5))}},
		{member("Long", 0x19, 0x01, 0x00), every{Long: new(int64(256))}},
		{member("Long", 0x1a, 0, 1, 0, 0), every{Long: new(int64(65536))}},
		{member("Long", 0x1b, 0, 0, 1, 0, 0, 0, 0, 0), every{Long: new(int64(1 << 40))}},
		{member("Long", 0x1b, 255, 255, 255, 255, 255, 255, 255, 255), every{Long: new(int64(math.MaxInt64))}},
		{member("Long", 0x20), every{Long: new(int64(-1))}},
		{member("Long", 0x39, 1, 0), every{Long: new(int64(-257))}},
		{member("Long", 0x3b, 255, 255, 255, 255, 255, 255, 255, 255), every{Long: new(int64(math.MinInt64))}},
		{member("Int", 0x1a, 255, 255, 255, 255), every{Int: new(int32(math.MaxInt32))}},
		// Floats of each width are rounded down.
		{member("Int", 0xf9, 0x3e, 0x00), every{Int: new(int32(1))}},
		{member("Int", 0xfa, 0xbf, 0xc0, 0, 0), every{Int: new(int32(-2))}},
		{member("Long", 0xfb, 0x7f, 0xef, 255, 255, 255, 255, 255, 255), every{Long: new(int64(math.MaxInt64))}},
		{member("Long", 0xfb, 0xff, 0xef, 255, 255, 255, 255, 255, 255), every{Long: new(int64(math.MinInt64))}},
		// Strings and blobs.
		{member("String", text("ab", "", "c")...), every{String: new("abc")}},
		{member("String", text()...), every{String: new("")}},
		{member("Blob", 0x43, 1, 2, 3), every{Blob: []byte{1, 2, 3}}},
		{member("Blob", 0x40), every{Blob: []byte{}}},
		{member("Blob", 0x5f, 0x41, 1, 0x40, 0x58, 0x02, 2, 3, 0xff), every{Blob: []byte{1, 2, 3}}},
		{member("Blob", 0x5f, 0xff), every{Blob: []byte{}}},
		{member("Blob", 0x64, 'Y', 'Q', '=', '='), every{Blob: []byte("a")}}, // base64
		// A backslash means nothing here.
		{member("String", 0x62, '\\', 'n'), every{String: new(`\n`)}},
		// Arrays and maps.
		{member("Strings", 0x82, 0x61, 'a', 0x61, 'b'), every{Strings: []string{"a", "b"}}},
		{member("Strings", 0x9f, 0x61, 'a', 0x61, 'b', 0xff), every{Strings: []string{"a", "b"}}},
		{member("Strings", 0x98, 0x01, 0x61, 'a'), every{Strings: []string{"a"}}},
		{member("Many", 0x9f, 0xbf, 0xff, 0xa1, 0x63, 'I', 'n', 't', 0x01, 0xff), every{Many: []every1{{}, {Int: new(int32(1))}}}},
		{append(append([]byte{0xbf}, text("Str", "ing")...), 0x61, 'x', 0xff), every{String: new("x")}},
		// Booleans and nothing.
		{member("Bool", 0xf5), every{Bool: new(true)}},
		{member("Bool", 0xf4), every{Bool: new(false)}},
		{member("Bool", 0xf6), every{}},
		{member("Bool", 0xf7), every{}},
		// Milliseconds, with the tag and without.
		{member("Time", 0xc1, 0x1b, 0, 0, 1, 0x53, 0xe2, 0xdb, 0x26, 0xd0), every{Time: new(time.UnixMilli(1459799926480).UTC())}},
		{member("Time", 0x1b, 0, 0, 1, 0x53, 0xe2, 0xdb, 0x26, 0xd0), every{Time: new(time.UnixMilli(1459799926480).UTC())}},
		{member("Time", 0xd8, 0x01, 0x20), every{Time: new(time.UnixMilli(-1).UTC())}},
		// Other tags are dropped.
		{append([]byte{0xd9, 0xd9, 0xf7}, member("Int", 0xd8, 0x64, 0x01)...), every{Int: new(int32(1))}},
	} {
		require.Equal(t, c.want, bindCBOR(t, c.body), "%x", c.body)
	}
}

func TestCBORRefusals(t *testing.T) {
	for _, body := range [][]byte{
		nil,
		{0xff},
		{0xa1},
		{0xa0, 0x00},            // trailing bytes
		{0xa1, 0x01, 0x01},      // a key that is not text
		{0xa1, 0x41, 'a', 0x01}, // likewise
		{0x62, 'a'},             // too short
		{0x61, 0xff},            // not UTF-8
		{0x7f, 0x41, 'a', 0xff}, // a piece of the wrong type
		{0xf0},                  // a simple value without a meaning
		{0xf8, 0x20},            // likewise
		{0xf9, 0x7e, 0x00},      // NaN
		{0xf9, 0x7c, 0x00},      // infinity
		{0x1c},                  // no such width
		{0xbf, 0x61, 'a', 0xff}, // a key without a value
		{0x9b, 255, 255, 255, 255, 255, 255, 255, 255}, // a false length
		{0xbb, 0, 0, 0, 1, 0, 0, 0, 0},
		{0x5b, 0x7f, 255, 255, 255, 255, 255, 255, 255, 0},
		{0x7a, 255, 255, 255, 255, 'a'},
		bytes.Repeat([]byte{0x81}, 1<<20),
		bytes.Repeat([]byte{0xc1}, 1<<20),
		append(bytes.Repeat([]byte{0x9f}, 100), bytes.Repeat([]byte{0xff}, 100)...),
		append([]byte{0x9a, 0, 0x20, 0, 0}, make([]byte, 1<<21)...),
		append(append([]byte{0x9f}, make([]byte, 1<<21)...), 0xff),
	} {
		_, err := ParseCBOR(body)
		require.Error(t, err, "%.20x", body)
	}
}

// random fills a struct with random values.
func random(r *rand.Rand) every {
	text := func() string {
		var s strings.Builder
		for range r.IntN(20) {
			s.WriteRune([]rune("ab\"\\/\n\x00\x1f\x7fé日😀\u2028= ")[r.IntN(15)])
		}
		return s.String()
	}
	blob := func() []byte {
		b := make([]byte, r.IntN(100))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	maybe := func() bool { return r.IntN(3) > 0 }
	moment := func() time.Time { return time.UnixMilli(r.Int64N(1<<43) - 1<<41).UTC() }
	one := func() (e every1) {
		if maybe() {
			e.String = new(text())
		}
		if maybe() {
			e.Blob = blob()
		}
		if maybe() {
			e.Int = new(int32(r.Uint32()))
		}
		return e
	}
	e := every{Text: text(), Number: int32(r.Uint32()), Count: int64(r.Uint64()), Is: maybe(), At: moment(), Inner: one()}
	if maybe() {
		e.String, e.Int, e.Long = new(text()), new(int32(r.Uint32())), new(int64(r.Uint64()>>r.IntN(64)))
	}
	if maybe() {
		e.Bool, e.Time, e.Blob, e.One = new(maybe()), new(moment()), blob(), new(one())
	}
	if maybe() {
		e.Strings, e.Tags, e.Many = []string{}, map[string]string{}, []every1{}
		for range r.IntN(5) {
			e.Strings = append(e.Strings, text())
			e.Tags[text()] = text()
			e.Many = append(e.Many, one())
		}
	}
	return e
}

// Either format round-trips.
func TestRoundTrips(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for range 3000 {
		want := random(r)
		var got every
		body := AppendJSON(nil, want)
		require.True(t, json.Valid(body), "%s", body)
		require.NoError(t, bindJSON(string(body), &got))
		require.Equal(t, want, got, "%s", body)

		body = AppendCBOR(nil, &want)
		require.NoError(t, cbor.Wellformed(body))
		require.Equal(t, want, bindCBOR(t, body), "%x", body)
	}
}

// The same request binds to the same struct from JSON and from CBOR, even from another
// encoder's CBOR with definite lengths.
func TestFormatsAgree(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	other, err := cbor.EncOptions{Time: cbor.TimeUnix}.EncMode()
	require.NoError(t, err)
	for range 1000 {
		want := random(r)
		want.Time, want.At = nil, time.UnixMilli(0).UTC() // the other one counts seconds
		definite, err := other.Marshal(want)
		require.NoError(t, err)
		var got every
		require.NoError(t, bindJSON(string(AppendJSON(nil, &want)), &got))
		require.Equal(t, got, bindCBOR(t, definite))
	}
}

func FuzzCBOR(f *testing.F) {
	r := rand.New(rand.NewPCG(13, 14))
	for range 20 {
		e := random(r)
		f.Add(AppendCBOR(nil, &e))
		definite, err := cbor.Marshal(e)
		require.NoError(f, err)
		f.Add(definite)
	}
	f.Add(AppendCBOR(nil, putRecords(3, 10)))
	f.Fuzz(func(t *testing.T, body []byte) {
		v, err := ParseCBOR(body)
		if err != nil {
			return
		}
		require.LessOrEqual(t, len(v.doc.nodes), len(body))
		require.LessOrEqual(t, len(v.doc.joined), len(body))
		plain(t, v)
		bindAll(t, body, ParseCBOR)
	})
}
