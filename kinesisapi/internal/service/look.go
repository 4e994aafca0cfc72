package service

import "github.com/braidstream/braid"

// Place is where in the database somebody reads.
type Place struct {
	Stream   string // as the database calls it
	Created  int64  // when the stream was, in nanoseconds: another one may have taken the name
	Shard    braid.ShardID
	Position braid.Position
}

// PlaceOf returns the place that a shard iterator stands for, also of one that has
// expired. false means that this is no iterator.
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

// PartitionKey returns the partition key of a record in the database as its producer
// gave it: empty if it gave none, as it need not where the service places records.
func PartitionKey(stored string) string {
	if stored == noPartitionKey {
		return ""
	}
	return stored
}
