// Package service is the Kinesis service without its wire protocol: one method of [Service]
// per operation, over plain structs. It knows streams, statuses, consumers, iterators and
// the texts of errors. It knows neither JSON and CBOR nor HTTP, which are package server's.
package service

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi/internal/token"
)

// Options are the settings of a service.
type Options struct {
	Account string // of requests that name none
	Region  string

	// SeparateAccounts keeps the streams of each account and region apart.
	SeparateAccounts bool

	// ExactLimits enforces the limits and quotas of the service.
	ExactLimits bool

	// ShardLimit and OnDemandStreamLimit are quotas of each account and region, always
	// enforced. 0 means the service's own, enforced only with ExactLimits; negative means no
	// limit.
	ShardLimit, OnDemandStreamLimit int

	// How long streams, consumers and queues stay CREATING, UPDATING and DELETING.
	CreateDelay, UpdateDelay, DeleteDelay time.Duration

	Logger *slog.Logger
}

// Service answers the operations of Kinesis from a database. Its methods may be
// called from any number of goroutines.
type Service struct {
	db     *braid.DB
	opts   Options
	sealer *token.Sealer

	limits        limiter
	subscriptions subscriptions
	receivers     receivers
	placements    *placements
	closed        chan struct{} // closed by Close: subscriptions end
	generation    atomic.Uint32 // of iterators; those of earlier generations have expired

	// attach is held to check the number of a stream's consumers and queues and add one, and to
	// check that a stream has no queues before it is deleted or becomes provisioned.
	attach sync.Mutex

	mu       sync.Mutex // guards the fields below
	exact    bool       // Options.ExactLimits, which a test may change
	closing  bool
	statuses map[string]*status // of streams, consumers and queues that are not ACTIVE, by stored name
}

// Caller is the account and region of a request, from its credential scope.
type Caller struct{ Account, Region string }

// New returns a service over the database. The caller closes the database, after the
// service.
func New(db *braid.DB, opts Options) (*Service, error) {
	s := &Service{
		db:         db,
		opts:       opts,
		exact:      opts.ExactLimits,
		closed:     make(chan struct{}),
		statuses:   make(map[string]*status),
		placements: sharePlacements(db),
	}
	secret, err := s.secret()
	if err == nil {
		s.sealer = token.NewSealer(secret)
		err = s.applyLimits(context.Background(), false)
	}
	if err != nil {
		leavePlacements(db)
		return nil, err
	}
	s.sweepRows(context.Background())
	return s, nil
}

// secret returns the key for tokens. It is stored, so that iterators survive a restart.
func (s *Service) secret() (secret [32]byte, err error) {
	key := []byte(rowPrefix + "secret")
	err = s.db.Update(context.Background(), func(tx *braid.Tx) error {
		stored, err := tx.Get(key)
		switch {
		case errors.Is(err, braid.ErrKeyNotFound) || err == nil && len(stored) != len(secret):
			rand.Read(secret[:])
			return tx.Set(key, secret[:])
		case err != nil:
			return err
		}
		copy(secret[:], stored)
		return nil
	})
	return secret, err
}

// Close ends all subscriptions and all waits for records of queues, and completes pending
// changes of status at once.
func (s *Service) Close() {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return
	}
	s.closing = true
	close(s.closed)
	s.receivers.close()
	pending := make([]*status, 0, len(s.statuses))
	for _, st := range s.statuses {
		pending = append(pending, st)
	}
	s.mu.Unlock()
	for _, st := range pending {
		st.hurry()
	}
	for _, st := range pending {
		<-st.done
	}
	leavePlacements(s.db)
}

// SetExactLimits changes whether the limits of the service are enforced, also for all
// existing streams.
func (s *Service) SetExactLimits(ctx context.Context, exact bool) error {
	s.mu.Lock()
	s.exact = exact
	s.mu.Unlock()
	return s.applyLimits(ctx, true)
}

// applyLimits sets the capacity of streams to the current limits, because the database may
// have been used with other limits before. Streams that the service did not create are the
// application's own, and change only if all is set.
func (s *Service) applyLimits(ctx context.Context, all bool) error {
	for _, stream := range s.db.Streams() {
		row, err := s.readRow(ctx, stream)
		if err != nil {
			return err
		}
		s.placements.learn(stream, &row)
		capacity := s.capacity(row.mode(stream))
		if row.Mode == "" && !all || stream.Describe().Capacity.Mode == capacity.Mode {
			continue
		}
		if err := stream.UpdateCapacity(ctx, capacity); err != nil && !errors.Is(err, braid.ErrStreamNotFound) {
			return err
		}
	}
	return nil
}

// ExactLimits reports whether the limits of the service are enforced.
func (s *Service) ExactLimits() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.exact
}

// ExpireIterators expires every iterator issued so far. This is not stored: after a restart
// they are valid again.
func (s *Service) ExpireIterators() { s.generation.Add(1) }
