package queuetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/queue"
)

// The checker accepts correct histories and rejects impossible ones.
func TestLinearize(t *testing.T) {
	const s = time.Second
	at := func(n int64, v Verb, from time.Duration, c Call) Call {
		c.Verb, c.Begun, c.Ended, c.From, c.To = v, n, n+1, from, from
		return c
	}
	put := at(1, Put, 0, Call{})
	first := at(10, Receive, s, Call{Delivery: 1, Receives: 1, Delay: 10 * s})
	for name, c := range map[string]struct {
		right bool
		then  []Call
	}{
		"acknowledged":                {true, []Call{at(20, Ack, 5*s, Call{Delivery: 1}), at(30, Missing, 20*s, Call{})}},
		"lost":                        {false, []Call{at(20, Missing, 20*s, Call{})}},
		"hidden":                      {true, []Call{at(20, Missing, 5*s, Call{})}},
		"received twice":              {false, []Call{at(20, Receive, 5*s, Call{Delivery: 2, Receives: 2})}},
		"received in time":            {true, []Call{at(20, Receive, 12*s, Call{Delivery: 2, Receives: 2})}},
		"not counted":                 {false, []Call{at(20, Receive, 12*s, Call{Delivery: 2, Receives: 1})}},
		"back":                        {false, []Call{at(20, Ack, 5*s, Call{Delivery: 1}), at(30, Receive, 20*s, Call{Delivery: 2, Receives: 2})}},
		"extended":                    {true, []Call{at(20, Extend, 5*s, Call{Delivery: 1, Delay: 60 * s}), at(30, Missing, 20*s, Call{})}},
		"extended too late":           {false, []Call{at(20, Extend, 12*s, Call{Delivery: 1, Delay: 60 * s})}},
		"extended by nobody":          {false, []Call{at(20, Extend, 5*s, Call{Delivery: 1, Delay: s, Err: queue.ErrReceiptExpired})}},
		"dead":                        {true, []Call{at(20, Update, 5*s, Call{Most: 1}), at(30, ReceiveDead, 20*s, Call{Delivery: 2, Receives: 2})}},
		"received after its death":    {false, []Call{at(20, Update, 5*s, Call{Most: 1}), at(30, Receive, 20*s, Call{Delivery: 2, Receives: 2})}},
		"alive after a limit is gone": {false, []Call{at(20, Update, 5*s, Call{Most: 1}), at(22, Update, 20*s, Call{}), at(30, Receive, 21*s, Call{Delivery: 2, Receives: 2})}},
		"acknowledged by an old receipt": {false, []Call{
			at(20, Receive, 12*s, Call{Delivery: 2, Receives: 2, Delay: 10 * s}), at(30, Ack, 13*s, Call{Delivery: 1}),
		}},
		"acknowledged at the same time": {true, []Call{
			{Verb: Ack, Delivery: 1, Begun: 20, Ended: 40, From: 12 * s, To: 12 * s},
			{Verb: Receive, Delivery: 2, Receives: 2, Begun: 21, Ended: 30, From: 12 * s, To: 12 * s, Maybe: true},
		}},
		"received, and acknowledged before": {false, []Call{
			{Verb: Ack, Delivery: 1, Begun: 20, Ended: 25, From: 12 * s, To: 12 * s},
			{Verb: Receive, Delivery: 2, Receives: 2, Begun: 26, Ended: 30, From: 12 * s, To: 12 * s},
		}},
		"received, and acknowledged as it was": {false, []Call{
			{Verb: Ack, Delivery: 1, Begun: 20, Ended: 40, From: 12 * s, To: 12 * s},
			{Verb: Receive, Delivery: 2, Receives: 2, Begun: 21, Ended: 30, From: 12 * s, To: 12 * s},
		}},
		"maybe acknowledged, and it was":     {true, []Call{at(20, Ack, 5*s, Call{Delivery: 1, Maybe: true}), at(30, Missing, 20*s, Call{})}},
		"maybe acknowledged, and it was not": {true, []Call{at(20, Ack, 5*s, Call{Delivery: 1, Maybe: true}), at(30, Receive, 20*s, Call{Delivery: 2, Receives: 2})}},
		"maybe acknowledged, and again": {false, []Call{
			at(20, Ack, 5*s, Call{Delivery: 1, Maybe: true}), at(30, Missing, 20*s, Call{}), at(40, Receive, 21*s, Call{Delivery: 2, Receives: 2}),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			err := Linearize(append([]Call{put, first}, c.then...), -1)
			if c.right {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, "no order of the calls")
			}
		})
	}
}
