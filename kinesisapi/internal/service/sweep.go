package service

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/queue"
)

// sweptAtOnce is how many rows one transaction deletes.
const sweptAtOnce = 100

// sweepRows deletes the rows of streams and queues that do not exist. A row outlives its stream or
// queue if a crash comes between the deletions of the two, or if the application deletes a stream or
// queue by itself. Such a row is never used, so it does no harm if it cannot be deleted now.
func (s *Service) sweepRows(ctx context.Context) {
	useless, err := s.uselessRows(ctx)
	for some := range slices.Chunk(useless, sweptAtOnce) {
		if err == nil {
			err = s.db.Update(ctx, func(tx *braid.Tx) error { return s.deleteUseless(ctx, tx, some) })
		}
	}
	if err != nil {
		s.opts.Logger.Warn("rows of deleted streams and queues could not be removed; trying again at the next start", "error", err)
	}
}

// uselessRows returns the keys of the rows whose stream or queue does not exist.
func (s *Service) uselessRows(ctx context.Context) (keys [][]byte, err error) {
	err = s.db.View(ctx, func(tx *braid.Tx) error {
		for _, prefix := range []string{streamRowPrefix, queueRowPrefix} {
			for row, err := range tx.Scan([]byte(prefix), []byte(prefix+"\xff")) {
				if err != nil {
					return err
				}
				useless, err := s.isUseless(ctx, row)
				if err != nil {
					return err
				}
				if useless {
					keys = append(keys, slices.Clone(row.Key))
				}
			}
		}
		return nil
	})
	return keys, err
}

// deleteUseless deletes those of the rows that are still useless. Rows are written after the
// creation of their stream or queue. So if a row becomes useful between this check and the commit,
// the transaction conflicts and runs again.
func (s *Service) deleteUseless(ctx context.Context, tx *braid.Tx, keys [][]byte) error {
	for _, key := range keys {
		value, err := tx.Get(key)
		if errors.Is(err, braid.ErrKeyNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		useless, err := s.isUseless(ctx, braid.KeyValue{Key: key, Value: value})
		if err == nil && useless {
			err = tx.Delete(key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// isUseless reports whether the stream or queue of a row does not exist.
func (s *Service) isUseless(ctx context.Context, row braid.KeyValue) (bool, error) {
	if id, of := strings.CutPrefix(string(row.Key), queueRowPrefix); of {
		_, err := s.queueByID(ctx, id)
		if errors.Is(err, queue.ErrQueueNotFound) {
			return true, nil
		}
		return false, err
	}
	stream, err := s.db.Stream(strings.TrimPrefix(string(row.Key), streamRowPrefix))
	switch {
	case errors.Is(err, braid.ErrStreamNotFound):
		return true, nil
	case err != nil:
		return false, err
	}
	var r streamRow
	if err := json.Unmarshal(row.Value, &r); err != nil {
		return false, err
	}
	return r.Created != stream.CreatedAt().UnixNano(), nil
}
