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

// This file is about the rows of the lease table: the KCL's attributes, as its version 3.5 has
// them, and one of braid's own, a map, for what the KCL has no attribute for.

// row is an item of DynamoDB.
type leaseRow = map[string]types.AttributeValue

// The attributes of the KCL.
const (
	attrKey            = "leaseKey"
	attrOwner          = "leaseOwner"      // the next one during a hand-over
	attrCurrentOwner   = "checkpointOwner" // present only during a hand-over: who has the lease
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
	attrWorkerID       = "wid" // of worker metrics in a table of their own
	attrMeasurements   = "sts" // of worker metrics: the last values of each
	attrSupport        = "sup" // of worker metrics: what the worker's version can do
	attrSupportTime    = "slu"
)

// The row of the leader's lock, which has the attributes of Amazon's DynamoDB lock client.
const (
	leaderRow        = "Leader"
	entityLeader     = "LEADER"
	attrLockOwner    = "ownerName"
	attrLockDuration = "leaseDuration"       // a text: milliseconds
	attrLockVersion  = "recordVersionNumber" // changes with each renewal
	attrLockReleased = "isReleased"
)

// The rows that say which version of the protocol the workers use: of the KCL 3 to that of the
// KCL 2, and, in a table of its own, of the KCL 3.5 to those before.
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

// attrBraid is braid's own attribute. What the KCL changes besides it wins: the map says what
// the lease was when braid wrote it. Its numbers are texts, as there are tools and languages that
// make floating-point numbers of others.
const (
	attrBraid            = "braid"
	braidEpoch           = "epoch"
	braidIncarnation     = "incarnation"
	braidCounter         = "counter" // leaseCounter as braid wrote it: another one is the KCL's
	braidWrite           = "write"   // differs for each write, so that a repeated one is known
	braidFleet           = "fleet"   // it was written in a mixed fleet
	braidPaused          = "paused"
	braidNextOwner       = "nextOwner" // of a lease that nobody has
	braidCheckpoint      = "checkpoint"
	braidPendingDetails  = "pending"
	maxWholeSubSequences = math.MaxInt32 // behind every record of an aggregate
)

// place is a checkpoint as the KCL stores it: a sequence number or a sentinel, and a number
// inside of an aggregate.
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

// placeOf returns what the KCL makes of a checkpoint: where it would go on. Nothing that was not
// processed lies before it.
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
		return kclPlace{number: kclTrimHorizon} // also for a token, which the KCL does not know
	}
}

// checkpointOf returns what braid makes of a checkpoint of the KCL, which does not say whether
// its record is an aggregate of which more follow: so it may be.
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
			return c, invalid("LeaseStoreOptions.AtTimestamp", "the zero time", "must be the time at which the KCL's application began: the table has leases at AT_TIMESTAMP")
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

// details returns a checkpoint in braid's words, or "" if the KCL's say all of it.
func (s *LeaseStore) details(c consumer.Checkpoint) (string, error) {
	again, err := s.checkpointOf(placeOf(c))
	if err == nil && again.Start.Equal(c.Start) && again.SequenceNumber == c.SequenceNumber &&
		again.SubSequenceNumber == c.SubSequenceNumber && again.Partial == c.Partial && again.ShardEnd == c.ShardEnd {
		return "", nil
	}
	text, err := json.Marshal(c)
	return string(text), err
}

// readCheckpoint reads a checkpoint in the KCL's words and in braid's. Braid's count if they
// are about the same place: otherwise the KCL has written since.
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

// standing is what a row says about its owners, as of a Version: a write compares it, and counts
// changes of owner by it.
type rowStanding struct {
	version             uint64
	owner, currentOwner string // attrOwner and attrCurrentOwner, "" where there is none
	checkpoint          kclPlace
	switches            int64
}

// actualOwner returns who has the lease.
func (st *rowStanding) actualOwner() string {
	if st.currentOwner != "" {
		return st.currentOwner
	}
	return st.owner
}

// encode returns the attributes of a lease, with the counter that it is to have. was is the
// row's standing, nil if it is unknown.
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

// decode returns the lease of a row, and what its next write compares. found is false for rows
// that are no leases of the application's streams.
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
			err = &consumer.PermanentError{Err: fmt.Errorf("the row %q of the lease table: %w", stringOf(r[attrKey]), err)}
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
	switch {
	case own == nil && (lease.Owner != "" || lease.Checkpoint.ShardEnd || !lease.Checkpoint.SequenceNumber.IsZero()):
		lease.Epoch = 1 // somebody has begun
	case own != nil && isForeign(r): // it was another owner's since, and may have come back to the same
		lease.Epoch++
	}
	return lease, now, true, errors.Join(all...)
}

// isForeign reports whether the last one who wrote a row was not braid.
func isForeign(r leaseRow) bool {
	own := mapOf(r[attrBraid])
	return own == nil || stringOf(own[braidCounter]) != numberOf(r[attrCounter])
}

// isOfFleet reports whether the last writer of a row was a worker of braid in a mixed fleet.
func isOfFleet(r leaseRow) bool {
	return !isForeign(r) && mapOf(r[attrBraid])[braidFleet] != nil
}

// fields collects the errors of fields that are not what they ought to be.
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

// put sets an attribute, unless it would be empty, which DynamoDB does not always take.
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

// setOf returns the members of a set, which has no order, in that of their names.
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

// leaseAttributes are all that a write of a lease sets or removes. Others are kept: the KCL's of
// later versions, and what the application has put there.
var leaseAttributes = []string{
	attrOwner, attrCurrentOwner, attrCounter, attrSwitches,
	attrCheckpoint, attrCheckpointSub, attrPending, attrPendingSub, attrPendingState,
	attrParents, attrChildren, attrStartingHash, attrEndingHash, attrThroughput,
	attrBraid,
}
