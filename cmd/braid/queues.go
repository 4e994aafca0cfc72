package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid/cmd/braid/internal/archive"
	"github.com/braidstream/braid/queue"
)

// maxLetters is how many dead letters, the oldest ones, are looked at.
const maxLetters = 1000

func (p *program) queuesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "queues", Short: "List the queues and their counts", GroupID: groupQueues,
		Args: arguments(0, 0),
		RunE: p.verb(reads, func(ctx context.Context, s store, _ []string) error {
			queues, err := s.Queues(ctx)
			if err != nil {
				return err
			}
			if p.json {
				return writeJSON(p.stdout, append(make([]any, 0), anys(queues)...))
			}
			t := newTable("QUEUE", "STREAM", ">VISIBLE", ">IN FLIGHT", ">DELAYED", ">HELD", ">DEAD", ">OLDEST")
			for _, q := range queues {
				oldest := "-"
				if q.OldestAge > 0 {
					oldest = duration(q.OldestAge)
				}
				t.row(q.Name, q.Options.Stream, number(q.Visible), number(q.InFlight), number(q.Delayed), number(q.Held), number(q.Dead), oldest)
			}
			t.write(p.stdout, "There are no queues.")
			return nil
		}),
	}
}

func (p *program) deadLettersCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "deadletters QUEUE", Short: "List the dead letters of a queue", GroupID: groupQueues,
		Long: `deadletters lists the records of a queue that were received as often as the queue allows, or were rejected: oldest
first, with the reason why the last attempt failed. restore and discard take their IDs.`,
		Args: arguments(1, 1), ValidArgsFunction: p.completeQueues,
		RunE: p.verb(reads, func(ctx context.Context, s store, args []string) error {
			if limit < 1 || limit > maxLetters {
				return usagef("--limit %d must be 1 to %s", limit, number(maxLetters))
			}
			d, err := s.Queue(ctx, args[0])
			if err != nil {
				return err
			}
			letters, err := s.DeadLetters(ctx, args[0], limit, true)
			if err != nil {
				return err
			}
			if p.json {
				rows := make([]letterRow, len(letters))
				for i := range letters {
					rows[i] = newLetterRow(&letters[i])
				}
				return writeJSON(p.stdout, rows)
			}
			t := newTable("ID", "ARRIVED", ">RECEIVES", "KEY", "DATA", "REASON")
			for i := range letters {
				l := &letters[i]
				reason := "-"
				if l.Receipt == "" {
					reason = "(held by a receiver of dead letters)"
				} else if l.Reason != "" {
					reason = shortened(printable(l.Reason), 60)
				}
				t.row(l.ID, moment(l.ArrivalTime), number(int64(l.Receives)), shortened(printable(l.PartitionKey), 20), shortened(printable(string(l.Data)), 40), reason)
			}
			t.write(p.stdout, "There are no dead letters.")
			if more := d.Dead - int64(len(letters)); more > 0 {
				fmt.Fprintf(p.stdout, "%s more are not shown.\n", number(more))
			}
			return nil
		}),
	}
	cmd.Flags().IntVarP(&limit, "limit", "n", 100, "maximum number of dead letters to list, 1 to 1,000")
	return cmd
}

// letterRow is a dead letter in JSON.
type letterRow struct {
	ID            string
	Receives      int
	FirstReceived time.Time
	Reason        string
	InFlight      bool // a receiver of dead letters has it
	Record        archive.Line
}

func newLetterRow(l *queue.Record) letterRow {
	return letterRow{l.ID, l.Receives, l.FirstReceived, l.Reason, l.Receipt == "", archive.LineOf(&l.Record)}
}

func (p *program) restoreCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "restore QUEUE [ID ...]", Short: "Put dead letters back into their queue", GroupID: groupQueues,
		Long: `restore puts dead letters back into their queue: they are visible at once, with all attempts left. deadletters lists
their IDs; --all restores all of them.`,
		Args: arguments(1, -1), ValidArgsFunction: p.completeQueues,
		RunE: p.verb(writes, func(ctx context.Context, s store, args []string) error {
			name, ids := args[0], args[1:]
			if err := idsOrAll(ids, all, "restore"); err != nil {
				return err
			}
			n := len(ids)
			if all {
				var err error
				if n, err = s.RestoreAll(ctx, name); err != nil {
					return err
				}
			} else {
				receipts, err := receiptsOf(ctx, s, name, ids)
				if err == nil {
					err = s.Restore(ctx, name, receipts)
				}
				if err != nil {
					return err
				}
			}
			return p.done(struct{ Restored int }{n}, "%s of queue %s can be received again.", count(int64(n), "record"), name)
		}),
	}
	cmd.Flags().BoolVar(&all, "all", false, "restore all dead letters")
	return cmd
}

func (p *program) discardCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "discard QUEUE [ID ...]", Short: "Remove dead letters from their queue for good", GroupID: groupQueues,
		Long: `discard removes dead letters from their queue, which never hands them out again. The stream keeps the records
until its retention ends. deadletters lists the IDs. --all discards all dead letters that exist when it begins,
except those held by a receiver of dead letters. It asks first, unless --yes is given.`,
		Args: arguments(1, -1), ValidArgsFunction: p.completeQueues,
		RunE: p.verb(writes, func(ctx context.Context, s store, args []string) error {
			name, ids := args[0], args[1:]
			if err := idsOrAll(ids, all, "discard"); err != nil {
				return err
			}
			discard := p.discardSome
			if all {
				discard = p.discardAll
			}
			n, err := discard(ctx, s, name, ids)
			if err != nil {
				return err
			}
			return p.done(struct{ Discarded int }{n}, "%s left queue %s.", haveCount(n, "dead letter"), name)
		}),
	}
	cmd.Flags().BoolVar(&all, "all", false, "discard all dead letters")
	cmd.Flags().BoolVar(&p.yes, "yes", false, "do not ask")
	return cmd
}

func (p *program) discardSome(ctx context.Context, s store, name string, ids []string) (int, error) {
	receipts, err := receiptsOf(ctx, s, name, ids)
	if err != nil {
		return 0, err
	}
	if err := p.confirm("%s of queue %s %s discarded", count(int64(len(ids)), "dead letter"), name, areOrIs(int64(len(ids)))); err != nil {
		return 0, err
	}
	return len(ids), s.Discard(ctx, name, receipts)
}

// discardAll discards as many dead letters as exist when it begins, so that it ends even
// if more records die meanwhile. Dead letters in flight stay.
func (p *program) discardAll(ctx context.Context, s store, name string, _ []string) (discarded int, err error) {
	d, err := s.Queue(ctx, name)
	if err != nil {
		return 0, err
	}
	if d.Dead == 0 {
		return 0, nil
	}
	if err := p.confirm("%s of queue %s %s discarded", count(d.Dead, "dead letter"), name, areOrIs(d.Dead)); err != nil {
		return 0, err
	}
	for discarded < int(d.Dead) {
		letters, err := s.DeadLetters(ctx, name, min(maxLetters, int(d.Dead)-discarded), false)
		if err != nil {
			return discarded, err
		}
		var receipts []queue.Receipt
		for i := range letters {
			if letters[i].Receipt != "" {
				receipts = append(receipts, letters[i].Receipt)
			}
		}
		if len(receipts) == 0 {
			break
		}
		if err := s.Discard(ctx, name, receipts); err != nil {
			return discarded, err
		}
		discarded += len(receipts)
	}
	return discarded, nil
}

func idsOrAll(ids []string, all bool, verb string) error {
	switch {
	case all && len(ids) > 0:
		return usagef("IDs and --all exclude each other: give one of them")
	case !all && len(ids) == 0:
		return usagef("the dead letters to %s are missing: give IDs from the list of deadletters, or --all", verb)
	}
	return nil
}

// receiptsOf returns the receipts of dead letters.
func receiptsOf(ctx context.Context, s store, name string, ids []string) ([]queue.Receipt, error) {
	letters, err := s.DeadLetters(ctx, name, maxLetters, false)
	if err != nil {
		return nil, err
	}
	byID := make(map[string]queue.Receipt)
	for i := range letters {
		byID[letters[i].ID] = letters[i].Receipt
	}
	receipts := make([]queue.Receipt, len(ids))
	for i, id := range ids {
		receipt, found := byID[id]
		switch {
		case !found && len(letters) == maxLetters:
			return nil, fmt.Errorf("none of the oldest %s dead letters of queue %s has the ID %q; nothing was done", number(maxLetters), name, id)
		case !found:
			return nil, &codedError{fmt.Errorf("queue %s has no dead letter with the ID %q; nothing was done", name, id), exitNotFound}
		case receipt == "":
			return nil, fmt.Errorf("dead letter %s of queue %s is held by a receiver of dead letters; nothing was done", id, name)
		}
		receipts[i] = receipt
	}
	return receipts, nil
}

// haveCount formats a number of things, followed by has or have.
func haveCount(n int, thing string) string {
	if n == 1 {
		return count(1, thing) + " has"
	}
	return count(int64(n), thing) + " have"
}

func areOrIs(n int64) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// shortened cuts off a text that is longer than that many characters.
func shortened(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}
