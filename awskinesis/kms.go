package awskinesis

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/braidstream/braid"
)

// KMSClient is the part of the AWS KMS API that a [KMS] uses. A *kms.Client of the AWS SDK for Go
// v2 implements it. All methods may be called by several goroutines at once.
type KMSClient interface {
	DescribeKey(ctx context.Context, in *kms.DescribeKeyInput, options ...func(*kms.Options)) (*kms.DescribeKeyOutput, error)
	Encrypt(ctx context.Context, in *kms.EncryptInput, options ...func(*kms.Options)) (*kms.EncryptOutput, error)
	Decrypt(ctx context.Context, in *kms.DecryptInput, options ...func(*kms.Options)) (*kms.DecryptOutput, error)
}

// The encryption context that a [KMS] adds to that of [KMSOptions].
const (
	contextStream  = "braid:stream"
	contextPurpose = "braid:purpose"
)

const (
	defaultKMSTimeout  = 5 * time.Second
	defaultKMSCacheFor = 5 * time.Minute
	defaultKMSCache    = 1000
	kmsFailureFor      = time.Second
)

// KMSOptions are the settings of a [KMS]. The zero value of each field is a safe default.
type KMSOptions struct {
	// EncryptionContext is added to the encryption context of each data key, for example the name
	// of the database. It is not secret. It must not change as long as the data is to be read. Keys
	// must not begin with "aws:" or "braid:".
	EncryptionContext map[string]string

	// Timeout limits each call of a method, including the SDK's retries. The default is 5 s. The
	// caller's context may end the call earlier.
	Timeout time.Duration

	// CacheFor is how long responses of the service are cached: descriptions of keys, and unwrapped
	// data keys. The default is 5 minutes; a negative value disables the cache. A key that is
	// disabled, or whose permissions are revoked, still works for that long. An open database keeps
	// using its data keys until it is closed.
	CacheFor time.Duration

	// CacheEntries is the maximum number of cached responses. The default is 1,000; each takes a
	// few hundred bytes.
	CacheEntries int
}

// KMS is a [braid.KeyProvider] whose keys are in AWS KMS and never leave it: the service wraps and
// unwraps the data keys of streams. Pass it as braid.Options.KeyProvider, and pass the ARN, ID or
// alias of a symmetric key to Stream.StartEncryption. An alias is resolved when it is passed.
//
// An encryption context binds each data key to its stream. It has the keys "braid:stream", the name
// of the stream, and "braid:purpose", which is "records". So CloudTrail shows for which stream a
// key was used, and a policy can allow a single stream. The process needs these permissions:
//
//	{
//	  "Effect": "Allow",
//	  "Action": ["kms:DescribeKey", "kms:Encrypt", "kms:Decrypt"],
//	  "Resource": "arn:aws:kms:REGION:ACCOUNT:key/KEY"
//	}
//
// A statement for Encrypt and Decrypt may have the condition:
//
//	"StringEquals": {"kms:EncryptionContext:braid:stream": "orders"}
//
// An encrypted stream costs at most one Encrypt and one DescribeKey call per day. After a database
// is opened, it costs one Decrypt call for each data key that is needed. A failure is cached for a
// second, so that readers do not queue for a service that is down. All methods may be called by any
// number of goroutines.
type KMS struct {
	client KMSClient
	opts   KMSOptions

	mu      sync.Mutex // guards answers
	answers map[question]answer
}

var _ braid.KeyProvider = (*KMS)(nil)

// question identifies a call whose response is cached, by a hash of its arguments.
type question [sha256.Size]byte

// answer is a cached response or failure. It is valid until that time.
type answer struct {
	id    string // of DescribeKey
	key   []byte // of Decrypt
	err   error
	until time.Time
}

// NewKMS returns a provider that uses the client. It makes no calls. nil options are safe defaults.
// Errors: [braid.ErrInvalidArgument].
func NewKMS(client KMSClient, opts *KMSOptions) (*KMS, error) {
	k := &KMS{client: client, answers: make(map[question]answer)}
	if opts != nil {
		k.opts = *opts
	}
	k.opts.EncryptionContext = maps.Clone(k.opts.EncryptionContext)
	k.opts.Timeout = cmp.Or(k.opts.Timeout, defaultKMSTimeout)
	k.opts.CacheFor = cmp.Or(k.opts.CacheFor, defaultKMSCacheFor)
	k.opts.CacheEntries = cmp.Or(k.opts.CacheEntries, defaultKMSCache)
	var err error
	switch {
	case client == nil:
		err = invalid("client", nil, "must not be nil")
	case k.opts.Timeout < 0:
		err = invalid("KMSOptions.Timeout", k.opts.Timeout, "must not be negative")
	case k.opts.CacheEntries < 0:
		err = invalid("KMSOptions.CacheEntries", k.opts.CacheEntries, "must not be negative")
	}
	for name := range k.opts.EncryptionContext {
		if name == "" || strings.HasPrefix(name, "aws:") || strings.HasPrefix(name, "braid:") {
			err = invalid("KMSOptions.EncryptionContext", fmt.Sprintf("%.64q", name), `must have keys that are not empty and do not begin with "aws:" or "braid:"`)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("awskinesis: new KMS: %w", err)
	}
	return k, nil
}

// DescribeKey is part of [braid.KeyProvider]. It returns the ARN of the key. Errors:
// [braid.ErrInvalidArgument] if the key does not exist or is not a symmetric key for encryption;
// [braid.ErrKeyUnavailable] if it is not enabled or the service fails; the cause of ctx.
func (k *KMS) DescribeKey(ctx context.Context, keyID string) (id string, err error) {
	a := k.ask(ctx, about("describe", []byte(keyID)), func(ctx context.Context) (a answer) {
		out, err := k.client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(keyID)})
		if err != nil {
			return answer{err: kmsError("describe", keyID, err)}
		}
		switch m := out.KeyMetadata; {
		case m == nil || m.Arn == nil:
			a.err = fmt.Errorf("%w: service described %q without an ARN", braid.ErrKeyUnavailable, keyID)
		case m.KeyUsage != types.KeyUsageTypeEncryptDecrypt || m.KeySpec != types.KeySpecSymmetricDefault:
			a.err = invalid("KeyID", fmt.Sprintf("%.64q, a key for %s of %s", keyID, m.KeyUsage, m.KeySpec), "must be a symmetric key for encryption (ENCRYPT_DECRYPT, SYMMETRIC_DEFAULT)")
		case m.KeyState != types.KeyStateEnabled:
			a.err = fmt.Errorf("%w: %s is %s; it must be Enabled", braid.ErrKeyUnavailable, *m.Arn, m.KeyState)
		default:
			a.id = *m.Arn
		}
		return a
	})
	return a.id, a.err
}

// WrapKey is part of [braid.KeyProvider]. It calls Encrypt with the encryption context. Errors:
// [braid.ErrKeyUnavailable], and the cause of ctx.
func (k *KMS) WrapKey(ctx context.Context, keyID string, dataKey []byte, stream, purpose string) ([]byte, error) {
	call, cancel := context.WithTimeout(ctx, k.opts.Timeout)
	defer cancel()
	out, err := k.client.Encrypt(call, &kms.EncryptInput{
		KeyId:             aws.String(keyID),
		Plaintext:         dataKey,
		EncryptionContext: k.context(stream, purpose),
	})
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, kmsError("encrypt", keyID, err)
	}
	return out.CiphertextBlob, nil
}

// UnwrapKey is part of [braid.KeyProvider]. It calls Decrypt with the encryption context that was
// used by WrapKey. Errors: as WrapKey; for a data key of another stream, ErrKeyUnavailable.
func (k *KMS) UnwrapKey(ctx context.Context, keyID string, wrapped []byte, stream, purpose string) ([]byte, error) {
	encryption := k.context(stream, purpose)
	parts := [][]byte{[]byte(keyID), wrapped}
	for _, name := range slices.Sorted(maps.Keys(encryption)) {
		parts = append(parts, []byte(name), []byte(encryption[name]))
	}
	a := k.ask(ctx, about("decrypt", parts...), func(ctx context.Context) answer {
		out, err := k.client.Decrypt(ctx, &kms.DecryptInput{
			KeyId:             aws.String(keyID),
			CiphertextBlob:    wrapped,
			EncryptionContext: encryption,
		})
		if err != nil {
			return answer{err: kmsError("decrypt", keyID, err)}
		}
		return answer{key: out.Plaintext}
	})
	return bytes.Clone(a.key), a.err
}

// context returns the encryption context of a data key.
func (k *KMS) context(stream, purpose string) map[string]string {
	all := make(map[string]string, len(k.opts.EncryptionContext)+2)
	maps.Copy(all, k.opts.EncryptionContext)
	all[contextStream], all[contextPurpose] = stream, purpose
	return all
}

// ask returns the cached answer, or makes the call.
func (k *KMS) ask(ctx context.Context, q question, call func(context.Context) answer) answer {
	k.mu.Lock()
	a, found := k.answers[q]
	k.mu.Unlock()
	if found && time.Now().Before(a.until) {
		return a
	}
	inner, cancel := context.WithTimeout(ctx, k.opts.Timeout)
	defer cancel()
	a = call(inner)
	keep := k.opts.CacheFor
	if a.err != nil {
		if ctx.Err() != nil { // the error is not about the key
			return answer{err: context.Cause(ctx)}
		}
		keep = kmsFailureFor
	}
	if k.opts.CacheFor > 0 {
		a.until = time.Now().Add(keep)
		k.remember(q, a)
	}
	return a
}

// remember caches an answer. If the cache is full, it drops the answers that are out of date, or
// any one if there are none.
func (k *KMS) remember(q question, a answer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, has := k.answers[q]; !has && len(k.answers) >= k.opts.CacheEntries {
		now := time.Now()
		maps.DeleteFunc(k.answers, func(_ question, old answer) bool { return !now.Before(old.until) })
		for other := range k.answers {
			if len(k.answers) < k.opts.CacheEntries {
				break
			}
			delete(k.answers, other)
		}
	}
	k.answers[q] = a
}

// about hashes the arguments of a call.
func about(op string, parts ...[]byte) question {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n", op)
	for _, part := range parts {
		fmt.Fprintf(h, "%d\n%s", len(part), part)
	}
	return question(h.Sum(nil))
}

// kmsError turns an error of the service into one of braid.
func kmsError(op, keyID string, err error) error {
	var notFound *types.NotFoundException
	var invalidARN *types.InvalidArnException
	if op == "describe" && (errors.As(err, &notFound) || errors.As(err, &invalidARN)) {
		return invalid("KeyID", fmt.Sprintf("%.64q", keyID), "must be the ARN, ID or alias of a key in AWS KMS ("+err.Error()+")")
	}
	return fmt.Errorf("%w: KMS: %s with %.300q: %w", braid.ErrKeyUnavailable, op, keyID, err)
}
