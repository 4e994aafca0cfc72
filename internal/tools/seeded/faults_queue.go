package main

var queueFaults = []fault{
	{
		name:    "receiver-listens-after-its-look",
		what:    "a receiver looks for new records before it listens for them, so it misses one that is put in between",
		promise: "a receiver that waits gets the next record",
		edits: []edit{{
			"queue/wait.go",
			"	if ws.isEmpty() {\n		q.inner.Listen(q) // before the look, so that what is missed here is heard there\n	}\n	now := q.door.Now()\n	q.passed(now)\n	if n, read := q.offers(a, now, 1); n > 0 || read && q.unread() {\n		q.rest()\n		return nil\n	}\n",
			"	now := q.door.Now()\n	q.passed(now)\n	if n, read := q.offers(a, now, 1); n > 0 || read && q.unread() {\n		return nil\n	}\n	if ws.isEmpty() {\n		q.inner.Listen(q)\n	}\n",
		}},
		test:  test{dir: "queue", run: "^TestARecordThatIsPutBetweenALookAndAWait$"},
		finds: `Error:`,
		quick: true,
	},
	{
		name:    "records-shown-to-early-listeners-only",
		what:    "a receiver that comes while a record is made durable is not told when the record can be read",
		promise: "a receiver that waits gets the next record",
		edits:   []edit{{"arrivals.go", "	for _, s := range a.streams {\n		s.listeners.changed()\n	}\n", ""}},
		test:    test{dir: "queue", run: "^TestAReceiverThatComesBetweenACommitAndItsEnd$"},
		finds:   `Error:`,
	},
	{
		name:    "new-records-overtake-old-ones",
		what:    "a commit gives its records to receivers while older ones are still to be read",
		promise: "every record is received",
		edits:   []edit{{"queue/wait.go", "	if q.gone || q.readAt <= before {", "	if q.gone {"}},
		test:    test{dir: "queue", run: "^TestARecordThatArrivesDoesNotComeBeforeOlderOnes$"},
		finds:   `Error:`,
	},
}
