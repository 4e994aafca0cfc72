// Package token seals the opaque texts that clients pass from one request to the next:
// shard iterators and the tokens of lists. A client cannot read, change or forge a token.
// The package knows the kind and time of a token, and must not know its content.
package token

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// The bytes of a token; its text is their base64:
//
//	bytes  holds
//	    8  zeros and a one, in the clear, as in tokens of Kinesis
//	   12  a random nonce
//	    n  encrypted by AES-256-GCM: the kind in one byte, when the token was issued
//	       in Unix milliseconds in 8 bytes, the payload, and padding
//	   16  tag
//
// Padding is one to sixteen bytes. The last contains their number; the others are zero.
// With it, the length of the token without its first 8 bytes is a multiple of 16.
const (
	prefix = "\x00\x00\x00\x00\x00\x00\x00\x01"

	sealBytes = 12 + 16 // nonce and tag
	headBytes = 1 + 8   // kind and time
	block     = 16
)

// MaxShortPayload is the length of the longest payload whose token fits into the 512
// characters of a shard iterator.
const MaxShortPayload = 330

// ErrInvalid is the error for texts that were not sealed with this key for this kind.
var ErrInvalid = errors.New("invalid token")

// encoding accepts exactly one text for each token.
var encoding = base64.StdEncoding.Strict()

// Sealer seals and opens tokens. Its methods may be called concurrently.
//
// Nonces are random, so two Sealers may have the same key. A repeated nonce would let a
// client learn to forge tokens; after 2^32 tokens of a key its probability is 2^-33.
type Sealer struct{ aead cipher.AEAD }

// NewSealer returns the Sealer of a key.
func NewSealer(key [32]byte) *Sealer {
	c, err := aes.NewCipher(key[:])
	if err != nil {
		panic(fmt.Sprintf("token: %v", err)) // the size of the key is right
	}
	aead, err := cipher.NewGCMWithRandomNonce(c)
	if err != nil {
		panic(fmt.Sprintf("token: %v", err)) // the size of the block is right
	}
	return &Sealer{aead}
}

// Seal returns a token, a different one on each call. A token of one kind cannot be opened
// as another.
func (s *Sealer) Seal(kind byte, payload []byte, now time.Time) string {
	unpadded := headBytes + len(payload)
	padding := block - (sealBytes+unpadded)%block
	plainBytes := unpadded + padding
	tokenBytes := len(prefix) + sealBytes + plainBytes

	// One allocation for all: the plain bytes, the token, and its text.
	room := make([]byte, 0, plainBytes+tokenBytes+encoding.EncodedLen(tokenBytes))
	plain := append(room, kind)
	plain = binary.BigEndian.AppendUint64(plain, uint64(now.UnixMilli()))
	plain = append(plain, payload...)
	plain = append(plain, make([]byte, padding)...)
	plain[plainBytes-1] = byte(padding)

	token := append(plain[plainBytes:], prefix...)
	token = s.aead.Seal(token, nil, plain, nil)
	return string(encoding.AppendEncode(token[tokenBytes:], token))
}

// Open returns the payload of a token and the time at which it was issued, in whole
// milliseconds and UTC. The caller decides whether the token has expired. The text may be
// in double quotes. The only error is [ErrInvalid].
func (s *Sealer) Open(kind byte, text string) (payload []byte, issued time.Time, err error) {
	if n := len(text); n >= 2 && text[0] == '"' && text[n-1] == '"' {
		text = text[1 : n-1]
	}
	token, err := encoding.DecodeString(text)
	switch {
	case err != nil,
		encoding.EncodedLen(len(token)) != len(text), // line breaks, which the decoder skips
		len(token) < len(prefix)+sealBytes+headBytes,
		string(token[:len(prefix)]) != prefix:
		return nil, time.Time{}, ErrInvalid
	}
	plain, err := s.aead.Open(nil, nil, token[len(prefix):], nil)
	if err != nil || plain[0] != kind {
		return nil, time.Time{}, ErrInvalid
	}
	end := len(plain) - int(plain[len(plain)-1])
	if end < headBytes {
		return nil, time.Time{}, ErrInvalid // this key was used for something else
	}
	milliseconds := int64(binary.BigEndian.Uint64(plain[1:]))
	return slices.Clip(plain[headBytes:end]), time.UnixMilli(milliseconds).UTC(), nil
}
