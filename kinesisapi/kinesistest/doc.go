// Package kinesistest is Amazon Kinesis Data Streams in a Go unit test: no container, no port, no
// account. One line creates it, and the end of the test removes it:
//
//	func TestOrders(t *testing.T) {
//		k := kinesistest.New(t, kinesistest.Stream("orders", 2))
//		producer := orders.NewProducer(k.Kinesis()) // a *kinesis.Client of the AWS SDK
//		...
//		k.RequireRecords("orders", "first", "second")
//	}
//
// Each test has its own kit, which takes a few milliseconds to create, so tests can run in
// parallel. No limits apply unless [Kit.ExactLimits] turns them on.
//
// # Faults
//
// [Kit.Fail], [Kit.FailEntries], [Kit.Delay], [Kit.DropBefore] and [Kit.DropAfter] inject
// faults into the next calls of an operation, one fault per call, in the order in which the
// test added them. [Kit.Crash] simulates a power loss. If a fault has not occurred by the
// end of the test, the test fails.
//
// [Kit.Redeliver] delivers acknowledged records of a queue once more.
//
// # Queues
//
// [Kit.Queue] creates a queue on a stream made by [OnDemand], as CreateQueue does. The program
// under test receives from it by plain requests through [Kit.Client], because the SDK has no
// operations on queues yet. [Kit.RequireDrained] requires that nothing is left in the queue.
//
// # Looking
//
// [Kit.Records] returns the records of a stream, and [Kit.Calls] the calls of the service. The
// methods RequireRecords, RequireProcessed, RequireOrderPerKey, RequireCaughtUp and RequireDrained
// check the outcome; if one of them fails the test, it shows the records. The log of a failed test
// ends with a summary of records and calls.
//
// # Time
//
// In a bubble of testing/synctest, time passes at once when all goroutines wait. A sleep of
// six minutes, in which an iterator expires, takes microseconds, and so do the SDK's pauses
// between attempts. Create the kit inside the bubble:
//
//	synctest.Test(t, func(t *testing.T) {
//		k := kinesistest.New(t, kinesistest.Stream("orders", 1))
//		var handled []string // by a goroutine of the program under test
//		...
//		time.Sleep(6 * time.Minute)
//		synctest.Wait()
//		k.RequireProcessed("orders", handled)
//
// A sleep does not wait for other goroutines: those due at the same moment may run later,
// and the race detector sees no order. Call synctest.Wait after it: it returns when all
// other goroutines wait, and then the test may read what they wrote. Outside a bubble, use
// a lock or a channel.
//
// The bubble's clock always starts at the same moment, so sequence numbers are also the
// same in each run. Outside a bubble, the SDK's pauses before retries take some seconds of
// real time.
//
// # Subscriptions
//
// In smithy-go up to 1.28.9, on which the SDK is built, the subscriptions of one client
// share a decoder whose buffer stays empty. That is harmless, but the race detector reports
// it (aws/smithy-go#714, fixed upstream). Until the next version, tests under -race need a
// separate client for each subscription: call [Kit.Kinesis] for each.
//
// # Repeatable values
//
// Shards are numbered from 0. The request ids of answers come from a fixed seed, and so do
// the pauses before retries of the clients of [Kit.Kinesis]; other clients pause at random,
// as the SDK does. Sequence numbers and times come from the clock. Iterators are random.
package kinesistest
