// Package kinesistest is Amazon Kinesis Data Streams in a Go unit test: no
// container, no port, no account. One line makes it, and the end of the test takes
// it away:
//
//	func TestOrders(t *testing.T) {
//		k := kinesistest.New(t, kinesistest.Stream("orders", 2))
//		producer := orders.NewProducer(k.Kinesis()) // a *kinesis.Client of the AWS SDK
//		...
//		k.RequireRecords("orders", "first", "second")
//	}
//
// Each test has a kit of its own, which takes a few milliseconds, so tests can be
// parallel. Nothing is limited unless [Kit.ExactLimits] says so.
//
// # Faults
//
// [Kit.Fail], [Kit.FailEntries], [Kit.Delay], [Kit.DropBefore] and [Kit.DropAfter]
// say what the next calls of an operation meet, one fault to each call, in the order
// in which they were given. [Kit.Crash] is a power cut. A fault that no call has met
// by the end of the test fails it.
//
// # Looking
//
// [Kit.Records] is what the streams hold, and [Kit.Calls] what was asked of the
// service. RequireRecords, RequireProcessed, RequireOrderPerKey and RequireCaughtUp
// fail the test, and show what was there. The log of a failed test ends with a
// summary of both.
//
// # Time
//
// In a bubble of testing/synctest time passes at once when everybody waits: a sleep
// of six minutes, which is more than an iterator lasts, takes microseconds, and so do
// the pauses of the SDK between attempts. Make the kit inside of the bubble:
//
//	synctest.Test(t, func(t *testing.T) {
//		k := kinesistest.New(t, kinesistest.Stream("orders", 1))
//		...
//		time.Sleep(6 * time.Minute)
//
// The bubble's clock always begins with the same moment, so that sequence numbers are
// the same in each run as well. Outside of a bubble a call that is to be tried again
// costs the SDK's pauses, some seconds.
//
// # Subscriptions
//
// In smithy-go 1.28.9, which the SDK stands on, the subscriptions of one client share
// a buffer, and read each other's events. Call [Kit.Kinesis] for each of them.
//
// # What is the same each time
//
// Shards are numbered from 0, and the identifiers of answers come from a fixed seed.
// Sequence numbers and times come from the clock. Texts of iterators are random.
package kinesistest
