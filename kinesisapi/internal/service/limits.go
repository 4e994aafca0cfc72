package service

import (
	"context"
	"strings"
	"sync"
	"time"
)

// The quotas of an account in a region.
const (
	shardQuota      = 1_000
	shardQuotaLarge = 20_000 // in the largest regions
	onDemandQuota   = 50     // streams
	creatingQuota   = 5      // streams
)

// noLimit is what DescribeLimits says of a quota that is off: the largest count that
// the API has.
const noLimit = 1_000_000

// MaxShards is the most open shards that a stream can have.
const MaxShards = 10_000

// shardLimit is how many open shards the account may have in the region, and whether
// that is enforced. DescribeLimits and errors say this number.
func (s *Service) shardLimit(region string) (limit int, enforced bool) {
	switch limit := s.opts.ShardLimit; {
	case limit > 0:
		return limit, true
	case limit < 0:
		return noLimit, false
	}
	switch region {
	case "us-east-1", "us-west-2", "eu-west-1":
		return shardQuotaLarge, s.ExactLimits()
	default:
		return shardQuota, s.ExactLimits()
	}
}

// onDemandLimit is how many on-demand streams the account may have, and whether that
// is enforced.
func (s *Service) onDemandLimit() (limit int, enforced bool) {
	switch limit := s.opts.OnDemandStreamLimit; {
	case limit > 0:
		return limit, true
	case limit < 0:
		return noLimit, false
	default:
		return onDemandQuota, s.ExactLimits()
	}
}

// Quotas are how many open shards and on-demand streams an account may have in the
// region, enforced or not.
func (s *Service) Quotas(region string) (shards, onDemandStreams int) {
	shards, _ = s.shardLimit(region)
	onDemandStreams, _ = s.onDemandLimit()
	return shards, onDemandStreams
}

// DescribeLimits is the operation of that name.
func (s *Service) DescribeLimits(ctx context.Context, c Caller, _ *DescribeLimitsInput) (*DescribeLimitsOutput, error) {
	shards, onDemand, err := s.usage(ctx, c)
	shardLimit, onDemandLimit := s.Quotas(s.named(c, "").Region)
	return &DescribeLimitsOutput{
		OnDemandStreamCount:      int32(onDemand),
		OnDemandStreamCountLimit: int32(onDemandLimit),
		OpenShardCount:           int32(shards),
		ShardLimit:               int32(shardLimit),
	}, err
}

// usage counts the open shards of the caller, and the on-demand streams.
func (s *Service) usage(ctx context.Context, c Caller) (shards, onDemand int, err error) {
	streams, err := s.streamsOf(ctx, c)
	for _, l := range streams {
		shards += openShards(l.stream.Describe())
		if l.row.mode(l.stream) == modeOnDemand {
			onDemand++
		}
	}
	return shards, onDemand, err
}

// checkQuotas is the error of a request for more shards, or for another on-demand
// stream, than the account may have. More shards than the account is said to have, or
// than a stream can have, are refused even where quotas are not enforced.
func (s *Service) checkQuotas(ctx context.Context, t target, additional int, onDemand bool) error {
	shardLimit, forShards := s.shardLimit(t.Region)
	streamLimit, forStreams := s.onDemandLimit()
	forStreams = forStreams && onDemand
	tooMany := additional > max(shardLimit, MaxShards)
	shards, streams := 0, 0
	if forShards && additional > 0 || forStreams || tooMany {
		var err error
		if shards, streams, err = s.usage(ctx, t.Caller); err != nil {
			return err
		}
	}
	switch {
	case tooMany, forShards && additional > 0 && shards+additional > shardLimit:
		return limitExceeded("This request would exceed the shard limit for the account %s in %s. Current shard count for the account: %d. Limit: %d. Number of additional shards that would have resulted from this request: %d. Refer to the AWS Service Limits page (http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) for current limits and how to request higher limits.",
			t.Account, t.Region, shards, shardLimit, additional)
	case additional > MaxShards:
		return limitExceeded("Stream %s under account %s cannot have more than %d shards; ShardCount was %d.", t.name, t.Account, MaxShards, additional)
	case forStreams && streams >= streamLimit:
		return limitExceeded("Account %s in %s cannot have more on-demand streams. Current count: %d. Limit: %d.", t.Account, t.Region, streams, streamLimit)
	}
	return nil
}

// creatingStreams counts the streams that are being created.
func (s *Service) creatingStreams() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, st := range s.statuses {
		if st.name == creating && !strings.Contains(key, "/") { // it is not a consumer
			n++
		}
	}
	return n
}

// limiter counts calls in windows of time.
type limiter struct {
	mu    sync.Mutex // guards the fields below
	calls map[string]*window
	kept  int // of calls when it was last cleared
}

// window is the calls of one kind that still count.
type window struct {
	length time.Duration
	calls  []time.Time
}

// at drops the calls that do not count any more.
func (w *window) at(now time.Time) {
	for len(w.calls) > 0 && now.Sub(w.calls[0]) >= w.length {
		w.calls = w.calls[1:]
	}
}

// allow reports whether a call is one of the first n in a second, and if so counts
// it.
func (l *limiter) allow(key string, n int) bool { return l.within(key, n, time.Second) }

// daily is the error of a change that a stream has had n times within 24 hours.
func (l *limiter) daily(exact bool, t target, operation string, n int) error {
	if exact && !l.within(operation+" "+t.stored, n, 24*time.Hour) {
		return limitExceeded("Stream %s under account %s takes %d calls of %s in 24 hours.", t.name, t.Account, n, operation)
	}
	return nil
}

func (l *limiter) within(key string, n int, length time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.clear(now)
	w := l.calls[key]
	if w == nil {
		w = &window{length: length}
		l.calls[key] = w
	}
	w.at(now)
	if len(w.calls) >= n {
		return false
	}
	w.calls = append(w.calls, now)
	return true
}

// clear removes the windows without calls when there are twice as many windows as
// there were after the last time: streams and accounts come and go.
func (l *limiter) clear(now time.Time) {
	if l.calls == nil {
		l.calls = make(map[string]*window)
	}
	if len(l.calls) < max(1000, 2*l.kept) {
		return
	}
	for key, w := range l.calls {
		if w.at(now); len(w.calls) == 0 {
			delete(l.calls, key)
		}
	}
	l.kept = len(l.calls)
}

// forget takes the last call back.
func (l *limiter) forget(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w := l.calls[key]; w != nil && len(w.calls) > 0 {
		w.calls = w.calls[:len(w.calls)-1]
	}
}
