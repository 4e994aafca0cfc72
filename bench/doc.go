// Command bench compares braid with its peers: raw Pebble, embedded NATS
// JetStream, tidwall/wal, hashicorp/raft-wal and bbolt, at equal durability, all
// in one run, turn by turn; and braid's server of the Kinesis API with others, over
// HTTP. README.md says how to run it and how to read it.
//
// A system (system.go and a file each) knows how to store records; a workload
// (write.go, read.go, sustain.go, wake.go, open.go,
// consume.go) knows what to do with it and
// what to measure, and so does kinesis.go for servers (kinesis_servers.go), with a
// client of its own (kinesis_client.go); a report (report.go) compares, and holds braid to its targets
// (target.go). Systems know no workloads, and nobody but main knows the flags.
package main
