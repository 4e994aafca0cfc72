package sdktest_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"
	"github.com/stretchr/testify/require"

	ours "github.com/braidstream/braid/kinesisapi/internal/eventstream"
)

// ourFrames has one frame of every kind.
func ourFrames() map[string][]byte {
	return map[string][]byte{
		"initial response":         ours.AppendInitialResponse(nil),
		"event":                    ours.AppendEvent(nil, "SubscribeToShardEvent", "application/json", []byte(`{"Records":[]}`)),
		"event of unknown content": ours.AppendEvent(nil, "Tick", "", nil),
		"exception":                ours.AppendException(nil, "ResourceInUseException", "application/json", []byte(`{"message":"taken"}`)),
		"error":                    ours.AppendError(nil, "InternalFailure", "größer als nötig"),
		"large event":              ours.AppendEvent(nil, "SubscribeToShardEvent", "application/json", bytes.Repeat([]byte("x"), 1_000_000)),
	}
}

// The SDK's reader finds the same content in a frame as ours, and its writer makes the same
// bytes.
func TestTheSDKAgrees(t *testing.T) {
	for name, frame := range ourFrames() {
		t.Run(name, func(t *testing.T) {
			m, err := ours.Read(bytes.NewReader(frame))
			require.NoError(t, err)
			theirs := requireSame(t, m, frame)
			for _, h := range theirs.Headers {
				require.IsType(t, eventstream.StringValue(""), h.Value)
			}
			var again bytes.Buffer
			require.NoError(t, eventstream.NewEncoder().Encode(&again, theirs))
			require.True(t, bytes.Equal(frame, again.Bytes()))
		})
	}
}

// requireSame checks that the SDK finds the same message in a frame.
func requireSame(t *testing.T, m *ours.Message, frame []byte) eventstream.Message {
	t.Helper()
	theirs, err := eventstream.NewDecoder().Decode(bytes.NewReader(frame), nil)
	require.NoError(t, err)
	require.Len(t, theirs.Headers, len(m.Headers))
	for _, h := range theirs.Headers {
		require.Equal(t, h.Value.String(), m.Headers[h.Name])
	}
	require.True(t, bytes.Equal(theirs.Payload, m.Payload))
	return theirs
}

// FuzzReadAsTheSDK: every frame that our reader accepts is a frame for the SDK too, with
// the same message.
func FuzzReadAsTheSDK(f *testing.F) {
	for _, frame := range ourFrames() {
		if len(frame) < 1000 {
			f.Add(frame)
		}
	}
	f.Add([]byte(strings.Repeat("\x00", 16)))
	f.Fuzz(func(t *testing.T, b []byte) {
		// As it is, and with the length and checksums that it should have.
		check := func() {
			if m, err := ours.Read(bytes.NewReader(b)); err == nil {
				requireSame(t, m, b)
			}
		}
		check()
		if len(b) < 16 {
			return
		}
		b = bytes.Clone(b)
		body := len(b) - 4
		binary.BigEndian.PutUint32(b, uint32(len(b)))
		binary.BigEndian.PutUint32(b[8:], crc32.ChecksumIEEE(b[:8]))
		binary.BigEndian.PutUint32(b[body:], crc32.ChecksumIEEE(b[:body]))
		check()
	})
}
