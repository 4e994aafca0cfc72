package queue

import (
	"encoding/json"

	"github.com/braidstream/braid/internal/jsontext"
)

// Durations and errors are marshaled as people write them. The types below are those of
// this package without their methods.
type (
	plainOptions        Options
	plainReceiveOptions ReceiveOptions
	plainDescription    Description
	plainReceiptError   ReceiptError
)

type jsonOptions struct {
	*plainOptions
	VisibilityTimeout jsontext.Duration
}

// MarshalJSON implements json.Marshaler.
func (o Options) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonOptions{(*plainOptions)(&o), jsontext.Duration(o.VisibilityTimeout)})
}

// UnmarshalJSON implements json.Unmarshaler. Fields that are missing stay as they are.
func (o *Options) UnmarshalJSON(text []byte) error {
	in := jsonOptions{(*plainOptions)(o), jsontext.Duration(o.VisibilityTimeout)}
	err := json.Unmarshal(text, &in)
	o.VisibilityTimeout = in.VisibilityTimeout.Duration()
	return err
}

type jsonReceiveOptions struct {
	*plainReceiveOptions
	Wait, VisibilityTimeout jsontext.Duration
}

// MarshalJSON implements json.Marshaler.
func (o ReceiveOptions) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonReceiveOptions{(*plainReceiveOptions)(&o), jsontext.Duration(o.Wait), jsontext.Duration(o.VisibilityTimeout)})
}

// UnmarshalJSON implements json.Unmarshaler. Fields that are missing stay as they are.
func (o *ReceiveOptions) UnmarshalJSON(text []byte) error {
	in := jsonReceiveOptions{(*plainReceiveOptions)(o), jsontext.Duration(o.Wait), jsontext.Duration(o.VisibilityTimeout)}
	err := json.Unmarshal(text, &in)
	o.Wait, o.VisibilityTimeout = in.Wait.Duration(), in.VisibilityTimeout.Duration()
	return err
}

type jsonDescription struct {
	*plainDescription
	OldestAge, OldestDeadAge jsontext.Duration
}

// MarshalJSON implements json.Marshaler.
func (d Description) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonDescription{(*plainDescription)(&d), jsontext.Duration(d.OldestAge), jsontext.Duration(d.OldestDeadAge)})
}

// UnmarshalJSON implements json.Unmarshaler. Fields that are missing stay as they are.
func (d *Description) UnmarshalJSON(text []byte) error {
	in := jsonDescription{(*plainDescription)(d), jsontext.Duration(d.OldestAge), jsontext.Duration(d.OldestDeadAge)}
	err := json.Unmarshal(text, &in)
	d.OldestAge, d.OldestDeadAge = in.OldestAge.Duration(), in.OldestDeadAge.Duration()
	return err
}

type jsonReceiptError struct {
	*plainReceiptError
	Err jsontext.Error
}

// MarshalJSON implements json.Marshaler. Err is its text.
func (e ReceiptError) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonReceiptError{(*plainReceiptError)(&e), jsontext.Error{Err: e.Err}})
}

// UnmarshalJSON implements json.Unmarshaler. Err becomes the error of this package that has
// the text, or another error with that text.
func (e *ReceiptError) UnmarshalJSON(text []byte) error {
	in := jsonReceiptError{plainReceiptError: (*plainReceiptError)(e)}
	err := json.Unmarshal(text, &in)
	e.Err = in.Err.Err
	for _, reason := range []error{ErrReceiptInvalid, ErrReceiptExpired, ErrRecordSettled} {
		if e.Err != nil && e.Err.Error() == reason.Error() {
			e.Err = reason
		}
	}
	return err
}
