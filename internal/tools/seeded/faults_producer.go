package main

// Faults of the producer for Amazon Kinesis.
var producerFaults = []fault{
	{
		name:    "key-goes-on-while-it-is-on-its-way",
		what:    "a record is put though an earlier one of its partition key is on its way, and may be throttled",
		promise: "records of a key come in order",
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
		what:    "an aggregate that came to a shard to which its records no longer belong is not put again",
		promise: "what was acknowledged reaches the consumers",
		edits: []edit{{
			"awskinesis/send.go",
			"		if shard != s.bin.shard && !(known && fits) {",
			"		if shard != s.bin.shard && !(known || fits) {",
		}},
		test:  test{dir: "awskinesis", run: "^TestACarrierInAShardThatIsKnownByThen$"},
		finds: `consumers miss what was acknowledged`,
	},
	{
		name:    "withdrawn-record-keeps-its-room",
		what:    "a record whose caller has left while it was on its way does not give its room in the buffer back",
		promise: "what a producer holds is bounded by what is on its way",
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
		what:    "a flush waits for the records since the last flush, and not for those that an earlier one still waits for",
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
		what:    "a record that is refused after an attempt whose answer was lost counts as refused",
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
		promise: "a caller that puts what was refused again keeps the order",
		edits: []edit{{
			"awskinesis/call.go",
			"			if next.call == it.call && next.index > it.index && !next.settled && !next.inFlight {",
			"			if next.call == it.call && next.index > it.index && next.settled {",
		}},
		test:  test{dir: "awskinesis", run: "^TestARefusedRecordRefusesTheLaterOnesOfItsKey$"},
		finds: `Error:`,
	},
}
