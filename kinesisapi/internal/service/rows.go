package service

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/braidstream/braid"
)

// rowPrefix is the prefix of the application's keys that belong to the service. They hold
// the data that Kinesis has of a stream and braid does not. An application that shares its
// database with a service must not change them.
const rowPrefix = "kinesisapi/"

// streamRow has the data that Kinesis has of a stream and braid does not. If a stream has
// no row, the defaults apply.
type streamRow struct {
	// Created is the creation time of the row's stream, in nanoseconds. A row with another time
	// belongs to a deleted stream of the same name, and is ignored.
	Created int64

	// The stream's name and place, if the stored name does not contain them.
	Account, Region, Name string `json:",omitempty"`

	Mode      string        `json:",omitempty"` // PROVISIONED or ON_DEMAND
	Strategy  string        `json:",omitempty"` // AUTO or USER_PARTITION_KEY, see setStrategy
	WarmMiBps int32         `json:",omitempty"`
	Shards    int           `json:",omitempty"` // with which the stream began
	Metrics   []string      `json:",omitempty"`
	Policy    string        `json:",omitempty"`
	Consumers []consumerRow `json:",omitempty"` // in the order of their registration

	// LastConsumer is the second of the newest registration. No two registrations have the same
	// second, because it is part of the ARN.
	LastConsumer int64 `json:",omitempty"`

	// StrategyChanges is how often Strategy has changed, counted from the default.
	StrategyChanges int `json:",omitempty"`
}

// setStrategy changes the record distribution strategy.
func (r *streamRow) setStrategy(strategy string) {
	if strategy != r.strategy() {
		r.Strategy = strategy
		r.StrategyChanges++
	}
}

// consumerRow is the stored row of a registered consumer.
type consumerRow struct {
	Name    string
	Created int64 // in nanoseconds; unique within the stream
	Tags    map[string]string
	Policy  string `json:",omitempty"`
}

func (c *consumerRow) created() time.Time { return time.Unix(0, c.Created) }

// consumer returns the consumer of that name, or nil.
func (r *streamRow) consumer(name string) *consumerRow {
	i := slices.IndexFunc(r.Consumers, func(c consumerRow) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return &r.Consumers[i]
}

// mode returns the stream's mode. For a stream that the service did not create, its
// capacity decides.
func (r *streamRow) mode(stream *braid.Stream) string {
	switch {
	case r.Mode != "":
		return r.Mode
	case stream.Describe().Capacity.Mode == braid.OnDemand:
		return modeOnDemand
	default:
		return modeProvisioned
	}
}

// streamRowPrefix is the prefix of the keys of streams' rows, before the stored name.
const streamRowPrefix = rowPrefix + "stream/"

func rowKey(stream string) []byte { return []byte(streamRowPrefix + stream) }

// readRow returns the stream's row.
func (s *Service) readRow(ctx context.Context, stream *braid.Stream) (row streamRow, err error) {
	err = s.db.View(ctx, func(tx *braid.Tx) error {
		row, err = getRow(tx, stream)
		return err
	})
	return row, err
}

// streamWithRow returns the stream of a request, in any status, and its row.
func (s *Service) streamWithRow(ctx context.Context, c Caller, name, arn *string) (target, *braid.Stream, streamRow, error) {
	t, stream, err := s.stream(c, name, arn)
	if err != nil {
		return t, nil, streamRow{}, err
	}
	row, err := s.readRow(ctx, stream)
	return t, stream, row, s.fromBraid(t, err)
}

// updateRow changes the stream's row. change runs again if another transaction conflicts;
// if it fails, nothing changes. A deleted stream gets no row: another stream may have taken
// the name, whose row must stay what it is.
func (s *Service) updateRow(ctx context.Context, stream *braid.Stream, change func(*streamRow) error) error {
	var row streamRow
	err := s.db.Update(ctx, func(tx *braid.Tx) error {
		// A call that deletes or creates a stream writes the row after the stream. If that happens
		// between this check and the commit, the transaction conflicts and runs again.
		current, err := s.db.Stream(stream.Name())
		if err != nil {
			return err
		}
		if !current.CreatedAt().Equal(stream.CreatedAt()) {
			return braid.ErrStreamNotFound
		}
		if row, err = getRow(tx, stream); err != nil {
			return err
		}
		if err := change(&row); err != nil {
			return err
		}
		value, err := json.Marshal(row)
		if err != nil {
			return err
		}
		return tx.Set(rowKey(stream.Name()), value)
	})
	if err == nil {
		s.placements.learn(stream, &row)
	}
	return err
}

func getRow(tx *braid.Tx, stream *braid.Stream) (streamRow, error) {
	created := stream.CreatedAt().UnixNano()
	row, err := getStored(tx, stream.Name())
	if row.Created != created {
		row = streamRow{Created: created}
	}
	return row, err
}

// getStored returns the row stored under the name, even if it belongs to another stream of
// that name.
func getStored(tx *braid.Tx, name string) (row streamRow, err error) {
	value, err := tx.Get(rowKey(name))
	switch {
	case errors.Is(err, braid.ErrKeyNotFound):
		err = nil
	case err == nil:
		err = json.Unmarshal(value, &row)
	}
	return row, err
}

// deleteWithRow deletes a stream and its row, unless the application has replaced the
// stream by another one. If a crash comes between the two, sweepRows deletes the row.
func (s *Service) deleteWithRow(ctx context.Context, stream *braid.Stream) error {
	current, err := s.db.Stream(stream.Name())
	if err == nil && !current.CreatedAt().Equal(stream.CreatedAt()) {
		err = braid.ErrStreamNotFound
	}
	if err == nil {
		err = s.db.DeleteStream(ctx, stream.Name())
	}
	if err == nil {
		s.placements.forget(stream)
		err = s.deleteRow(ctx, stream)
	}
	return err
}

// deleteRow removes the row of a deleted stream. It keeps the row of a later stream of the
// same name.
func (s *Service) deleteRow(ctx context.Context, stream *braid.Stream) error {
	return s.db.Update(ctx, func(tx *braid.Tx) error {
		row, err := getStored(tx, stream.Name())
		if err != nil || row.Created > stream.CreatedAt().UnixNano() {
			return err
		}
		return tx.Delete(rowKey(stream.Name()))
	})
}
