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

// KeyRing is a [KeyProvider] whose keys are in memory, or come from a file. It is
// never changed: to add a key, make another one with all of them. It is for those
// who have no key service; the file must be kept apart from the database, and
// what is encrypted is lost with it.
type KeyRing struct {
	keys map[string]cipher.AEAD
}

var _ KeyProvider = (*KeyRing)(nil)

// keyRingKeyBytes is the length of a key, for AES-256.
const keyRingKeyBytes = 32

// NewKeyRing makes a key ring of keys by their ids: 32 random bytes each, which
// are copied. Errors: [ErrInvalidArgument].
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

// OpenKeyRing reads a key ring from a text file with a key on each line: its id,
// a space, and its 32 bytes in base64. Empty lines, and what follows a '#', do
// not count. This makes a key:
//
//	echo "main $(head -c 32 /dev/urandom | base64)" >> keys; chmod 600 keys
//
// Where there are Unix permissions, the file must not be open to anybody but its
// owner. Errors: [ErrInvalidArgument], and those of the file system.
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
	info, err := f.Stat() // of the file that is read, whatever the path leads to by now
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
		if len(fields) != 2 || err != nil || keys[fields[0]] != nil { // the line itself is a secret
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

// DescribeKey is part of [KeyProvider]. A key ring has no aliases of its own, but an
// ARN of AWS KMS that is not an id of the ring stands for the id at its end:
// arn:aws:kms:us-east-1:123456789012:key/main for main, and
// arn:aws:kms:us-east-1:123456789012:alias/main for alias/main. Account and region do
// not matter.
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

// WrapKey is part of [KeyProvider]. Stream and purpose make no difference to a key ring.
func (k *KeyRing) WrapKey(_ context.Context, keyID string, dataKey []byte, _, _ string) ([]byte, error) {
	aead, err := k.key(keyID)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails; a key wraps far too few data keys for two to be the same
	return aead.Seal(nonce, nonce, dataKey, []byte(keyID)), nil
}

// UnwrapKey is part of [KeyProvider].
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
	return nil, fmt.Errorf("%w: the key of that id in the ring is not the one that the data key was wrapped with", ErrKeyUnavailable)
}

// KeyProvider has the keys that data keys are encrypted with, such as a service
// or a [KeyRing]. Its methods may be called from any number of goroutines, and
// should return when the context ends.
type KeyProvider interface {
	// DescribeKey looks a key up. It returns the id by which WrapKey and
	// UnwrapKey will always find that key, which is the given one unless that is
	// an alias. An error that matches [ErrInvalidArgument] says that there is no
	// such key.
	DescribeKey(ctx context.Context, keyID string) (id string, err error)

	// WrapKey encrypts a data key of 32 bytes with the key of that id. It is told what
	// the data key is for: the stream of that name, and the purpose "records", the only
	// one so far. A provider may bind the result to both, or ignore them.
	WrapKey(ctx context.Context, keyID string, dataKey []byte, stream, purpose string) (wrapped []byte, err error)

	// UnwrapKey is the inverse of WrapKey. It is told the same stream and purpose.
	UnwrapKey(ctx context.Context, keyID string, wrapped []byte, stream, purpose string) (dataKey []byte, err error)
}
