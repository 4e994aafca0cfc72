package service

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/braidstream/braid"
)

// target is the stream that a request names.
type target struct {
	Caller
	name   string // in the account
	stored string // in the database
}

// maxStoredName is the longest name of a stream in the database.
const maxStoredName = 128

// target resolves the stream of a request, which has a name, an ARN or both. If it has
// both, they must agree.
func (s *Service) target(c Caller, name, arn *string) (target, error) {
	switch {
	case arn != nil:
		t, err := s.targetOfARN(c, *arn)
		if err == nil && name != nil && *name != t.name {
			return target{}, invalidArgument("StreamName %s and StreamARN %s do not name the same stream.", *name, *arn)
		}
		return t, err
	case name != nil:
		return s.named(c, *name), nil
	default:
		return target{}, invalidArgument("Either StreamName or StreamARN must be given.")
	}
}

// named returns the target of a name. Without [Options].SeparateAccounts there is one
// account, whatever the caller calls it.
func (s *Service) named(c Caller, name string) target {
	if !s.opts.SeparateAccounts {
		return target{Caller{s.opts.Account, s.opts.Region}, name, name}
	}
	t := target{c, name, s.namespace(c) + name}
	if len(t.stored) > maxStoredName {
		sum := sha256.Sum256([]byte(t.stored))
		t.stored = longPrefix + hex.EncodeToString(sum[:])
	}
	return t
}

// longPrefix begins stored names that are too long to contain the account; their row has
// it. No account has this name.
const longPrefix = "long."

// namespace returns the prefix of the stored names of the caller's streams. Without
// [Options].SeparateAccounts it is empty.
func (s *Service) namespace(c Caller) string {
	if !s.opts.SeparateAccounts {
		return ""
	}
	return c.Account + "." + c.Region + "."
}

// targetOfARN returns the target of the ARN of a stream or a consumer.
func (s *Service) targetOfARN(c Caller, arn string) (target, error) {
	parts := strings.SplitN(arn, ":", 6) // arn:aws:kinesis:region:account:stream/name
	if len(parts) < 6 {
		return target{}, invalidArgument("%s is not the ARN of a stream.", arn)
	}
	resource, ok := strings.CutPrefix(parts[5], "stream/")
	if !ok {
		return target{}, invalidArgument("%s is not the ARN of a stream.", arn)
	}
	name, _, _ := strings.Cut(resource, "/")
	t := s.named(Caller{Account: parts[4], Region: parts[3]}, name)
	if s.opts.SeparateAccounts && t.Caller != c {
		return target{}, s.streamNotFound(s.named(c, name))
	}
	return t, nil
}

// arn returns the stream's ARN.
func (t target) arn() string {
	return "arn:aws:kinesis:" + t.Region + ":" + t.Account + ":stream/" + t.name
}

// stream returns the stream of a request, in any status.
func (s *Service) stream(c Caller, name, arn *string) (target, *braid.Stream, error) {
	t, err := s.target(c, name, arn)
	if err != nil {
		return t, nil, err
	}
	stream, err := s.db.Stream(t.stored)
	if errors.Is(err, braid.ErrInvalidArgument) {
		err = s.streamNotFound(t)
	}
	return t, stream, s.fromBraid(t, err)
}
