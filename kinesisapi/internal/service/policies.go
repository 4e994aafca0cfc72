package service

import (
	"context"
	"encoding/json"
)

// PutResourcePolicy is the operation of that name. The policy is stored and given
// back; nobody evaluates it.
func (s *Service) PutResourcePolicy(ctx context.Context, c Caller, in *PutResourcePolicyInput) (*Empty, error) {
	r, err := s.resource(ctx, c, *in.ResourceARN)
	if err != nil {
		return nil, err
	}
	if !json.Valid([]byte(*in.Policy)) {
		return nil, invalidArgument("The policy is not valid JSON.")
	}
	return &Empty{}, s.changePolicy(ctx, r, func(policy *string) error {
		*policy = *in.Policy
		return nil
	})
}

// GetResourcePolicy is the operation of that name. A resource without a policy
// answers "{}".
func (s *Service) GetResourcePolicy(ctx context.Context, c Caller, in *ResourceInput) (*GetResourcePolicyOutput, error) {
	r, err := s.resource(ctx, c, *in.ResourceARN)
	if err != nil {
		return nil, err
	}
	policy := r.row.Policy
	if r.consumer == "" {
		row, err := s.readRow(ctx, r.stream)
		if err != nil {
			return nil, s.fromBraid(r.t, err)
		}
		policy = row.Policy
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
	return &Empty{}, s.changePolicy(ctx, r, func(policy *string) error {
		if *policy == "" {
			return notFound("No resource policy found for resource ARN %s", *in.ResourceARN)
		}
		*policy = ""
		return nil
	})
}

// changePolicy changes the policy of a stream or a consumer.
func (s *Service) changePolicy(ctx context.Context, r resource, change func(policy *string) error) error {
	if r.consumer != "" {
		return s.changeConsumer(ctx, r, func(row *consumerRow) error { return change(&row.Policy) })
	}
	return s.fromBraid(r.t, s.updateRow(ctx, r.stream, func(row *streamRow) error { return change(&row.Policy) }))
}
