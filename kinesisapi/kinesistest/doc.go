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
// [Kit.Redeliver] delivers what was acknowledged.
//
// # Queues
//
// [Kit.Queue] makes a queue of a stream from [OnDemand], as CreateQueue does. The program
// under test receives from it with plain requests by [Kit.Client]: the SDK has no operations
// on queues yet. [Kit.RequireDrained] requires that nothing is left in the queue.
//
// # Looking
//
// [Kit.Records] is what the streams hold, and [Kit.Calls] what was asked of the
// service. RequireRecords, RequireProcessed, RequireOrderPerKey, RequireCaughtUp and
// RequireDrained fail the test, and show what was there. The log of a failed test ends with a
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
//		var handled []string // by a goroutine of the program under test
//		...
//		time.Sleep(6 * time.Minute)
//		synctest.Wait()
//		k.RequireProcessed("orders", handled)
//
// A sleep does not wait for anybody: goroutines that are due at the same moment may run
// later, and for the race detector it orders nothing. After it, synctest.Wait returns
// when all others wait, and what they did can be read. Where there is no bubble it
// takes a lock or a channel.
//
// The bubble's clock always begins with the same moment, so that sequence numbers are
// the same in each run as well. Outside of a bubble a call that is to be tried again
// costs the SDK's pauses, some seconds.
//
// # Subscriptions
//
// In smithy-go up to 1.28.9, which the SDK stands on, the subscriptions of one client
// share a decoder whose buffer stays empty. Nothing goes wrong, but the race detector
// sees it (aws/smithy-go#714, mended upstream): until the next version, tests under
// -race need a client for each subscription, so call [Kit.Kinesis] for each.
//
// # What is the same each time
//
// Shards are numbered from 0. The identifiers of answers come from a fixed seed, and so
// do the pauses before another attempt of the clients of [Kit.Kinesis]: those of other
// clients are the SDK's, at random. Sequence numbers and times come from the clock.
// Texts of iterators are random.
package kinesistest
