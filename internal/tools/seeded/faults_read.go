package main

var readFaults = []fault{
	{
		name:    "iterator-error-ignored",
		what:    "a loop over rows ends at a read error as if there were no more rows",
		promise: "an error of the disk never looks like the end of the data",
		edits: []edit{{
			"read.go",
			"	defer func() { err = cmp.Or(err, it.Close()) }()\n	for ok := it.First(); ok; ok = it.Next() {\n		value := it.Value()",
			"	defer it.Close()\n	for ok := it.First(); ok; ok = it.Next() {\n		value := it.Value()",
		}, {
			"read.go",
			"	return it.Error()\n}\n\n// corrupt makes",
			"	return nil\n}\n\n// corrupt makes",
		}, {
			"read.go", "	\"cmp\"\n", "",
		}},
		test:  test{dir: "internal/modeltest", run: "^TestReadFaults$"},
		finds: `reports no error|Target error should be in err chain`,
	},
	{
		name:    "scan-error-ignored",
		what:    "a transaction's scan ends at a read error as if there were no more keys",
		promise: "an error of the disk never looks like the end of the data",
		edits: []edit{{
			"tx.go",
			"	defer func() { err = errors.Join(err, it.Close()) }()\n	addOwn",
			"	defer it.Close()\n	addOwn",
		}, {
			"tx.go", "	return page, it.Error()\n", "	return page, nil\n",
		}},
		test:  test{dir: "internal/modeltest", run: "^TestReadFaults$"},
		finds: `reports no error|Target error should be in err chain`,
	},
	{
		name:    "page-error-ignored",
		what:    "a page ends at a read error as if there were no more records",
		promise: "an error of the disk never looks like the end of the data",
		edits: []edit{{
			"page.go",
			"			err = cmp.Or(err, it.Close()) // Close may repeat the error\n",
			"			_ = it.Close()\n",
		}, {
			"page.go",
			"		if err := it.Error(); err != nil {\n			if isDamage(err) {\n				sh.stream.db.noteDamage(s.Epoch)\n			}\n			return err\n		}\n",
			"",
		}, {
			"page.go", "	\"cmp\"\n", "",
		}},
		test:  test{dir: "internal/modeltest", run: "^TestReadFaults$"},
		finds: `reports no error|Target error should be in err chain`,
	},
	{
		name:    "reader-holds-an-iterator",
		what:    "the iterator of a page lives until the reader's context ends",
		promise: "a slow reader holds nothing",
		edits: []edit{{
			"page.go",
			"		if it != nil {\n			err = cmp.Or(err, it.Close()) // Close may repeat the error\n		}\n",
			"		if held := it; held != nil {\n			context.AfterFunc(ctx, func() { _ = held.Close() })\n		}\n",
		}, {
			"page.go", "	\"cmp\"\n", "",
		}},
		test:  test{dir: ".", run: "^TestAThousandFollowersHoldNothing$"},
		finds: `Should be zero`,
	},
	{
		name:    "ordinals-not-checked",
		what:    "a page does not verify that its records are consecutive",
		promise: "no reader skips a missing record silently",
		edits: []edit{{
			"page.go",
			"		return p, sh.checkOrdinals(q, &p, horizon, extents)\n",
			"		return p, nil\n",
		}},
		test:  test{dir: ".", run: "^TestAMissingBlockIsTold$"},
		finds: `An error is expected but got nil`,
	},
	{
		name:    "checksums-not-checked",
		what:    "the checksum of a block is not verified",
		promise: "damaged bytes are never returned as data",
		edits: []edit{{
			"internal/layout/block.go",
			"	case blockChecksum(value[:body], key) != binary.LittleEndian.Uint32(value[body:]):",
			"	case body < 0:",
		}},
		test:  test{dir: "internal/layout", run: "^FuzzBlock$"},
		finds: `Error:`,
	},
	{
		name:    "trimmed-reader-goes-on",
		what:    "a reader whose next records were trimmed continues at the horizon without an error",
		promise: "no reader skips a missing record silently",
		edits:   []edit{{"page.go", "	case q.strict:\n", "	case q.strict && false:\n"}},
		test:    model,
		finds:   `the reader was (not )?told`,
	},
	{
		name:    "read-beside-a-trim",
		what:    "a page is not read again after a concurrent trim",
		promise: "a trim is reported as a trim and not as data loss",
		edits: []edit{{
			"page.go",
			"		if after, _ := sh.view(); after != stored {\n			continue\n		}\n		if sh.stream.deleted.Load() {\n			return page{}, ErrStreamNotFound\n		}\n		var missing",
			"		if sh.stream.deleted.Load() {\n			return page{}, ErrStreamNotFound\n		}\n		var missing",
		}},
		test:  test{dir: ".", run: "^TestAReaderLooksAgainAfterATrim$"},
		finds: `stored data is missing`,
	},
	{
		name:    "limit-off-by-one",
		what:    "a page has one record more than its limit",
		promise: "limits are exact",
		edits: []edit{{
			"page.go",
			"taken+rest <= b.limit &&",
			"taken+rest <= b.limit+1 &&",
		}},
		test:  model,
		finds: `breaks its limits`,
	},
	{
		name:    "false-tip",
		what:    "a page that was cut at its byte limit claims to reach the tip",
		promise: "lag is zero if, and only if, the reader is at the tip",
		edits: []edit{{
			"getrecords.go",
			"	if result.BehindRecords > 0 {\n",
			"	if result.BehindRecords > 1 {\n",
		}},
		test:  model,
		finds: `at the tip: (true|false)`,
	},
	{
		name:    "followers-miss-a-wake",
		what:    "a follower misses a record that comes between its check and its wait",
		promise: "a follower sees every record",
		edits: []edit{{
			"internal/tail/tail.go",
			"	ready := l.tip.LastCounter > counter || l.tip.Ended\n	if !ready {\n		l.waiters.add(w)",
			"	ready := l.tip.Ended\n	if !ready {\n		l.waiters.add(w)",
		}},
		test:  test{dir: "internal/tail", run: "^TestWaitIsLevelTriggered$"},
		finds: `Error:|deadlock`,
		quick: true,
	},
}

var reshardFaults = []fault{
	{
		name:    "split-in-two-commits",
		what:    "a reshard closes the parents in one batch and adds the children in another",
		promise: "the open shards cover the hash-key space after any crash",
		edits: []edit{{
			"reshard.go",
			"	for _, sh := range changed {\n		batch.Set(layout.ShardKey(s.number, sh.index), sh.row().Encode(s.number, sh.index))\n	}\n",
			"	children2 := a.db.store.NewBatch()\n	for _, sh := range changed {\n		to := batch\n		if sh.w.closing == nil {\n			to = children2\n		}\n		to.Set(layout.ShardKey(s.number, sh.index), sh.row().Encode(s.number, sh.index))\n	}\n",
		}, {
			"reshard.go",
			"	return func() {\n		// The order matters: a description",
			"	return func() {\n		_ = children2.Commit(true)\n		children2.Close()\n		// The order matters: a description",
		}},
		test:  model,
		finds: `no shard is open|the open shards|ends at .*, but .* begins at|one of which does not exist`,
	},
	{
		name:    "children-born-with-their-parents",
		what:    "the numbers of a child do not begin above those of its parents",
		promise: "a child's numbers are above its parents'",
		edits:   []edit{{"reshard.go", "r.close(parent)+1)", "r.close(parent))"}},
		test:    model,
		finds:   `does not begin after its parent`,
	},
	{
		name:    "border-off-by-one",
		what:    "the first hash key of a shard is routed to the shard below",
		promise: "a record is in the shard whose range holds its hash key",
		edits:   []edit{{"topology.go", "hashKeys.Start.n.Compare(hash) <= 0", "hashKeys.Start.n.Compare(hash) < 0"}},
		test:    model,
		finds:   `should be in|routed|went to|is in`,
	},
	{
		name:    "end-shown-before-the-children",
		what:    "readers see the end of a parent before they can find its children",
		promise: "a reader that sees the end of a shard finds its children",
		edits: []edit{{
			"reshard.go",
			"		s.topology.Store(next)\n		a.counts.shards.Add(int64(len(r.made)))\n		for sh := range r.closed {\n			sh.log.End()\n		}\n",
			"		for sh := range r.closed {\n			sh.log.End()\n		}\n		for range 100 {\n			runtime.Gosched()\n		}\n		s.topology.Store(next)\n		a.counts.shards.Add(int64(len(r.made)))\n",
		}, {
			"reshard.go", "	\"fmt\"\n", "	\"fmt\"\n	\"runtime\"\n",
		}},
		test:  test{dir: ".", run: "^TestAReaderThatWaitsAtTheEndFindsTheChildren$"},
		finds: `its children cannot be found`,
	},
	{
		name:    "reshard-forgets-a-parent",
		what:    "a merged shard names one of its two parents",
		promise: "lineage is complete",
		edits: []edit{{
			"reshard.go",
			"	for _, parent := range parents {\n		row.Parents = append(row.Parents, parent.index)\n",
			"	for i, parent := range parents {\n		if i == 0 {\n			row.Parents = append(row.Parents, parent.index)\n		}\n",
		}},
		test:  model,
		finds: `after step|panic`,
	},
}

var retentionFaults = []fault{
	{
		name:    "trim-off-by-one",
		what:    "a trim also removes the record at its position",
		promise: "a trim removes exactly the records before its position",
		edits: []edit{{
			"trim.go",
			"	before, err := s.filledBefore(ctx, bound.from)\n",
			"	bound.from++\n	before, err := s.filledBefore(ctx, bound.from)\n",
		}},
		test:  model,
		finds: `were read; the twin has|expected record|is stored|horizon|should be`,
	},
	{
		name:    "excise-off-by-one",
		what:    "dropping an epoch removes the first records of the next one",
		promise: "only trimmed records are removed",
		edits: []edit{{
			"reclaim.go",
			"	lower, upper := layout.EpochRecordsSpan(id)\n	if err := w.db.store.Excise(",
			"	lower, upper := layout.EpochRecordsSpan(id)\n	_, upper = layout.EpochRecordsSpan(id + 1)\n	if err := w.db.store.Excise(",
		}},
		test:  test{dir: "internal/modeltest", run: "^TestModel$", flags: "-braid.seeds=60"},
		finds: `stored data is missing|is missing|the stored blocks are wrong`,
	},
	{
		name:    "horizon-rounded-to-its-block",
		what:    "a trim in the middle of a block removes the whole block",
		promise: "a trim removes exactly the records before its position",
		edits: []edit{{
			"horizon.go",
			"		return above.Before(counter), nil\n",
			"		return above.End(), nil\n",
		}},
		test:  model,
		finds: `after step`,
	},
	{
		name:    "retention-by-the-wall-clock",
		what:    "records age by the wall clock of a running process",
		promise: "a step of the clock removes nothing",
		edits: []edit{{
			"clock.go",
			"func (c retentionClock) now() uint64 { return c.base + uint64(time.Since(c.start)) }",
			"func (c retentionClock) now() uint64 { return uint64(c.wall().UnixNano()) }",
		}, {
			"clock.go",
			"	start time.Time\n}",
			"	start time.Time\n	wall  func() time.Time\n}",
		}, {
			"load.go",
			"	db.aging = newRetentionClock(db.clock(), l.last)\n",
			"	db.aging = newRetentionClock(db.clock(), l.last)\n	db.aging.wall = db.clock\n",
		}},
		test:  model,
		finds: `after step`,
	},
	{
		name:    "longer-period-brings-back",
		what:    "a longer period makes records readable that had expired",
		promise: "an expired record never comes back",
		edits:   []edit{{"retention.go", "		set.floor = set.expiry(now) // a longer period brings nothing back\n", ""}},
		test:    model,
		finds:   `after step`,
	},
	{
		name:    "shorter-period-in-memory",
		what:    "records that a shorter period removed come back with a longer one",
		promise: "an expired record never comes back",
		edits:   []edit{{"retention.go", "		set.floor = set.expiry(now) // and records that a shorter one cuts off are gone for good\n", ""}},
		test:    test{dir: ".", run: "^TestAShorterPeriodIsFinalWhenTheClockGoesBack$"},
		finds:   `it was gone before`,
	},
	{
		name:    "expiry-trims-early",
		what:    "retention trims a whole extent though some of its records are too young",
		promise: "nothing expires before its time",
		edits: []edit{{
			"retention.go",
			"		if last := a.lastOfExtent(sh, 0); last >= d.before {\n			s.w.filled.Set(first, last)\n			continue\n		}\n",
			"		d.before = max(d.before, a.lastOfExtent(sh, 0)+1)\n",
		}},
		test:  model,
		finds: `after step`,
	},
	{
		name:    "removed-in-the-group-of-its-trim",
		what:    "records are removed from the store before readers can see that they were trimmed",
		promise: "a trim is reported as a trim and not as data loss",
		edits: []edit{{
			"reclaim.go",
			"	err := w.db.control(ctx, func(a *appender, _ *kv.Batch) (func(), error) {\n		streams = a.cuts.Of(id).Streams()\n		return nil, nil\n	})\n	if err != nil {\n		return err\n	}\n	err = w.db.control(ctx, func(_ *appender, batch *kv.Batch) (func(), error) {\n		for",
			"	err := w.db.control(ctx, func(a *appender, batch *kv.Batch) (func(), error) {\n		streams = a.cuts.Of(id).Streams()\n		for",
		}},
		test:  test{dir: ".", run: "^TestNothingIsRemovedInTheGroupOfItsTrim$"},
		finds: `nobody can see yet that the record is gone`,
	},
	{
		name:    "throttled-entry-takes-tokens",
		what:    "an entry that is refused for its bytes is charged to the budget of records",
		promise: "a refused put costs nothing",
		edits: []edit{{
			"throttle.go",
			"	if c.err != nil {\n		a.counts.throttled.Add(1)\n		sh.counts.putsThrottled.Add(1)\n		return c.err\n	}\n",
			"	if c.err != nil {\n		a.counts.throttled.Add(1)\n		sh.counts.putsThrottled.Add(1)\n		c.records++\n		return c.err\n	}\n",
		}},
		test:  test{dir: ".", run: "^TestBudgetsAreExact$"},
		finds: `Error:`,
	},
	{
		name:    "refused-transaction-takes-tokens",
		what:    "a transaction that one shard refuses is charged to the others",
		promise: "a refused put costs nothing",
		edits: []edit{{
			"throttle.go",
			"sh.counts.putsThrottled.Add(int64(n.records))\n			return err\n		}\n	}\n	for sh, n := range sums {\n		sh.w.budgets.spend(a.moment, n.records, units(n.bytes))\n	}\n",
			"sh.counts.putsThrottled.Add(int64(n.records))\n			return err\n		}\n		sh.w.budgets.spend(a.moment, n.records, units(n.bytes))\n	}\n",
		}},
		test:  test{dir: ".", run: "^TestATransactionIsChargedAsAWhole$"},
		finds: `Error:`,
	},
}
