package modeltest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/queue"
)

// Commands of scenarios about queues. Receipts are called r1, r2 and so on, in the order in which
// they were received.

// queueCommands are the commands whose first word is the name of a queue.
var queueCommands = []string{
	"create-queue", "update-queue", "delete-queue", "describe-queue", "receive", "receive-dead", "exchange",
	"ack", "extend", "release", "return", "reject", "discard", "restore", "restore-all",
}

// runOnQueue runs a command that is about a queue.
func (s *scenario) runOnQueue(command, name string, plain []string, args map[string]string) string {
	ctx := s.t.Context()
	if command == "create-queue" {
		o := &queue.Options{Stream: args["stream"], OrderByKey: args["order"] == "key"}
		if args["start"] != "" {
			o.Start = s.position(args["start"])
		}
		s.setQueue(o, args)
		_, err := queue.Create(ctx, s.db, name, o)
		return s.done(err)
	}
	q, err := queue.Get(ctx, s.db, name)
	if err != nil {
		return s.failed(err)
	}
	letters := q.DeadLetters()
	switch command {
	case "update-queue":
		return s.done(q.Update(ctx, func(o *queue.Options) { s.setQueue(o, args) }))
	case "delete-queue":
		return s.done(q.Delete(ctx))
	case "describe-queue":
		return s.describeQueue(q)
	case "receive", "receive-dead", "exchange":
		return s.receive(q, command, plain, args)
	case "ack":
		return s.settled(q.Ack(ctx, s.receipts(plain)...))
	case "extend":
		return s.settled(q.Extend(ctx, s.duration(plain[0]), s.receipts(plain[1:])...))
	case "release":
		return s.settled(q.Release(ctx, s.duration(plain[0]), s.receipts(plain[1:])...))
	case "return":
		return s.settled(q.Return(ctx, s.receipts(plain)...))
	case "reject":
		return s.settled(q.Reject(ctx, args["reason"], s.receipts(plain)...))
	case "discard":
		return s.settled(letters.Discard(ctx, s.receipts(plain)...))
	case "restore":
		return s.settled(letters.Restore(ctx, s.receipts(plain)...))
	case "restore-all":
		n, err := letters.RestoreAll(ctx)
		if err != nil {
			return s.failed(err)
		}
		return fmt.Sprintf("%d\n", n)
	}
	s.t.Fatalf("unknown command %q", command)
	return ""
}

func (s *scenario) setQueue(o *queue.Options, args map[string]string) {
	if args["visibility"] != "" {
		o.VisibilityTimeout = s.duration(args["visibility"])
	}
	if args["max-receives"] != "" {
		o.MaxReceives = s.number(args["max-receives"])
	}
	if args["max-in-flight"] != "" {
		o.MaxInFlight = s.number(args["max-in-flight"])
	}
}

// receive receives the given number of records, and waits only if args has a wait. The records that
// an exchange acknowledges come after the number.
func (s *scenario) receive(q *queue.Queue, command string, plain []string, args map[string]string) string {
	o := &queue.ReceiveOptions{Wait: -1}
	if args["wait"] != "" {
		o.Wait = s.duration(args["wait"])
	}
	if args["visibility"] != "" {
		o.VisibilityTimeout = s.duration(args["visibility"])
	}
	var records []queue.Record
	var err error
	switch n := s.number(plain[0]); command {
	case "receive-dead":
		records, err = q.DeadLetters().Receive(s.t.Context(), n, o)
	case "exchange":
		records, err = q.Exchange(s.t.Context(), n, o, s.receipts(plain[1:])...)
	default:
		records, err = q.Receive(s.t.Context(), n, o)
	}
	var out strings.Builder
	if err != nil {
		out.WriteString(s.settled(err))
	}
	for i := range records {
		r := &records[i]
		s.given = append(s.given, r.Receipt)
		fmt.Fprintf(&out, "r%d, received %d: %s", len(s.given), r.Receives, s.record(r.Record))
	}
	if out.Len() == 0 {
		return "nothing\n"
	}
	return out.String()
}

// receipts returns the receipts with these names.
func (s *scenario) receipts(names []string) (all []queue.Receipt) {
	for _, name := range names {
		i, _ := strings.CutPrefix(name, "r")
		all = append(all, s.given[s.number(i)-1])
	}
	return all
}

// settled formats the error of a call with receipts: each refused one by its name.
func (s *scenario) settled(err error) string {
	var refused *queue.ReceiptsError
	if !errors.As(err, &refused) {
		return s.done(err)
	}
	var out strings.Builder
	for _, f := range refused.Failed {
		fmt.Fprintf(&out, "r%d: %s", 1+slices.Index(s.given, f.Receipt), s.failed(f.Err))
	}
	return out.String()
}

func (s *scenario) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	require.NoError(s.t, err)
	return d
}

func (s *scenario) describeQueue(q *queue.Queue) string {
	d, err := q.Describe(s.t.Context())
	if err != nil {
		return s.failed(err)
	}
	return fmt.Sprintf("visible %d, in flight %d, delayed %d, held %d, dead %d, expired: %d unread, %d received, %d dead\n",
		d.Visible, d.InFlight, d.Delayed, d.Held, d.Dead, d.ExpiredUnreceived, d.ExpiredReceived, d.ExpiredDead)
}

// queueErrors are the classes of errors of queues.
var queueErrors = map[string]error{
	"ErrQueueNotFound": queue.ErrQueueNotFound, "ErrQueueExists": queue.ErrQueueExists, "ErrStreamInUse": braid.ErrStreamInUse,
	"ErrReceiptInvalid": queue.ErrReceiptInvalid, "ErrReceiptExpired": queue.ErrReceiptExpired, "ErrRecordSettled": queue.ErrRecordSettled,
}
