package service

import (
	"context"
	"encoding/json"
)

// PutResourcePolicy is the operation of that name. The policy is stored and returned, but
// not evaluated.
func (s *Service) PutResourcePolicy(ctx context.Context, c Caller, in *PutResourcePolicyInput) (*Empty, error) {
	r, err := s.resource(ctx, c, *in.ResourceARN)
	if err != nil {
		return nil, err
	}
	if !json.Valid([]byte(*in.Policy)) {
		return nil, invalidArgument("The policy is not valid JSON.")
	}
	return &Empty{}, s.changeAttributes(ctx, r, func(_ *map[string]string, policy *string) error {
		*policy = *in.Policy
		return nil
	})
}

// GetResourcePolicy is the operation of that name. The policy of a resource without one is
// "{}".
func (s *Service) GetResourcePolicy(ctx context.Context, c Caller, in *ResourceInput) (*GetResourcePolicyOutput, error) {
	r, err := s.resource(ctx, c, *in.ResourceARN)
	if err != nil {
		return nil, err
	}
	_, policy, err := s.attributes(ctx, r)
	if err != nil {
		return nil, err
	}
	if policy == "" {
		policy = "{}"
	}
	return &GetResourcePolicyOutput{policy}, nil
}

// DeleteResourcePolicy is the operation of that name.
func (s *Service) DeleteResourcePolicy(ctx context.Context, c Caller, in *ResourceInput) (*Empty, error) {
	r, err := s.resource(ctx, c, *in.ResourceARN)
	if err != nil {
		return nil, err
	}
	return &Empty{}, s.changeAttributes(ctx, r, func(_ *map[string]string, policy *string) error {
		if *policy == "" {
			return notFound("No resource policy found for resource ARN %s", *in.ResourceARN)
		}
		*policy = ""
		return nil
	})
}
