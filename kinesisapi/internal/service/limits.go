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

// noLimit is what DescribeLimits returns for a quota that is off: the largest count of the
// API.
const noLimit = 1_000_000

// MaxShards is the maximum number of open shards of a stream.
const MaxShards = 10_000

// shardLimit returns the maximum number of open shards of the account in the region, and
// whether it is enforced. DescribeLimits and errors show this number.
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

// onDemandLimit returns the maximum number of on-demand streams of the account in the
// region, and whether it is enforced.
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

// Quotas returns the maximum numbers of open shards and on-demand streams of the account in
// the region, even if they are not enforced.
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

// checkQuotas returns an error if the account may not have that many more shards, or
// another on-demand stream. Even where quotas are not enforced, it refuses more shards than
// DescribeLimits returns, or than a stream can have.
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
		if st.name == creating && !strings.Contains(key, "/") { // a stream, not a consumer
			n++
		}
	}
	return n
}

// limiter counts calls in time windows.
type limiter struct {
	mu    sync.Mutex // guards the fields below
	calls map[string]*window
	kept  int // number of windows after the last clear
}

// window has the times of the calls of one kind that still count.
type window struct {
	length time.Duration
	calls  []time.Time
}

// at drops the calls that no longer count.
func (w *window) at(now time.Time) {
	for len(w.calls) > 0 && now.Sub(w.calls[0]) >= w.length {
		w.calls = w.calls[1:]
	}
}

// allow reports whether a call is among the first n within a second, and if so, counts it.
func (l *limiter) allow(key string, n int) bool { return l.within(key, n, time.Second) }

// daily returns an error if a stream has had n changes of a kind within 24 hours.
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

// clear removes the windows without calls, because streams and accounts come and go. It
// runs when there are twice as many windows as after its last run.
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

// forget uncounts the last call.
func (l *limiter) forget(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w := l.calls[key]; w != nil && len(w.calls) > 0 {
		w.calls = w.calls[:len(w.calls)-1]
	}
}
