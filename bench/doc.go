// Command bench compares braid with its peers: raw Pebble, embedded NATS JetStream,
// tidwall/wal, hashicorp/raft-wal and bbolt, at equal durability, all in one run, taking turns;
// and braid's server of the Kinesis API with others, over HTTP. README.md says how to run it
// and how to read its output.
//
// A system (system.go and a file each) knows how to store records, on the real disk or in
// memory with syncs that take a known time (disk.go, pause.go). Floors are systems, too
// (floor.go, fanout.go). A workload (write.go, read.go, sustain.go, wake.go, open.go, idle.go,
// take.go, consume.go) knows what to do with a system and what to measure, and so does
// kinesis.go for servers (kinesis_servers.go), with a client of its own (kinesis_client.go). A
// table (report.go) compares the systems, and targets (target.go) judge braid. The results of a
// run (results.go) can be written, read and merged; from them come the summary and the table in
// Markdown (summary.go) and the chart (svg.go). Systems know no workloads, and only main knows
// the flags.
package main
