package braid

import "fmt"

// bound is a resolved position: a place in the order of counters.
type bound struct {
	from uint64 // the lowest counter to read; never 0, which no record has

	// strict is set if the reader needs every record from there on. If some were trimmed,
	// it gets an error.
	strict bool

	ordinal uint64 // the next record's ordinal plus one; 0 if unknown
}

// inShard resolves the position in one shard.
func (p Position) inShard(sh *Shard) (bound, error) {
	if p.kind == kindAtToken {
		return bound{}, p.foreign()
	}
	if p.kind == kindLatest {
		return bound{from: sh.log.LastCounter() + 1, strict: true}, nil
	}
	if p.kind == kindAtSequence || p.kind == kindAfterSequence {
		if p.number.shardIndex() != sh.index || p.number.createdSeconds() != int64(sh.createdSeconds) || p.before(sh.stream) {
			return bound{}, &InvalidArgumentError{"Position", p.number, "must have a sequence number of " + string(sh.id) + " of this stream"}
		}
		ending := p.number.counter() == endingCounter && sh.closing.Load() != nil
		if !ending {
			if err := p.beyond(sh.stream, sh); err != nil {
				return bound{}, err
			}
		}
	}
	return p.concrete(), nil
}

// beyond returns an error if the position lies beyond every number that was given out. Such a
// position comes from a newer copy of the database, and records may be put below it. sh is the
// shard of its number, nil if that has expired.
//
// A number whose record a crash took back, as may happen in [Interval] and [NoSync], is not
// beyond: the clock row bounds every number that was given out.
func (p Position) beyond(s *Stream, sh *Shard) error {
	if p.number.isMoment() {
		return nil
	}
	given, counted := s.db.visible.Load(), true
	if sh != nil { // a shard shows its records before they count as visible in the database
		tip := sh.log.Tip()
		given, counted = max(given, tip.LastCounter), p.detail <= tip.Ordinal+1
	}
	if counted && p.concrete().from-1 <= given {
		return nil
	}
	return &BeyondTipError{Shard: p.number.ShardID(), Number: p.number, Last: p.number.withCounter(given)}
}

// inStream resolves the position for all shards of a stream.
func (p Position) inStream(s *Stream) (bound, error) {
	if p.kind == kindAtToken {
		return bound{}, p.foreign()
	}
	if p.kind == kindLatest {
		return bound{from: s.db.visible.Load() + 1, strict: true}, nil
	}
	if p.kind == kindAtSequence || p.kind == kindAfterSequence {
		// If the shard has expired, nothing is left to compare with.
		t, index := s.topology.Load(), p.number.shardIndex()
		sh := t.shard(index)
		if index >= t.next || sh != nil && p.number.createdSeconds() != int64(sh.createdSeconds) || p.before(s) {
			return bound{}, &InvalidArgumentError{"Position", p.number, "must have a sequence number of this stream"}
		}
		if err := p.beyond(s, sh); err != nil {
			return bound{}, err
		}
	}
	b := p.concrete()
	b.ordinal = 0 // an ordinal belongs to one shard
	return b, nil
}

// before reports whether the position's number is older than the stream, such as one of a
// stream of the same name that was deleted in the same second.
func (p Position) before(s *Stream) bool {
	counter := p.number.counter()
	return counter != 0 && counter < s.createdCounter
}

// foreign returns the error for a token.
func (p Position) foreign() error {
	return &InvalidArgumentError{"Position", fmt.Sprintf("%.120q", p.String()), "must not be a token, which belongs to the source that made it"}
}

func (p Position) concrete() bound {
	switch p.kind {
	case kindAtSequence:
		return bound{from: max(1, p.number.counter()), strict: true, ordinal: p.detail}
	case kindAfterSequence:
		return bound{from: p.number.counter() + 1, strict: true, ordinal: p.detail}
	case kindAtTime:
		return bound{from: max(1, p.detail)}
	default:
		return bound{from: 1}
	}
}
