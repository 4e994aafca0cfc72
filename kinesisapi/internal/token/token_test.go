package token_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi/internal/token"
)

var (
	key = [32]byte{1, 2, 3}
	now = time.Date(2026, 3, 4, 5, 6, 7, 890_999_999, time.FixedZone("east", 3600))
)

// payload returns n bytes with a recognisable pattern.
func payload(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i + 1)
	}
	return b
}

func requireInvalid(t *testing.T, s *token.Sealer, kind byte, text string) {
	t.Helper()
	p, issued, err := s.Open(kind, text)
	require.Equal(t, token.ErrInvalid, err, "%q", text)
	require.Nil(t, p)
	require.Zero(t, issued)
}

func TestOpenFindsWhatWasSealed(t *testing.T) {
	s := token.NewSealer(key)
	for n := range 600 {
		text := s.Seal(7, payload(n), now)
		p, issued, err := s.Open(7, text)
		require.NoError(t, err)
		require.Equal(t, payload(n), p)
		require.Equal(t, time.Date(2026, 3, 4, 4, 6, 7, 890_000_000, time.UTC), issued)

		if n <= token.MaxShortPayload {
			require.LessOrEqual(t, len(text), 512, "%d bytes", n)
		} else {
			require.Greater(t, len(text), 512, "%d bytes", n)
		}
		b, err := base64.StdEncoding.DecodeString(text)
		require.NoError(t, err)
		require.Equal(t, []byte{0, 0, 0, 0, 0, 0, 0, 1}, b[:8])
		require.Zero(t, (len(b)-8)%16)
		require.Greater(t, len(b)-8, n)
	}
	require.GreaterOrEqual(t, token.MaxShortPayload, 300)
}

// The time is what the caller says, even in a bubble and before 1970.
func TestTimeIsThatOfTheCaller(t *testing.T) {
	s := token.NewSealer(key)
	synctest.Test(t, func(t *testing.T) {
		text := s.Seal(1, nil, time.Now())
		time.Sleep(5 * time.Minute)
		_, issued, err := s.Open(1, text)
		require.NoError(t, err)
		require.Equal(t, 5*time.Minute, time.Since(issued))
	})
	for _, at := range []time.Time{time.UnixMilli(-1), time.UnixMilli(0), time.Unix(1<<40, 0)} {
		_, issued, err := s.Open(1, s.Seal(1, nil, at))
		require.NoError(t, err)
		require.True(t, at.Equal(issued))
	}
}

func TestEveryTokenIsAnotherOne(t *testing.T) {
	s := token.NewSealer(key)
	seen := make(map[string]bool)
	for range 10_000 {
		seen[s.Seal(1, nil, now)] = true
	}
	require.Len(t, seen, 10_000)
}

func TestSealersOfOneKeyAreOne(t *testing.T) {
	p, _, err := token.NewSealer(key).Open(1, token.NewSealer(key).Seal(1, payload(5), now))
	require.NoError(t, err)
	require.Equal(t, payload(5), p)
}

func TestAnotherKeyOrKindDoesNotOpen(t *testing.T) {
	s, other := token.NewSealer(key), token.NewSealer([32]byte{3, 2, 1})
	text := s.Seal(1, payload(50), now)
	requireInvalid(t, other, 1, text)
	requireInvalid(t, s, 0, text)
	requireInvalid(t, s, 2, text)
}

func TestOnePairOfQuotesIsStripped(t *testing.T) {
	s := token.NewSealer(key)
	text := s.Seal(1, payload(50), now)
	p, _, err := s.Open(1, `"`+text+`"`)
	require.NoError(t, err)
	require.Equal(t, payload(50), p)
	for _, text := range []string{`"` + text, text + `"`, `""` + text + `""`, `'` + text + `'`, `"`, `""`, `"""`, ``} {
		requireInvalid(t, s, 1, text)
	}
}

func TestNothingMayChange(t *testing.T) {
	s := token.NewSealer(key)
	for n := 40; n < 56; n++ { // every number of bytes of padding
		text := s.Seal(1, payload(n), now)
		for i := range text {
			requireInvalid(t, s, 1, text[:i])
			requireInvalid(t, s, 1, text[i+1:])
			requireInvalid(t, s, 1, text[:i]+text[i+1:])
			for _, c := range "AQg/=-_ \n\r\"\x00\xff" {
				if byte(c) != text[i] {
					requireInvalid(t, s, 1, text[:i]+string(c)+text[i+1:])
				}
				requireInvalid(t, s, 1, text[:i]+"\n"+text[i:])
			}
		}
		for _, more := range []string{"\n", "\r\n", " ", "=", "A", "AAAA", text} {
			requireInvalid(t, s, 1, text+more)
		}
		b, err := base64.StdEncoding.DecodeString(text)
		require.NoError(t, err)
		for i := range b {
			for bit := range 8 {
				b[i] ^= 1 << bit
				requireInvalid(t, s, 1, base64.StdEncoding.EncodeToString(b))
				b[i] ^= 1 << bit
			}
		}
		requireInvalid(t, s, 1, base64.URLEncoding.EncodeToString(append(b, 0xff)))
	}
}

// A text that was encrypted with the key for another purpose is not a token.
func TestWhatIsNotPaddedDoesNotOpen(t *testing.T) {
	c, err := aes.NewCipher(key[:])
	require.NoError(t, err)
	aead, err := cipher.NewGCMWithRandomNonce(c)
	require.NoError(t, err)
	prefix := []byte{0, 0, 0, 0, 0, 0, 0, 1}
	for n := range 300 {
		plain := bytes.Repeat([]byte{255}, n)
		text := base64.StdEncoding.EncodeToString(aead.Seal(prefix[:8:8], nil, plain, nil))
		if n < 9+255 {
			requireInvalid(t, token.NewSealer(key), 255, text)
		}
	}
}

func TestPayloadIsTheCallers(t *testing.T) {
	s := token.NewSealer(key)
	text := s.Seal(1, payload(50), now)
	p, _, err := s.Open(1, text)
	require.NoError(t, err)
	require.Equal(t, len(p), cap(p))
	clear(p)
	p, _, err = s.Open(1, text)
	require.NoError(t, err)
	require.Equal(t, payload(50), p)
}

func TestConcurrentUse(t *testing.T) {
	s := token.NewSealer(key)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 200 {
				p, _, err := s.Open(byte(i), s.Seal(byte(i), payload(n), now))
				if err != nil || !bytes.Equal(p, payload(n)) {
					t.Errorf("worker %d, %d bytes: %x, %v", i, n, p, err)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzOpen(f *testing.F) {
	s := token.NewSealer(key)
	f.Add(s.Seal(1, payload(20), now), byte(1), payload(20), now.UnixMilli())
	f.Add(`"`+s.Seal(2, payload(300), now)+`"`, byte(2), payload(300), int64(0))
	f.Add(base64.StdEncoding.EncodeToString(append([]byte{0, 0, 0, 0, 0, 0, 0, 1}, payload(48)...)), byte(0), payload(0), int64(-1))
	f.Add("", byte(0), []byte(nil), int64(0))
	f.Add(`"`, byte(0), []byte(nil), int64(0))
	f.Add("AAAAAAAAAAE=", byte(255), payload(1), int64(1<<40))
	other := token.NewSealer([32]byte{9})
	f.Fuzz(func(t *testing.T, text string, kind byte, payload []byte, milliseconds int64) {
		// The corpus has no texts of the other key, so none opens.
		requireInvalid(t, other, kind, text)
		if _, _, err := s.Open(kind, text); err != nil { // some texts of the corpus do open
			require.Equal(t, token.ErrInvalid, err)
		}

		at := time.UnixMilli(milliseconds % (1 << 50))
		sealed := s.Seal(kind, payload, at)
		p, issued, err := s.Open(kind, sealed)
		require.NoError(t, err)
		require.True(t, bytes.Equal(payload, p))
		require.True(t, at.Equal(issued))
		requireInvalid(t, s, kind+1, sealed)
		requireInvalid(t, other, kind, sealed)
		if text != "" {
			requireInvalid(t, s, kind, text+sealed)
			requireInvalid(t, s, kind, sealed+text)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	s, p := token.NewSealer(key), payload(120)
	b.ReportAllocs()
	for b.Loop() {
		s.Seal(1, p, now)
	}
}

func BenchmarkOpen(b *testing.B) {
	s := token.NewSealer(key)
	text := s.Seal(1, payload(120), now)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := s.Open(1, text); err != nil {
			b.Fatal(err)
		}
	}
}
