package wire

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"
)

func bindJSON(body string, into any) error {
	v, err := ParseJSON([]byte(body))
	if err != nil {
		return err
	}
	return Bind(v, into)
}

func TestTypeErrors(t *testing.T) {
	const (
		list  = "Start of list found where not expected"
		start = "Start of structure or map found where not expected."
		class = "class %s can not be converted to %s"
		num   = "com.amazon.coral.value.json.numbers.TruncatingBigNumber"
		str   = "java.lang.String"
		truth = "java.lang.Boolean"
		epoch = "milliseconds since epoch"
	)
	for _, c := range []struct{ body, want string }{
		{`1`, "Expected null"},
		{`null`, "Expected null"},
		{`"x"`, "Expected null"},
		{`[]`, list},

		{`{"Int":"a"}`, fmt.Sprintf(class, str, "an Integer")},
		{`{"Int":true}`, fmt.Sprintf(class, truth, "an Integer")},
		{`{"Int":[]}`, list},
		{`{"Int":{}}`, start},
		{`{"Number":"a"}`, fmt.Sprintf(class, str, "an Integer")},
		{`{"Long":"a"}`, fmt.Sprintf(class, str, "an Long")},
		{`{"Count":false}`, fmt.Sprintf(class, truth, "an Long")},

		{`{"String":1}`, fmt.Sprintf(class, num, "an String")},
		{`{"String":false}`, fmt.Sprintf(class, truth, "an String")},
		{`{"String":[1]}`, list},
		{`{"String":{"a":1}}`, start},
		{`{"Text":1}`, fmt.Sprintf(class, num, "an String")},

		{`{"Bool":"hello"}`, "'HELLO' can not be converted to an Boolean"},
		{`{"Bool":"true"}`, "'TRUE' can not be converted to an Boolean"},
		{`{"Bool":1}`, fmt.Sprintf(class, num, "an Boolean")},
		{`{"Bool":[]}`, list},
		{`{"Bool":{}}`, start},
		{`{"Is":1}`, fmt.Sprintf(class, num, "an Boolean")},

		{`{"Time":"2016"}`, fmt.Sprintf(class, str, epoch)},
		{`{"Time":true}`, fmt.Sprintf(class, truth, epoch)},
		{`{"Time":[]}`, list},
		{`{"Time":{}}`, start},
		{`{"At":""}`, fmt.Sprintf(class, str, epoch)},

		{`{"Blob":1}`, fmt.Sprintf(class, num, "a Blob")},
		{`{"Blob":true}`, fmt.Sprintf(class, truth, "a Blob")},
		{`{"Blob":[]}`, list},
		{`{"Blob":{}}`, start},
		{`{"Blob":"YWJ"}`, "'YWJ' can not be converted to a Blob: Base64 encoded length is expected a multiple of 4 bytes but found: 3"},
		{`{"Blob":"é"}`, "'é' can not be converted to a Blob: Base64 encoded length is expected a multiple of 4 bytes but found: 1"},
		{`{"Blob":"YW=j"}`, "'YW=j' can not be converted to a Blob: Invalid Base64 character: '='"},
		{`{"Blob":"YW-j"}`, "'YW-j' can not be converted to a Blob: Invalid Base64 character: '-'"},
		{`{"Blob":"YWJjYWJjYW_jYWJjYWJj"}`, "'YWJjYWJjYW_jYWJjYWJj' can not be converted to a Blob: Invalid Base64 character: '_'"},
		{`{"Blob":"ééYW"}`, "'ééYW' can not be converted to a Blob: Invalid Base64 character: 'é'"},
		{`{"Blob":"Y\nJj"}`, "'Y\nJj' can not be converted to a Blob: Invalid Base64 character: '\n'"},
		{`{"Blob":"YWJjYWJj\r\nYW"}`, "'YWJjYWJj\r\nYW' can not be converted to a Blob: Invalid Base64 character: '\r'"},
		{`{"Blob":"YWI=YWI="}`, "'YWI=YWI=' can not be converted to a Blob: Invalid Base64 character: '='"},
		{`{"Blob":"YWJ="}`, "'YWJ=' can not be converted to a Blob: Invalid last non-pad Base64 character dectected"},
		{`{"Blob":"Y==="}`, "'Y===' can not be converted to a Blob: Invalid last non-pad Base64 character dectected"},
		{`{"Blob":"===="}`, "'====' can not be converted to a Blob: Invalid last non-pad Base64 character dectected"},

		{`{"Strings":"a"}`, "Expected list or null"},
		{`{"Strings":1}`, "Expected list or null"},
		{`{"Strings":{}}`, start},
		{`{"Strings":["a",1]}`, fmt.Sprintf(class, num, "an String")},
		{`{"Many":true}`, "Expected list or null"},
		{`{"Many":{}}`, start},
		{`{"Many":[1]}`, "Expected null"},
		{`{"Many":[[]]}`, list},
		{`{"Many":[{"Blob":1}]}`, fmt.Sprintf(class, num, "a Blob")},

		{`{"Tags":1}`, "Expected map or null"},
		{`{"Tags":[]}`, list},
		{`{"Tags":{"k":true}}`, fmt.Sprintf(class, truth, "an String")},
		{`{"Tags":{"k":{}}}`, start},

		{`{"One":"a"}`, "Expected null"},
		{`{"One":[]}`, list},
		{`{"One":{"String":{}}}`, start},
		{`{"Inner":1}`, "Expected null"},

		{`{"Bool":true,"Int":"a","String":1}`, fmt.Sprintf(class, str, "an Integer")},
	} {
		var wrong *TypeError
		require.ErrorAs(t, bindJSON(c.body, new(every)), &wrong, c.body)
		require.Equal(t, c.want, wrong.Message, c.body)
		require.EqualError(t, wrong, c.want)
	}
	require.Error(t, Bind(Value{}, new(every)))
}

func TestTypeErrorsOfCBOR(t *testing.T) {
	for _, c := range []struct {
		doc  any
		want string
	}{
		{map[string]any{"String": []byte("x")}, "class java.nio.HeapByteBuffer can not be converted to an String"},
		{map[string]any{"Int": cbor.Tag{Number: 1, Content: 5}}, "class java.util.Date can not be converted to an Integer"},
		{map[string]any{"Time": []byte("x")}, "class java.nio.HeapByteBuffer can not be converted to milliseconds since epoch"},
		{map[string]any{"Blob": 1.5}, "class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to a Blob"},
	} {
		body, err := cbor.Marshal(c.doc)
		require.NoError(t, err)
		v, err := ParseCBOR(body)
		require.NoError(t, err)
		require.EqualError(t, Bind(v, new(every)), c.want)
	}
}

func TestBind(t *testing.T) {
	ms := func(n int64) time.Time { return time.UnixMilli(n).UTC() }
	for _, c := range []struct {
		body string
		want every
	}{
		{`{}`, every{}},
		{`{"Other":{"a":[1,{"String":"x"}]},"string":"x","String":"y"}`, every{String: new("y")}},
		{`{"String":null,"Int":null,"Long":null,"Bool":null,"Time":null,"Blob":null,"Strings":null,"Tags":null,"One":null,"Many":null,"Text":null,"At":null,"Inner":null}`, every{}},
		{`{"String":"","Blob":"","Strings":[],"Tags":{},"One":{},"Many":[]}`, every{String: new(""), Blob: []byte{}, Strings: []string{}, Tags: map[string]string{}, One: &every1{}, Many: []every1{}}},
		{`{"Str\u0069ng":"a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\ud83d"}`, every{String: new("a\"\\/\b\f\n\r\té😀\ufffd")}},
		{"{\"String\":\"a\xffb\"}", every{String: new("a\ufffdb")}},
		{`{"String":"a","String":"b"}`, every{String: new("b")}},
		{`{"String":"a","String":null}`, every{}},
		{`{"One":{"String":"a"},"One":{"Int":1}}`, every{One: &every1{Int: new(int32(1))}}},
		{`{"Many":[{"Int":1},{"Int":2}],"Many":[{"String":"a"}]}`, every{Many: []every1{{String: new("a")}}}},
		{`{"Inner":{"String":"a"},"Inner":{"Int":1}}`, every{Inner: every1{Int: new(int32(1))}}},
		{`{"Many":[null,{"String":"a"},null]}`, every{Many: []every1{{}, {String: new("a")}, {}}}},
		{`{"Strings":["a",null,"b"]}`, every{Strings: []string{"a", "", "b"}}},
		{`{"Tags":{"a":"1","b":null,"c":"","\u0064":"2","a":"3"}}`, every{Tags: map[string]string{"a": "3", "c": "", "d": "2"}}},
		{`{"Int":2.9,"Number":-2.1}`, every{Int: new(int32(2)), Number: -3}},
		{`{"Int":2147483648,"Number":-2147483649}`, every{Int: new(int32(math.MaxInt32)), Number: math.MinInt32}},
		{`{"Int":1e99,"Long":1e99,"Count":-1e99}`, every{Int: new(int32(math.MaxInt32)), Long: new(int64(math.MaxInt64)), Count: math.MinInt64}},
		{`{"Long":9007199254740993,"Count":12}`, every{Long: new(int64(9007199254740993)), Count: 12}},
		{`{"Bool":true,"Is":true}`, every{Bool: new(true), Is: true}},
		{`{"Bool":false,"Is":false}`, every{Bool: new(false)}},
		{`{"Time":1459799926.480,"At":1459799926}`, every{Time: new(ms(1459799926480)), At: ms(1459799926000)}},
		{`{"Time":1.45979992648E9,"At":-0.5}`, every{Time: new(ms(1459799926480)), At: ms(-500)}},
		{`{"Blob":"+\/+\/"}`, every{Blob: []byte{0xfb, 0xff, 0xbf}}},
		{`{"Blob":"YQ==","One":{"Blob":"YWI="},"Many":[{"Blob":"YWJj"}]}`, every{Blob: []byte("a"), One: &every1{Blob: []byte("ab")}, Many: []every1{{Blob: []byte("abc")}}}},
	} {
		var got every
		require.NoError(t, bindJSON(c.body, &got), c.body)
		require.Equal(t, c.want, got, c.body)
	}
}

// The result does not change when the body changes, or when a blob is appended to.
func TestBoundIsSeparate(t *testing.T) {
	in := putRecords(50, 100)
	for _, format := range []struct {
		body  []byte
		parse func([]byte) (Value, error)
	}{{AppendJSON(nil, in), ParseJSON}, {AppendCBOR(nil, in), ParseCBOR}} {
		v, err := format.parse(format.body)
		require.NoError(t, err)
		var got putRecordsInput
		require.NoError(t, Bind(v, &got))
		clear(format.body)
		for _, r := range got.Records {
			_ = append(r.Data, 1, 2, 3)
		}
		require.Equal(t, in, &got)
	}
}

func TestMemoryIsUsedAgain(t *testing.T) {
	var m Memory
	for size := range 200 {
		in := putRecords(10, size*37%150)
		for _, format := range []struct {
			body  []byte
			parse func([]byte) (Value, error)
		}{{AppendJSON(nil, in), ParseJSON}, {AppendCBOR(nil, in), ParseCBOR}} {
			v, err := format.parse(format.body)
			require.NoError(t, err)
			var got putRecordsInput
			require.NoError(t, m.Bind(v, &got))
			require.Equal(t, in, &got)
		}
	}
}

// The allocations of a request do not grow with its records.
func TestFewAllocations(t *testing.T) {
	body := AppendJSON(nil, putRecords(500, 1024))
	allocs := testing.AllocsPerRun(5, func() {
		v, err := ParseJSON(body)
		require.NoError(t, err)
		var in putRecordsInput
		require.NoError(t, Bind(v, &in))
		require.Empty(t, Validate(&in))
	})
	require.Less(t, allocs, 100.0)
}

func TestPlanRefusesWhatItCannotHandle(t *testing.T) {
	for _, in := range []any{
		&struct {
			A *string `kinesis:"Nonsense"`
		}{},
		&struct {
			A *string `kinesis:"required,StreamNames"`
		}{},
		&struct {
			A *string `kinesis:"PageLimit"`
		}{},
		&struct {
			A *int32 `kinesis:"StreamName"`
		}{},
		&struct {
			A []string `kinesis:"Data"`
		}{},
		&struct {
			A map[string]string `kinesis:"TagKeyList"`
		}{},
		&struct{ A float64 }{},
		&struct{ A []int32 }{},
		&struct{ A *[]string }{},
	} {
		require.Panics(t, func() { Validate(in) }, "%T", in)
		require.Panics(t, func() { AppendJSON(nil, in) }, "%T", in)
		require.Panics(t, func() { _ = bindJSON("{}", in) }, "%T", in)
	}
	require.Panics(t, func() { Validate(1) })
}
