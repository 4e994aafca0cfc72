package service

import (
	"context"

	"github.com/braidstream/braid"
)

// UpdateMaxRecordSize is the operation of that name.
func (s *Service) UpdateMaxRecordSize(ctx context.Context, c Caller, in *UpdateMaxRecordSizeInput) (*Empty, error) {
	t, stream, err := s.stream(c, nil, in.StreamARN)
	if err != nil {
		return nil, err
	}
	return &Empty{}, s.updating(ctx, t, func(ctx context.Context) error {
		return stream.UpdateMaxRecordBytes(ctx, int(*in.MaxRecordSizeInKiB)<<10)
	})
}

// UpdateStreamMode is the operation of that name. Setting the current mode is not an error.
func (s *Service) UpdateStreamMode(ctx context.Context, c Caller, in *UpdateStreamModeInput) (*Empty, error) {
	t, stream, row, err := s.settable(ctx, c, nil, in.StreamARN)
	if err != nil {
		return nil, err
	}
	mode := *in.StreamModeDetails.StreamMode
	if in.WarmThroughputMiBps != nil {
		if err := s.mayWarm(ctx, t, mode, *in.WarmThroughputMiBps); err != nil {
			return nil, err
		}
	}
	if mode == row.mode(stream) && in.WarmThroughputMiBps == nil {
		return &Empty{}, nil
	}
	if err := s.checkQuotas(ctx, t, 0, mode == modeOnDemand && row.mode(stream) != mode); err != nil {
		return nil, err
	}
	if err := s.limits.daily(s.ExactLimits(), t, "UpdateStreamMode", 2); err != nil {
		return nil, err
	}
	s.attach.Lock()
	defer s.attach.Unlock()
	if mode == modeProvisioned && stream.Describe().Queues > 0 {
		return nil, s.hasQueues(t)
	}
	err = s.updating(ctx, t, func(ctx context.Context) error {
		err := s.updateRow(ctx, stream, func(r *streamRow) error {
			r.Mode = mode
			if mode == modeProvisioned {
				r.WarmMiBps = 0 // only on-demand streams have it and
				r.setStrategy(strategyKey)
			}
			if in.WarmThroughputMiBps != nil {
				r.WarmMiBps = *in.WarmThroughputMiBps
			}
			return nil
		})
		if err != nil {
			return err
		}
		return stream.UpdateCapacity(ctx, s.capacity(mode))
	})
	if err == nil {
		s.promiseMode(t.stored, mode)
	}
	return &Empty{}, err
}

// UpdateStreamWarmThroughput is the operation of that name. It only stores the throughput:
// a stream here needs no warming.
func (s *Service) UpdateStreamWarmThroughput(ctx context.Context, c Caller, in *UpdateStreamWarmThroughputInput) (*UpdateStreamWarmThroughputOutput, error) {
	t, stream, row, err := s.settable(ctx, c, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	if err := s.mayWarm(ctx, t, row.mode(stream), *in.WarmThroughputMiBps); err != nil {
		return nil, err
	}
	out := &UpdateStreamWarmThroughputOutput{
		StreamARN:      t.arn(),
		StreamName:     t.name,
		WarmThroughput: WarmThroughput{CurrentMiBps: row.WarmMiBps, TargetMiBps: *in.WarmThroughputMiBps},
	}
	return out, s.updating(ctx, t, func(ctx context.Context) error {
		return s.updateRow(ctx, stream, func(r *streamRow) error {
			r.WarmMiBps = *in.WarmThroughputMiBps
			return nil
		})
	})
}

// maxWarmMiBps is the largest warm throughput of a stream: 10 GiB/s.
const maxWarmMiBps = 10 << 10

// mayWarm returns an error if the account, or a stream of the mode, cannot have warm
// throughput.
func (s *Service) mayWarm(ctx context.Context, t target, mode string, mibps int32) error {
	if mode != modeOnDemand {
		return errOnlyOnDemand(t)
	}
	committed, err := s.commitment(ctx, t.Caller)
	if err != nil {
		return s.fromBraid(t, err)
	}
	if committed.status() == commitmentDisabled {
		return invalidArgument("Warm throughput needs the account's MinimumThroughputBillingCommitment to be ENABLED: see UpdateAccountSettings.")
	}
	if mibps > maxWarmMiBps {
		return invalidArgument("WarmThroughputMiBps must be at most %d; it was %d.", maxWarmMiBps, mibps)
	}
	return nil
}

// UpdateStreamRecordDistributionStrategy is the operation of that name.
func (s *Service) UpdateStreamRecordDistributionStrategy(ctx context.Context, c Caller, in *UpdateStreamRecordDistributionStrategyInput) (*Empty, error) {
	t, stream, row, err := s.settable(ctx, c, nil, in.StreamARN)
	if err != nil {
		return nil, err
	}
	if row.mode(stream) != modeOnDemand {
		return nil, errOnlyOnDemand(t)
	}
	return &Empty{}, s.fromBraid(t, s.updateRow(ctx, stream, func(r *streamRow) error {
		r.setStrategy(*in.RecordDistributionStrategy)
		return nil
	}))
}

// settable returns an ACTIVE stream with its row.
func (s *Service) settable(ctx context.Context, c Caller, name, arn *string) (target, *braid.Stream, streamRow, error) {
	t, stream, row, err := s.streamWithRow(ctx, c, name, arn)
	if err == nil {
		err = s.requireActive(t)
	}
	return t, stream, row, err
}
