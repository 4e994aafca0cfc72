package eventstream_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"maps"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi/internal/eventstream"
)

// frames has one frame of every kind, with its content.
func frames() []struct {
	name    string
	frame   []byte
	headers map[string]string
	payload string
} {
	return []struct {
		name    string
		frame   []byte
		headers map[string]string
		payload string
	}{
		{
			"initial response", eventstream.AppendInitialResponse(nil),
			map[string]string{":message-type": "event", ":event-type": "initial-response", ":content-type": "application/json"},
			"{}",
		},
		{
			"event", eventstream.AppendEvent(nil, "SubscribeToShardEvent", "application/json", []byte(`{"Records":[]}`)),
			map[string]string{":message-type": "event", ":event-type": "SubscribeToShardEvent", ":content-type": "application/json"},
			`{"Records":[]}`,
		},
		{
			"event of unknown content", eventstream.AppendEvent(nil, "Tick", "", nil),
			map[string]string{":message-type": "event", ":event-type": "Tick"},
			"",
		},
		{
			"exception", eventstream.AppendException(nil, "ResourceInUseException", "application/json", []byte(`{"message":"taken"}`)),
			map[string]string{":message-type": "exception", ":exception-type": "ResourceInUseException", ":content-type": "application/json"},
			`{"message":"taken"}`,
		},
		{
			"error", eventstream.AppendError(nil, "InternalFailure", "größer als nötig"),
			map[string]string{":message-type": "error", ":error-code": "InternalFailure", ":error-message": "größer als nötig"},
			"",
		},
		{
			"large event", eventstream.AppendEvent(nil, "SubscribeToShardEvent", "application/json", bytes.Repeat([]byte("x"), 1_000_000)),
			map[string]string{":message-type": "event", ":event-type": "SubscribeToShardEvent", ":content-type": "application/json"},
			strings.Repeat("x", 1_000_000),
		},
	}
}

func TestReadFindsWhatWasAppended(t *testing.T) {
	var all []byte
	for _, f := range frames() {
		all = append(all, f.frame...)
	}
	for name, r := range map[string]io.Reader{
		"at once":       bytes.NewReader(all),
		"half by half":  iotest.HalfReader(bytes.NewReader(all)),
		"with the last": iotest.DataErrReader(bytes.NewReader(all)),
	} {
		t.Run(name, func(t *testing.T) {
			for _, f := range frames() {
				m, err := eventstream.Read(r)
				require.NoError(t, err, f.name)
				require.Equal(t, f.headers, m.Headers, f.name)
				require.NotNil(t, m.Payload, f.name)
				require.True(t, f.payload == string(m.Payload), f.name)
			}
			_, err := eventstream.Read(r)
			require.Equal(t, io.EOF, err)
		})
	}
}

func TestBytesOfAFrame(t *testing.T) {
	require.Equal(t, ""+
		"\x00\x00\x00\x3b\x00\x00\x00\x29\xf1\x61\xce\x92"+
		"\x0d:message-type\x07\x00\x05event"+
		"\x0b:event-type\x07\x00\x04Tick"+
		"{}"+
		"\xb8\xd0\x06\x5b",
		string(eventstream.AppendEvent(nil, "Tick", "", []byte("{}"))))
}

func TestAppendKeepsWhatIsThere(t *testing.T) {
	before := []byte("before")
	got := eventstream.AppendInitialResponse(bytes.Clone(before))
	require.Equal(t, append(before, eventstream.AppendInitialResponse(nil)...), got)
}

func TestAppendDoesNotAllocateWhereThereIsRoom(t *testing.T) {
	room, payload := make([]byte, 0, 4096), []byte(`{"Records":[]}`)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		eventstream.AppendEvent(room, "SubscribeToShardEvent", "application/json", payload)
	}))
}

func TestALongMessageIsCut(t *testing.T) {
	for _, row := range []struct {
		name, message string
		want          int
	}{
		{"fits", strings.Repeat("x", 32767), 32767},
		{"one more", strings.Repeat("x", 32768), 32767},
		{"inside a character", strings.Repeat("x", 32766) + "ö", 32766},
		{"inside a long character", strings.Repeat("x", 32764) + "😀", 32764},
		{"no text", strings.Repeat("\x80", 40000), 32763},
	} {
		t.Run(row.name, func(t *testing.T) {
			m, err := eventstream.Read(bytes.NewReader(eventstream.AppendError(nil, "InternalFailure", row.message)))
			require.NoError(t, err)
			require.True(t, m.Headers[":error-message"] == row.message[:row.want])
		})
	}
}

func TestTheLongestFrame(t *testing.T) {
	overhead := len(eventstream.AppendEvent(nil, "Tick", "", nil))
	payload := make([]byte, eventstream.MaxFrame-overhead+1)
	longest := eventstream.AppendEvent(nil, "Tick", "", payload[1:])
	require.Len(t, longest, eventstream.MaxFrame)
	m, err := eventstream.Read(bytes.NewReader(longest))
	require.NoError(t, err)
	require.Len(t, m.Payload, len(payload)-1)
	require.Panics(t, func() { eventstream.AppendEvent(nil, "Tick", "", payload) })
}

func TestAStreamThatEndsInsideAFrame(t *testing.T) {
	frame := eventstream.AppendInitialResponse(nil)
	for n := 1; n < len(frame); n++ {
		_, err := eventstream.Read(bytes.NewReader(frame[:n]))
		require.Equal(t, io.ErrUnexpectedEOF, err, "after %d bytes", n)
	}
}

func TestAnErrorOfTheReaderComesBack(t *testing.T) {
	lost := errors.New("lost")
	frame := eventstream.AppendInitialResponse(nil)
	for n := range frame {
		_, err := eventstream.Read(io.MultiReader(bytes.NewReader(frame[:n]), iotest.ErrReader(lost)))
		require.ErrorIs(t, err, lost, "after %d bytes", n)
	}
}

func TestNoBitMayChange(t *testing.T) {
	frame := eventstream.AppendInitialResponse(nil)
	for i := range frame {
		for bit := range 8 {
			damaged := bytes.Clone(frame)
			damaged[i] ^= 1 << bit
			_, err := eventstream.Read(bytes.NewReader(damaged))
			require.ErrorIs(t, err, eventstream.ErrMalformed, "byte %d, bit %d", i, bit)
		}
	}
}

// frame makes a frame of any bytes, with correct checksums.
func frame(headers, payload string) []byte {
	return frameOf(16+len(headers)+len(payload), len(headers), headers+payload)
}

func frameOf(total, headersBytes int, body string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(total))
	b = binary.BigEndian.AppendUint32(b, uint32(headersBytes))
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	b = append(b, body...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

func TestReadSaysWhatIsWrong(t *testing.T) {
	for _, row := range []struct {
		name  string
		frame []byte
		want  string
	}{
		{"too short", frameOf(15, 0, ""), "it has 15 bytes"},
		{"too long", frameOf(eventstream.MaxFrame+1, 0, ""), "it has 25165825 bytes"},
		{"longest of all", frameOf(1<<32-1, 1<<32-1, ""), "it has 4294967295 bytes"},
		{"long headers", frameOf(1<<20, 128<<10+1, ""), "its headers have 131073 bytes"},
		{"headers beyond the end", frameOf(20, 5, "abcd"), "its headers have 5 bytes, the whole frame 20"},
		{"no name", frame("\x00\x07\x00\x01v", ""), "without a name"},
		{"ends after the length", frame("\x01", ""), "end inside the header"},
		{"ends in the name", frame("\x04na", ""), `end inside the header that begins with "na"`},
		{"ends after the type", frame("\x01n\x07", ""), "end inside the header"},
		{"ends in the length of the value", frame("\x01n\x07\x00", ""), "end inside the header"},
		{"ends in the value", frame("\x01n\x07\x00\x02v", "payload"), `end inside the value of "n"`},
		{"long value", frame("\x01n\x07\x80\x00"+strings.Repeat("v", 32768), ""), "value of 32768 bytes"},
		{"another type", frame("\x01n\x00\x00\x00", ""), `"n" is of type 0`},
		{"twice", frame("\x01n\x07\x00\x01v\x01n\x07\x00\x01v", ""), `"n" twice`},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := eventstream.Read(bytes.NewReader(row.frame))
			require.ErrorIs(t, err, eventstream.ErrMalformed)
			require.ErrorContains(t, err, row.want)
		})
	}
}

func TestHeadersMayBeMissingOrEmpty(t *testing.T) {
	m, err := eventstream.Read(bytes.NewReader(frame("", "p")))
	require.NoError(t, err)
	require.Equal(t, &eventstream.Message{Headers: map[string]string{}, Payload: []byte("p")}, m)

	m, err = eventstream.Read(bytes.NewReader(frame("\x01n\x07\x00\x00", "")))
	require.NoError(t, err)
	require.Equal(t, map[string]string{"n": ""}, m.Headers)
}

// greedy counts the bytes that its reader asks for.
type greedy struct {
	r     io.Reader
	asked int
}

func (g *greedy) Read(p []byte) (int, error) {
	g.asked += len(p)
	return g.r.Read(p)
}

func TestRoomGrowsWithWhatArrives(t *testing.T) {
	announced := frameOf(eventstream.MaxFrame, 0, "")
	for _, arrived := range []int{0, 1, 100_000, 3_000_000} {
		g := &greedy{r: bytes.NewReader(append(announced[:12:12], make([]byte, arrived)...))}
		_, err := eventstream.Read(g)
		require.Equal(t, io.ErrUnexpectedEOF, err)
		require.Less(t, g.asked, 3*arrived+40_000)
	}
}

func FuzzRead(f *testing.F) {
	for _, row := range frames() {
		if len(row.frame) < 1000 {
			f.Add(row.frame, "code", "message")
		}
	}
	f.Add(frame("\x01n\x07\x00\x00\x01m\x07\x00\x01v", "payload"), "", "")
	f.Add(frameOf(eventstream.MaxFrame, 0, ""), "\xff", strings.Repeat("ö", 20_000))
	f.Add([]byte{}, "", "")
	f.Fuzz(func(t *testing.T, b []byte, code, message string) {
		// As it is, and with correct checksums.
		checkRead(t, b)
		if len(b) >= 16 {
			b = bytes.Clone(b)
			body := len(b) - 4
			binary.BigEndian.PutUint32(b, uint32(len(b)))
			binary.BigEndian.PutUint32(b[8:], crc32.ChecksumIEEE(b[:8]))
			binary.BigEndian.PutUint32(b[body:], crc32.ChecksumIEEE(b[:body]))
			checkRead(t, b)
		}

		// The appended frames can be read back.
		all := eventstream.AppendEvent(nil, code, message, b)
		all = eventstream.AppendException(all, message, code, b)
		all = eventstream.AppendError(all, code, message)
		r := bytes.NewReader(all)
		for _, want := range []struct {
			headers map[string]string
			payload []byte
		}{
			{map[string]string{":message-type": "event", ":event-type": code, ":content-type": message}, b},
			{map[string]string{":message-type": "exception", ":exception-type": message, ":content-type": code}, b},
			{map[string]string{":message-type": "error", ":error-code": code, ":error-message": message}, nil},
		} {
			m, err := eventstream.Read(r)
			require.NoError(t, err)
			maps.DeleteFunc(want.headers, func(_, value string) bool { return value == "" })
			require.Len(t, m.Headers, len(want.headers))
			for name, value := range want.headers {
				require.True(t, strings.HasPrefix(value, m.Headers[name]))
				require.GreaterOrEqual(t, len(m.Headers[name]), min(len(value), 32763))
			}
			require.True(t, bytes.Equal(want.payload, m.Payload))
		}
		_, err := eventstream.Read(r)
		require.Equal(t, io.EOF, err)
	})
}

// checkRead reads bytes that may be a frame.
func checkRead(t *testing.T, b []byte) {
	g := &greedy{r: bytes.NewReader(b)}
	_, err := eventstream.Read(g)
	require.Less(t, g.asked, 3*len(b)+40_000)
	switch {
	case err == nil, err == io.ErrUnexpectedEOF:
	case err == io.EOF:
		require.Empty(t, b)
	default:
		require.ErrorIs(t, err, eventstream.ErrMalformed)
	}
}

func BenchmarkAppendEvent(b *testing.B) {
	for name, size := range map[string]int{"small": 200, "large": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			payload := make([]byte, size)
			var buf []byte
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				buf = eventstream.AppendEvent(buf[:0], "SubscribeToShardEvent", "application/json", payload)
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	for name, size := range map[string]int{"small": 200, "large": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			frame := eventstream.AppendEvent(nil, "SubscribeToShardEvent", "application/json", make([]byte, size))
			r := bytes.NewReader(frame)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(frame)
				if _, err := eventstream.Read(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
