package wire

import (
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAppend(t *testing.T) {
	arrival := time.UnixMilli(1459799926480)
	for _, c := range []struct {
		out        any
		json, cbor string
	}{
		{&struct{}{}, `{}`, "bfff"},
		{struct{}{}, `{}`, "bfff"},
		{(*getRecordsOutput)(nil), `{}`, "bfff"},
		{&struct{ A *string }{}, `{}`, "bfff"},
		{&struct{ A, B, C *string }{B: new("x")}, `{"B":"x"}`, "bf61426178ff"},
		{
			&struct {
				A string
				B int32
				C int64
				D bool
			}{},
			`{"A":"","B":0,"C":0,"D":false}`, "bf6141606142006143006144f4ff",
		},
		{&struct{ A, B []string }{A: []string{}}, `{"A":[]}`, "bf61419fffff"},
		{&struct{ A, B map[string]string }{A: map[string]string{"b": "2", "a": "1"}}, `{"A":{"a":"1","b":"2"}}`, "bf6141bf616161316162" + "6132ffff"},
		{&struct{ A, B []byte }{A: []byte{}}, `{"A":""}`, "bf614140ff"},
		{&struct{ A []byte }{[]byte("ab")}, `{"A":"YWI="}`, "bf6141426162ff"},
		{&struct{ A *time.Time }{&arrival}, `{"A":1459799926.480}`, "bf6141c11b00000153e2db26d0ff"},
		{&struct{ A time.Time }{time.UnixMilli(-1005)}, `{"A":-1.005}`, "bf6141c13903ecff"},
		{&struct{ A []struct{ B *bool } }{[]struct{ B *bool }{{new(true)}, {}}}, `{"A":[{"B":true},{}]}`, "bf61419fbf6142f5ffbfffffff"},
		{&struct{ A, B *struct{ C int32 } }{B: &struct{ C int32 }{-7}}, `{"B":{"C":-7}}`, "bf6142bf614326ffff"},
		{&struct{ A struct{ C int64 } }{}, `{"A":{"C":0}}`, "bf6141bf614300ffff"},
		{&struct{ A int64 }{1 << 40}, `{"A":1099511627776}`, "bf61411b0000010000000000ff"},
		{&struct{ A int64 }{65536}, `{"A":65536}`, "bf61411a00010000ff"},
		{&struct{ A int64 }{24}, `{"A":24}`, "bf61411818ff"},
		{&struct{ A string }{"a\xffb"}, "{\"A\":\"a\ufffdb\"}", "bf61416561efbfbd62ff"},
		{&struct{ A string }{"\"\\/\b\f\n\r\t\x01<é😀"}, `{"A":"\"\\/\b\f\n\r\t\u0001<é😀"}`, "bf614170" + hex.EncodeToString([]byte("\"\\/\b\f\n\r\t\x01<é😀")) + "ff"},
	} {
		require.Equal(t, "x"+c.json, string(AppendJSON([]byte("x"), c.out)))
		require.Equal(t, "78"+c.cbor, hex.EncodeToString(AppendCBOR([]byte("x"), c.out)), c.json)
	}
	require.Panics(t, func() { AppendJSON(nil, 1) })
}

// Any bytes become a JSON string that decodes to the same text, with U+FFFD for invalid
// UTF-8.
func TestAppendJSONString(t *testing.T) {
	r := rand.New(rand.NewPCG(17, 18))
	for range 20_000 {
		text := make([]byte, r.IntN(40))
		for i := range text {
			text[i] = byte(r.Uint32())
			if r.IntN(2) == 0 {
				text[i] = "abc\"\\\n\x1f \x7f"[r.IntN(9)]
			}
		}
		var got string
		require.NoError(t, json.Unmarshal(appendJSONString(nil, string(text)), &got))
		require.Equal(t, string([]rune(string(text))), got)
	}
}
