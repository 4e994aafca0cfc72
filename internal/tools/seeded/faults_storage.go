package main

var storageFaults = []fault{
	{
		name:    "ledger-not-checked",
		what:    "the comparison of logs and manifest with the ledger finds no difference",
		promise: "what is missing is never taken for what never was",
		edits: []edit{{
			"internal/kv/examine.go",
			"	size, sum, err := s.sumOf(want.Name, want.Size)\n",
			"	size, sum, err := s.sumOf(want.Name, want.Size)\n	if err == nil {\n		return nil\n	}\n",
		}},
		test:  test{dir: "internal/modeltest", run: "^TestEveryFileDamaged$", flags: "-test.short"},
		finds: `Error:`,
	},
	{
		name:    "fatal-call-returns",
		what:    "Pebble's fatal logger call returns",
		promise: "after a failed write nothing more is acknowledged",
		edits: []edit{{
			"internal/kv/report.go",
			"	if cause == nil {\n		l.guard.Park(errors.New(text))\n	}\n	l.guard.Park(&fatalError{text: text, cause: cause})\n",
			"	if cause == nil {\n		cause = errors.New(text)\n	}\n	l.guard.Fail(&fatalError{text: text, cause: cause})\n",
		}},
		test:  test{dir: "internal/kv", run: "^TestFatalCallParks$"},
		finds: `Should be empty, but was`,
	},
	{
		name:    "critical-error-reaches-the-engine",
		what:    "an error of the log or the manifest is returned to Pebble",
		promise: "a failed disk does not end the process",
		edits: []edit{{
			"internal/guardfs/fate.go",
			"	case c == critical:\n		g.Park(describe(op, name, err))\n		return err\n	case IsShortage(err):",
			"	case c == critical:\n		return err\n	case IsShortage(err):",
		}},
		test:  test{dir: "internal/modeltest", run: "^TestFaultSweep$", flags: "-test.short"},
		finds: `child process|Error:`,
	},
	{
		name:    "failed-sync-repeated",
		what:    "a sync of the log that found no space is tried again",
		promise: "a sync that failed proves nothing, and no later one does",
		edits: []edit{{
			"internal/guardfs/fate.go",
			"	g.enter()\n	err := run()\n	g.leave()\n	switch {\n	case err == nil:\n		return nil\n	case c == critical:",
			"	g.enter()\n	err := run()\n	if IsShortage(err) {\n		err = run()\n	}\n	g.leave()\n	switch {\n	case err == nil:\n		return nil\n	case c == critical:",
		}},
		test:  test{dir: "internal/guardfs", run: "^TestNoSpaceFromSyncOfCriticalFileParks$"},
		finds: `Error:|deadlock`,
		quick: true,
	},
	{
		name:    "failed-store-keeps-its-callers",
		what:    "requests that wait when the store fails are not ended",
		promise: "every call returns when the store has failed",
		edits: []edit{{
			"internal/commit/commit.go",
			"	case <-c.store.Failed():\n	case <-c.ended:\n	}\n	c.endAll()\n}",
			"	case <-c.store.Failed():\n		return\n	case <-c.ended:\n	}\n	c.endAll()\n}",
		}},
		test:  test{dir: "internal/commit", run: "^TestAFailedStoreEndsAllRequests$", flags: "-test.timeout=20s"},
		finds: `running tests:\s+TestAFailedStoreEndsAllRequests`,
	},
	{
		name:    "marker-before-its-directory",
		what:    "the directory is not synced before the marker of the manifest moves",
		promise: "a database can be opened after any crash",
		edits: []edit{{
			"internal/guardfs/marker.go",
			"	if !strings.HasPrefix(g.PathBase(name), \"marker.\") {\n		return nil\n	}\n",
			"	if strings.HasPrefix(g.PathBase(name), \"marker.\") {\n		return nil\n	}\n",
		}},
		test:  test{dir: "internal/guardfs", run: "^TestTheDirectoryIsSyncedBeforeEachStepOfAMarker$"},
		finds: `Error:`,
		quick: true,
	},
	{
		name:    "lock-goes-with-its-file",
		what:    "the lock is on the lock file alone, which somebody may delete",
		promise: "one process has a database open",
		edits: []edit{{
			"internal/kv/lock_unix.go",
			"		if err = flock(directory, syscall.LOCK_EX); !errors.Is(err, errHeld) {\n			return lock, nil\n		}\n",
			"		return lock, nil\n",
		}},
		test:  test{dir: "internal/kv", run: "^TestLockSurvivesItsFile$"},
		finds: `Error:`,
	},
	{
		name:    "open-deletes-what-it-does-not-know",
		what:    "an open does not look at the rows before Pebble may delete files",
		promise: "an open that is refused has changed nothing",
		edits: []edit{{
			"internal/kv/open.go",
			"	return x, logged, joinErrors(s.check(db), openError(db.Close()))\n",
			"	return x, logged, openError(db.Close())\n",
		}},
		test:  test{dir: "internal/kv", run: "^TestRefusedOpenChangesNothing$"},
		finds: `Error:`,
	},
	{
		name:    "damage-fails-the-database",
		what:    "an open refuses a database whose last record of one shard is damaged",
		promise: "damage is the readers' matter",
		edits: []edit{{
			"load.go",
			"	if isCorrupt(err) {\n		end.Ordinal++\n		return end, true, nil\n	}\n",
			"",
		}},
		test:  test{dir: "internal/modeltest", run: "^TestDamagedTipThatIsNotKnown$"},
		finds: `Error:`,
	},
}

var encryptionFaults = []fault{
	{
		name:    "data-key-used-after-a-restart",
		what:    "a data key goes on encrypting in the next run of the process",
		promise: "no nonce is used twice with one key",
		edits: []edit{{
			"encryption.go",
			"	key, err := s.makeDataKey(ctx, keyID)\n	if err != nil {\n		if errors.Is(err, ErrInvalidArgument) { // it was",
			"	if number, row, found := s.lastDataKey(keyID); found {\n		if err := s.openInTurn(ctx, number, row); err != nil {\n			return err\n		}\n		return db.control(ctx, func(a *appender, _ *kv.Batch) (func(), error) {\n			s.w.sealer = sealer{DataKey: s.dataKey(number), keyID: keyID, made: a.moment}\n			return nil, nil\n		})\n	}\n	key, err := s.makeDataKey(ctx, keyID)\n	if err != nil {\n		if errors.Is(err, ErrInvalidArgument) { // it was",
		}},
		test:  test{dir: "internal/modeltest", run: "^TestNoNonceIsUsedTwice$"},
		finds: `two blocks are encrypted with one nonce`,
	},
	{
		name:    "block-not-bound-to-its-place",
		what:    "the place of an encrypted block is not authenticated",
		promise: "an encrypted record that was moved is found out",
		edits:   []edit{{"internal/layout/seal.go", "	b = append(b, key...)\n	b = append(b, head...)\n", "	b = append(b, head...)\n"}},
		test:    test{dir: "internal/layout", run: "^TestASealedBlockIsBoundToItsPlace$"},
		finds:   `Error:`,
		quick:   true,
	},
	{
		name:    "data-key-forgotten-before-its-trim",
		what:    "a data key is dropped before readers can see that its last record was trimmed",
		promise: "a reader is told of a trim, and not of data loss",
		edits: []edit{{
			"trim.go",
			"	pruned := stream.pruneDataKeys(batch)\n",
			"	pruned := stream.pruneDataKeys(batch)\n	stream.keys.forget(pruned)\n",
		}},
		test:  test{dir: ".", run: "^TestATrimOnItsWayTakesNoDataKey$"},
		finds: `Error:`,
	},
	{
		name:    "data-key-pruned-too-early",
		what:    "a data key goes while a record still needs it",
		promise: "what was acknowledged can be read",
		edits: []edit{{
			"encryption.go",
			"s.keys.rows[s.keys.numbers[1]].Created <= first {",
			"s.keys.rows[s.keys.numbers[0]].Created <= first {",
		}},
		test:  model,
		finds: `data key \d+`,
	},
	{
		name:    "clear-text-after-a-stop",
		what:    "whether a record is encrypted is decided when the group is written",
		promise: "a producer is told whether its record is encrypted",
		edits: []edit{{
			"append.go",
			"			bytes += a.writeBlocks(sh, records[:run.records], run.dataKey, batch)\n",
			"			dataKey := run.dataKey\n			if sh.stream.w.settings.keyID == \"\" {\n				dataKey = nil\n			}\n			bytes += a.writeBlocks(sh, records[:run.records], dataKey, batch)\n",
		}},
		test:  test{dir: "internal/modeltest", run: "^TestAKeyChangesBetweenPutsOfOneGroup$"},
		finds: `Error:`,
	},
	{
		name:    "key-service-down-means-clear-text",
		what:    "records of a stream whose key service fails are stored in the clear",
		promise: "an encrypted stream never stores clear text",
		edits: []edit{{
			"encryption.go",
			"	if keyID := s.w.settings.keyID; keyID != \"\" && !s.w.sealer.usable(keyID, a.moment) {\n		return &noDataKeyError{s}\n	}\n",
			"	if keyID := s.w.settings.keyID; keyID != \"\" && !s.w.sealer.usable(keyID, a.moment) && s.db.opts.KeyProvider == nil {\n		return &noDataKeyError{s}\n	}\n",
		}},
		test:  test{dir: "internal/modeltest", run: "^TestNoNonceIsUsedTwice$"},
		finds: `Error:`,
	},
}

var keyFaults = []fault{
	{
		name:    "conflicts-not-checked",
		what:    "a transaction commits though another one has changed what it read",
		promise: "transactions are serializable",
		edits: []edit{{
			"append.go",
			"	if a.txs.Conflicts(op.version, op.reads, op.ranges) {",
			"	if a.txs.Conflicts(op.version, op.reads, nil) {",
		}},
		test:  test{dir: ".", run: "^TestWriteSkewIsRefused$|^TestDeletionsConflictAndRecordsDoNot$"},
		finds: `Error:`,
	},
	{
		name:    "point-reads-not-checked",
		what:    "a transaction commits though another one has changed a key that it read",
		promise: "transactions are serializable",
		edits: []edit{{
			"append.go",
			"	if a.txs.Conflicts(op.version, op.reads, op.ranges) {",
			"	if a.txs.Conflicts(op.version, nil, op.ranges) {",
		}},
		test:  test{dir: "internal/modeltest", run: "^TestTransactionsAreSerializable$"},
		finds: `Error:`,
	},
	{
		name:    "newcomers-starve-a-transaction",
		what:    "transactions that are new do not wait for one that has met ten conflicts",
		promise: "every transaction is let through",
		edits:   []edit{{"tx.go", "			err = db.letInsist(ctx)\n", ""}},
		test:    test{dir: ".", run: "^TestNewcomersDoNotStarveATransaction$"},
		finds:   `Error:`,
	},
	{
		name:    "turn-kept-by-a-hanging-transaction",
		what:    "a transaction that hangs keeps its turn",
		promise: "no transaction waits for one that hangs",
		edits:   []edit{{"turn.go", "	t.late = time.AfterFunc(turnTime, t.pass)\n", "	t.late = time.AfterFunc(1000*turnTime, t.pass)\n"}},
		test:    test{dir: ".", run: "^TestATransactionThatHangsDoesNotKeepItsTurn$"},
		finds:   `Error:|deadlock`,
	},
}
