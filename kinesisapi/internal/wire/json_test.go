package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// plain converts a value to what encoding/json decodes, with numbers as text.
func plain(t require.TestingT, v Value) any {
	n := &v.doc.nodes[v.at]
	switch n.kind {
	case kindNull:
		return nil
	case kindFalse, kindTrue:
		return n.kind == kindTrue
	case kindDecimal:
		return json.Number(v.doc.raw(n))
	case kindUint:
		return json.Number(strconv.FormatUint(n.bits(), 10))
	case kindNegint:
		negative := new(big.Int).SetUint64(n.bits())
		return json.Number(negative.Not(negative).String())
	case kindFloat:
		return math.Float64frombits(n.bits())
	case kindString:
		return string(v.doc.string(n))
	case kindBlob:
		return v.doc.raw(n)
	case kindList:
		list := []any{}
		at := v.at + 1
		for range n.a {
			list = append(list, plain(t, Value{v.doc, at}))
			at = v.doc.nodes[at].next
		}
		require.Equal(t, n.next, at)
		return list
	}
	members := map[string]any{}
	at := v.at + 1
	for range n.a {
		members[string(v.doc.string(&v.doc.nodes[at]))] = plain(t, Value{v.doc, at + 1})
		at = v.doc.nodes[at+1].next
	}
	require.Equal(t, n.next, at)
	return members
}

// checkJSON compares the parser with encoding/json.
func checkJSON(t require.TestingT, body []byte) {
	v, err := ParseJSON(body)
	if errors.Is(err, errLimit) {
		return
	}
	require.Equal(t, json.Valid(body), err == nil, "%q", body)
	if err != nil {
		require.ErrorIs(t, err, errMalformed)
		require.Equal(t, Value{}, v)
		return
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var want any
	require.NoError(t, d.Decode(&want), "%q", body)
	require.Equal(t, want, plain(t, v), "%q", body)
	_, object := want.(map[string]any)
	require.Equal(t, object, v.IsMap())
}

var jsonSeeds = []string{
	``, ` `, `{`, `}`, `[`, `]`, `{}`, `[]`, ` { } `, "\t[\r\n]", `[[],{}]`, `[,]`, `[1,]`, `[1 2]`, `[1,,2]`, `{,}`, `{"a"}`, `{"a":}`, `{"a":1,}`,
	`{"a":1 "b":2}`, `{a:1}`, `{1:1}`, `{"a":1}x`, `{"a":1}{}`, `{"a":1,"a":[2,{"b":null}]}`, `null`, `true`, `false`, `nul`, `nulll`, `True`, `tru`,
	`0`, `-0`, `-`, `+1`, `01`, `-01`, `1.`, `.1`, `1.0`, `1.5e`, `1e5`, `1E+5`, `1e-05`, `1e+`, `1.e1`, `0x1`, `1a`, `1e1.5`, `NaN`, `Infinity`,
	`"`, `""`, `"a`, `"a"b`, `"\"`, `"\""`, `"\\"`, `"\/\b\f\n\r\t"`, `"\a"`, `"\u"`, `"\u12"`, `"\u12g4"`, `"\u00e9"`, `"\uD83D\uDE00"`, `"\ud83d"`, `"\ude00"`,
	`"\ud83d\u0041"`, `"\ud83d\ud83d\ude00"`, `"\ud83dx"`, `"\ud83d\n"`, `"\u0000"`, `"\U0041"`, "\"a\nb\"", "\"\x00\"", "\"\x1f\"", "\"\x7f\"", "\"\xff\"", "\"\xed\xa0\x80\"", "\"é日😀\"",
	"\"\xc3\\n\"", "\ufeff{}", "{}\x00", "\"0123456789abcdef0123456789abcdef\"", "\"0123456789abcdef0123456789abcd\x19f\"",
	"\"0123456789abcde\\u00e9\xe9f0123456\xf0\x9f\x98\x80789abcd\"", `{"\u0041":"A"}`, `{"Data":"YQ==","PartitionKey":"k"}`, "[1\u00a0]", "[\v1]",
}

func TestJSONAgainstTheStandardLibrary(t *testing.T) {
	for _, seed := range jsonSeeds {
		checkJSON(t, []byte(seed))
	}
	// Documents with a byte changed, lost or added, from a fixed seed.
	r := rand.New(rand.NewPCG(1, 2))
	const interesting = "{}[]:,\"\\/ \n0123456789-+.eEutfn\x00\x1f\x80\xff'a"
	for range 100_000 {
		body := []byte(jsonSeeds[r.IntN(len(jsonSeeds))] + jsonSeeds[r.IntN(len(jsonSeeds))])
		for range r.IntN(3) {
			i := r.IntN(len(body) + 1)
			c := interesting[r.IntN(len(interesting))]
			switch {
			case i == len(body) || r.IntN(3) == 0:
				body = append(body[:i:i], append([]byte{c}, body[i:]...)...)
			case r.IntN(2) == 0:
				body[i] = c
			default:
				body = append(body[:i:i], body[i+1:]...)
			}
		}
		checkJSON(t, body)
	}
}

// Each byte at each place of a string, so that each lane of the fast path sees it.
func TestJSONStringBytes(t *testing.T) {
	for place := range 40 {
		for c := range 256 {
			body := []byte(`"` + strings.Repeat("x", 40) + `"`)
			body[1+place] = byte(c)
			checkJSON(t, body)
			body[1+(place+7)%40] = byte(c) - 1
			checkJSON(t, body)
		}
	}
}

func TestJSONLimits(t *testing.T) {
	nested := func(n int) []byte {
		return []byte(strings.Repeat(`[{"a":`, n/2) + "1" + strings.Repeat("}]", n/2))
	}
	_, err := ParseJSON(nested(maxDepth))
	require.NoError(t, err)
	_, err = ParseJSON(nested(maxDepth + 2))
	require.ErrorIs(t, err, errLimit)
	_, err = ParseJSON(bytes.Repeat([]byte("["), 1<<20))
	require.ErrorIs(t, err, errLimit)
	_, err = ParseJSON([]byte("[0" + strings.Repeat(",0", maxNodes) + "]"))
	require.ErrorIs(t, err, errLimit)
}

func FuzzJSON(f *testing.F) {
	for _, seed := range jsonSeeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		checkJSON(t, body)
		bindAll(t, body, ParseJSON)
	})
}

// bindAll checks that every parsed document can be bound, validated and written.
func bindAll(t *testing.T, body []byte, parse func([]byte) (Value, error)) {
	v, err := parse(body)
	if err != nil {
		return
	}
	var all every
	var wrong *TypeError
	if err := Bind(v, &all); err != nil {
		require.ErrorAs(t, err, &wrong)
		return
	}
	require.True(t, json.Valid(AppendJSON(nil, &all)))
	var records putRecordsInput
	if err := Bind(v, &records); err != nil {
		require.ErrorAs(t, err, &wrong)
		return
	}
	Validate(&records)
}

func TestIntegers(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "-0": 0, "7": 7, "-7": -7, "1.9": 1, "-1.1": -2, "-1.0": -1, "-0.0001": -1, "0.9999": 0,
		"1e3": 1000, "1.5e1": 15, "1.55E1": 15, "-1.55e1": -16, "12345e-2": 123, "-12345e-2": -124, "1e-400": 0, "-1e-400": -1, "0e400": 0, "0.0e99999999999999999999": 0,
		"9007199254740993": 9007199254740993, "9007199254740993.5": 9007199254740993, "900719925474099.35e1": 9007199254740993,
		"9223372036854775807": math.MaxInt64, "9223372036854775808": math.MaxInt64, "1e400": math.MaxInt64, "1e99999999999999999999": math.MaxInt64,
		"-9223372036854775807": -math.MaxInt64, "-9223372036854775807.5": math.MinInt64, "-9223372036854775808": math.MinInt64, "-9223372036854775809": math.MinInt64, "-1e400": math.MinInt64,
		"0.00001e5": 1, "0.00001e4": 0, "100e-2": 1, "123456789012345678901234567890e-20": 1234567890,
	} {
		require.Equal(t, want, decimal([]byte(text), 0), text)
	}
	require.Equal(t, int64(1459799926480), decimal([]byte("1459799926.480"), 3))
	require.Equal(t, int64(1459799926480), decimal([]byte("1.45979992648E9"), 3))
	require.Equal(t, int64(1459799926000), decimal([]byte("1459799926"), 3))
	require.Equal(t, int64(-1500), decimal([]byte("-1.5"), 3))

	// Against exact arithmetic.
	r := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		text := strconv.FormatFloat(r.NormFloat64()*math.Pow(10, float64(r.IntN(30)-8)), "efg"[r.IntN(3)], r.IntN(25), 64)
		exact, ok := new(big.Rat).SetString(text)
		require.True(t, ok)
		floor := new(big.Int).Div(exact.Num(), exact.Denom()) // Euclidean, the denominator is positive
		want := int64(math.MaxInt64)
		if floor.IsInt64() {
			want = floor.Int64()
		} else if floor.Sign() < 0 {
			want = math.MinInt64
		}
		require.Equal(t, want, decimal([]byte(text), 0), text)
	}
}
