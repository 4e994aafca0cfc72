// Command bench compares braid with its peers: raw Pebble, embedded NATS
// JetStream, tidwall/wal, hashicorp/raft-wal and bbolt, at equal durability, all
// in one run, turn by turn. README.md says how to run it and how to read it.
//
// A system (system.go and a file each) knows how to store records; a workload
// (write.go, read.go, sustain.go, wake.go, open.go,
// consume.go) knows what to do with it and
// what to measure; a report (report.go) compares, and holds braid to its targets
// (target.go). Systems know no workloads, and nobody but main knows the flags.
package main
