package braid

import "time"

// admit counts a record of the current call against its shard's budgets. An error refuses the
// record. Later records of the call for the same shard are then refused, too, so a caller that
// puts the refused ones again keeps the order.
func (a *appender) admit(sh *Shard, size int) error {
	if b := sh.w.budgets; b == nil || b.charged.call != a.call {
		b = sh.refill(a.moment)
		b.charged = charge{call: a.call, haveRecords: b.records.TokensAt(a.moment), haveCost: b.bytes.TokensAt(a.moment)}
		a.charged = append(a.charged, sh)
	}
	c := &sh.w.budgets.charged
	if c.err == nil {
		spent := units(c.bytes)
		c.err = sh.w.budgets.afford(sh.id, c.haveRecords-float64(c.records), c.haveCost-float64(spent), 1, units(c.bytes+size)-spent)
	}
	if c.err != nil {
		a.counts.throttled.Add(1)
		sh.counts.putsThrottled.Add(1)
		return c.err
	}
	c.records, c.bytes = c.records+1, c.bytes+size
	return nil
}

// refill returns the shard's budgets, adjusted to its stream's capacity.
func (sh *Shard) refill(now time.Time) *writeBudgets {
	if sh.w.budgets == nil {
		sh.w.budgets = new(writeBudgets)
	}
	sh.w.budgets.resize(now, sh.stream.w.settings.capacity)
	return sh.w.budgets
}

// settle charges the records that were accepted from the current call.
func (a *appender) settle() {
	for _, sh := range a.charged {
		sh.w.budgets.spend(a.moment, sh.w.budgets.charged.records, units(sh.w.budgets.charged.bytes))
	}
	a.charged = a.charged[:0]
}

// admitAll charges all puts of a transaction. If a budget does not allow it, admitAll charges
// nothing and returns the error.
func (a *appender) admitAll(puts []txPut) error {
	type sum struct{ records, bytes int }
	var sums map[*Shard]sum
	for i := range puts {
		s := puts[i].stream
		if s.w.settings.capacity.Mode == Unlimited {
			continue
		}
		if sums == nil {
			sums = make(map[*Shard]sum)
		}
		sh := s.w.topology.route(&puts[i].put)
		n := sums[sh]
		sums[sh] = sum{n.records + 1, n.bytes + puts[i].put.record.Size()}
	}
	for sh, n := range sums {
		b := sh.refill(a.moment)
		if err := b.afford(sh.id, b.records.TokensAt(a.moment), b.bytes.TokensAt(a.moment), n.records, units(n.bytes)); err != nil {
			a.counts.throttled.Add(int64(n.records))
			sh.counts.putsThrottled.Add(int64(n.records))
			return err
		}
	}
	for sh, n := range sums {
		sh.w.budgets.spend(a.moment, n.records, units(n.bytes))
	}
	return nil
}

// admitRead charges a call of GetRecords. An error refuses it.
func (sh *Shard) admitRead() error {
	capacity := sh.stream.settings.Load().capacity
	if capacity.Mode == Unlimited {
		return nil
	}
	if sh.reads.Load() == nil {
		sh.reads.CompareAndSwap(nil, new(readBudgets))
	}
	err := sh.reads.Load().admit(time.Now(), sh.id, capacity)
	if err != nil {
		sh.stream.db.reads.throttled.Add(1)
		sh.counts.readsThrottled.Add(1)
	}
	return err
}

// chargeRead charges the bytes that a call has read.
func (sh *Shard) chargeRead(bytes int) {
	if sh.stream.settings.Load().capacity.Mode == Unlimited || bytes == 0 {
		return
	}
	if b := sh.reads.Load(); b != nil { // nil if the mode has changed since the call began
		b.charge(time.Now(), bytes)
	}
}
