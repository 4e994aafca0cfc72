package braid

import (
	"encoding/json"
	"fmt"

	"github.com/braidstream/braid/internal/jsontext"
)

// This file gives values a JSON form that people can read: durations as "24h0m0s", modes by
// name, and errors as text. The JSON can be read back; of an error, only its text.

// MarshalText returns the name of the mode.
func (m CapacityMode) MarshalText() ([]byte, error) {
	if m < Unlimited || m > OnDemand {
		return nil, &InvalidArgumentError{"CapacityMode", int(m), capacityModeRule}
	}
	return []byte(m.String()), nil
}

// UnmarshalText sets the mode to the one of that name. Other names are
// [ErrInvalidArgument].
func (m *CapacityMode) UnmarshalText(text []byte) error {
	for mode := Unlimited; mode <= OnDemand; mode++ {
		if mode.String() == string(text) {
			*m = mode
			return nil
		}
	}
	return &InvalidArgumentError{"CapacityMode", fmt.Sprintf("%.140q", text), capacityModeRule}
}

const capacityModeRule = "must be Unlimited, Provisioned or OnDemand"

// MarshalText returns the name of the durability.
func (d Durability) MarshalText() ([]byte, error) {
	if d < Sync || d > NoSync {
		return nil, &InvalidArgumentError{"Durability", int(d), durabilityRule}
	}
	return []byte(d.String()), nil
}

// UnmarshalText sets the durability to the one of that name. Other names are
// [ErrInvalidArgument].
func (d *Durability) UnmarshalText(text []byte) error {
	for durability := Sync; durability <= NoSync; durability++ {
		if durability.String() == string(text) {
			*d = durability
			return nil
		}
	}
	return &InvalidArgumentError{"Durability", fmt.Sprintf("%.140q", text), durabilityRule}
}

const durabilityRule = "must be Sync, Interval or NoSync"

type (
	plainStreamOptions     StreamOptions
	plainStreamDescription StreamDescription
	plainRecordsPage       RecordsPage
	plainPutResult         PutResult
	plainMetrics           Metrics
	plainHistogram         Histogram
	plainHistogramBucket   HistogramBucket
	plainThroughputError   ThroughputExceededError
	plainCorruptError      CorruptError
	plainFileDamageError   FileDamageError
	plainVerifyError       VerifyError
	plainVerifyReport      VerifyReport
)

type jsonStreamOptions struct {
	*plainStreamOptions
	Retention jsontext.Duration
}

// MarshalJSON implements json.Marshaler.
func (o StreamOptions) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonStreamOptions{(*plainStreamOptions)(&o), jsontext.Duration(o.Retention)})
}

// UnmarshalJSON implements json.Unmarshaler. Fields that are missing stay as they are.
func (o *StreamOptions) UnmarshalJSON(text []byte) error {
	in := jsonStreamOptions{(*plainStreamOptions)(o), jsontext.Duration(o.Retention)}
	err := json.Unmarshal(text, &in)
	o.Retention = in.Retention.Duration()
	return err
}

type jsonStreamDescription struct {
	*plainStreamDescription
	Retention jsontext.Duration
}

// MarshalJSON implements json.Marshaler.
func (d StreamDescription) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonStreamDescription{(*plainStreamDescription)(&d), jsontext.Duration(d.Retention)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (d *StreamDescription) UnmarshalJSON(text []byte) error {
	in := jsonStreamDescription{(*plainStreamDescription)(d), jsontext.Duration(d.Retention)}
	err := json.Unmarshal(text, &in)
	d.Retention = in.Retention.Duration()
	return err
}

type jsonRecordsPage struct {
	*plainRecordsPage
	BehindLatest jsontext.Duration
}

// MarshalJSON implements json.Marshaler.
func (p RecordsPage) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonRecordsPage{(*plainRecordsPage)(&p), jsontext.Duration(p.BehindLatest)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *RecordsPage) UnmarshalJSON(text []byte) error {
	in := jsonRecordsPage{(*plainRecordsPage)(p), jsontext.Duration(p.BehindLatest)}
	err := json.Unmarshal(text, &in)
	p.BehindLatest = in.BehindLatest.Duration()
	return err
}

type jsonPutResult struct {
	*plainPutResult
	Err jsontext.Error `json:",omitzero"`
}

// MarshalJSON implements json.Marshaler. Err is its text.
func (r PutResult) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonPutResult{(*plainPutResult)(&r), jsontext.Error{Err: r.Err}})
}

// UnmarshalJSON implements json.Unmarshaler. Err becomes an error with that text, which
// matches no sentinel.
func (r *PutResult) UnmarshalJSON(text []byte) error {
	in := jsonPutResult{plainPutResult: (*plainPutResult)(r)}
	err := json.Unmarshal(text, &in)
	r.Err = in.Err.Err
	return err
}

type jsonMetrics struct {
	*plainMetrics
	SyncTime jsontext.Duration
	Failed   jsontext.Error `json:",omitzero"`
}

// MarshalJSON implements json.Marshaler. Failed is its text.
func (m Metrics) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonMetrics{(*plainMetrics)(&m), jsontext.Duration(m.SyncTime), jsontext.Error{Err: m.Failed}})
}

// UnmarshalJSON implements json.Unmarshaler. Failed becomes an error with that text, which
// matches no sentinel.
func (m *Metrics) UnmarshalJSON(text []byte) error {
	in := jsonMetrics{plainMetrics: (*plainMetrics)(m)}
	err := json.Unmarshal(text, &in)
	m.SyncTime, m.Failed = in.SyncTime.Duration(), in.Failed.Err
	return err
}

type jsonHistogram struct {
	*plainHistogram
	Sum jsontext.Duration
}

// MarshalJSON implements json.Marshaler.
func (h Histogram) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonHistogram{(*plainHistogram)(&h), jsontext.Duration(h.Sum)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (h *Histogram) UnmarshalJSON(text []byte) error {
	in := jsonHistogram{(*plainHistogram)(h), jsontext.Duration(h.Sum)}
	err := json.Unmarshal(text, &in)
	h.Sum = in.Sum.Duration()
	return err
}

type jsonHistogramBucket struct {
	UpTo jsontext.Duration
	*plainHistogramBucket
}

// MarshalJSON implements json.Marshaler.
func (b HistogramBucket) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonHistogramBucket{jsontext.Duration(b.UpTo), (*plainHistogramBucket)(&b)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (b *HistogramBucket) UnmarshalJSON(text []byte) error {
	in := jsonHistogramBucket{jsontext.Duration(b.UpTo), (*plainHistogramBucket)(b)}
	err := json.Unmarshal(text, &in)
	b.UpTo = in.UpTo.Duration()
	return err
}

// MarshalJSON implements json.Marshaler. Value, which may be anything, is its text, and is
// left out if it is nil.
func (e InvalidArgumentError) MarshalJSON() ([]byte, error) {
	if e.Value == nil {
		return json.Marshal(struct{ Field, Rule string }{e.Field, e.Rule})
	}
	return json.Marshal(struct{ Field, Value, Rule string }{e.Field, fmt.Sprint(e.Value), e.Rule})
}

type jsonThroughputError struct {
	*plainThroughputError
	RetryAfter jsontext.Duration
}

// MarshalJSON implements json.Marshaler.
func (e ThroughputExceededError) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonThroughputError{(*plainThroughputError)(&e), jsontext.Duration(e.RetryAfter)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (e *ThroughputExceededError) UnmarshalJSON(text []byte) error {
	in := jsonThroughputError{(*plainThroughputError)(e), jsontext.Duration(e.RetryAfter)}
	err := json.Unmarshal(text, &in)
	e.RetryAfter = in.RetryAfter.Duration()
	return err
}

type jsonCorruptError struct {
	*plainCorruptError
	Err jsontext.Error `json:",omitzero"`
}

// MarshalJSON implements json.Marshaler. Err is its text.
func (e CorruptError) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonCorruptError{(*plainCorruptError)(&e), jsontext.Error{Err: e.Err}})
}

// UnmarshalJSON implements json.Unmarshaler. Err becomes an error with that text, which
// matches no sentinel.
func (e *CorruptError) UnmarshalJSON(text []byte) error {
	in := jsonCorruptError{plainCorruptError: (*plainCorruptError)(e)}
	err := json.Unmarshal(text, &in)
	e.Err = in.Err.Err
	return err
}

type jsonFileDamageError struct {
	*plainFileDamageError
	Err jsontext.Error `json:",omitzero"`
}

// MarshalJSON implements json.Marshaler. Err is its text.
func (e FileDamageError) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonFileDamageError{(*plainFileDamageError)(&e), jsontext.Error{Err: e.Err}})
}

// UnmarshalJSON implements json.Unmarshaler. Err becomes an error with that text, which
// matches no sentinel.
func (e *FileDamageError) UnmarshalJSON(text []byte) error {
	in := jsonFileDamageError{plainFileDamageError: (*plainFileDamageError)(e)}
	err := json.Unmarshal(text, &in)
	e.Err = in.Err.Err
	return err
}

type jsonVerifyError struct {
	*plainVerifyError
	Err jsontext.Error `json:",omitzero"`
}

// MarshalJSON implements json.Marshaler. Err is its text.
func (e VerifyError) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonVerifyError{(*plainVerifyError)(&e), jsontext.Error{Err: e.Err}})
}

// UnmarshalJSON implements json.Unmarshaler. Err becomes an error with that text, which
// matches no sentinel.
func (e *VerifyError) UnmarshalJSON(text []byte) error {
	in := jsonVerifyError{plainVerifyError: (*plainVerifyError)(e)}
	err := json.Unmarshal(text, &in)
	e.Err = in.Err.Err
	return err
}

type jsonVerifyReport struct {
	*plainVerifyReport
	UnopenedErr jsontext.Error `json:",omitzero"`
}

// MarshalJSON implements json.Marshaler. UnopenedErr is its text.
func (r VerifyReport) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonVerifyReport{(*plainVerifyReport)(&r), jsontext.Error{Err: r.UnopenedErr}})
}

// UnmarshalJSON implements json.Unmarshaler. UnopenedErr becomes an error with that text, which
// matches no sentinel.
func (r *VerifyReport) UnmarshalJSON(text []byte) error {
	in := jsonVerifyReport{plainVerifyReport: (*plainVerifyReport)(r)}
	err := json.Unmarshal(text, &in)
	r.UnopenedErr = in.UnopenedErr.Err
	return err
}
