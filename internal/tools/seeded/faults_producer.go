package main

// Faults of the producer for Amazon Kinesis.
var producerFaults = []fault{
	{
		name:    "key-goes-on-while-it-is-on-its-way",
		what:    "a record is put while an earlier one of its partition key is in flight and may be throttled",
		promise: "records of a key arrive in order",
		edits: []edit{{
			"awskinesis/schedule.go",
			"	if l == nil {\n		l = &lane{key: it.entry.PartitionKey}",
			"	if l == nil || l.sent > 0 {\n		l = &lane{key: it.entry.PartitionKey}",
		}},
		test:  test{dir: "awskinesis", run: "^TestARecordWaitsForTheEarlierOnesOfItsKey$"},
		finds: `did not wait for its key`,
	},
	{
		name:    "carrier-in-the-wrong-shard-counts-as-stored",
		what:    "an aggregate is not put again though it arrived in a shard to which its records no longer belong",
		promise: "every acknowledged record reaches the consumers",
		edits: []edit{{
			"awskinesis/send.go",
			"		if shard != s.bin.shard && !(known && fits) {",
			"		if shard != s.bin.shard && !(known || fits) {",
		}},
		test:  test{dir: "awskinesis", run: "^TestACarrierInAShardThatIsKnownByThen$"},
		finds: `consumers miss acknowledged records`,
	},
	{
		name:    "withdrawn-record-keeps-its-room",
		what:    "a record whose caller gave up while it was in flight keeps its space in the buffer",
		promise: "a producer's memory is bounded by the records in flight",
		edits: []edit{{
			"awskinesis/send.go",
			"		if it.settled {\n			p.release(it)\n		} else {\n			open = append(open, it)\n		}",
			"		if !it.settled {\n			open = append(open, it)\n		}",
		}},
		test:  test{dir: "awskinesis", run: "^TestAContextThatEnds$"},
		finds: `Should be zero`,
	},
	{
		name:    "flush-waits-for-its-own-group",
		what:    "a flush waits for the records since the last flush, but not for those of an earlier flush that still runs",
		promise: "Flush returns when the outcome of everything before it is known",
		edits: []edit{{
			"awskinesis/producer.go",
			"		p.groups[p.group] = struct{}{}\n		p.group = newGroup()\n	}\n	for g := range p.groups {\n		groups = append(groups, g)\n	}",
			"		p.groups[p.group] = struct{}{}\n		groups = append(groups, p.group)\n		p.group = newGroup()\n	}",
		}},
		test:  test{dir: "awskinesis", run: "^TestFlush$"},
		finds: `Error:`,
	},
	{
		name:    "lost-answer-forgotten-at-the-next-attempt",
		what:    "a record that is refused after an attempt whose response was lost counts as refused",
		promise: "a refused record was not stored",
		edits: []edit{{
			"awskinesis/call.go",
			"	if it.maybe || it.inFlight {",
			"	if it.inFlight {",
		}},
		test:  test{dir: "awskinesis", run: "^TestOutcomes$"},
		finds: `outcome is unknown`,
	},
	{
		name:    "refused-record-lets-its-key-pass",
		what:    "the later records of a key in a call are put though an earlier one was refused",
		promise: "a caller that retries refused records keeps them in order",
		edits: []edit{{
			"awskinesis/call.go",
			"			if next.call == it.call && next.index > it.index && !next.settled && !next.inFlight {",
			"			if next.call == it.call && next.index > it.index && next.settled {",
		}},
		test:  test{dir: "awskinesis", run: "^TestARefusedRecordRefusesTheLaterOnesOfItsKey$"},
		finds: `Error:`,
	},
}
