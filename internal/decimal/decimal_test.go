package decimal_test

import (
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/decimal"
)

// bigOf returns the number as a big.Int.
func bigOf(hi, mid, lo uint64) *big.Int {
	n := new(big.Int)
	for _, word := range []uint64{hi, mid, lo} {
		n.Lsh(n, 64).Or(n, new(big.Int).SetUint64(word))
	}
	return n
}

// borders are numbers at the limits of a digit, a chunk or a word.
func borders() []*big.Int {
	var all []*big.Int
	add := func(n *big.Int) {
		for d := int64(-1); d <= 1; d++ {
			m := new(big.Int).Add(n, big.NewInt(d))
			if m.Sign() >= 0 && m.BitLen() <= 192 {
				all = append(all, m)
			}
		}
	}
	for bit := uint(0); bit <= 192; bit++ {
		add(new(big.Int).Lsh(big.NewInt(1), bit))
	}
	for digits := int64(0); digits < decimal.MaxDigits; digits++ {
		add(new(big.Int).Exp(big.NewInt(10), big.NewInt(digits), nil))
	}
	return all
}

func TestTextIsThatOfMathBig(t *testing.T) {
	for _, n := range borders() {
		hi, mid, lo, err := decimal.Parse(n.String())
		require.NoError(t, err, "%s", n)
		require.Zero(t, n.Cmp(bigOf(hi, mid, lo)), "%s", n)
		require.Equal(t, n.String(), string(decimal.Append(nil, hi, mid, lo)))
	}
}

func TestAppendKeepsWhatIsThere(t *testing.T) {
	require.Equal(t, "n=0", string(decimal.Append([]byte("n="), 0, 0, 0)))
	require.Equal(t, "n=18446744073709551616", string(decimal.Append([]byte("n="), 0, 1, 0)))
}

func TestParseSaysWhatIsWrong(t *testing.T) {
	tooLarge := new(big.Int).Lsh(big.NewInt(1), 192).String()
	require.Len(t, tooLarge, decimal.MaxDigits)
	for _, row := range []struct{ name, text, want string }{
		{"nothing", "", "it is empty"},
		{"a sign", "-1", `byte 0 is '-', not a digit`},
		{"another sign", "+1", `byte 0 is '+', not a digit`},
		{"an exponent", "1e3", `byte 1 is 'e', not a digit`},
		{"white space", "1 ", `byte 1 is ' ', not a digit`},
		{"a digit of another script", "١", `byte 0 is 'Ù', not a digit`},
		{"a leading zero", "01", "it has a leading zero"},
		{"zero twice", "00", "it has a leading zero"},
		{"one above the largest", tooLarge, "it is too large"},
		{"far above the largest", strings.Repeat("9", 1000), "it is too large"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, _, _, err := decimal.Parse(row.text)
			require.EqualError(t, err, row.want)
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"0", "1", "", "007", "340282366920938463463374607431768211456", strings.Repeat("9", 57), strings.Repeat("9", 59)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		hi, mid, lo, err := decimal.Parse(text)
		n, isNumber := new(big.Int).SetString(text, 10)
		valid := isNumber && n.String() == text && n.Sign() >= 0 && n.BitLen() <= 192
		require.Equal(t, valid, err == nil, "%q: %v", text, err)
		if valid {
			require.Zero(t, n.Cmp(bigOf(hi, mid, lo)))
			require.Equal(t, text, string(decimal.Append(nil, hi, mid, lo)))
		}
	})
}

func FuzzAppend(f *testing.F) {
	f.Add(uint64(0), uint64(0), uint64(0))
	f.Add(^uint64(0), ^uint64(0), ^uint64(0))
	f.Add(uint64(0), uint64(1), uint64(0))
	f.Fuzz(func(t *testing.T, hi, mid, lo uint64) {
		text := decimal.Append(nil, hi, mid, lo)
		require.Equal(t, bigOf(hi, mid, lo).String(), string(text))
	})
}
