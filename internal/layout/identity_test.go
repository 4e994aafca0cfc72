package layout_test

import (
	"fmt"
	"hash/crc32"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/layout"
)

// sealed appends the checksum line that an identity file needs.
func sealed(text string) []byte {
	sum := crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli))
	return fmt.Appendf([]byte(text), "crc %08x\n", sum)
}

func TestIdentityGolden(t *testing.T) {
	id := layout.Identity{Format: 3, OldestReader: 3, ID: uuid.MustParse("9b2f6c1e-3c52-4c0e-8f0e-5d8a2b9f7a11")}
	for name, ready := range map[string]bool{"creating": false, "ready": true} {
		id.Ready = ready
		want, err := os.ReadFile("testdata/identity-3-" + name + ".golden")
		require.NoError(t, err)
		require.Equal(t, string(want), string(id.Encode()))
		got, err := layout.DecodeIdentity(want)
		require.NoError(t, err)
		require.Equal(t, id, got)
	}
}

func TestNewIdentity(t *testing.T) {
	a, err := layout.NewIdentity()
	require.NoError(t, err)
	b, err := layout.NewIdentity()
	require.NoError(t, err)
	require.NotEqual(t, a.ID, b.ID)
	require.False(t, a.Ready)
	require.False(t, a.TooNew())
	require.False(t, a.TooOld())
	require.EqualValues(t, layout.FormatVersion, a.Format)
}

func TestIdentityOfLaterVersions(t *testing.T) {
	// A later format that this version can read, with more lines.
	id, err := layout.DecodeIdentity(sealed("braid database\nformat 7\noldest-reader 2\n" +
		"id 9b2f6c1e-3c52-4c0e-8f0e-5d8a2b9f7a11\nstate ready\nsomething new\n"))
	require.NoError(t, err)
	require.False(t, id.TooNew())
	require.True(t, id.Ready)
	require.EqualValues(t, 7, id.Format)

	// Of a format that it cannot read, it knows three lines.
	id, err = layout.DecodeIdentity(sealed("braid database\nformat 9\noldest-reader 8\nwhatever\n"))
	require.NoError(t, err)
	require.True(t, id.TooNew())
	require.EqualValues(t, 8, id.OldestReader)
}

// The previous format is recognized, whatever else its file says.
func TestIdentityOfTheFormerVersion(t *testing.T) {
	id, err := layout.DecodeIdentity(sealed("braid database\nformat 1\noldest-reader 1\nid 9b2f6c1e-3c52-4c0e-8f0e-5d8a2b9f7a11\nstate ready\n"))
	require.NoError(t, err)
	require.True(t, id.TooOld())
	require.False(t, id.TooNew())
	require.Equal(t, layout.Identity{Format: 1, OldestReader: 1}, id)
}

func TestIdentityRefusesWhatWasNotWritten(t *testing.T) {
	const head = "braid database\nformat 3\noldest-reader 3\n"
	const id = "id 9b2f6c1e-3c52-4c0e-8f0e-5d8a2b9f7a11\n"
	for name, data := range map[string][]byte{
		"nothing":                nil,
		"a wrong checksum":       []byte(head + id + "state ready\ncrc 00000000\n"),
		"no checksum":            []byte(head + id + "state ready\n"),
		"a checksum in capitals": []byte(strings.ToUpper(string(sealed(head + id + "state ready\n")))),
		"bytes behind":           append(sealed(head+id+"state ready\n"), '\n'),
		"too many bytes":         sealed(head + id + "state ready\n" + strings.Repeat("x", layout.MaxIdentityBytes)),
		"another first line":     sealed("braid data\nformat 1\noldest-reader 1\n" + id + "state ready\n"),
		"only one line":          sealed("braid database\n"),
		"no format":              sealed("braid database\nfomat 2\noldest-reader 2\n" + id + "state ready\n"),
		"format zero":            sealed("braid database\nformat 0\noldest-reader 2\n" + id + "state ready\n"),
		"format with zeros":      sealed("braid database\nformat 02\noldest-reader 2\n" + id + "state ready\n"),
		"a huge format":          sealed("braid database\nformat 99999999999\noldest-reader 2\n" + id + "state ready\n"),
		"a reader above format":  sealed("braid database\nformat 3\noldest-reader 4\n" + id + "state ready\n"),
		"no reader":              sealed("braid database\nformat 3\n" + id + "state ready\n"),
		"no id":                  sealed(head + "state ready\n"),
		"an id in capitals":      sealed(head + strings.ToUpper(id) + "state ready\n"),
		"another state":          sealed(head + id + "state steady\n"),
		"one line more":          sealed(head + id + "state ready\nand more\n"),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := layout.DecodeIdentity(data)
			require.ErrorIs(t, err, layout.ErrCorrupt)
		})
	}
}

func TestIdentityFindsEveryFlippedBit(t *testing.T) {
	id, err := layout.NewIdentity()
	require.NoError(t, err)
	data := id.Encode()
	for i := range data {
		for bit := range 8 {
			data[i] ^= 1 << bit
			_, err := layout.DecodeIdentity(data)
			require.ErrorIs(t, err, layout.ErrCorrupt, "byte %d bit %d", i, bit)
			data[i] ^= 1 << bit
		}
		_, err := layout.DecodeIdentity(data[:i])
		require.ErrorIs(t, err, layout.ErrCorrupt, "cut to %d bytes", i)
	}
}

func FuzzDecodeIdentity(f *testing.F) {
	f.Add(sealed("braid database\nformat 3\noldest-reader 3\nid 9b2f6c1e-3c52-4c0e-8f0e-5d8a2b9f7a11\nstate ready\n"))
	f.Add(sealed("braid database\nformat 9\noldest-reader 8\nwhatever\n"))
	f.Add([]byte("braid database\ncrc 00000000\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, data := range [][]byte{data, sealed(string(data))} {
			id, err := layout.DecodeIdentity(data)
			if err != nil {
				require.ErrorIs(t, err, layout.ErrCorrupt)
				require.Zero(t, id)
				continue
			}
			if id.Format == layout.FormatVersion {
				require.Equal(t, string(data), string(id.Encode()))
			}
		}
	})
}
