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

// Records are encrypted with data keys of their stream, which are stored beside
// them, themselves encrypted by a key that a [KeyProvider] has. The provider may
// be slow or fail, so it is called on the goroutine of the caller that puts or reads, and
// never by the committer, which encrypts: it alone knows a record's numbers.
//
// Invariant: a data key encrypts only in the process run that made it. So no two
// records are encrypted with one key and one counter, neither after a crash, nor
// in a copy of the database, nor when the clock goes back.

// StartEncryption makes the stream encrypt what is put from now on: partition
// keys, explicit hash keys and data, with AES-256-GCM, by data keys that
// [Options].KeyProvider encrypts with the key of that id. Records that are
// stored already stay as they are. On a stream that encrypts already it changes
// the key; the same one again makes a new data key.
//
// It does not hide sizes, numbers and times of records, which shard each is in,
// the names and tags of streams, nor the application's own keys and values.
//
// Errors: [ErrInvalidArgument] for an id that the provider does not know, and if
// there is no provider; [ErrKeyUnavailable] if it fails; and as
// [Stream.UpdateMaxRecordBytes]. Kinesis: StartStreamEncryption.
func (s *Stream) StartEncryption(ctx context.Context, keyID string) error {
	return wrapError("start encryption", s.name, s.startEncryption(ctx, keyID))
}

func (s *Stream) startEncryption(ctx context.Context, keyID string) error {
	if keyID == "" || utf8.RuneCountInString(keyID) > maxKeyIDChars {
		return &InvalidArgumentError{"KeyID", fmt.Sprintf("%.64q", keyID), fmt.Sprintf("must be 1 to %d characters", maxKeyIDChars)}
	}
	if s.db.opts.KeyProvider == nil {
		return &InvalidArgumentError{"KeyID", fmt.Sprintf("%.64q", keyID), "needs a database that was opened with a KeyProvider"}
	}
	if s.db.opts.ReadOnly { // before the provider is asked for anything
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

// StopEncryption makes the stream store in the clear what is put from now on.
// What is encrypted stays so, and can be read as long as its key can be had. A
// stream that does not encrypt stays as it is.
//
// Errors: as [Stream.UpdateMaxRecordBytes]. Kinesis: StopStreamEncryption.
func (s *Stream) StopEncryption(ctx context.Context) error {
	err := s.update(ctx, func(_ *appender, set *settings, _ *kv.Batch) error {
		set.keyID = ""
		return nil
	})
	return wrapError("stop encryption", s.name, err)
}

// addDataKey makes the data key the one that encrypts. The caller saves the
// stream's row, in the same commit.
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
// renews the key and asks again.
type noDataKeyError struct{ stream *Stream }

func (e *noDataKeyError) Error() string { return "the stream needs a new data key" }

// canSeal returns nil if records can be put to the stream: it does not encrypt,
// or has the data key for it.
func (a *appender) canSeal(s *Stream) error {
	if keyID := s.w.settings.keyID; keyID != "" && !s.w.sealer.usable(keyID, a.moment) {
		return &noDataKeyError{s}
	}
	return nil
}

// renewDataKey gives the stream of a noDataKeyError a data key, unless somebody
// else has done so meanwhile. It returns any other error as it is.
func (db *DB) renewDataKey(ctx context.Context, err error) error {
	var missing *noDataKeyError
	if !errors.As(err, &missing) {
		return err
	}
	err = missing.stream.renewDataKey(ctx)
	if errors.Is(err, commit.ErrUnknown) { // of the key; the put was refused
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
		if errors.Is(err, ErrInvalidArgument) { // it was there when encryption started
			err = keyUnavailable("describe", keyID, err)
		}
		return err
	}
	return s.update(ctx, func(a *appender, set *settings, batch *kv.Batch) error {
		if set.keyID != keyID || a.canSeal(s) == nil {
			return nil // it has changed meanwhile: the put will tell
		}
		return a.addDataKey(s, key, batch)
	})
}

// firstCounter returns a counter that no record of the stream lies below: that of the
// first one, as far as it is known.
func (s *Stream) firstCounter() uint64 {
	for it := s.w.oldest.First(); it != nil; it = s.w.oldest.First() {
		s.db.appender.counts.looks.Add(1)
		sh := it.Value
		first := max(sh.w.horizon.Counter, sh.w.extents[0].FirstCounter)
		if first <= it.Due() {
			return first
		}
		s.w.oldest.Set(it, first) // records were trimmed since
	}
	return math.MaxUint64
}

// pruneDataKeys removes the rows of the data keys that no record of the stream needs any
// more: all that are older than the newest one made before every record. The caller
// forgets the keys that it returns once readers are shown that those records are gone,
// and not before: until then they read them. TestATrimOnItsWayTakesNoDataKey holds it.
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

// lastDataKey returns the newest data key that is encrypted with the key of that id.
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

// keyPurpose is what a [KeyProvider] is told of every data key.
const keyPurpose = "records"

// keyUnavailable makes the error of a provider that has failed. A key that it does not
// know is no mistake of the caller that puts or reads.
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
	s.keys.mu.Lock()
	row, found := s.keys.rows[number]
	s.keys.mu.Unlock()
	if !found {
		return fmt.Errorf("%w: data key %d", ErrDataLoss, number)
	}
	return s.openInTurn(ctx, number, row)
}

// openInTurn is openDataKey for a caller that has the turn, and the row.
func (s *Stream) openInTurn(ctx context.Context, number uint32, row layout.DataKeyRow) error {
	if s.dataKey(number) != nil {
		return nil // somebody else was faster
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
		return fmt.Errorf("%w: what was unwrapped with %q is not the data key", ErrKeyUnavailable, row.KeyID)
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
