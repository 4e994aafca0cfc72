package consumer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/braidstream/braid"
)

// DeadLetter is the record, as JSON, that [Config].DeadLetterStream receives for a failed
// record. Its partition key is that of the failed record.
type DeadLetter struct {
	App               string
	Stream            string
	ShardID           braid.ShardID
	SequenceNumber    braid.SequenceNumber
	SubSequenceNumber int `json:",omitzero"`
	PartitionKey      string
	ExplicitHashKey   *braid.HashKey `json:",omitzero"`
	ArrivalTime       time.Time
	Data              []byte // in JSON as base64
	Error             string // its first 4 KiB
	Attempts          int    // calls with the record alone
}

// handleFailed handles a failed record as the Config says.
func (r *runner) handleFailed(trying *retry, record *Record, attempts int, cause error) error {
	switch {
	case r.cfg.DeadLetterStream != "":
		if err := r.putDeadLetter(trying, record, attempts, cause); err != nil {
			return err
		}
		r.worker.counts.deadLettered.Add(1)
		r.log.Error("a record has failed, and was put into the dead-letter stream", "record", record.SequenceNumber, "error", cause)
	case r.cfg.SkipFailed:
		r.worker.counts.skipped.Add(1)
		r.log.Error("a record has failed, and is skipped", "record", record.SequenceNumber, "error", cause)
	default:
		return stoppedAt(record, attempts, cause)
	}
	r.noteRecovered(trying)
	if r.tracker != nil {
		r.tracker.markDone([]Record{*record})
		return nil
	}
	return r.skipTo(record.checkpoint())
}

// stoppedAt returns the error of a shard that stops at a record.
func stoppedAt(record *Record, attempts int, cause error) error {
	failed := *record // a copy: a stopped shard must not keep the page in memory
	failed.PartitionKey, failed.Data = strings.Clone(record.PartitionKey), bytes.Clone(record.Data)
	return &RecordError{Record: failed, Err: fmt.Errorf("after %d attempts: %w", attempts, cause)}
}

// putDeadLetter puts the record into the dead-letter stream, in one commit with the
// checkpoint. It retries while the error may be temporary.
func (r *runner) putDeadLetter(trying *retry, record *Record, attempts int, cause error) error {
	data, err := newDeadLetter(r.cfg.App, r.key.Stream, record, attempts, cause).encode()
	if err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		err := r.updateTx(r.ctx, func(tx *braid.Tx, lease *Lease) error {
			if r.tracker != nil {
				lease.advance(r.tracker.watermarkWith(record))
			} else {
				lease.advance(record.checkpoint())
			}
			return tx.PutRecord(r.cfg.DeadLetterStream, record.PartitionKey, data)
		})
		switch {
		case isFatal(err):
			return &fatalError{err}
		case err == nil:
			return nil
		case errors.Is(err, braid.ErrInvalidArgument): // for example, the letter is too large
			return stoppedAt(record, attempts, fmt.Errorf("%w; and its dead letter is refused: %w", cause, err))
		}
		if cause := context.Cause(r.ctx); cause != nil {
			return cause
		}
		r.log.Warn("the dead letter could not be put; retrying", "attempt", attempt, "error", err)
		r.noteRetry(trying, attempt, err)
		if err := r.cfg.pause(r.flow, attempt, err); err != nil {
			return err
		}
	}
}

func newDeadLetter(app, stream string, record *Record, attempts int, cause error) DeadLetter {
	text := cause.Error()
	return DeadLetter{
		App:               app,
		Stream:            stream,
		ShardID:           record.ShardID,
		SequenceNumber:    record.SequenceNumber,
		SubSequenceNumber: record.SubSequenceNumber,
		PartitionKey:      record.PartitionKey,
		ExplicitHashKey:   record.ExplicitHashKey,
		ArrivalTime:       record.ArrivalTime,
		Data:              record.Data,
		Error:             text[:min(len(text), maxErrorBytes)],
		Attempts:          attempts,
	}
}

// maxErrorBytes limits the text of an error in a dead letter, which may include a stack.
const maxErrorBytes = 4 << 10

func (d DeadLetter) encode() ([]byte, error) { return json.Marshal(d) }
