package braid

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid/internal/layout"
)

// dataKeyLifetime is how long a data key encrypts before it is replaced.
const dataKeyLifetime = 24 * time.Hour

// dataKeys are a stream's, as they are stored, and those that were decrypted. The zero
// value has none, and takes next to no memory: most streams do not encrypt.
type dataKeys struct {
	mu      sync.Mutex    // guards the fields below
	token   chan struct{} // holds a token unless somebody calls the provider; nil until somebody did
	numbers []uint32      // of rows, in order
	rows    map[uint32]layout.DataKeyRow
	opened  map[uint32]*layout.DataKey
}

// turn returns the channel that holds a token unless somebody calls the provider.
func (k *dataKeys) turn() chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.token == nil {
		k.token = newTurn()
	}
	return k.token
}

// addLocked adds a data key whose number is above all others.
func (k *dataKeys) addLocked(number uint32, row layout.DataKeyRow) {
	if k.rows == nil {
		k.rows, k.opened = make(map[uint32]layout.DataKeyRow), make(map[uint32]*layout.DataKey)
	}
	k.numbers = append(k.numbers, number)
	k.rows[number] = row
}

// sealer is the data key that encrypts.
type sealer struct {
	*layout.DataKey
	keyID string    // as it was given
	made  time.Time // in this run of the process
}

// usable reports whether the data key can encrypt what is put at that moment.
func (k *sealer) usable(keyID string, now time.Time) bool {
	return k.DataKey != nil && k.keyID == keyID && now.Sub(k.made) < dataKeyLifetime
}

// newDataKey is a data key that is not stored yet.
type newDataKey struct {
	keyID  string // as it was given
	row    layout.DataKeyRow
	secret []byte
}

// lastDataKey returns the number of the newest data key that is encrypted with the
// key of that id.
func (s *Stream) lastDataKey(id string) (number uint32, found bool) {
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	for _, number := range slices.Backward(s.keys.numbers) {
		if s.keys.rows[number].KeyID == id {
			return number, true
		}
	}
	return 0, false
}

// makeDataKey makes a data key and has it encrypted. The caller has the turn.
func (s *Stream) makeDataKey(ctx context.Context, keyID string) (*newDataKey, error) {
	provider := s.db.opts.KeyProvider
	if provider == nil {
		return nil, fmt.Errorf("%w: the database was opened without a KeyProvider, and the stream encrypts with %q", ErrKeyUnavailable, keyID)
	}
	id, err := provider.DescribeKey(ctx, keyID)
	if errors.Is(err, ErrInvalidArgument) {
		rule := "must be the id of a key that the KeyProvider has"
		var invalid *InvalidArgumentError
		if errors.As(err, &invalid) {
			rule = invalid.Rule // the provider knows better
		}
		return nil, &InvalidArgumentError{"KeyID", fmt.Sprintf("%.64q", keyID), rule}
	}
	if err != nil {
		return nil, keyUnavailable("describe", keyID, err)
	}
	// A key that took the place of another under the same id would make records
	// that nobody can read next to those before. So the last data key has to open.
	if number, found := s.lastDataKey(id); found {
		if err := s.openInTurn(ctx, number); err != nil {
			return nil, err
		}
	}
	secret := make([]byte, layout.DataKeyBytes)
	_, _ = rand.Read(secret) // never fails
	wrapped, err := provider.WrapKey(ctx, id, slices.Clone(secret))
	if err != nil {
		return nil, keyUnavailable("wrap", id, err)
	}
	row := layout.DataKeyRow{KeyID: id, Wrapped: slices.Clone(wrapped), Check: layout.DataKeyCheck(secret)}
	return &newDataKey{keyID: keyID, row: row, secret: secret}, nil
}

// keyUnavailable says that the provider has failed. That it does not know a key is
// no invalid argument of whoever puts or reads.
func keyUnavailable(op, keyID string, err error) error {
	switch {
	case errors.Is(err, ErrInvalidArgument):
		return fmt.Errorf("%w: %s with %q: %v", ErrKeyUnavailable, op, keyID, err)
	case errors.Is(err, ErrKeyUnavailable): // the provider says so itself
		return fmt.Errorf("%s with %q: %w", op, keyID, err)
	}
	return fmt.Errorf("%w: %s with %q: %w", ErrKeyUnavailable, op, keyID, err)
}

// dataKey returns the data key of that number, nil if it was not decrypted yet.
func (s *Stream) dataKey(number uint32) *layout.DataKey {
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	return s.keys.opened[number]
}

// openDataKey has the data key of that number decrypted.
func (s *Stream) openDataKey(ctx context.Context, number uint32) error {
	if err := wait(ctx, s.db, s.keys.turn()); err != nil {
		return err
	}
	defer giveTurn(s.keys.turn())
	return s.openInTurn(ctx, number)
}

// openInTurn is openDataKey for who has the turn.
func (s *Stream) openInTurn(ctx context.Context, number uint32) error {
	if s.dataKey(number) != nil {
		return nil // somebody else was faster
	}
	s.keys.mu.Lock()
	row, found := s.keys.rows[number]
	s.keys.mu.Unlock()
	provider := s.db.opts.KeyProvider
	switch {
	case !found:
		return fmt.Errorf("%w: data key %d", ErrDataLoss, number)
	case provider == nil:
		return fmt.Errorf("%w: the database was opened without a KeyProvider, and the records are encrypted with %q", ErrKeyUnavailable, row.KeyID)
	}
	secret, err := provider.UnwrapKey(ctx, row.KeyID, slices.Clone(row.Wrapped))
	if err != nil {
		return keyUnavailable("unwrap", row.KeyID, err)
	}
	if len(secret) != layout.DataKeyBytes || layout.DataKeyCheck(secret) != row.Check {
		return fmt.Errorf("%w: what was unwrapped with %q is not the data key", ErrKeyUnavailable, row.KeyID)
	}
	key, err := layout.NewDataKey(number, s.db.store.ID(), secret)
	if err != nil {
		return err
	}
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	s.keys.opened[number] = key
	return nil
}

// missingKeyError is a data key that a page needs and does not have, and the counter
// of the record that needs it.
type missingKeyError struct {
	number  uint32
	counter uint64
}

func (e *missingKeyError) Error() string {
	return fmt.Sprintf("data key %d was not decrypted yet", e.number)
}
