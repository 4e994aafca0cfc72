package wire

import (
	"encoding/base64"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBase64AgainstTheStandardLibrary(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for n := range 200 {
		for range 20 {
			data := make([]byte, n)
			for i := range data {
				data[i] = byte(r.Uint32())
			}
			want := base64.StdEncoding.EncodeToString(data)
			require.Equal(t, "x"+want, string(append64([]byte("x"), data)))

			dst := make([]byte, len(want)/4*3)
			size, ok := decode64(dst, []byte(want))
			require.True(t, ok)
			require.Equal(t, data, dst[:size])
			if n == 0 {
				continue
			}
			spoilt := []byte(want)
			spoilt[r.IntN(len(spoilt))] = byte(r.Uint32())
			decoded, err := strict64.DecodeString(string(spoilt))
			if strings.ContainsAny(string(spoilt), "\r\n") {
				_, ok = decode64(dst, spoilt)
				require.False(t, ok, "%q", spoilt)
				continue
			}
			size, ok = decode64(dst, spoilt)
			require.Equal(t, err == nil, ok, "%q", spoilt)
			if ok {
				require.Equal(t, decoded, dst[:size])
			}
		}
	}
}

// Blobs lie side by side in memory, so decoding one must not write beyond its end.
func TestBase64StaysInItsPlace(t *testing.T) {
	for n := range 100 {
		text := base64.StdEncoding.EncodeToString(make([]byte, n))
		memory := []byte(strings.Repeat("#", len(text)+32))
		place := len(text) / 4 * 3
		_, ok := decode64(memory[:place], []byte(text))
		require.True(t, ok)
		require.Equal(t, strings.Repeat("#", len(memory)-place), string(memory[place:]))
	}
}
