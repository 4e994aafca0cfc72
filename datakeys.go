package braid

import (
	"fmt"
	"sync"
	"time"

	"github.com/braidstream/braid/internal/layout"
)

// dataKeyLifetime is how long a data key encrypts before it is replaced.
const dataKeyLifetime = 24 * time.Hour

// dataKeys are the data keys of a stream. The zero value has none, and takes next to no
// memory, because most streams do not encrypt.
type dataKeys struct {
	mu      sync.Mutex    // guards the fields below
	token   chan struct{} // holds a token unless a caller uses the provider; nil before the first
	numbers []uint32      // the numbers of the stored rows, in order
	rows    map[uint32]layout.DataKeyRow
	opened  map[uint32]*layout.DataKey // those that were decrypted
}

// turn returns the channel that holds a token unless a caller uses the provider.
func (k *dataKeys) turn() chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.token == nil {
		k.token = newTurn()
	}
	return k.token
}

// has reports whether the data key of that number exists.
func (k *dataKeys) has(number uint32) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, has := k.rows[number]
	return has
}

// addLocked adds a data key. Its number is above all others.
func (k *dataKeys) addLocked(number uint32, row layout.DataKeyRow) {
	if k.rows == nil {
		k.rows, k.opened = make(map[uint32]layout.DataKeyRow), make(map[uint32]*layout.DataKey)
	}
	k.numbers = append(k.numbers, number)
	k.rows[number] = row
}

// forget drops data keys whose rows were removed.
func (k *dataKeys) forget(numbers []uint32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, number := range numbers {
		delete(k.rows, number)
		delete(k.opened, number)
	}
}

// sealer is the data key that encrypts new records.
type sealer struct {
	*layout.DataKey
	keyID string    // as the caller gave it, perhaps an alias
	made  time.Time // when it was made, in this run of the process
}

// usable reports whether the data key can encrypt records that are put now.
func (k *sealer) usable(keyID string, now time.Time) bool {
	return k.DataKey != nil && k.keyID == keyID && now.Sub(k.made) < dataKeyLifetime
}

// newDataKey is a data key that is not stored yet.
type newDataKey struct {
	keyID  string // as the caller gave it, perhaps an alias
	row    layout.DataKeyRow
	secret []byte
}

// missingKeyError reports a data key that a page needs but that is not decrypted yet, and
// the counter of the first record that needs it.
type missingKeyError struct {
	number  uint32
	counter uint64
}

func (e *missingKeyError) Error() string {
	return fmt.Sprintf("data key %d was not decrypted yet", e.number)
}
