package service

import "context"

// StartStreamEncryption is the operation of that name. The key must be one that
// the database's key provider knows. The key that the stream uses already is no
// error, and changes nothing. The stream encrypts already while it is UPDATING, so
// that the failure of a key is the answer to the call.
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
	if err := s.limits.daily(s.ExactLimits(), t, "StartStreamEncryption", 25); err != nil {
		return nil, err
	}
	err = s.updatingAtOnce(ctx, t, func(ctx context.Context) error {
		return stream.StartEncryption(ctx, *in.KeyId)
	})
	if err != nil {
		s.limits.forget("StartStreamEncryption " + t.stored) // only successes count
	}
	return &Empty{}, err
}

// StopStreamEncryption is the operation of that name. A stream that does not
// encrypt stays as it is.
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
