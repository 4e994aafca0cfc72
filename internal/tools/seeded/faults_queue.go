package main

// linear is the check that the answers of a queue are linearizable.
var linear = test{dir: "queue", run: "^TestLinearizable$", flags: "-braid.seeds=60"}

var queueFaults = []fault{
	{
		name:    "old-receipt-accepted",
		what:    "the receipt of an earlier delivery settles a record that another receiver holds",
		promise: "a receipt fences",
		edits: []edit{{
			"queue/state.go",
			"	case e.generation != t.generation:\n		return nil, ErrReceiptExpired\n",
			"",
		}},
		test:  linear,
		finds: `no order of the calls`,
	},
	{
		name:    "damage-forgotten-between-reads",
		what:    "a read that ends before it reports damage forgets where the damage begins",
		promise: "no reader skips a missing record silently",
		edits: []edit{{
			"queues.go",
			"		if c.broken != nil && c.broken == told {\n",
			"		if c.broken != nil {\n",
		}},
		test:  test{dir: ".", run: "^TestAMergedReadPassesDamageAndNothingElse$"},
		finds: `Not equal`,
	},
	{
		name:    "behind-damage-is-behind-all",
		what:    "a merged read continues after damage in one shard, ahead of records of the others that it has not seen",
		promise: "a queue receives every record",
		edits: []edit{{
			"queues.go",
			"next = min(damage.FirstAvailable.counter(), to+1)",
			"next = damage.FirstAvailable.counter()",
		}},
		test:  test{dir: ".", run: "^TestAMergedReadPassesDamageAndNothingElse$"},
		finds: `should have 21 item`,
	},
	{
		name:    "receipt-judged-before-its-commit",
		what:    "a receipt is compared at the call instead of at the commit",
		promise: "a receipt fences",
		edits: []edit{
			{"queue/record.go", "	dead       bool // the receipt of a dead letter\n", "	dead       bool\n	judged     bool\n"},
			{"queue/state.go", "	case e.generation != t.generation:\n", "	case e.generation != t.generation && !t.judged:\n"},
			{
				"queue/settle.go",
				"	steps := q.steps(what, dead, receipts)\n	if _, err := q.commit(",
				`	steps := q.steps(what, dead, receipts)
	q.mu.Lock()
	now := q.door.Now()
	q.passed(now, passedInCommit)
	for i := range steps {
		if st := &steps[i]; st.err == nil {
			_, st.err = q.check(st, now)
			st.ticket.judged = true
		}
	}
	q.mu.Unlock()
	if _, err := q.commit(`,
			},
		},
		test:  linear,
		finds: `no order of the calls`,
	},
	{
		name:    "acknowledged-record-keeps-its-row",
		what:    "an acknowledgement is only in memory",
		promise: "an acknowledged record does not come back",
		edits: []edit{{
			"queue/state.go",
			"	rows.Delete(s.key)\n	s.stats.acknowledged++",
			"	s.stats.acknowledged++",
		}},
		test:  linear,
		finds: `no order of the calls`,
	},
	{
		name:    "dead-letter-lives-again-with-a-higher-limit",
		what:    "a change of MaxReceives does not store the records that died by the old limit",
		promise: "dead letters stay dead letters",
		edits: []edit{{
			"queue/state.go",
			"		e.dead = true\n		s.put(rows, e)\n",
			"		s.put(rows, e)\n",
		}},
		test:  linear,
		finds: `no order of the calls`,
	},
	{
		name:    "restored-record-keeps-its-receipts",
		what:    "a restored dead letter keeps its generation",
		promise: "a receipt fences",
		edits:   []edit{{"queue/step.go", "	e.succeed()\n	s.offer(e)\n", "	s.offer(e)\n"}},
		test:    linear,
		finds:   `no order of the calls`,
	},
	{
		name:    "extension-kept-in-memory",
		what:    "a longer visibility timeout has no row",
		promise: "a crash changes nothing",
		edits: []edit{{
			"queue/step.go",
			"		s.locked.Set(&e.due, e.visible) // an entry that is alone stays alone\n",
			"		s.locked.Set(&e.due, e.visible)\n		return nil\n",
		}},
		test:  linear,
		finds: `no order of the calls`,
	},
	{
		name:    "shards-counted-one-after-the-other",
		what:    "a description counts each shard at another moment",
		promise: "all counts of a queue are from one moment",
		edits: []edit{{
			"queue/describe.go",
			"sh.CountTo(ctx, to)",
			"sh.CountTo(ctx, max(to, 1<<63))",
		}},
		test:  test{dir: "queue", run: "^TestDescribeIsOfOneMoment$"},
		finds: `Should be zero`,
	},
	{
		name:    "highest-cursor-goes-with-its-shard",
		what:    "the cursor of a removed shard is deleted even if it is the highest",
		promise: "an acknowledged record does not come back",
		edits: []edit{{
			"queue/state.go",
			"	case r.counter+1 < s.next:\n",
			"	case r.counter < s.next:\n",
		}},
		test:  test{dir: "queue", run: "^TestCursorsOfShardsThatAreGone$"},
		finds: `Error:`,
	},
	{
		name:    "held-record-without-a-row",
		what:    "a record that is held back behind another one of its key is only in memory",
		promise: "no record is lost",
		edits:   []edit{{"queue/order.go", "	e.phase = held\n	s.add(e)\n	s.put(rows, e)\n", "	e.phase = held\n	s.add(e)\n"}},
		test:    linear,
		finds:   `was never acknowledged`,
	},
	{
		name:    "newest-record-of-a-key-is-not-held",
		what:    "a record is received before earlier ones of its key are settled",
		promise: "records of a key are received one after the other",
		edits: []edit{{
			"queue/order.go",
			"		if x != nil && x.phase == ready && (c.busy > 0 || x != c.first) {",
			"		if x == e && e.phase == held && e.after == nil && e.before != nil {\n			s.move(x, ready)\n		}\n		if x != nil && x != e && x.phase == ready && (c.busy > 0 || x != c.first) {",
		}},
		test:  linear,
		finds: `of its key was acknowledged`,
	},
	{
		name:    "receiver-listens-after-its-look",
		what:    "a receiver checks for new records before it listens for them, so it misses one that is put in between",
		promise: "a receiver that waits gets the next record",
		edits: []edit{{
			"queue/wait.go",
			"	if ws.isEmpty() {\n		q.inner.Listen((*listener)(q)) // before looking, so that a record that comes after the look is announced\n	}\n	now := q.door.Now()\n	q.passed(now, passedAtOnce)\n	if n, read := q.offers(a, now, 1); n > 0 || read && q.unread() {\n		q.rest()\n		return nil\n	}\n",
			"	now := q.door.Now()\n	q.passed(now, passedAtOnce)\n	if n, read := q.offers(a, now, 1); n > 0 || read && q.unread() {\n		return nil\n	}\n	if ws.isEmpty() {\n		q.inner.Listen((*listener)(q))\n	}\n",
		}},
		test:  test{dir: "queue", run: "^TestARecordThatIsPutBetweenALookAndAWait$"},
		finds: `Error:`,
		quick: true,
	},
	{
		name:    "records-shown-to-early-listeners-only",
		what:    "a receiver that comes during a sync is not woken when the sync's records are visible",
		promise: "a receiver that waits gets the next record",
		edits:   []edit{{"arrivals.go", "	for _, s := range a.streams {\n		s.listeners.changed()\n	}\n", ""}},
		test:    test{dir: "queue", run: "^TestAReceiverThatComesBetweenACommitAndItsEnd$"},
		finds:   `Error:`,
	},
	{
		name:    "new-records-overtake-old-ones",
		what:    "a commit gives its records to receivers before older ones",
		promise: "every record is received",
		edits:   []edit{{"queue/wait.go", "	if q.gone || q.readAt <= before {", "	if q.gone {"}},
		test:    test{dir: "queue", run: "^TestARecordThatArrivesDoesNotComeBeforeOlderOnes$"},
		finds:   `Error:`,
	},
	{
		name:    "records-leave-a-queue-when-the-database-closes",
		what:    "a commit during a close treats records as expired because they cannot be read",
		promise: "no record is lost",
		edits:   []edit{{"queues.go", "return c.shard.keeps(counter) }", "return c.shard.shows(counter) }"}},
		test:    test{dir: "queue", run: "^TestACommitWhileTheDatabaseCloses$"},
		finds:   `Error:`,
	},
	{
		name:    "trimmed-records-leave-what-was-known",
		what:    "a queue's read that finds only trimmed records keeps the ordinal that it expected before them",
		promise: "trimmed records do not look like data loss",
		edits:   []edit{{"iterate.go", "		c.from, c.ordinal = p.from, 0\n", "		c.from = p.from\n"}},
		test:    test{dir: "queue", run: "^TestRecordsAfterOnesThatWereTrimmedUnread$"},
		finds:   `where .* should follow`,
	},
	{
		name:    "receipts-end-with-the-process",
		what:    "an open ends a delivery whose receipt may have left the process",
		promise: "no record is delivered to two within its visibility timeout",
		edits:   []edit{{"queue/take.go", "e.visible, e.first, e.local = until, now, a.local", "e.visible, e.first, e.local = until, now, true"}},
		test:    model,
		finds:   `it should have`,
	},
	{
		name:    "newcomer-overtakes-the-line",
		what:    "a commit serves the receiver that runs it before the waiting ones",
		promise: "receivers are served in the order in which they came",
		edits: []edit{
			{"queue/receive.go", "	all := false\n	if !c.essential", "	if c.ask != nil && !c.abandoned {\n		c.taken = q.take(rows, *c.ask, now)\n	}\n	if !c.essential"},
			{"queue/receive.go", "		c.served, all = q.serve(rows, now, nil)\n", "		c.served, _ = q.serve(rows, now, nil)\n"},
			{"queue/receive.go", "	if c.ask != nil && !c.abandoned && all { // waiting receivers come first\n		c.taken = q.take(rows, *c.ask, now)\n", "	if c.ask != nil {\n"},
		},
		test:  test{dir: "queue", run: "^TestReceiversAreServedInTheirOrder$"},
		finds: `a newcomer got`,
	},
	{
		name:    "lapsed-delivery-holds-its-record",
		what:    "a receipt is checked before the queue has noticed that its timeout has passed",
		promise: "a visibility timeout ends a delivery",
		edits:   []edit{{"queue/state.go", "	if e != nil && !s.catchUp(e, now) {\n		e = nil\n	}\n", ""}},
		test:    test{dir: "queue", run: "^TestReceiptsOfManyThatLapseAtOnce$"},
		finds:   `Error:`,
	},
	{
		name:    "expired-records-counted-before-their-rows-go",
		what:    "the stored counts contain expired records whose rows are still stored",
		promise: "a crash changes nothing",
		edits: []edit{{
			"queue/state.go",
			"	return expired{x.unreceived - y.unreceived, x.received - y.received, x.dead - y.dead}\n",
			"	return x\n",
		}},
		test:  test{dir: "queue", run: "^TestManyExpiredRecordsAreCountedOnce$"},
		finds: `Not equal`,
	},
	{
		name:    "cursor-goes-before-its-rows",
		what:    "the cursor of a removed shard is deleted before the rows of its records",
		promise: "an orderly database has no corrupt rows",
		edits: []edit{{
			"queue/pass.go",
			"len(s.garbage) > 0 || s.behind {\n",
			"s.next == 0 {\n",
		}},
		test:  test{dir: "queue", run: "^TestTheRowsOfARemovedShardGoBeforeItsCursor$"},
		finds: `Error:`,
	},
	{
		name:    "pieces-end-with-a-call",
		what:    "the rest of many trimmed records waits for the next call, although a receiver waits",
		promise: "no wake-up is lost",
		edits:   []edit{{"queue/wait.go", "	if q.behind {\n		due = now\n	}\n", ""}},
		test:    test{dir: "queue", run: "^TestAWaiterBehindManyThatAreTrimmed$"},
		finds:   `Should be zero`,
	},
	{
		name:    "open-keeps-what-is-gone",
		what:    "after an open, a queue looks for lost records only up to the oldest one that is left",
		promise: "a description of a queue is exact",
		edits:   []edit{{"queue/queue.go", "	s.sweepAll(now)\n", ""}},
		test:    test{dir: "queue", run: "^TestNoRecordIsInFlightThatIsGone$"},
		finds:   `Not equal`,
	},
}
