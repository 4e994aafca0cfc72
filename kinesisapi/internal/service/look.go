package service

import "github.com/braidstream/braid"

// Place is the position of a reader in the database.
type Place struct {
	Stream   string // its name in the database
	Created  int64  // when the stream was created, in nanoseconds; another stream may have taken the name since
	Shard    braid.ShardID
	Position braid.Position
}

// PlaceOf returns the place of a shard iterator, even an expired one. false means that the
// text is not an iterator.
func (s *Service) PlaceOf(iterator string) (Place, bool) {
	it, _, _, err := s.parseIterator(iterator)
	return Place{it.t.stored, it.created, it.shard, it.at}, err == nil
}

// Place returns where the subscription began.
func (sub *Subscription) Place() Place {
	return Place{sub.t.stored, sub.stream.CreatedAt().UnixNano(), sub.shard.ID(), sub.at}
}

func (sub *Subscription) observe(event *SubscribeToShardEvent) {
	if sub.Observe != nil {
		sub.Observe(event)
	}
}

// PartitionKey returns the partition key of a stored record as its producer gave it. It is
// empty if the producer gave none, which streams with the strategy AUTO allow.
func PartitionKey(stored string) string {
	if stored == noPartitionKey {
		return ""
	}
	return stored
}
