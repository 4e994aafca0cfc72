package main

import "slices"

// The faults are in the files faults_*.go, by the part of braid that they are in. Each stands
// for a kind of bug that code like this has: those that have been made in other logs, those
// that the comments warn of, and those that were made here and mended.
//
// A fault leaves out or moves one thing that keeps a promise. What no longer compiles without
// it goes with it. If an edit no longer fits, because the code has changed, find the place
// that keeps the promise now.

func allFaults() []fault {
	return slices.Concat(commitFaults, numberFaults, readFaults, reshardFaults, retentionFaults,
		storageFaults, encryptionFaults, keyFaults, consumerFaults, queueFaults, producerFaults)
}

// The harnesses, in sizes that pass in a few seconds.
var (
	model      = test{dir: "internal/modeltest", run: "^TestModel$", flags: "-braid.seeds=60"}
	simulation = test{dir: "consumer", run: "^TestSimulation$", flags: "-braid.seeds=60"}
)
