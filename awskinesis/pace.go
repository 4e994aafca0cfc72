package awskinesis

import (
	"math/rand/v2"
	"time"
)

// The write quotas of a shard, shared by all producers.
const (
	shardRecords = 1000    // in a second
	shardBytes   = 1 << 20 // in a second
)

const (
	lowestShare   = 0.05
	shareAfter    = 0.7  // of the share before, when the service throttles
	shareRecovers = 0.05 // in a second, up to all of it again

	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

// pace decides when the next entry may be put to a shard. It stays within the shard's quota. After
// throttling it uses less, because others may also put to the shard: its share of the quota falls
// by a factor, and rises again with time.
type pace struct {
	limit   float64 // the maximum share; 0: no limit
	share   float64
	records float64 // that can be put at once; below 0 after an entry larger than a second's budget
	bytes   float64
	at      time.Time // of which these are

	paused time.Time // until then nothing is put
	fails  int       // in a row
}

func newPace(limit float64, now time.Time) pace {
	return pace{limit: limit, share: limit, records: shardRecords * limit, bytes: shardBytes * limit, at: now}
}

// advance brings the figures up to date. A budget that is not used adds up for a second.
func (p *pace) advance(now time.Time) {
	elapsed := now.Sub(p.at).Seconds()
	if elapsed <= 0 {
		return
	}
	p.at = now
	p.share = min(p.limit, p.share+shareRecovers*elapsed)
	p.records = min(p.records+shardRecords*p.share*elapsed, shardRecords*p.limit)
	p.bytes = min(p.bytes+shardBytes*p.share*elapsed, shardBytes*p.limit)
}

// until returns the time at which that much can be put, which is not after now if it can be put
// now.
func (p *pace) until(now time.Time, records, bytes int) time.Time {
	if p.limit == 0 {
		return p.paused
	}
	p.advance(now)
	// More than the largest possible budget is put when the budget is full.
	lackRecords := min(float64(records), shardRecords*p.limit) - p.records
	lackBytes := min(float64(bytes), shardBytes*p.limit) - p.bytes
	seconds := max(lackRecords/(shardRecords*p.share), lackBytes/(shardBytes*p.share))
	if seconds <= 0 {
		return p.paused
	}
	at := now.Add(time.Duration(seconds*float64(time.Second)) + time.Microsecond) // not a nanosecond early
	if at.Before(p.paused) {
		return p.paused
	}
	return at
}

// slice returns the time at which a tenth of a second's budget can be put, or that much if it is
// less; but not before at. Otherwise a shard at its limit would get a request for each record.
func (p *pace) slice(now time.Time, records, bytes int, at time.Time) time.Time {
	records = min(records, int(shardRecords/10*p.share))
	bytes = min(bytes, int(shardBytes/10*p.share))
	if later := p.until(now, records, bytes); later.After(at) {
		return later
	}
	return at
}

func (p *pace) charge(records, bytes int) {
	p.records -= float64(records)
	p.bytes -= float64(bytes)
}

func (p *pace) succeeded() { p.fails = 0 }

// failed pauses the shard. Entries of one request that fail together count once, since the
// first of them has paused it already.
func (p *pace) failed(now time.Time, throttled bool) {
	if now.Before(p.paused) {
		return
	}
	p.advance(now)
	if throttled {
		p.share = max(p.share*shareAfter, p.limit*lowestShare)
		p.records, p.bytes = min(p.records, 0), min(p.bytes, 0) // the service's count is authoritative
	}
	p.fails++
	p.paused = now.Add(backoff(p.fails))
}

// backoff returns the pause after that many failures in a row: half to all of a time that doubles.
func backoff(fails int) time.Duration { return backoffBetween(fails, firstPause, lastPause) }

func backoffBetween(fails int, first, last time.Duration) time.Duration {
	longest := first
	for ; fails > 1 && longest < last; fails-- {
		longest *= 2
	}
	longest = min(longest, last)
	return longest/2 + rand.N(longest/2+1)
}
