package server

import (
	"encoding/base64"
	"math/rand/v2"
	"sync"

	"github.com/google/uuid"
)

// IDs generates the request ids of answers.
type IDs struct {
	mu     sync.Mutex // guards source
	source *rand.ChaCha8
}

// NewIDs returns a generator of request ids. The same seed gives the same ids.
func NewIDs(seed [32]byte) *IDs { return &IDs{source: rand.NewChaCha8(seed)} }

// next returns the two identifiers of an answer.
func (ids *IDs) next() (requestID, id2 string) {
	var random [16 + 72]byte
	ids.mu.Lock()
	_, _ = ids.source.Read(random[:]) // it never fails
	ids.mu.Unlock()
	id := uuid.UUID(random[:16])
	id[6] = id[6]&0x0f | 0x40 // version 4
	id[8] = id[8]&0x3f | 0x80 // variant of RFC 4122
	return id.String(), base64.StdEncoding.EncodeToString(random[16:])
}
