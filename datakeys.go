package braid

import (
	"fmt"
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
	numbers []uint32      // of rows that are stored, in order
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

// has reports whether there is a data key of that number.
func (k *dataKeys) has(number uint32) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, has := k.rows[number]
	return has
}

// addLocked adds a data key whose number is above all others.
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

// missingKeyError is a data key that a page needs and does not have, and the counter
// of the record that needs it.
type missingKeyError struct {
	number  uint32
	counter uint64
}

func (e *missingKeyError) Error() string {
	return fmt.Sprintf("data key %d was not decrypted yet", e.number)
}
