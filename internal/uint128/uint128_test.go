package uint128_test

import (
	"bytes"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/uint128"
)

var space = new(big.Int).Lsh(big.NewInt(1), 128)

func bigOf(n uint128.Uint128) *big.Int {
	hi := new(big.Int).SetUint64(n.Hi)
	return hi.Lsh(hi, 64).Or(hi, new(big.Int).SetUint64(n.Lo))
}

// samples are numbers at the limits of carries.
func samples() []uint128.Uint128 {
	words := []uint64{0, 1, 2, 9, 10, 1<<32 - 1, 1 << 32, 1<<63 - 1, 1 << 63, 1<<63 + 1, 1<<64 - 2, 1<<64 - 1}
	var all []uint128.Uint128
	for _, hi := range words {
		for _, lo := range words {
			all = append(all, uint128.Uint128{Hi: hi, Lo: lo})
		}
	}
	return all
}

func requireSame(t *testing.T, want *big.Int, got uint128.Uint128, name string, operands ...any) {
	t.Helper()
	require.Equal(t, new(big.Int).Mod(want, space).String(), bigOf(got).String(), "%s of %v", name, operands)
}

func TestArithmeticIsThatOfMathBig(t *testing.T) {
	one := big.NewInt(1)
	for _, a := range samples() {
		x := bigOf(a)
		requireSame(t, new(big.Int).Add(x, one), a.AddOne(), "AddOne", a)
		requireSame(t, new(big.Int).Sub(x, one), a.SubOne(), "SubOne", a)
		for _, b := range samples() {
			y := bigOf(b)
			sum := new(big.Int).Add(x, y)
			requireSame(t, sum, a.Add(b), "Add", a, b)
			requireSame(t, new(big.Int).Sub(x, y), a.Sub(b), "Sub", a, b)
			requireSame(t, sum.Rsh(sum, 1), uint128.Midpoint(a, b), "Midpoint", a, b)
			require.Equal(t, x.Cmp(y), a.Compare(b), "%v, %v", a, b)
			require.Equal(t, x.Cmp(y) < 0, a.Less(b), "%v, %v", a, b)
		}
	}
}

func TestStepIsTheSpaceDivided(t *testing.T) {
	ns := []uint64{2, 3, 4, 5, 7, 10, 641, 1000, 10_000, 65_537, 6_700_417, 1 << 32, 1<<32 + 1, 1<<63 - 1, 1 << 63, 1<<64 - 1}
	for _, n := range ns {
		requireSame(t, new(big.Int).Div(space, new(big.Int).SetUint64(n)), uint128.Step(n), "Step", n)
	}
	require.Equal(t, uint128.Uint128{}, uint128.Step(1), "2^128 modulo itself")
}

func TestStepsOfKinesis(t *testing.T) {
	require.Equal(t, "170141183460469231731687303715884105728", uint128.Step(2).String())
	require.Equal(t, "113427455640312821154458202477256070485", uint128.Step(3).String())
	require.Equal(t, "85070591730234615865843651857942052864", uint128.Step(4).String())
	require.Equal(t, "68056473384187692692674921486353642291", uint128.Step(5).String())
}

func TestParseRefusesWhatIsNoHashKey(t *testing.T) {
	for text, why := range map[string]string{
		"":    "it is empty",
		"-1":  "byte 0 is '-', not a digit",
		"00":  "it has a leading zero",
		"0x1": "byte 1 is 'x', not a digit",
		"340282366920938463463374607431768211456":  "it is too large",
		"3402823669209384634633746074317682114550": "it is too large",
	} {
		_, err := uint128.Parse(text)
		require.ErrorContains(t, err, why, "%q", text)
		require.ErrorContains(t, err, "0 to 2^128-1", "%q", text)
	}
}

func TestMaxIsTheLargest(t *testing.T) {
	require.Equal(t, "340282366920938463463374607431768211455", uint128.Max.String())
	require.Equal(t, uint128.Uint128{}, uint128.Max.AddOne())
}

func FuzzText(f *testing.F) {
	for _, n := range samples() {
		f.Add(n.Hi, n.Lo)
	}
	f.Fuzz(func(t *testing.T, hi, lo uint64) {
		n := uint128.Uint128{Hi: hi, Lo: lo}
		require.Equal(t, bigOf(n).String(), n.String())
		require.Equal(t, "key="+n.String(), string(n.Append([]byte("key="))))
		back, err := uint128.Parse(n.String())
		require.NoError(t, err)
		require.Equal(t, n, back)
	})
}

func FuzzBytesAreInOrder(f *testing.F) {
	f.Add(uint64(0), uint64(1), uint64(1), uint64(0))
	f.Add(uint64(255), uint64(256), uint64(256), uint64(255))
	f.Add(uint64(7), uint64(7), uint64(7), uint64(7))
	f.Fuzz(func(t *testing.T, aHi, aLo, bHi, bLo uint64) {
		a, b := uint128.Uint128{Hi: aHi, Lo: aLo}, uint128.Uint128{Hi: bHi, Lo: bLo}
		x, y := a.Bytes(), b.Bytes()
		require.Equal(t, a.Compare(b), bytes.Compare(x[:], y[:]))
		require.Equal(t, bigOf(a).FillBytes(make([]byte, 16)), x[:])
		require.Equal(t, a, uint128.FromBytes(x))
	})
}
