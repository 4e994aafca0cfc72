package service

import (
	"context"
	"slices"
)

// shardLevelMetrics are the shard metrics that can be enabled; ALL means all of them.
var shardLevelMetrics = []string{
	"IncomingBytes", "IncomingRecords", "IteratorAgeMilliseconds", "OutgoingBytes", "OutgoingRecords",
	"ReadProvisionedThroughputExceeded", "WriteProvisionedThroughputExceeded",
}

// EnableEnhancedMonitoring is the operation of that name. The service only stores the set;
// it does not send metrics.
func (s *Service) EnableEnhancedMonitoring(ctx context.Context, c Caller, in *MonitoringInput) (*MonitoringOutput, error) {
	return s.changeMonitoring(ctx, c, in, func(current, given []string) (desired []string) {
		for _, metric := range shardLevelMetrics {
			if slices.Contains(current, metric) || slices.Contains(given, metric) {
				desired = append(desired, metric)
			}
		}
		return desired
	})
}

// DisableEnhancedMonitoring is the operation of that name.
func (s *Service) DisableEnhancedMonitoring(ctx context.Context, c Caller, in *MonitoringInput) (*MonitoringOutput, error) {
	return s.changeMonitoring(ctx, c, in, func(current, given []string) (desired []string) {
		for _, metric := range current {
			if !slices.Contains(given, metric) {
				desired = append(desired, metric)
			}
		}
		return desired
	})
}

func (s *Service) changeMonitoring(ctx context.Context, c Caller, in *MonitoringInput, change func(current, given []string) []string) (*MonitoringOutput, error) {
	t, stream, _, err := s.settable(ctx, c, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	given := in.ShardLevelMetrics
	if slices.Contains(given, "ALL") {
		given = shardLevelMetrics
	}
	out := &MonitoringOutput{StreamARN: t.arn(), StreamName: t.name}
	err = s.updateRow(ctx, stream, func(r *streamRow) error {
		out.CurrentShardLevelMetrics = orEmpty(r.Metrics)
		r.Metrics = change(r.Metrics, given)
		out.DesiredShardLevelMetrics = orEmpty(r.Metrics)
		return nil
	})
	return out, s.fromBraid(t, err)
}
