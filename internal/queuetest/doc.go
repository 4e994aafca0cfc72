// Package queuetest is what a queue promises, written down as no queue could be built: a
// [Fate] says of one record what may become of it by a call, [Linearize] whether there is an
// order of calls that were made at once that explains all their answers, and a [Twin] is a
// whole queue, which does one call after the other and looks at everything each time.
//
// It is for tests: those of package queue, and the model of the database. It holds no test of
// a queue itself.
package queuetest
