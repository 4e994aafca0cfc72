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

// Fail makes the next calls of an operation fail, so many of them, with the error of
// that name, and do nothing:
//
//	k.Fail("PutRecord", 3, "ProvisionedThroughputExceededException")
//
// The SDK tries again by itself what it takes for throttling or a failure of the
// server: by default 3 attempts in all, each of which is a call.
func (k *Kit) Fail(operation string, times int, code string) {
	k.t.Helper()
	k.checkCode(code)
	k.add(operation, times, fault.Fault{Error: fault.Named(code, "")})
}

// FailEntries makes some entries of the next PutRecords fail, with the error of that
// name; the others are put. Entries are counted from 0, as in the slices of request and
// answer:
//
//	k.FailEntries("ProvisionedThroughputExceededException", 2, 5)
//
// A call that has no such entry fails the test.
func (k *Kit) FailEntries(code string, entries ...int) {
	k.t.Helper()
	k.checkCode(code)
	if len(entries) == 0 || slices.Min(entries) < 0 {
		k.t.Fatalf("kinesistest: FailEntries needs the entries that are to fail, counted from 0; it was given %v", entries)
	}
	k.add("PutRecords", 1, fault.Fault{Entries: slices.Clone(entries), EntryError: fault.Named(code, "")})
}

// Delay makes the next calls of an operation take so much longer, so many of them.
func (k *Kit) Delay(operation string, times int, delay time.Duration) {
	k.t.Helper()
	k.add(operation, times, fault.Fault{Delay: delay})
}

// DropBefore breaks the connection of the next calls of an operation, so many of them,
// before they have done anything.
func (k *Kit) DropBefore(operation string, times int) {
	k.t.Helper()
	k.add(operation, times, fault.Fault{DropBefore: true})
}

// DropAfter breaks the connection of the next calls of an operation, so many of them,
// when they have been carried out, in place of the answer. To the caller it looks the
// same as [Kit.DropBefore]: the outcome is unknown. The SDK tries again, so a put
// whose answer was lost is there twice.
func (k *Kit) DropAfter(operation string, times int) {
	k.t.Helper()
	k.add(operation, times, fault.Fault{DropAfter: true})
}

// Redeliver has the records of the next calls of AcknowledgeQueueRecords delivered once more,
// so many calls. The calls succeed, and the records can be received again at once; a record
// that was received for the last time becomes a dead letter. Kinesis may do so on rare
// occasions, and a consumer has to stand it.
//
// For an acknowledgement whose answer is lost use [Kit.DropAfter].
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
