// Package queuetest is an executable specification of queues: a [Fate] says how a call may
// change the state of one record, [Linearize] finds out whether some order of concurrent calls
// explains all their answers, and a [Twin] is a whole queue, which runs one call after the
// other and scans all records each time.
//
// The tests of package queue and the model of the database use it. It has no test of a queue
// itself.
package queuetest
