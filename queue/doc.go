// Package queue hands the records of a stream out one by one, to any number of consumers
// without shards or leases.
package queue
