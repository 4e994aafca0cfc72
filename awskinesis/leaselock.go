package awskinesis

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/braidstream/braid/consumer"
)

// This file is about the leader lock. It follows the protocol of Amazon's DynamoDB lock client,
// which the KCL uses. The holder keeps changing the row's version while it is alive. Others take
// the lock when they have seen the same version for the duration that is stored in the row, by
// their own clocks.

// heldLock is the lock as its holder knows it.
type heldLock struct {
	version string    // the version that it has written; "" if it does not hold the lock
	attempt string    // the version that it may have written
	renewed time.Time // when the last successful write began
}

// seenLock is the lock as a worker has last read it.
type seenLock struct {
	version string
	since   time.Time
}

// lockLasts is how long the lock lasts unless it is renewed, in LeaseDurations. The holder renews
// it once per LeaseDuration, and stops leading one LeaseDuration before the lock expires.
const lockLasts = 4

func (l *heldLock) leads(leaseDuration time.Duration) bool {
	return l.version != "" && time.Since(l.renewed) < (lockLasts-1)*leaseDuration
}

// lookAtLock renews the lock if the worker holds it, and takes it if nobody does.
func (f *fleet) lookAtLock(ctx context.Context, m *member) error {
	out, err := askTable(ctx, f.store, "get", f.store.client.GetItem, &dynamodb.GetItemInput{
		TableName:      &f.store.leases.name,
		Key:            leaseRow{attrKey: stringAttr(leaderRow)},
		ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return err
	}
	now, version := time.Now(), stringOf(out.Item[attrLockVersion])
	isOwn := stringOf(out.Item[attrLockOwner]) == m.name && version != "" && (version == m.lock.version || version == m.lock.attempt)
	if version != m.seen.version {
		m.seen = seenLock{version, now}
	}
	if !isOwn {
		m.lock = heldLock{}
		lasts, err := strconv.ParseInt(stringOf(out.Item[attrLockDuration]), 10, 64)
		switch {
		case len(out.Item) == 0 || out.Item[attrLockReleased] != nil:
		case err != nil:
			return &consumer.PermanentError{Err: fmt.Errorf("lease table %q: row %q: %w", f.store.app, leaderRow, err)}
		case now.Sub(m.seen.since) < time.Duration(lasts)*time.Millisecond:
			return nil
		}
	}
	return f.writeLock(ctx, m, version)
}

// writeLock takes or renews the lock if the row has the given version, "" for none.
func (f *fleet) writeLock(ctx context.Context, m *member, version string) error {
	names := map[string]string{
		"#owner": attrLockOwner, "#duration": attrLockDuration, "#version": attrLockVersion,
		"#type": attrEntityType, "#released": attrLockReleased,
	}
	began := time.Now()
	m.lock.attempt = newLockVersion()
	values := leaseRow{
		":owner":    stringAttr(m.name),
		":duration": stringAttr(strconv.FormatInt((lockLasts * f.store.opts.LeaseDuration).Milliseconds(), 10)),
		":next":     stringAttr(m.lock.attempt),
		":type":     stringAttr(entityLeader),
	}
	condition := "attribute_not_exists(#version)"
	if version != "" {
		condition = "#version = :version"
		values[":version"] = stringAttr(version)
	}
	_, err := askTable(ctx, f.store, "lead", f.store.client.UpdateItem, &dynamodb.UpdateItemInput{
		TableName:                 &f.store.leases.name,
		Key:                       leaseRow{attrKey: stringAttr(leaderRow)},
		UpdateExpression:          aws.String("SET #owner = :owner, #duration = :duration, #version = :next, #type = :type REMOVE #released"),
		ConditionExpression:       &condition,
		ExpressionAttributeNames:  names,
		ExpressionAttributeValues: values,
	})
	switch {
	case isRefused(err): // another worker was faster, or an earlier attempt of this one, which the next read shows
		return nil
	case err != nil:
		return err
	}
	if m.lock.version == "" {
		f.store.opts.Logger.Info("worker leads, and assigns the leases", "app", f.store.app, "worker", m.name)
	}
	m.lock = heldLock{version: m.lock.attempt, attempt: m.lock.attempt, renewed: began}
	return nil
}

// releaseLock lets others take the lock at once, even if the response to the last write was lost.
func (f *fleet) releaseLock(ctx context.Context, m *member) error {
	version, attempt := m.lock.version, m.lock.attempt
	if attempt == "" {
		return nil
	}
	_, err := askTable(ctx, f.store, "release", f.store.client.UpdateItem, &dynamodb.UpdateItemInput{
		TableName:                 &f.store.leases.name,
		Key:                       leaseRow{attrKey: stringAttr(leaderRow)},
		UpdateExpression:          aws.String("SET #released = :released"),
		ConditionExpression:       aws.String("#owner = :owner AND (#version = :version OR #version = :attempt)"),
		ExpressionAttributeNames:  map[string]string{"#owner": attrLockOwner, "#version": attrLockVersion, "#released": attrLockReleased},
		ExpressionAttributeValues: leaseRow{":owner": stringAttr(m.name), ":version": stringAttr(cmp.Or(version, attempt)), ":attempt": stringAttr(attempt), ":released": stringAttr("1")},
	})
	if err == nil || isRefused(err) { // if refused, another worker holds it
		m.lock = heldLock{}
		return nil
	}
	return err
}

// newLockVersion returns a random UUID.
func newLockVersion() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
