package kinesisapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/braidstream/braid"
)

// serviceKey is the key for Kinesis that every AWS account has.
const serviceKey = "alias/aws/kinesis"

// AnyKey returns a [braid.KeyProvider] that has a key for every id, so
// StartStreamEncryption accepts any key id, alias or ARN. An ARN means the same key as the
// id or alias at its end. AnyKey is for tests and protects nothing: each key is derived
// from its id alone, so the next run, or anyone else, can read the data.
func AnyKey() braid.KeyProvider { return anyKey{} }

// ServiceKey returns a [braid.KeyProvider] that has one key, alias/aws/kinesis. The key can also be
// named by its ARN. Like the keys of [AnyKey], it is not secret.
func ServiceKey() braid.KeyProvider { return anyKey{only: serviceKey} }

// anyKey has a key for every id, or only for the id in only.
type anyKey struct{ only string }

func (k anyKey) DescribeKey(_ context.Context, keyID string) (id string, err error) {
	id = keyID
	if parts := strings.SplitN(keyID, ":", 6); len(parts) == 6 && parts[0] == "arn" && parts[2] == "kms" {
		id = strings.TrimPrefix(parts[5], "key/")
	}
	if k.only != "" && id != k.only {
		return "", &braid.InvalidArgumentError{Field: "KeyID", Value: keyID, Rule: "must be " + k.only}
	}
	return id, nil
}

func (k anyKey) WrapKey(ctx context.Context, keyID string, dataKey []byte, stream, purpose string) ([]byte, error) {
	ring, name, err := ringOf(keyID)
	if err != nil {
		return nil, err
	}
	return ring.WrapKey(ctx, name, dataKey, stream, purpose)
}

func (k anyKey) UnwrapKey(ctx context.Context, keyID string, wrapped []byte, stream, purpose string) ([]byte, error) {
	ring, name, err := ringOf(keyID)
	if err != nil {
		return nil, err
	}
	return ring.UnwrapKey(ctx, name, wrapped, stream, purpose)
}

// ringOf returns a key ring with the key of keyID, and the name of that key in the ring.
// The name is a hash, because keyID may have characters that a ring does not allow.
func ringOf(keyID string) (ring *braid.KeyRing, name string, err error) {
	key := sha256.Sum256([]byte("kinesisapi.AnyKey " + keyID))
	sum := sha256.Sum256([]byte(keyID))
	name = hex.EncodeToString(sum[:])
	ring, err = braid.NewKeyRing(map[string][]byte{name: key[:]})
	return ring, name, err
}
