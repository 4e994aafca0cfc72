package awskinesis

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kpl"
)

// maxAttempts is the number of attempts for a record whose caller does not wait: the SDK's default.
const maxAttempts = 3

// aggregators is a pool of empty aggregators, which keep their memory.
var aggregators = sync.Pool{New: func() any { return new(kpl.Aggregator) }}

// run sends the queued records, until the producer is closed and nothing is left, or life ends.
func (p *Producer) run() {
	defer close(p.stopped)
	var senders sync.WaitGroup
	for p.life.Err() == nil {
		p.mu.Lock()
		var r *request
		var next time.Time
		if p.requests < p.opts.Requests {
			r, next = p.schedule.take(time.Now(), p.closed || p.flushes > 0 || p.waiters.Len() > 0)
		}
		if r != nil {
			p.requests++
		}
		done := p.closed && p.group.open == 0 && len(p.groups) == 0 && p.requests == 0
		p.mu.Unlock()
		switch {
		case done:
			p.end(braid.ErrClosed)
		case r != nil:
			senders.Go(func() { p.send(r) })
		default:
			p.sleep(next)
		}
	}
	senders.Wait()
	p.giveUp()
}

// sleep waits for ring, for the given time unless it is zero, or for the end of life.
func (p *Producer) sleep(until time.Time) {
	var due <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-p.wake:
	case <-due:
	case <-p.life.Done():
	}
}

// giveUp settles all remaining items when life ends.
func (p *Producer) giveUp() {
	var settled settling
	defer func() { settled.tell() }()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.schedule.lanes {
		for _, it := range l.queue {
			if !it.settled {
				p.failAlone(it, braid.ErrClosed, &settled)
			}
		}
	}
}

// send makes the call, and handles its outcome.
func (p *Producer) send(r *request) {
	defer func() {
		p.mu.Lock()
		p.requests--
		p.mu.Unlock()
		p.ring()
	}()
	in := &kinesis.PutRecordsInput{StreamName: p.stream.name, StreamARN: p.stream.arn, Records: r.records()}
	p.counts.requests.Add(1)
	p.counts.entries.Add(int64(len(r.entries)))
	ctx, cancel := context.WithTimeoutCause(p.life, p.opts.RequestTimeout, errTimeout)
	out, err := p.client.PutRecords(ctx, in, oneAttempt)
	if err != nil && ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	cancel()
	if err == nil && len(out.Records) != len(r.entries) {
		err = errors.New("service returned a wrong number of results")
	}
	if err != nil {
		p.requestFailed(r, classify(err))
		return
	}
	p.answered(r, out)
}

var errTimeout = errors.New("request took longer than ProducerOptions.RequestTimeout")

// oneAttempt disables the SDK's retries. The producer must see each attempt to know whether one of
// them may have stored a record.
func oneAttempt(o *kinesis.Options) { o.Retryer = aws.NopRetryer{} }

// records returns the request in the SDK's form.
func (r *request) records() []types.PutRecordsRequestEntry {
	records := make([]types.PutRecordsRequestEntry, len(r.entries))
	for i := range r.entries {
		s := &r.entries[i]
		e := s.items[0].entry
		if s.carrier != nil {
			e = s.carrier.Carrier()
			s.carrier.Reset()
			aggregators.Put(s.carrier)
			s.carrier = nil
		}
		records[i] = types.PutRecordsRequestEntry{PartitionKey: aws.String(e.PartitionKey), Data: e.Data}
		if e.ExplicitHashKey != nil {
			records[i].ExplicitHashKey = aws.String(e.ExplicitHashKey.String())
		}
	}
	return records
}

// requestFailed handles a request that failed as a whole.
func (p *Producer) requestFailed(r *request, f failure) {
	var settled settling
	defer func() { settled.tell() }()
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if f.kind == throttle || f.kind == transient {
		p.schedule.failed(now)
		p.trouble.note(f.err, now)
		p.opts.Logger.Warn("records could not be put; retrying", "stream", p.label, "records", len(r.entries), "error", f.err)
	}
	for i := range r.entries {
		s := &r.entries[i]
		alone := f.kind == permanent && errors.Is(f.err, braid.ErrInvalidArgument) && len(r.entries)+len(s.items) > 2
		for _, it := range p.landed(s, f.maybe) {
			if alone {
				it.alone = true // another record of the request may be the invalid one
				continue
			}
			p.entryFailed(it, s.bin, f, &settled)
		}
		p.schedule.back(s)
	}
}

// landed marks the items of an entry as no longer in flight, and notes if they may have been
// stored. It returns those that are not settled, and releases the room of the others.
func (p *Producer) landed(s *sent, maybe bool) []*item {
	open := make([]*item, 0, len(s.items))
	for _, it := range s.items {
		it.inFlight, it.maybe = false, it.maybe || maybe
		if it.settled {
			p.release(it)
		} else {
			open = append(open, it)
		}
	}
	return open
}

// entryFailed settles an item whose attempt failed, or leaves it for a retry.
func (p *Producer) entryFailed(it *item, b *bin, f failure, settled *settling) {
	switch {
	case it.settled: // because an earlier one of its key failed
		return
	case f.kind == throttle && !it.call.wait:
		now := time.Now()
		wait := max(b.pace.paused.Sub(now), p.schedule.paused.Sub(now), time.Millisecond)
		p.fail(it, throttledError(b, wait), settled)
		return
	case f.kind == permanent:
		p.fail(it, f.err, settled)
		return
	case f.kind == transient:
		it.attempts++
		if !it.call.wait && it.attempts >= maxAttempts {
			p.fail(it, f.err, settled)
			return
		}
	}
	p.counts.retried.Add(1)
}

func throttledError(b *bin, wait time.Duration) error {
	return &braid.ThroughputExceededError{Shard: b.shard, Budget: "WriteBytesPerSecond or WriteRecordsPerSecond", RetryAfter: wait}
}

// answered handles the response to a request: entry by entry, and then the entries that were stored
// in an unexpected shard.
func (p *Producer) answered(r *request, out *kinesis.PutRecordsOutput) {
	encrypted := out.EncryptionType == types.EncryptionTypeKms
	strays := p.settleEntries(r, out.Records, encrypted)
	if len(strays) == 0 {
		return
	}
	p.counts.mispredicted.Add(int64(len(strays)))
	p.settleStrays(r, strays, out.Records, encrypted)
}

// settleEntries settles the entries that it can, and returns the indices of those that need a newer
// map of the shards. Single records among these are settled as well.
func (p *Producer) settleEntries(r *request, records []types.PutRecordsResultEntry, encrypted bool) (strays []int) {
	var settled settling
	defer func() { settled.tell() }()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.schedule.succeeded()
	now := time.Now()
	refused, last := 0, error(nil)
	for i := range r.entries {
		s := &r.entries[i]
		b := p.schedule.now(s.bin)
		if code := aws.ToString(records[i].ErrorCode); code != "" {
			f := classifyEntry(code, aws.ToString(records[i].ErrorMessage))
			refused, last = refused+1, f.err
			b.pace.failed(now, f.kind == throttle)
			if f.kind == throttle {
				p.counts.throttled.Add(1)
			}
			for _, it := range p.landed(s, f.maybe) {
				p.entryFailed(it, b, f, &settled)
			}
			p.schedule.back(s)
			continue
		}
		b.pace.succeeded()
		shard := braid.ShardID(aws.ToString(records[i].ShardId))
		known, fits := s.fits(p.schedule.shards, shard)
		if shard != s.bin.shard && !(known && fits) {
			strays = append(strays, i)
			if len(s.items) > 1 {
				continue
			}
		}
		p.stored(s, resultOf(&records[i], encrypted), &settled)
	}
	if refused < len(r.entries) {
		p.trouble = trouble{}
	} else {
		p.trouble.note(last, now)
	}
	return strays
}

// fits reports whether the map knows the shard, and all items of the entry belong there.
func (s *sent) fits(shards *shardMap, shard braid.ShardID) (known, fits bool) {
	r, known := shards.ranges[shard]
	for _, it := range s.items {
		if !r.Contains(it.hash) {
			return known, false
		}
	}
	return known, known
}

// stored settles the items of an entry that was stored in the right shard.
func (p *Producer) stored(s *sent, result braid.PutResult, settled *settling) {
	for _, it := range p.landed(s, false) {
		p.counts.records.Add(1)
		p.counts.bytes.Add(int64(it.entry.Size()))
		p.settle(it, result, settled)
	}
	p.schedule.back(s)
}

// settleStrays renews the map of the shards. Then it settles the carriers whose records all belong
// to the shard that has them, for example after a merge. All records of other carriers are put
// again: a consumer drops those that do not belong to the shard, and the KCL drops the whole
// carrier.
func (p *Producer) settleStrays(r *request, strays []int, records []types.PutRecordsResultEntry, encrypted bool) {
	for attempt := 1; len(strays) > 0; attempt++ {
		shards, err := p.renewShards(r.generation)
		if err != nil && p.life.Err() == nil {
			p.opts.Logger.Warn("shards of a stream cannot be listed; retrying", "stream", p.label, "error", err)
		}
		strays = p.resolve(r, strays, records, encrypted, shards, p.life.Err() != nil)
		if len(strays) == 0 {
			return
		}
		r.generation = shards.generation // the map does not have a shard yet
		p.sleepFor(backoff(attempt))
	}
}

// resolve is settleStrays with the current map. It returns the entries that it cannot judge; if
// none may be left, it treats them as stored in the wrong shard.
func (p *Producer) resolve(r *request, strays []int, records []types.PutRecordsResultEntry, encrypted bool, shards *shardMap, last bool) (left []int) {
	var settled settling
	defer func() { settled.tell() }()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range strays {
		s := &r.entries[i]
		if len(s.items) == 1 {
			continue // a single record belongs to any shard that has it, and was settled
		}
		known, fits := s.fits(shards, braid.ShardID(aws.ToString(records[i].ShardId)))
		switch {
		case fits:
			p.stored(s, resultOf(&records[i], encrypted), &settled)
		case known || last:
			p.counts.retried.Add(int64(len(p.landed(s, true))))
			p.schedule.back(s)
		default:
			left = append(left, i)
		}
	}
	return left
}

func (p *Producer) sleepFor(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.life.Done():
	}
}

// renewShards gives the schedule a map newer than that generation, and returns the current map,
// even with an error. Concurrent requests share a listing.
func (p *Producer) renewShards(generation int) (*shardMap, error) {
	select {
	case p.mapTurn <- struct{}{}:
		defer func() { <-p.mapTurn }()
	case <-p.life.Done():
	}
	p.mu.Lock()
	current := p.schedule.shards
	p.mu.Unlock()
	if current.generation > generation || p.life.Err() != nil {
		return current, nil
	}
	ctx, cancel := context.WithTimeoutCause(p.life, p.opts.RequestTimeout, errTimeout)
	defer cancel()
	p.counts.listings.Add(1)
	shards, err := newShardMap(ctx, p.client, p.stream)
	if err != nil {
		return current, err
	}
	shards.generation = current.generation + 1
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opts.Logger.Info("a stream was resharded", "stream", p.label, "openShards", len(shards.open))
	p.schedule.remap(shards, time.Now())
	return shards, nil
}

// resultOf returns the shard and sequence number of a stored entry.
func resultOf(r *types.PutRecordsResultEntry, encrypted bool) braid.PutResult {
	// A sequence number of another layout, as of an emulator, is omitted: the record is stored
	// nevertheless.
	number, _ := braid.ParseSequenceNumber(aws.ToString(r.SequenceNumber))
	return braid.PutResult{ShardID: braid.ShardID(aws.ToString(r.ShardId)), SequenceNumber: number, Encrypted: encrypted}
}
