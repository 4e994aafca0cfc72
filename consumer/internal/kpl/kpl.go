package kpl

type UserRecord struct {
	PartitionKey    string
	ExplicitHashKey string
	Data            []byte
}

func Split(data []byte) (records []UserRecord, ok bool) { return nil, false }
