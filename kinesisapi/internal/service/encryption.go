package service

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"github.com/braidstream/braid"
)

// StartStreamEncryption is the operation of that name. The database's key provider must
// know the key, by any name that the provider accepts. If accounts are separate, an ARN
// must be of the caller's account and region. Naming the key that the stream uses already
// succeeds and changes nothing. The stream encrypts already while it is UPDATING, so that
// the answer to the call reports a key that fails.
func (s *Service) StartStreamEncryption(ctx context.Context, c Caller, in *EncryptionInput) (*Empty, error) {
	t, stream, _, err := s.settable(ctx, c, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	if err := checkEncryptionType(in); err != nil {
		return nil, err
	}
	if stream.Describe().EncryptionKey == *in.KeyId {
		return &Empty{}, nil
	}
	if err := s.checkKeyARN(c, *in.KeyId); err != nil {
		return nil, err
	}
	if err := s.limits.daily(s.ExactLimits(), t, "StartStreamEncryption", 25); err != nil {
		return nil, err
	}
	err = s.updatingAtOnce(ctx, t, func(ctx context.Context) error {
		err := stream.StartEncryption(ctx, *in.KeyId)
		var invalid *braid.InvalidArgumentError
		if errors.As(err, &invalid) && invalid.Field == "KeyID" {
			return keyNotFound(t.Caller, *in.KeyId).because(err)
		}
		return err
	})
	if err != nil {
		s.limits.forget("StartStreamEncryption " + t.stored) // only successes count
	}
	return &Empty{}, err
}

// StopStreamEncryption is the operation of that name. It does nothing to a stream that is
// not encrypted.
func (s *Service) StopStreamEncryption(ctx context.Context, c Caller, in *EncryptionInput) (*Empty, error) {
	t, stream, _, err := s.settable(ctx, c, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	if err := checkEncryptionType(in); err != nil {
		return nil, err
	}
	if stream.Describe().EncryptionKey == "" {
		return &Empty{}, nil
	}
	if err := s.limits.daily(s.ExactLimits(), t, "StopStreamEncryption", 25); err != nil {
		return nil, err
	}
	return &Empty{}, s.updating(ctx, t, stream.StopEncryption)
}

func checkEncryptionType(in *EncryptionInput) error {
	if *in.EncryptionType != encryptionKMS {
		return invalidArgument("EncryptionType must be %s; it was %s.", encryptionKMS, *in.EncryptionType)
	}
	return nil
}

// A key is named by its id, such as a UUID, or by an alias, which begins with
// "alias/"; or by the ARN of either.
const (
	keyARN      = "arn:aws:kms:"
	aliasPrefix = "alias/"
)

var isKeyID = regexp.MustCompile(`^(mrk-[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$`)

// splitKeyARN parses the ARN of a key. The resource is "key/id" or "alias/name".
func splitKeyARN(id string) (region, account, resource string, ok bool) {
	parts := strings.SplitN(id, ":", 6) // arn:aws:kms:region:account:resource
	if len(parts) < 6 || parts[0] != "arn" || parts[2] != "kms" {
		return "", "", "", false
	}
	return parts[3], parts[4], parts[5], true
}

// checkKeyARN returns an error if the ARN is not of the caller's account and region.
func (s *Service) checkKeyARN(c Caller, id string) error {
	region, account, _, ok := splitKeyARN(id)
	switch {
	case !ok || !s.opts.SeparateAccounts:
		return nil
	case region != c.Region:
		return failure("KMSNotFoundException", "Invalid arn %s", region)
	case account != c.Account:
		return keyNotFound(c, id)
	}
	return nil
}

// keyNotFound returns the error of KMS for an unknown key.
func keyNotFound(c Caller, id string) *Error {
	own := keyARN + c.Region + ":" + c.Account + ":"
	_, _, resource, isARN := splitKeyARN(id)
	switch {
	case strings.HasPrefix(resource, aliasPrefix):
		return failure("KMSNotFoundException", "Alias %s is not found.", id)
	case isARN:
		return failure("KMSNotFoundException", "Key '%s' does not exist", id)
	case strings.HasPrefix(id, aliasPrefix):
		return failure("KMSNotFoundException", "Alias %s is not found.", own+id)
	case isKeyID.MatchString(id):
		return failure("KMSNotFoundException", "Key '%s' does not exist", own+"key/"+id)
	}
	return failure("KMSNotFoundException", "Invalid keyId '%s'", id)
}
