package main

import "slices"

// The faults are in the files faults_*.go, one for each part of braid. Each represents a kind
// of bug: bugs of other logs, bugs that comments warn about, and bugs that braid had.
//
// A fault removes or moves one piece of code that keeps a promise, and code that does not
// compile without it. If an edit no longer fits because the code has changed, find the code
// that keeps the promise now.

func allFaults() []fault {
	return slices.Concat(commitFaults, numberFaults, readFaults, reshardFaults, retentionFaults,
		storageFaults, encryptionFaults, keyFaults, consumerFaults, queueFaults, producerFaults, fleetFaults)
}

// The harnesses, with sizes that take a few seconds.
var (
	model      = test{dir: "internal/modeltest", run: "^TestModel$", flags: "-braid.seeds=60"}
	simulation = test{dir: "consumer", run: "^TestSimulation$", flags: "-braid.seeds=60"}
)
