package braid

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/braidstream/braid/internal/commit"
	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
)

// Records are encrypted with data keys of their stream. The data keys are stored beside the
// records, encrypted with a key of the [KeyProvider]. The provider may be slow or fail, so it
// is called on the goroutine of the caller that puts or reads, never by the committer. The
// committer encrypts the records, because it alone knows their numbers.
//
// Invariant: a data key encrypts only in the run of the process that created it. So no two
// records are encrypted with the same key and counter, even after a crash, in a copy of the
// database, or when the clock goes back.

// StartEncryption makes the stream encrypt the records put from now on: their partition keys,
// explicit hash keys and data, with AES-256-GCM. The data keys for that are encrypted by
// [Options].KeyProvider with the key keyID. Records that are already stored stay as they are.
// If the stream encrypts already, StartEncryption changes the key; with the same key it makes
// a new data key.
//
// Encryption does not hide the sizes, numbers, times and shards of records, the names and tags
// of streams, or the application's own keys and values.
//
// Errors: [ErrInvalidArgument] for an id that the provider does not know, and if there is no
// provider; [ErrKeyUnavailable] if the provider fails; and those of
// [Stream.UpdateMaxRecordBytes]. Kinesis: StartStreamEncryption.
func (s *Stream) StartEncryption(ctx context.Context, keyID string) error {
	return wrapError("start encryption", s.name, s.startEncryption(ctx, keyID))
}

func (s *Stream) startEncryption(ctx context.Context, keyID string) error {
	if keyID == "" || utf8.RuneCountInString(keyID) > maxKeyIDChars {
		return &InvalidArgumentError{"KeyID", fmt.Sprintf("%.64q", keyID), fmt.Sprintf("must be 1 to %d characters", maxKeyIDChars)}
	}
	if s.db.opts.KeyProvider == nil {
		return &InvalidArgumentError{"KeyID", fmt.Sprintf("%.64q", keyID), "must be empty in a database that was opened without a KeyProvider"}
	}
	if s.db.opts.ReadOnly { // refuse before calling the provider
		return ErrReadOnly
	}
	if err := wait(ctx, s.db, s.keys.turn()); err != nil {
		return err
	}
	defer giveTurn(s.keys.turn())
	key, err := s.makeDataKey(ctx, keyID)
	if err != nil {
		return err
	}
	return s.update(ctx, func(a *appender, set *settings, batch *kv.Batch) error {
		set.keyID = keyID
		return a.addDataKey(s, key, batch)
	})
}

// StopEncryption makes the stream store the records put from now on in the clear. Encrypted
// records stay encrypted, and can be read as long as their key is available. On a stream that
// does not encrypt, it changes nothing.
//
// Errors: as [Stream.UpdateMaxRecordBytes]. Kinesis: StopStreamEncryption.
func (s *Stream) StopEncryption(ctx context.Context) error {
	err := s.update(ctx, func(_ *appender, set *settings, _ *kv.Batch) error {
		set.keyID = ""
		return nil
	})
	return wrapError("stop encryption", s.name, err)
}

// addDataKey makes the data key the one that encrypts from now on. The caller saves the
// stream's row in the same commit.
func (a *appender) addDataKey(s *Stream, key *newDataKey, batch *kv.Batch) error {
	number := s.w.nextDataKey
	dataKey, err := layout.NewDataKey(number, s.db.store.ID(), key.secret)
	if err != nil {
		return err
	}
	s.w.nextDataKey++
	key.row.Created = a.nextCounter()
	batch.Set(layout.DataKeyKey(s.number, number), key.row.Encode(s.number, number))
	s.w.sealer = sealer{DataKey: dataKey, keyID: key.keyID, made: a.moment}
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	s.keys.addLocked(number, key.row)
	s.keys.opened[number] = dataKey
	return nil
}

// noDataKeyError refuses a request because the stream has no usable data key. The caller
// renews the key and tries again.
type noDataKeyError struct{ stream *Stream }

func (e *noDataKeyError) Error() string { return "the stream needs a new data key" }

// canSeal returns nil if the stream does not encrypt, or has a usable data key.
func (a *appender) canSeal(s *Stream) error {
	if keyID := s.w.settings.keyID; keyID != "" && !s.w.sealer.usable(keyID, a.moment) {
		return &noDataKeyError{s}
	}
	return nil
}

// renewDataKey gives the stream of a noDataKeyError a new data key, unless another caller has
// just done so. It returns any other error unchanged.
func (db *DB) renewDataKey(ctx context.Context, err error) error {
	var missing *noDataKeyError
	if !errors.As(err, &missing) {
		return err
	}
	err = missing.stream.renewDataKey(ctx)
	if errors.Is(err, commit.ErrUnknown) { // only the key's outcome is unknown: the put was refused
		if err = context.Cause(ctx); err == nil {
			err = db.store.Err()
		}
	}
	return err
}

func (s *Stream) renewDataKey(ctx context.Context) error {
	db := s.db
	if err := wait(ctx, db, s.keys.turn()); err != nil {
		return err
	}
	defer giveTurn(s.keys.turn())
	keyID := s.settings.Load().keyID
	needed := false
	err := db.control(ctx, func(a *appender, _ *kv.Batch) (func(), error) {
		needed = !s.w.deleted && a.canSeal(s) != nil
		return nil, nil
	})
	if err != nil || !needed || keyID == "" {
		return err
	}
	key, err := s.makeDataKey(ctx, keyID)
	if err != nil {
		if errors.Is(err, ErrInvalidArgument) { // the key existed when encryption started
			err = keyUnavailable("describe", keyID, err)
		}
		return err
	}
	return s.update(ctx, func(a *appender, set *settings, batch *kv.Batch) error {
		if set.keyID != keyID || a.canSeal(s) == nil {
			return nil // the settings or the key have changed meanwhile: the next put decides anew
		}
		return a.addDataKey(s, key, batch)
	})
}

// firstCounter returns a lower bound of the counters of the stream's records: the first one's,
// as far as it is known.
func (s *Stream) firstCounter() uint64 {
	for it := s.w.oldest.First(); it != nil; it = s.w.oldest.First() {
		s.db.appender.counts.looks.Add(1)
		sh := it.Value
		first := max(sh.w.horizon.Counter, sh.w.extents[0].FirstCounter)
		if first <= it.Due() {
			return first
		}
		s.w.oldest.Set(it, first) // records were trimmed since it was set
	}
	return math.MaxUint64
}

// pruneDataKeys removes the rows of the data keys that no record of the stream needs: all that
// are older than the newest key made before every record. The caller forgets the returned keys
// only after readers see the trim, because until then they still read the trimmed records:
// TestATrimOnItsWayTakesNoDataKey.
func (s *Stream) pruneDataKeys(batch *kv.Batch) (pruned []uint32) {
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	if len(s.keys.numbers) < 2 {
		return nil
	}
	first := s.firstCounter()
	for len(s.keys.numbers) > 1 && s.keys.rows[s.keys.numbers[1]].Created <= first {
		number := s.keys.numbers[0]
		s.keys.numbers = s.keys.numbers[1:]
		s.db.appender.counts.looks.Add(1)
		batch.Delete(layout.DataKeyKey(s.number, number))
		pruned = append(pruned, number)
	}
	return pruned
}

// lastDataKey returns the newest data key that is encrypted with the provider's key id.
func (s *Stream) lastDataKey(id string) (number uint32, row layout.DataKeyRow, found bool) {
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	for _, number := range slices.Backward(s.keys.numbers) {
		if row := s.keys.rows[number]; row.KeyID == id {
			return number, row, true
		}
	}
	return 0, row, false
}

// makeDataKey makes a data key and lets the provider encrypt it. The caller holds the turn.
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
	// If another key had replaced the provider's key under the same id, old and new records
	// could not be read with the same provider. So the last data key must still open.
	if number, row, found := s.lastDataKey(id); found {
		if err := s.openInTurn(ctx, number, row); err != nil {
			return nil, err
		}
	}
	secret := make([]byte, layout.DataKeyBytes)
	_, _ = rand.Read(secret) // never fails
	wrapped, err := provider.WrapKey(ctx, id, slices.Clone(secret), s.name, keyPurpose)
	if err != nil {
		return nil, keyUnavailable("wrap", id, err)
	}
	row := layout.DataKeyRow{KeyID: id, Wrapped: slices.Clone(wrapped), Check: layout.DataKeyCheck(secret)}
	return &newDataKey{keyID: keyID, row: row, secret: secret}, nil
}

// keyPurpose is the purpose that a [KeyProvider] gets for every data key.
const keyPurpose = "records"

// keyUnavailable returns the error for a failure of the provider. A key that it does not know
// is not the mistake of the caller that puts or reads.
func keyUnavailable(op, keyID string, err error) error {
	switch {
	case errors.Is(err, ErrInvalidArgument):
		return fmt.Errorf("%w: %s with %q: %v", ErrKeyUnavailable, op, keyID, err)
	case errors.Is(err, ErrKeyUnavailable): // the provider's error already has the class
		return fmt.Errorf("%s with %q: %w", op, keyID, err)
	}
	return fmt.Errorf("%w: %s with %q: %w", ErrKeyUnavailable, op, keyID, err)
}

// dataKey returns the data key of that number, nil if it is not decrypted yet.
func (s *Stream) dataKey(number uint32) *layout.DataKey {
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	return s.keys.opened[number]
}

// openDataKey lets the provider decrypt the data key of that number.
func (s *Stream) openDataKey(ctx context.Context, number uint32) error {
	if err := wait(ctx, s.db, s.keys.turn()); err != nil {
		return err
	}
	defer giveTurn(s.keys.turn())
	s.keys.mu.Lock()
	row, found := s.keys.rows[number]
	s.keys.mu.Unlock()
	if !found {
		return fmt.Errorf("%w: data key %d", ErrDataLoss, number)
	}
	return s.openInTurn(ctx, number, row)
}

// openInTurn is openDataKey for a caller that holds the turn and has the row.
func (s *Stream) openInTurn(ctx context.Context, number uint32, row layout.DataKeyRow) error {
	if s.dataKey(number) != nil {
		return nil // another caller was faster
	}
	provider := s.db.opts.KeyProvider
	if provider == nil {
		return fmt.Errorf("%w: the database was opened without a KeyProvider, and the records are encrypted with %q", ErrKeyUnavailable, row.KeyID)
	}
	secret, err := provider.UnwrapKey(ctx, row.KeyID, slices.Clone(row.Wrapped), s.name, keyPurpose)
	if err != nil {
		return keyUnavailable("unwrap", row.KeyID, err)
	}
	if len(secret) != layout.DataKeyBytes || layout.DataKeyCheck(secret) != row.Check {
		return fmt.Errorf("%w: the bytes unwrapped with %q are not the data key", ErrKeyUnavailable, row.KeyID)
	}
	key, err := layout.NewDataKey(number, s.db.store.ID(), secret)
	if err != nil {
		return err
	}
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	if _, needed := s.keys.rows[number]; needed { // it may have been pruned meanwhile
		s.keys.opened[number] = key
	}
	return nil
}
