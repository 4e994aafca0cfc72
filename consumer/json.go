package consumer

import (
	"encoding/json"

	"github.com/braidstream/braid/internal/jsontext"
)

// This file makes the JSON of exported types readable to tools and people: durations as
// "1m30s", and errors as text, without the records that they carry. It can be read back;
// errors come back as text only.

type (
	plainStatus      Status
	plainShardStatus ShardStatus
	plainShardError  ShardError
	plainMetrics     Metrics
	plainPage        Page
	plainBatch       Batch
	plainTxBatch     TxBatch
)

type jsonStatus struct {
	*plainStatus
	BehindLatest jsontext.Duration
}

// MarshalJSON implements json.Marshaler.
func (s Status) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonStatus{(*plainStatus)(&s), jsontext.Duration(s.BehindLatest)})
}

// UnmarshalJSON implements json.Unmarshaler. Errors are errors of that text.
func (s *Status) UnmarshalJSON(text []byte) error {
	in := jsonStatus{(*plainStatus)(s), jsontext.Duration(s.BehindLatest)}
	err := json.Unmarshal(text, &in)
	s.BehindLatest = in.BehindLatest.Duration()
	return err
}

type jsonShardStatus struct {
	*plainShardStatus
	Err          jsontext.Error `json:",omitzero"`
	BehindLatest jsontext.Duration
}

// MarshalJSON implements json.Marshaler. Err is its text.
func (s ShardStatus) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonShardStatus{(*plainShardStatus)(&s), jsontext.Error{Err: s.Err}, jsontext.Duration(s.BehindLatest)})
}

// UnmarshalJSON implements json.Unmarshaler. Err is an error of that text.
func (s *ShardStatus) UnmarshalJSON(text []byte) error {
	in := jsonShardStatus{plainShardStatus: (*plainShardStatus)(s), BehindLatest: jsontext.Duration(s.BehindLatest)}
	err := json.Unmarshal(text, &in)
	s.Err, s.BehindLatest = in.Err.Err, in.BehindLatest.Duration()
	return err
}

type jsonShardError struct {
	*plainShardError
	Err jsontext.Error
}

// MarshalJSON implements json.Marshaler. Err is its text.
func (e ShardError) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonShardError{(*plainShardError)(&e), jsontext.Error{Err: e.Err}})
}

// UnmarshalJSON implements json.Unmarshaler. Err is an error of that text.
func (e *ShardError) UnmarshalJSON(text []byte) error {
	in := jsonShardError{plainShardError: (*plainShardError)(e)}
	err := json.Unmarshal(text, &in)
	e.Err = in.Err.Err
	return err
}

// MarshalJSON implements json.Marshaler. Err is its text.
func (e PermanentError) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonPermanentError{jsontext.Error{Err: e.Err}})
}

// UnmarshalJSON implements json.Unmarshaler. Err is an error of that text.
func (e *PermanentError) UnmarshalJSON(text []byte) error {
	var in jsonPermanentError
	err := json.Unmarshal(text, &in)
	e.Err = in.Err.Err
	return err
}

type jsonPermanentError struct{ Err jsontext.Error }

type jsonMetrics struct {
	*plainMetrics
	Processing jsontext.Duration
}

// MarshalJSON implements json.Marshaler.
func (m Metrics) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonMetrics{(*plainMetrics)(&m), jsontext.Duration(m.Processing)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *Metrics) UnmarshalJSON(text []byte) error {
	in := jsonMetrics{(*plainMetrics)(m), jsontext.Duration(m.Processing)}
	err := json.Unmarshal(text, &in)
	m.Processing = in.Processing.Duration()
	return err
}

type jsonPage struct {
	*plainPage
	BehindLatest jsontext.Duration
}

// MarshalJSON implements json.Marshaler.
func (p Page) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonPage{(*plainPage)(&p), jsontext.Duration(p.BehindLatest)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *Page) UnmarshalJSON(text []byte) error {
	in := jsonPage{(*plainPage)(p), jsontext.Duration(p.BehindLatest)}
	err := json.Unmarshal(text, &in)
	p.BehindLatest = in.BehindLatest.Duration()
	return err
}

// MarshalJSON implements json.Marshaler. The Checkpointer has none.
func (b Batch) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		*plainBatch
		BehindLatest jsontext.Duration
	}{(*plainBatch)(&b), jsontext.Duration(b.BehindLatest)})
}

// MarshalJSON implements json.Marshaler.
func (b TxBatch) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		*plainTxBatch
		BehindLatest jsontext.Duration
	}{(*plainTxBatch)(&b), jsontext.Duration(b.BehindLatest)})
}

// MarshalText returns the text of Error: the record's place, and nothing of its content.
func (e RecordError) MarshalText() ([]byte, error) { return []byte(e.Error()), nil }

// MarshalText returns the text of Error, since the value can be anything.
func (e PanicError) MarshalText() ([]byte, error) { return []byte(e.Error()), nil }
