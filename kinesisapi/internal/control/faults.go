package control

import (
	"net/http"
	"time"

	"github.com/braidstream/braid/kinesisapi/internal/fault"
	"github.com/braidstream/braid/kinesisapi/internal/service"
)

const (
	maxDelay   = time.Hour
	maxTimes   = 1_000_000
	maxPending = 10_000 // faults
	maxEntries = 500    // of a PutRecords call
)

// order is the JSON of a fault, in requests and lists.
type order struct {
	Operation string `json:"operation,omitempty"`
	Times     *int   `json:"times,omitempty"`
	Delay     string `json:"delay,omitempty"`
	Error     string `json:"error,omitempty"`
	Message   string `json:"message,omitempty"`
	Entries   []int  `json:"entries,omitempty"`
	Drop      string `json:"drop,omitempty"`
	Redeliver bool   `json:"redeliver,omitempty"`
}

const acknowledge = "AcknowledgeQueueRecords"

const throughputExceeded = "ProvisionedThroughputExceededException"

// fault checks the order, and returns its fault.
func (o *order) fault() (f fault.Fault, err error) {
	if o.Operation != "" && service.Operations[o.Operation] == nil {
		return f, badRequest("operation %q is not one of Kinesis", o.Operation)
	}
	if o.Times != nil && (*o.Times < 1 || *o.Times > maxTimes) {
		return f, badRequest("times %d is not from 1 to %d", *o.Times, maxTimes)
	}
	if o.Delay != "" {
		if f.Delay, err = time.ParseDuration(o.Delay); err != nil || f.Delay < 0 || f.Delay > maxDelay {
			return f, badRequest(`delay %q is not a duration such as "250ms", up to %v`, o.Delay, maxDelay)
		}
	}
	switch o.Drop {
	case "":
	case "before":
		f.DropBefore = true
	case "after":
		f.DropAfter = true
	default:
		return f, badRequest("drop %q is neither before nor after", o.Drop)
	}
	switch {
	case len(o.Entries) > 0 && o.Operation != "PutRecords":
		return f, badRequest("entries are only for operation PutRecords; operation is %q", o.Operation)
	case len(o.Entries) > 0 && f.DropBefore:
		return f, badRequest("entries cannot be combined with drop=before: no entry of a dropped call is put")
	case len(o.Entries) == 0 && o.Error != "" && o.Drop != "":
		return f, badRequest("drop cannot be combined with error: a dropped call has no answer")
	case o.Redeliver && (o.Operation != acknowledge || o.Error != "" || f.DropBefore):
		return f, badRequest("redeliver is only for operation %s, which then succeeds; operation is %q", acknowledge, o.Operation)
	case o.Message != "" && o.Error == "" && len(o.Entries) == 0:
		return f, badRequest("message needs error")
	}
	for _, i := range o.Entries {
		if i < 0 || i >= maxEntries {
			return f, badRequest("entry %d is not from 0 to %d", i, maxEntries-1)
		}
	}
	switch {
	case len(o.Entries) > 0:
		name := o.Error
		if name == "" {
			name = throughputExceeded
		}
		f.Entries, f.EntryError = o.Entries, fault.Named(name, o.Message)
	case o.Error != "":
		f.Error = fault.Named(o.Error, o.Message)
	case o.Drop == "" && f.Delay == 0 && !o.Redeliver:
		return f, badRequest("the fault has no effect: give one of error, entries, delay, drop and redeliver")
	}
	f.Redeliver = o.Redeliver
	return f, nil
}

func (h *handler) addFault(r *http.Request) (any, error) {
	var o order
	if err := readJSON(r, &o); err != nil {
		return nil, err
	}
	f, err := o.fault()
	if err != nil {
		return nil, err
	}
	if len(h.script.List()) >= maxPending {
		return nil, &statusError{http.StatusConflict, "there are too many faults: DELETE " + Prefix + "faults"}
	}
	times := 1
	if o.Times != nil {
		times = *o.Times
	}
	h.script.Add(o.Operation, times, f)
	return h.faults(r)
}

func (h *handler) clearFaults(r *http.Request) (any, error) {
	h.script.Clear()
	return h.faults(r)
}

func (h *handler) faults(*http.Request) (any, error) {
	pending := []order{}
	for _, p := range h.script.List() {
		o := order{Operation: p.Operation, Times: &p.Times, Entries: p.Fault.Entries, Redeliver: p.Fault.Redeliver}
		if p.Fault.Delay > 0 {
			o.Delay = p.Fault.Delay.String()
		}
		switch {
		case p.Fault.DropBefore:
			o.Drop = "before"
		case p.Fault.DropAfter:
			o.Drop = "after"
		}
		e := p.Fault.Error
		if e == nil {
			e = p.Fault.EntryError
		}
		if e != nil {
			o.Error, o.Message = e.Type, e.Message
		}
		pending = append(pending, o)
	}
	return map[string][]order{"faults": pending}, nil
}
