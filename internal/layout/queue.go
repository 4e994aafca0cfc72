package layout

import (
	"encoding/binary"
	"fmt"
)

// QueueID identifies a queue in keys. It is random, so no two queues have the same, and leftover
// rows of a deleted queue never belong to another.
type QueueID [16]byte

// QueueKey is the key of a queue's [QueueRow].
func QueueKey(id QueueID) []byte { return append([]byte{columnQueue}, id[:]...) }

// QueueSpan is the range of all [QueueRow]s.
func QueueSpan() (lower, upper []byte) { return []byte{columnQueue}, []byte{columnQueue + 1} }

// DecodeQueueKey is the inverse of [QueueKey].
func DecodeQueueKey(key []byte) (id QueueID, err error) {
	if len(key) != 1+len(id) || key[0] != columnQueue {
		return id, fmt.Errorf("%w: key %x is not a queue's", ErrCorrupt, key)
	}
	return QueueID(key[1:]), nil
}

// CursorKey is the key of the [CursorRow] of a queue and a shard.
func CursorKey(id QueueID, shard uint32) []byte {
	return AppendCursorKey(make([]byte, 0, 1+len(id)+4), id, shard)
}

// AppendCursorKey appends a [CursorKey] to buf.
func AppendCursorKey(buf []byte, id QueueID, shard uint32) []byte {
	buf = append(append(buf, columnCursor), id[:]...)
	return binary.BigEndian.AppendUint32(buf, shard)
}

// QueueCursorsSpan is the range of one queue's [CursorRow]s.
func QueueCursorsSpan(id QueueID) (lower, upper []byte) { return spanID(columnCursor, id) }

// CursorSpan is the range of all [CursorRow]s.
func CursorSpan() (lower, upper []byte) { return []byte{columnCursor}, []byte{columnCursor + 1} }

// DecodeCursorKey is the inverse of [CursorKey].
func DecodeCursorKey(key []byte) (id QueueID, shard uint32, err error) {
	if len(key) != 1+len(id)+4 || key[0] != columnCursor {
		return id, 0, fmt.Errorf("%w: key %x is not that of a queue's cursor", ErrCorrupt, key)
	}
	return QueueID(key[1 : 1+len(id)]), binary.BigEndian.Uint32(key[1+len(id):]), nil
}

// DeliveryKey is the key of the [DeliveryRow] of a queue for the record of a shard with that
// counter.
func DeliveryKey(id QueueID, shard uint32, counter uint64) []byte {
	return AppendDeliveryKey(make([]byte, 0, 1+len(id)+4+8), id, shard, counter)
}

// AppendDeliveryKey appends a [DeliveryKey] to buf.
func AppendDeliveryKey(buf []byte, id QueueID, shard uint32, counter uint64) []byte {
	buf = append(append(buf, columnDelivery), id[:]...)
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(buf, shard), counter)
}

// QueueDeliveriesSpan is the range of one queue's [DeliveryRow]s.
func QueueDeliveriesSpan(id QueueID) (lower, upper []byte) { return spanID(columnDelivery, id) }

// DeliverySpan is the range of all [DeliveryRow]s.
func DeliverySpan() (lower, upper []byte) { return []byte{columnDelivery}, []byte{columnDelivery + 1} }

// DecodeDeliveryKey is the inverse of [DeliveryKey].
func DecodeDeliveryKey(key []byte) (id QueueID, shard uint32, counter uint64, err error) {
	if len(key) != 1+len(id)+4+8 || key[0] != columnDelivery {
		return id, 0, 0, fmt.Errorf("%w: key %x is not that of a delivery", ErrCorrupt, key)
	}
	rest := key[1+len(id):]
	return QueueID(key[1 : 1+len(id)]), binary.BigEndian.Uint32(rest), binary.BigEndian.Uint64(rest[4:]), nil
}

// spanID returns the range of the keys that begin with the column and a queue's id.
func spanID(column byte, id QueueID) (lower, upper []byte) {
	lower = append([]byte{column}, id[:]...)
	upper = append([]byte{column}, id[:]...)
	for i := len(upper) - 1; ; i-- {
		if upper[i]++; upper[i] != 0 {
			return lower, upper[:i+1]
		}
	}
}

// QueueRow is what is stored about a queue. Its key is [QueueKey].
type QueueRow struct {
	Name    string
	Stream  uint32   // number of the stream
	Created uint64   // Unix time in nanoseconds
	Start   uint64   // records with this counter or a greater one are delivered
	Started uint64   // the time that Start stands for, Unix time in nanoseconds
	Secret  [16]byte // authenticates receipts

	Visibility  uint64 // nanoseconds
	MaxReceives uint64 // 0: a record never becomes a dead letter
	MaxInFlight uint64
	MaxWaiting  uint64
	OrderByKey  bool
	BlockAtDead bool // with OrderByKey: whether a dead record holds back the others of its key

	// Counts of records that have left the stream before they were settled. ExpiredUnreceived
	// only counts records that were held back, or that were removed with their shard: the others
	// are the difference of a shard's ordinals and its cursor's.
	ExpiredUnreceived, ExpiredReceived, ExpiredDead uint64
}

// Flags of a queue's row.
const (
	queueOrderByKey = 1 << iota
	queueBlockAtDead
)

// Encode returns the bytes of the queue's row.
func (r QueueRow) Encode(id QueueID) []byte {
	w := newRow()
	w.string(r.Name)
	w.uint(uint64(r.Stream))
	w.uint(r.Created)
	w.uint(r.Start)
	w.uint(r.Started)
	w.bytes(r.Secret[:])
	w.uint(r.Visibility)
	w.uint(r.MaxReceives)
	w.uint(r.MaxInFlight)
	w.uint(r.MaxWaiting)
	w.uint(flag(r.OrderByKey, queueOrderByKey) | flag(r.BlockAtDead, queueBlockAtDead))
	w.uint(r.ExpiredUnreceived)
	w.uint(r.ExpiredReceived)
	w.uint(r.ExpiredDead)
	return w.seal(QueueKey(id))
}

// DecodeQueueRow is the inverse of [QueueRow.Encode].
func DecodeQueueRow(id QueueID, value []byte) (row QueueRow, err error) {
	r := openRow(QueueKey(id), value)
	row.Name = string(r.string())
	row.Stream = r.uint32()
	row.Created = r.uint()
	row.Start = r.uint()
	row.Started = r.uint()
	row.Secret = [16]byte(r.fixed(16))
	row.Visibility = r.uint()
	row.MaxReceives = r.uint()
	row.MaxInFlight = r.uint()
	row.MaxWaiting = r.uint()
	flags := r.flags(queueOrderByKey | queueBlockAtDead)
	row.OrderByKey, row.BlockAtDead = flags&queueOrderByKey != 0, flags&queueBlockAtDead != 0
	row.ExpiredUnreceived = r.uint()
	row.ExpiredReceived = r.uint()
	row.ExpiredDead = r.uint()
	return row, r.close()
}

// CursorRow says how far a queue has received the records of a shard. Its key is [CursorKey]. A
// shard without a cursor was created after the queue, and none of its records was received. The
// cursors of removed shards are deleted, except the one with the highest counter, until
// another one is higher.
//
// Invariant: the highest counter of a queue's cursors never falls. A record below it that has no
// row is settled, in any shard. If it fell, acknowledged records would be received again.
type CursorRow struct {
	Counter uint64 // the last received record's; or one below the queue's start
	Ordinal uint64 // the ordinal of the queue's first record in the shard, plus how many were received
}

// Encode returns the bytes of the cursor's row.
func (r CursorRow) Encode(key []byte) []byte { return r.Append(nil, key) }

// Append is Encode into the memory of buf.
func (r CursorRow) Append(buf, key []byte) []byte {
	w := rowWriter{buf: append(buf[:0], rowVersion)}
	w.uint(r.Counter)
	w.uint(r.Ordinal)
	return w.seal(key)
}

// DecodeCursorRow is the inverse of [CursorRow.Encode].
func DecodeCursorRow(key, value []byte) (row CursorRow, err error) {
	r := openRow(key, value)
	row.Counter = r.uint()
	row.Ordinal = r.uint()
	return row, r.close()
}

// DeliveryRow is what a queue stores about a record that was received and is not settled. Its key
// is [DeliveryKey].
//
// Invariant: a record below the queue's cursors that has no row is settled.
type DeliveryRow struct {
	Receives   uint64
	Generation uint64 // rises with each receive, by random steps: the receipts of earlier ones become invalid
	Visible    uint64 // when it becomes visible, Unix time in nanoseconds
	First      uint64 // when it was first received, Unix time in nanoseconds; 0: never, it is held back
	Size       uint64 // of its partition key and data
	KeyHash    uint64 // the hash of its partition key, with QueueRow.OrderByKey; otherwise 0
	Dead       bool   // whether it is a dead letter, whatever Receives is
	Waiting    bool   // whether it was given back: nobody holds it until Visible
	Local      bool   // whether a goroutine of the process that wrote the row holds it
	Reason     string // why the last attempt failed; empty if no reason was given
}

// Flags of a delivery's row.
const (
	deliveryDead = 1 << iota
	deliveryWaiting
	deliveryLocal
	deliveryReason
	deliveryKey
)

// Encode returns the bytes of the delivery's row.
func (r DeliveryRow) Encode(key []byte) []byte {
	return r.Append(make([]byte, 0, 48+len(r.Reason)), key)
}

// Append is Encode into the memory of buf.
func (r DeliveryRow) Append(buf, key []byte) []byte {
	w := rowWriter{buf: append(buf[:0], rowVersion)}
	w.uint(r.Receives)
	w.uint(r.Generation)
	w.uint(r.Visible)
	w.uint(r.First)
	w.uint(r.Size)
	w.uint(flag(r.Dead, deliveryDead) | flag(r.Waiting, deliveryWaiting) | flag(r.Local, deliveryLocal) |
		flag(r.Reason != "", deliveryReason) | flag(r.KeyHash != 0, deliveryKey))
	if r.Reason != "" {
		w.string(r.Reason)
	}
	if r.KeyHash != 0 {
		w.buf = binary.BigEndian.AppendUint64(w.buf, r.KeyHash)
	}
	return w.seal(key)
}

// DecodeDeliveryRow is the inverse of [DeliveryRow.Encode].
func DecodeDeliveryRow(key, value []byte) (row DeliveryRow, err error) {
	r := openRow(key, value)
	row.Receives = r.uint()
	row.Generation = r.uint()
	row.Visible = r.uint()
	row.First = r.uint()
	row.Size = r.uint()
	flags := r.flags(deliveryDead | deliveryWaiting | deliveryLocal | deliveryReason | deliveryKey)
	row.Dead, row.Waiting, row.Local = flags&deliveryDead != 0, flags&deliveryWaiting != 0, flags&deliveryLocal != 0
	if flags&deliveryReason != 0 {
		if row.Reason = string(r.string()); row.Reason == "" && r.err == nil {
			r.fail("an empty reason is not written")
		}
	}
	if flags&deliveryKey != 0 {
		if row.KeyHash = binary.BigEndian.Uint64(r.fixed(8)); row.KeyHash == 0 && r.err == nil {
			r.fail("a key hash of 0 is not written")
		}
	}
	return row, r.close()
}
