package braid

import (
	"bufio"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"runtime"
	"strings"
	"unicode/utf8"
)

const maxKeyIDChars = 2048 // Kinesis: KeyId

// KeyRing is a [KeyProvider] whose keys are in memory, or come from a file. A KeyRing is immutable:
// to add a key, create a new one with all keys. It is for applications without a key service. Keep
// the file apart from the database. If the file is lost, so are the encrypted records.
type KeyRing struct {
	keys map[string]cipher.AEAD
}

var _ KeyProvider = (*KeyRing)(nil)

// keyRingKeyBytes is the length of a key, for AES-256.
const keyRingKeyBytes = 32

// NewKeyRing makes a key ring. The map has the keys by their ids. A key is 32 random bytes,
// which are copied. An id has 1 to 2,048 characters, without white space and '#'. Errors:
// [ErrInvalidArgument].
func NewKeyRing(keys map[string][]byte) (*KeyRing, error) {
	ring := &KeyRing{keys: make(map[string]cipher.AEAD, len(keys))}
	for id, key := range keys {
		if id == "" || utf8.RuneCountInString(id) > maxKeyIDChars || strings.ContainsAny(id, " \t\r\n#") {
			return nil, &InvalidArgumentError{"Keys", fmt.Sprintf("%.64q", id), fmt.Sprintf("must have ids of 1 to %d characters without spaces and '#'", maxKeyIDChars)}
		}
		if len(key) != keyRingKeyBytes {
			return nil, &InvalidArgumentError{"Keys", fmt.Sprintf("%d bytes for %.64q", len(key), id), fmt.Sprintf("must have keys of %d bytes", keyRingKeyBytes)}
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		if ring.keys[id], err = cipher.NewGCM(block); err != nil {
			return nil, err
		}
	}
	return ring, nil
}

// OpenKeyRing reads a key ring from a text file. Each line has a key: its id, a space, and
// its 32 bytes in base64. Empty lines are ignored, and so is everything after a '#'. This
// adds a key:
//
//	echo "main $(head -c 32 /dev/urandom | base64)" >> keys; chmod 600 keys
//
// On systems with Unix permissions, only the owner may have access to the file. Errors:
// [ErrInvalidArgument], and those of the file system.
func OpenKeyRing(path string) (*KeyRing, error) {
	ring, err := openKeyRing(path)
	return ring, wrapError("open key ring", path, err)
}

func openKeyRing(path string) (*KeyRing, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat() // of the open file, even if the path has changed
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode&0o077 != 0 {
		return nil, &InvalidArgumentError{"Path", fmt.Sprintf("a file with permissions %04o", mode), "must be a file that its owner alone can read: chmod 600"}
	}
	keys := make(map[string][]byte)
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		var key []byte
		if len(fields) == 2 {
			key, err = base64.StdEncoding.Strict().DecodeString(fields[1])
		}
		if len(fields) != 2 || err != nil || keys[fields[0]] != nil { // the error must not contain the line, which is a secret
			return nil, &InvalidArgumentError{"Path", fmt.Sprintf("line %d of the file", n), "must be an id that no other line has, a space, and 32 bytes in base64"}
		}
		keys[fields[0]] = key
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	return NewKeyRing(keys)
}

func (k *KeyRing) key(id string) (cipher.AEAD, error) {
	if aead := k.keys[id]; aead != nil {
		return aead, nil
	}
	return nil, &InvalidArgumentError{"KeyID", fmt.Sprintf("%.64q", id), "must be the id of a key of the ring"}
}

// DescribeKey implements [KeyProvider]. A key ring has no aliases of its own. An ARN of AWS KMS
// that is not itself an id of the ring means the id at its end:
// arn:aws:kms:us-east-1:123456789012:key/main for main, and
// arn:aws:kms:us-east-1:123456789012:alias/main for alias/main. Account and region do not matter.
func (k *KeyRing) DescribeKey(_ context.Context, keyID string) (id string, err error) {
	if k.keys[keyID] == nil {
		parts := strings.SplitN(keyID, ":", 6)
		if len(parts) == 6 && parts[0] == "arn" && parts[2] == "kms" {
			id, isKey := strings.CutPrefix(parts[5], "key/")
			if (isKey || strings.HasPrefix(id, "alias/")) && k.keys[id] != nil {
				return id, nil
			}
		}
	}
	_, err = k.key(keyID)
	return keyID, err
}

// WrapKey implements [KeyProvider]. A key ring ignores stream and purpose.
func (k *KeyRing) WrapKey(_ context.Context, keyID string, dataKey []byte, _, _ string) ([]byte, error) {
	aead, err := k.key(keyID)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails; a key wraps far too few data keys for a nonce to repeat
	return aead.Seal(nonce, nonce, dataKey, []byte(keyID)), nil
}

// UnwrapKey implements [KeyProvider]. A key ring ignores stream and purpose.
func (k *KeyRing) UnwrapKey(_ context.Context, keyID string, wrapped []byte, _, _ string) ([]byte, error) {
	aead, err := k.key(keyID)
	if err != nil {
		return nil, err
	}
	if n := aead.NonceSize(); len(wrapped) > n {
		if dataKey, err := aead.Open(nil, wrapped[:n], wrapped[n:], []byte(keyID)); err == nil {
			return dataKey, nil
		}
	}
	return nil, fmt.Errorf("%w: the ring has another key under that id than the one that wrapped the data key", ErrKeyUnavailable)
}

// KeyProvider has the keys that encrypt data keys. It is, for example, a key service or a
// [KeyRing]. Its methods may be called from any number of goroutines, and should return when
// the context ends.
type KeyProvider interface {
	// DescribeKey looks up a key. It returns the id by which WrapKey and UnwrapKey will always
	// find that key: the given id, unless that is an alias. An error that matches
	// [ErrInvalidArgument] means that there is no such key.
	DescribeKey(ctx context.Context, keyID string) (id string, err error)

	// WrapKey encrypts a data key of 32 bytes with the key of that id. stream is the name of the
	// stream whose records the data key encrypts. purpose is always "records". A provider may bind
	// the result to both, or ignore them.
	WrapKey(ctx context.Context, keyID string, dataKey []byte, stream, purpose string) (wrapped []byte, err error)

	// UnwrapKey is the inverse of WrapKey. It gets the same stream and purpose.
	UnwrapKey(ctx context.Context, keyID string, wrapped []byte, stream, purpose string) (dataKey []byte, err error)
}
