package braid

import (
	"fmt"
	"sync"
	"time"

	"github.com/braidstream/braid/internal/layout"
)

// dataKeyLifetime is how long a data key encrypts before it is replaced.
const dataKeyLifetime = 24 * time.Hour

// dataKeys are a stream's, as they are stored, and those that were decrypted.
type dataKeys struct {
	turn chan struct{} // holds a token unless somebody calls the provider

	mu     sync.Mutex // guards the fields below
	rows   map[uint32]layout.DataKeyRow
	opened map[uint32]*layout.DataKey
}

func newDataKeys() dataKeys {
	return dataKeys{turn: newTurn(), rows: make(map[uint32]layout.DataKeyRow), opened: make(map[uint32]*layout.DataKey)}
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
