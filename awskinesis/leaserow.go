package awskinesis

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// This file is about the rows of the lease table: the attributes of the KCL 3.5, and a map
// attribute of braid's own for facts for which the KCL has none.

// leaseRow is a row of a table: an item of DynamoDB.
type leaseRow = map[string]types.AttributeValue

// The attributes of the KCL.
const (
	attrKey            = "leaseKey"
	attrOwner          = "leaseOwner"      // during a hand-over, the next owner
	attrCurrentOwner   = "checkpointOwner" // present only during a hand-over: the current owner
	attrCounter        = "leaseCounter"
	attrSwitches       = "ownerSwitchesSinceCheckpoint"
	attrCheckpoint     = "checkpoint"
	attrCheckpointSub  = "checkpointSubSequenceNumber"
	attrPending        = "pendingCheckpoint"
	attrPendingSub     = "pendingCheckpointSubSequenceNumber"
	attrPendingState   = "pendingCheckpointState"
	attrParents        = "parentShardId"
	attrChildren       = "childShardIds"
	attrStartingHash   = "startingHashKey"
	attrEndingHash     = "endingHashKey"
	attrThroughput     = "throughputKBps"
	attrEntityType     = "entityType"
	attrStreamName     = "streamName" // multi-stream only
	attrShardID        = "shardId"    // multi-stream only
	entityLease        = "LEASE"
	entityMetrics      = "WORKER_METRIC_STATS"
	attrLastUpdateTime = "lut" // of worker metrics: seconds since 1970
	attrWorkerID       = "wid" // of worker metrics in a separate table
	attrMeasurements   = "sts" // of worker metrics: the last values of each
	attrLimits         = "opr" // of worker metrics: the maximum desired value of each
	attrSupport        = "sup" // of worker metrics: what the worker's version can do
	attrSupportTime    = "slu"
)

// The row of the leader lock, with the attributes of Amazon's DynamoDB lock client.
const (
	leaderRow        = "Leader"
	entityLeader     = "LEADER"
	attrLockOwner    = "ownerName"
	attrLockDuration = "leaseDuration"       // a text: milliseconds
	attrLockVersion  = "recordVersionNumber" // changes with each renewal
	attrLockReleased = "isReleased"
)

// The rows with the protocol version that the workers use. The first tells apart the KCL 2 and 3;
// the second, in a separate table, the KCL 3.5 and earlier versions.
const (
	versionRow        = "Migration3.0"
	entityVersion     = "CLIENT_VERSION_MIGRATION"
	attrClientVersion = "cv"
	attrModifiedBy    = "mb"
	attrModifiedAt    = "mts" // milliseconds since 1970
	clientVersion3    = "CLIENT_VERSION_3X"
	tablesRow         = "TableMigration3.5"
	attrOldKey        = "key"
	attrTables        = "tm"
	oneTable          = "TABLE_MIGRATION_STATUS_COMPLETE"
)

// attrBraid is braid's own attribute. It describes the lease as braid wrote it; later changes by
// the KCL to other attributes override it. Its numbers are stored as strings, because some tools
// and languages convert other numbers to floating point.
const (
	attrBraid            = "braid"
	braidEpoch           = "epoch"
	braidIncarnation     = "incarnation"
	braidCounter         = "counter" // leaseCounter as braid wrote it; a different one was written by the KCL
	braidWrite           = "write"   // unique to each write, so that a repeated write is recognized
	braidFleet           = "fleet"   // set by workers of a mixed fleet
	braidPaused          = "paused"
	braidNextOwner       = "nextOwner" // of a lease without an owner
	braidCheckpoint      = "checkpoint"
	braidPendingDetails  = "pending"
	braidGaps            = "gaps"
	braidReported        = "reported"    // of worker metrics: attrLastUpdateTime as braid wrote it
	maxWholeSubSequences = math.MaxInt32 // after every record of an aggregate
)

// kclPlace is a checkpoint as the KCL stores it: a sequence number or a sentinel, and a number
// within an aggregate.
type kclPlace struct {
	number string
	sub    int64
}

const (
	kclTrimHorizon = "TRIM_HORIZON"
	kclLatest      = "LATEST"
	kclAtTimestamp = "AT_TIMESTAMP"
	kclShardEnd    = "SHARD_END"
)

// placeOf returns the place from which the KCL continues after a checkpoint. All records before it
// have been processed.
func placeOf(c consumer.Checkpoint) kclPlace {
	switch kind, _, _ := strings.Cut(c.Start.String(), " "); {
	case c.ShardEnd:
		return kclPlace{number: kclShardEnd}
	case !c.SequenceNumber.IsZero():
		return kclPlace{c.SequenceNumber.String(), int64(c.SubSequenceNumber)}
	case kind == "AFTER_SEQUENCE_NUMBER":
		return kclPlace{c.Start.SequenceNumber().String(), maxWholeSubSequences}
	case kind == "AT_SEQUENCE_NUMBER":
		return kclPlace{c.Start.SequenceNumber().String(), -1}
	case kind == kclLatest, kind == kclAtTimestamp:
		return kclPlace{number: kind}
	default:
		return kclPlace{number: kclTrimHorizon} // including tokens, which the KCL does not know
	}
}

// checkpointOf returns the checkpoint for a place of the KCL. The KCL does not store whether the
// record is an aggregate with more records to come, so braid assumes that it may be.
func (s *LeaseStore) checkpointOf(p kclPlace) (c consumer.Checkpoint, err error) {
	switch p.number {
	case kclTrimHorizon, "":
		return c, nil
	case kclLatest:
		c.Start = braid.Latest()
		return c, nil
	case kclShardEnd:
		c.ShardEnd = true
		return c, nil
	case kclAtTimestamp:
		if s.opts.AtTimestamp.IsZero() {
			return c, invalid("LeaseStoreOptions.AtTimestamp", "the zero time", "must be the time at which the KCL application began: the table has leases at AT_TIMESTAMP")
		}
		c.Start = braid.AtTime(s.opts.AtTimestamp)
		return c, nil
	}
	n, err := braid.ParseSequenceNumber(p.number)
	switch {
	case err != nil:
		return c, err
	case p.sub < 0:
		c.Start = braid.AtSequence(n)
	case p.sub >= maxWholeSubSequences:
		c.Start = braid.AfterSequence(n)
	default:
		c.SequenceNumber, c.SubSequenceNumber, c.Partial = n, int(p.sub), true
	}
	return c, nil
}

// details returns the checkpoint in braid's format, or "" if the KCL's attributes express all of
// it.
func (s *LeaseStore) details(c consumer.Checkpoint) (string, error) {
	again, err := s.checkpointOf(placeOf(c))
	if err == nil && again.Start.Equal(c.Start) && again.SequenceNumber == c.SequenceNumber &&
		again.SubSequenceNumber == c.SubSequenceNumber && again.Partial == c.Partial && again.ShardEnd == c.ShardEnd {
		return "", nil
	}
	text, err := json.Marshal(c)
	return string(text), err
}

// readCheckpoint reads a checkpoint from the KCL's attributes and from braid's. Braid's are used if
// both have the same place; otherwise the KCL has written since.
func (s *LeaseStore) readCheckpoint(p kclPlace, details string) (consumer.Checkpoint, error) {
	if details != "" {
		var c consumer.Checkpoint
		if err := json.Unmarshal([]byte(details), &c); err != nil {
			return c, fmt.Errorf("%q: %w", details, err)
		}
		if placeOf(c) == p {
			return c, nil
		}
	}
	return s.checkpointOf(p)
}

// rowStanding is the part of a row that concerns its owners, at one Version. A write compares it,
// and uses it to count changes of owner.
type rowStanding struct {
	version             uint64
	owner, currentOwner string // attrOwner and attrCurrentOwner; "" if missing
	checkpoint          kclPlace
	switches            int64
}

// actualOwner returns the worker that has the lease.
func (st *rowStanding) actualOwner() string {
	if st.currentOwner != "" {
		return st.currentOwner
	}
	return st.owner
}

// encode returns the attributes of a lease, with its new counter. was is the row's standing before,
// or nil if it is unknown.
func (s *LeaseStore) encode(lease *consumer.Lease, write string, was *rowStanding) (leaseRow, error) {
	counter := strconv.FormatUint(lease.Version, 10)
	own := leaseRow{
		braidEpoch:       stringAttr(strconv.FormatUint(lease.Epoch, 10)),
		braidIncarnation: stringAttr(strconv.FormatUint(lease.Incarnation, 10)),
		braidCounter:     stringAttr(counter),
		braidWrite:       stringAttr(write),
	}
	at := placeOf(lease.Checkpoint)
	r := leaseRow{
		attrCounter:       numberAttr(counter),
		attrCheckpoint:    stringAttr(at.number),
		attrCheckpointSub: numberAttr(strconv.FormatInt(at.sub, 10)),
		attrBraid:         &types.AttributeValueMemberM{Value: own},
	}
	details, err := s.details(lease.Checkpoint)
	if err != nil {
		return nil, err
	}
	putString(own, braidCheckpoint, details)
	if lease.Paused {
		own[braidPaused] = &types.AttributeValueMemberBOOL{Value: true}
	}
	if s.fleet != nil {
		own[braidFleet] = &types.AttributeValueMemberBOOL{Value: true}
	}
	switch {
	case lease.Owner == "":
		putString(own, braidNextOwner, lease.NextOwner)
	case lease.NextOwner == "":
		r[attrOwner] = stringAttr(lease.Owner)
	default:
		r[attrOwner], r[attrCurrentOwner] = stringAttr(lease.NextOwner), stringAttr(lease.Owner)
	}
	if lease.Pending != nil {
		pending := placeOf(*lease.Pending)
		r[attrPending], r[attrPendingSub] = stringAttr(pending.number), numberAttr(strconv.FormatInt(pending.sub, 10))
		if details, err = s.details(*lease.Pending); err != nil {
			return nil, err
		}
		putString(own, braidPendingDetails, details)
		if len(lease.PendingState) > 0 {
			r[attrPendingState] = &types.AttributeValueMemberB{Value: slices.Clone(lease.PendingState)}
		}
	}
	if len(lease.Gaps) > 0 {
		text, err := json.Marshal(lease.Gaps)
		if err != nil {
			return nil, err
		}
		putString(own, braidGaps, string(text))
	}
	putSet(r, attrParents, lease.Parents)
	putSet(r, attrChildren, lease.Children)
	if keys := lease.HashKeyRange; keys != (braid.HashKeyRange{}) {
		r[attrStartingHash], r[attrEndingHash] = stringAttr(keys.Start.String()), stringAttr(keys.End.String())
	}
	if lease.Throughput > 0 {
		r[attrThroughput] = numberAttr(strconv.FormatFloat(lease.Throughput/1024, 'f', -1, 64))
	}
	switch {
	case was == nil && lease.Version == 0, was != nil && was.checkpoint != at:
		r[attrSwitches] = numberAttr("0")
	case was != nil:
		switches := was.switches
		if before := was.actualOwner(); before != "" && lease.Owner != "" && before != lease.Owner {
			switches++
		}
		r[attrSwitches] = numberAttr(strconv.FormatInt(switches, 10))
	}
	return r, nil
}

// decode returns the lease in a row, and the standing that its next write compares. found is false
// for rows that are not leases of the application's streams.
func (s *LeaseStore) decode(t *leaseTable, r leaseRow) (lease consumer.Lease, now rowStanding, found bool, err error) {
	if entity := stringOf(r[attrEntityType]); entity != "" && entity != entityLease {
		return lease, now, false, nil
	}
	key, ours, err := t.parse(stringOf(r[attrKey]))
	if err != nil || !ours {
		return lease, now, false, err
	}
	defer func() {
		if err != nil {
			err = &consumer.PermanentError{Err: fmt.Errorf("row %q of the lease table: %w", stringOf(r[attrKey]), err)}
		}
	}()
	own := mapOf(r[attrBraid])
	var all rowErrors
	counter := all.unsigned(numberOf(r[attrCounter]))
	now = rowStanding{
		version:      counter + 1,
		owner:        stringOf(r[attrOwner]),
		currentOwner: stringOf(r[attrCurrentOwner]),
		checkpoint:   kclPlace{stringOf(r[attrCheckpoint]), all.signed(r, attrCheckpointSub)},
		switches:     all.signed(r, attrSwitches),
	}
	lease = consumer.Lease{
		LeaseKey:     key,
		Version:      now.version,
		Owner:        now.actualOwner(),
		Epoch:        all.unsigned(stringOf(own[braidEpoch])),
		Incarnation:  all.unsigned(stringOf(own[braidIncarnation])),
		PendingState: bytesOf(r[attrPendingState]),
		Parents:      setOf(r[attrParents]),
		Children:     setOf(r[attrChildren]),
		Throughput:   all.float(r, attrThroughput) * 1024,
	}
	if paused, is := own[braidPaused].(*types.AttributeValueMemberBOOL); is {
		lease.Paused = paused.Value
	}
	switch {
	case lease.Owner == "":
		lease.NextOwner = stringOf(own[braidNextOwner])
	case now.currentOwner != "":
		lease.NextOwner = now.owner
	}
	if first, last := stringOf(r[attrStartingHash]), stringOf(r[attrEndingHash]); first != "" && last != "" {
		lease.HashKeyRange.Start = all.hashKey(first)
		lease.HashKeyRange.End = all.hashKey(last)
	}
	lease.Checkpoint, err = s.readCheckpoint(now.checkpoint, stringOf(own[braidCheckpoint]))
	all.note(err)
	if pending := stringOf(r[attrPending]); pending != "" {
		c, err := s.readCheckpoint(kclPlace{pending, all.signed(r, attrPendingSub)}, stringOf(own[braidPendingDetails]))
		all.note(err)
		lease.Pending = &c
	}
	if gaps := stringOf(own[braidGaps]); gaps != "" {
		all.note(json.Unmarshal([]byte(gaps), &lease.Gaps))
	}
	switch {
	case own == nil && (lease.Owner != "" || lease.Checkpoint.ShardEnd || !lease.Checkpoint.SequenceNumber.IsZero()):
		lease.Epoch = 1 // a worker has begun
	case own != nil && isForeign(r): // others may have had it since, even if the owner is the same
		lease.Epoch++
	}
	return lease, now, true, errors.Join(all...)
}

// isForeign reports whether the last write of a row was not by braid.
func isForeign(r leaseRow) bool {
	own := mapOf(r[attrBraid])
	return own == nil || stringOf(own[braidCounter]) != numberOf(r[attrCounter])
}

// isOfFleet reports whether the last writer of a row was a worker of braid in a mixed fleet.
func isOfFleet(r leaseRow) bool {
	return !isForeign(r) && mapOf(r[attrBraid])[braidFleet] != nil
}

// rowErrors collects the errors of invalid attributes.
type rowErrors []error

func (f *rowErrors) note(err error) {
	if err != nil {
		*f = append(*f, err)
	}
}

func (f *rowErrors) unsigned(digits string) (n uint64) {
	if digits != "" {
		var err error
		n, err = strconv.ParseUint(digits, 10, 64)
		f.note(err)
	}
	return n
}

func (f *rowErrors) signed(r leaseRow, name string) (n int64) {
	if digits := numberOf(r[name]); digits != "" {
		var err error
		n, err = strconv.ParseInt(digits, 10, 64)
		f.note(err)
	}
	return n
}

func (f *rowErrors) float(r leaseRow, name string) (n float64) {
	if digits := numberOf(r[name]); digits != "" {
		var err error
		n, err = strconv.ParseFloat(digits, 64)
		f.note(err)
	}
	return n
}

func (f *rowErrors) hashKey(digits string) braid.HashKey {
	key, err := braid.ParseHashKey(digits)
	f.note(err)
	return key
}

func stringAttr(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
func numberAttr(s string) types.AttributeValue { return &types.AttributeValueMemberN{Value: s} }

// putString sets an attribute, unless it would be empty, which DynamoDB does not always accept.
func putString(r leaseRow, name, value string) {
	if value != "" {
		r[name] = stringAttr(value)
	}
}

func putSet(r leaseRow, name string, ids []braid.ShardID) {
	if len(ids) == 0 {
		return
	}
	set := make([]string, len(ids))
	for i, id := range ids {
		set[i] = string(id)
	}
	r[name] = &types.AttributeValueMemberSS{Value: set}
}

func stringOf(value types.AttributeValue) string {
	s, _ := value.(*types.AttributeValueMemberS)
	if s == nil {
		return ""
	}
	return s.Value
}

func numberOf(value types.AttributeValue) string {
	n, _ := value.(*types.AttributeValueMemberN)
	if n == nil {
		return ""
	}
	return n.Value
}

func bytesOf(value types.AttributeValue) []byte {
	b, _ := value.(*types.AttributeValueMemberB)
	if b == nil {
		return nil
	}
	return b.Value
}

func mapOf(value types.AttributeValue) leaseRow {
	m, _ := value.(*types.AttributeValueMemberM)
	if m == nil {
		return nil
	}
	return m.Value
}

// setOf returns the members of a set, which has no order, sorted by name.
func setOf(value types.AttributeValue) (ids []braid.ShardID) {
	set, _ := value.(*types.AttributeValueMemberSS)
	if set == nil {
		return nil
	}
	for _, id := range set.Value {
		ids = append(ids, braid.ShardID(id))
	}
	slices.Sort(ids)
	return ids
}

// leaseAttributes are all attributes that a write of a lease sets or removes. All others are kept,
// such as those of later KCL versions or of the application.
var leaseAttributes = []string{
	attrOwner, attrCurrentOwner, attrCounter, attrSwitches,
	attrCheckpoint, attrCheckpointSub, attrPending, attrPendingSub, attrPendingState,
	attrParents, attrChildren, attrStartingHash, attrEndingHash, attrThroughput,
	attrBraid,
}
