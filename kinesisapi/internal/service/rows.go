package service

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/braidstream/braid"
)

// rowPrefix begins the application's keys that belong to the service: what
// Kinesis knows of a stream and a braid stream does not. An application that
// shares its database with a service must leave these keys alone.
const rowPrefix = "kinesisapi/"

// streamRow is what is stored of a stream beside the stream. There may be none:
// then all is as it is by default.
type streamRow struct {
	// Created is the creation time, in nanoseconds, of the stream that the row is
	// about. A row of another one is of a stream that was deleted, and means
	// nothing.
	Created int64

	// What the stream is called, if its stored name does not say so.
	Account, Region, Name string `json:",omitempty"`

	Mode      string        `json:",omitempty"` // PROVISIONED or ON_DEMAND
	Strategy  string        `json:",omitempty"` // AUTO or USER_PARTITION_KEY, see setStrategy
	WarmMiBps int32         `json:",omitempty"`
	Shards    int           `json:",omitempty"` // that the stream began with
	Metrics   []string      `json:",omitempty"`
	Policy    string        `json:",omitempty"`
	Consumers []consumerRow `json:",omitempty"` // in the order of their registration

	// LastConsumer is the second of the newest registration: no two are in the same
	// one, for it is a part of the ARN.
	LastConsumer int64 `json:",omitempty"`

	// StrategyChanges is how often Strategy was changed from the default on.
	StrategyChanges int `json:",omitempty"`
}

// setStrategy changes the record distribution strategy.
func (r *streamRow) setStrategy(strategy string) {
	if strategy != r.strategy() {
		r.Strategy = strategy
		r.StrategyChanges++
	}
}

// consumerRow is what is stored of a registered consumer.
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

// mode returns the stream's mode. Of a stream that the service did not create, its
// capacity says so.
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

func rowKey(stream string) []byte { return []byte(rowPrefix + "stream/" + stream) }

// readRow returns the stream's row.
func (s *Service) readRow(ctx context.Context, stream *braid.Stream) (row streamRow, err error) {
	err = s.db.View(ctx, func(tx *braid.Tx) error {
		row, err = getRow(tx, stream)
		return err
	})
	return row, err
}

// streamWithRow returns the stream of a request that may be in any status, with its
// row.
func (s *Service) streamWithRow(ctx context.Context, c Caller, name, arn *string) (target, *braid.Stream, streamRow, error) {
	t, stream, err := s.stream(c, name, arn)
	if err != nil {
		return t, nil, streamRow{}, err
	}
	row, err := s.readRow(ctx, stream)
	return t, stream, row, s.fromBraid(t, err)
}

// updateRow changes the stream's row. change is run again if another transaction
// was quicker. An error of it changes nothing. A stream that was deleted has no row:
// the name may have been taken by another one, whose row must stay what it is.
func (s *Service) updateRow(ctx context.Context, stream *braid.Stream, change func(*streamRow) error) error {
	var row streamRow
	err := s.db.Update(ctx, func(tx *braid.Tx) error {
		// A call that deletes or creates a stream writes its row after it. So if that
		// comes between here and the commit, this runs again.
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

// getStored returns the row that is stored under the name, of whichever stream.
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

// deleteWithRow deletes a stream and its row, unless the application has put another
// one in its place.
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

// deleteRow removes the row of a stream that was deleted, unless it is that of
// another one which took the name after it.
func (s *Service) deleteRow(ctx context.Context, stream *braid.Stream) error {
	return s.db.Update(ctx, func(tx *braid.Tx) error {
		row, err := getStored(tx, stream.Name())
		if err != nil || row.Created > stream.CreatedAt().UnixNano() {
			return err
		}
		return tx.Delete(rowKey(stream.Name()))
	})
}
