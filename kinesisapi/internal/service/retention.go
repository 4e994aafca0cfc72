package service

import (
	"context"
	"time"

	"github.com/braidstream/braid"
)

const (
	minRetentionHours = 24
	maxRetentionHours = 8760
)

// IncreaseStreamRetentionPeriod is the operation of that name.
func (s *Service) IncreaseStreamRetentionPeriod(ctx context.Context, c Caller, in *RetentionInput) (*Empty, error) {
	t, stream, current, err := s.retentionOf(c, in)
	if err != nil {
		return nil, err
	}
	switch hours := *in.RetentionPeriodHours; {
	case hours < current:
		return nil, invalidArgument("Requested retention period (%d hours) for stream %s can not be shorter than existing retention period (%d hours). Use DecreaseRetentionPeriod API.", hours, t.name, current)
	case hours == current:
		return &Empty{}, nil
	default:
		return &Empty{}, s.updating(ctx, t, func(ctx context.Context) error {
			return stream.IncreaseRetention(ctx, time.Duration(hours)*time.Hour)
		})
	}
}

// DecreaseStreamRetentionPeriod is the operation of that name.
func (s *Service) DecreaseStreamRetentionPeriod(ctx context.Context, c Caller, in *RetentionInput) (*Empty, error) {
	t, stream, current, err := s.retentionOf(c, in)
	if err != nil {
		return nil, err
	}
	switch hours := *in.RetentionPeriodHours; {
	case hours > current:
		return nil, invalidArgument("Requested retention period (%d hours) for stream %s can not be longer than existing retention period (%d hours). Use IncreaseRetentionPeriod API.", hours, t.name, current)
	case hours == current:
		return &Empty{}, nil
	default:
		return &Empty{}, s.updating(ctx, t, func(ctx context.Context) error {
			return stream.DecreaseRetention(ctx, time.Duration(hours)*time.Hour)
		})
	}
}

// retentionOf returns the stream and its retention period, in hours.
func (s *Service) retentionOf(c Caller, in *RetentionInput) (t target, stream *braid.Stream, hours int32, err error) {
	if t, stream, err = s.stream(c, in.StreamName, in.StreamARN); err != nil {
		return t, nil, 0, err
	}
	switch hours := *in.RetentionPeriodHours; {
	case hours < minRetentionHours:
		return t, nil, 0, invalidArgument("Minimum allowed retention period is %d hours. Requested retention period (%d hours) is too short.", minRetentionHours, hours)
	case hours > maxRetentionHours:
		return t, nil, 0, invalidArgument("Maximum allowed retention period is %d hours. Requested retention period (%d hours) is too long.", maxRetentionHours, hours)
	}
	return t, stream, retentionHours(stream.Describe()), nil
}
