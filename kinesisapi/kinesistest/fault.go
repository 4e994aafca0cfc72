package kinesistest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/braidstream/braid/kinesisapi/internal/fault"
	"github.com/braidstream/braid/kinesisapi/internal/service"
)

// Fail makes the next calls of an operation, as many as times, do nothing and fail with the
// named error:
//
//	k.Fail("PutRecord", 3, "ProvisionedThroughputExceededException")
//
// The SDK retries errors that mean throttling or a failure of the server: by default it
// makes 3 attempts, each of which is a call.
func (k *Kit) Fail(operation string, times int, code string) {
	k.t.Helper()
	k.checkCode(code)
	k.add(operation, times, fault.Fault{Error: fault.Named(code, "")})
}

// FailEntries makes some entries of the next PutRecords fail with the named error; the
// others are put. Entries are indexes into the slices of request and answer:
//
//	k.FailEntries("ProvisionedThroughputExceededException", 2, 5)
//
// If the call has no such entry, the test fails.
func (k *Kit) FailEntries(code string, entries ...int) {
	k.t.Helper()
	k.checkCode(code)
	if len(entries) == 0 || slices.Min(entries) < 0 {
		k.t.Fatalf("kinesistest: FailEntries needs the entries that are to fail, counted from 0; it was given %v", entries)
	}
	k.add("PutRecords", 1, fault.Fault{Entries: slices.Clone(entries), EntryError: fault.Named(code, "")})
}

// Delay makes the next calls of an operation, as many as times, wait for delay before they
// run.
func (k *Kit) Delay(operation string, times int, delay time.Duration) {
	k.t.Helper()
	k.add(operation, times, fault.Fault{Delay: delay})
}

// DropBefore breaks the connection of the next calls of an operation, as many as times,
// before they have done anything.
func (k *Kit) DropBefore(operation string, times int) {
	k.t.Helper()
	k.add(operation, times, fault.Fault{DropBefore: true})
}

// DropAfter breaks the connection of the next calls of an operation, as many as times,
// after they have run and before the answer. To the caller it looks like [Kit.DropBefore]:
// the outcome is unknown. The SDK retries, so a record whose response was lost is stored
// twice.
func (k *Kit) DropAfter(operation string, times int) {
	k.t.Helper()
	k.add(operation, times, fault.Fault{DropAfter: true})
}

// Redeliver makes the queue deliver the records of the next calls of AcknowledgeQueueRecords once
// more; times is the number of calls. The calls succeed, and the records can be received again at
// once; a record that has no receives left becomes a dead letter. Kinesis may do so on rare
// occasions, and a consumer must be able to handle it.
//
// For an acknowledgement whose response is lost, use [Kit.DropAfter].
func (k *Kit) Redeliver(times int) {
	k.t.Helper()
	k.add("AcknowledgeQueueRecords", times, fault.Fault{Redeliver: true})
}

func (k *Kit) add(operation string, times int, f fault.Fault) {
	k.t.Helper()
	k.checkOperation(operation)
	if times < 1 {
		k.t.Fatalf("kinesistest: a fault must be met by 1 call at least, not by %d", times)
	}
	k.faults.Add(operation, times, f)
}

func (k *Kit) checkOperation(name string) {
	if service.Operations[name] == nil {
		k.t.Helper()
		k.t.Fatalf("kinesistest: there is no operation %q; there are %s", name, strings.Join(slices.Sorted(maps.Keys(service.Operations)), ", "))
	}
}

func (k *Kit) checkCode(name string) {
	if !slices.Contains(fault.Names, name) {
		k.t.Helper()
		k.t.Fatalf("kinesistest: the service has no error %q; it has %s", name, strings.Join(fault.Names, ", "))
	}
}

func describe(f fault.Fault) string {
	switch {
	case f.Error != nil:
		return f.Error.Type
	case f.EntryError != nil:
		return fmt.Sprintf("%s for entries %v", f.EntryError.Type, f.Entries)
	case f.Redeliver:
		return "another delivery of its records"
	case f.DropBefore, f.DropAfter:
		return "a broken connection"
	default:
		return fmt.Sprintf("a delay of %v", f.Delay)
	}
}
