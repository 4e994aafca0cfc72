package queue

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"time"

	"github.com/braidstream/braid"
)

// Record is a record received from a queue. It is hidden from other receivers until it is
// acknowledged or its visibility timeout has passed. Kinesis: QueueRecord.
type Record struct {
	braid.Record

	// ID identifies the record in all queues of the stream, in every delivery: 24 lower-case
	// hexadecimal digits. Use it as a key by which others recognize duplicates. Kinesis:
	// RecordId.
	ID string

	// Receipt is the receipt with which to acknowledge this delivery. Each delivery of a
	// record has a different one. Kinesis: ReceiptHandle.
	Receipt Receipt

	// Receives is the number of deliveries of the record, including this one: 1 for the first
	// delivery, and for the first one after the record was restored from the dead letters.
	// Kinesis: ReceiveCount.
	Receives int

	// FirstReceived is when the record was first received. Kinesis: FirstReceiveTimestamp.
	FirstReceived time.Time

	// Reason is why the last attempt failed, shortened to 256 bytes: the error or panic of
	// [Queue.Work]'s function, or the reason passed to [Queue.Reject]. It is empty if none
	// was given.
	Reason string
}

// Receipt identifies one delivery of a record. It is an opaque text of A-Z, a-z, 0-9, -
// and _. It may leave the process, and stays valid when the database is opened again.
type Receipt string

// place is the place of a record. Counters are unique in the database; the shard is
// needed to find the record.
type place struct {
	shard   uint32
	counter uint64
}

// placeOf returns the place of a record, whose counter is its time of arrival.
func placeOf(r *braid.Record) place {
	return place{uint32(r.ShardID.Index()), uint64(r.ArrivalTime.UnixNano())}
}

func (p place) id() string {
	var raw [4 + 8]byte
	binary.BigEndian.PutUint32(raw[:], p.shard)
	binary.BigEndian.PutUint64(raw[4:], p.counter)
	var text [2 * len(raw)]byte
	hex.Encode(text[:], raw[:])
	return string(text[:])
}

// ticket is the content of a receipt: it identifies a delivery of a record.
type ticket struct {
	place
	generation uint64
	dead       bool // the receipt of a dead letter
}

const (
	receiptVersion = 1
	receiptBody    = 2 + 4 + 8 + 8
	receiptMAC     = 8
	receiptRaw     = receiptBody + receiptMAC
	receiptText    = (receiptRaw*8 + 5) / 6 // the length of a receipt
)

var receiptEncoding = base64.RawURLEncoding.Strict()

// receipt makes the receipt of a ticket. Its MAC exposes receipts of other queues and
// invented ones.
func (q *Queue) receipt(t ticket) Receipt {
	var memory [receiptRaw]byte
	raw := append(memory[:0], receiptVersion, 0)
	if t.dead {
		raw[1] = 1
	}
	raw = binary.BigEndian.AppendUint32(raw, t.shard)
	raw = binary.BigEndian.AppendUint64(raw, t.counter)
	raw = binary.BigEndian.AppendUint64(raw, t.generation)
	var text [receiptText]byte
	receiptEncoding.Encode(text[:], q.appendMAC(raw))
	return Receipt(text[:])
}

// ticket is the inverse of receipt.
func (q *Queue) ticket(r Receipt) (t ticket, err error) {
	var text [receiptText]byte
	var raw, good [receiptRaw]byte
	if len(r) != len(text) {
		return t, ErrReceiptInvalid
	}
	copy(text[:], r)
	n, err := receiptEncoding.Decode(raw[:], text[:]) // Decode ignores line breaks
	if err != nil || n != len(raw) || raw[0] != receiptVersion ||
		subtle.ConstantTimeCompare(raw[:], q.appendMAC(append(good[:0], raw[:receiptBody]...))) == 0 {
		return t, ErrReceiptInvalid
	}
	t.dead = raw[1] == 1
	t.shard = binary.BigEndian.Uint32(raw[2:])
	t.counter = binary.BigEndian.Uint64(raw[6:])
	t.generation = binary.BigEndian.Uint64(raw[14:])
	return t, nil
}

// appendMAC appends the MAC of a receipt's body to it.
func (q *Queue) appendMAC(body []byte) []byte {
	var text [16 + receiptBody]byte
	copy(text[:], q.secret[:])
	copy(text[16:], body)
	sum := sha256.Sum256(text[:])
	return append(body, sum[:receiptMAC]...)
}
