package kinesisapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/braidstream/braid"
)

// serviceKey is the key that every account of AWS has for Kinesis.
const serviceKey = "alias/aws/kinesis"

// AnyKey returns a [braid.KeyProvider] that has a key for every id, so that
// StartStreamEncryption takes whatever a program names: a key id, an alias, or the ARN
// of either, which means the same key as the id or alias at its end. It is for tests,
// and protects nothing: each key is made from its id alone, so that data can be read
// again in the next run, by everybody.
func AnyKey() braid.KeyProvider { return anyKey{} }

// ServiceKey returns a [braid.KeyProvider] that has one key, alias/aws/kinesis, and
// knows it by its ARN as well. Like those of [AnyKey], the key is no secret.
func ServiceKey() braid.KeyProvider { return anyKey{only: serviceKey} }

// anyKey has the key of every id, or of the only one.
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

// ringOf returns a key ring with the key of that id, which may have characters that
// an id of a ring cannot have.
func ringOf(keyID string) (ring *braid.KeyRing, name string, err error) {
	key := sha256.Sum256([]byte("kinesisapi.AnyKey " + keyID))
	sum := sha256.Sum256([]byte(keyID))
	name = hex.EncodeToString(sum[:])
	ring, err = braid.NewKeyRing(map[string][]byte{name: key[:]})
	return ring, name, err
}
