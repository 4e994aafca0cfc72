package inspect

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/internal/jsontext"
)

const (
	maxApps      = 100
	maxErrorText = 8 << 10 // of a shard's error, which may have a stack
)

// appSummary is an application in a list.
type appSummary struct {
	Name                       string
	Paused                     bool // the whole application
	CaughtUp                   bool
	Workers                    int
	Shards                     int
	States                     map[consumer.ShardState]int
	BehindRecords, BehindBytes int64
	BehindLatest               jsontext.Duration
	AwaitedStreams             []string `json:",omitempty"`
	Error                      string   `json:",omitempty"` // why the other fields are unknown
}

type appList struct {
	Time time.Time
	Apps []appSummary
	More bool
}

func (h *handler) listApps(r *http.Request) (any, error) {
	if err := onlyParameters(r, "after", "limit"); err != nil {
		return nil, err
	}
	limit, err := number(r, "limit", maxApps, 1, maxApps)
	if err != nil {
		return nil, err
	}
	names, err := consumer.Apps(r.Context(), h.db)
	if err != nil {
		return nil, err
	}
	after := r.URL.Query().Get("after")
	out := appList{Time: time.Now(), Apps: []appSummary{}}
	for _, name := range names {
		if name <= after {
			continue
		}
		if len(out.Apps) == limit {
			out.More = true
			break
		}
		sum := appSummary{Name: name, States: make(map[consumer.ShardState]int)}
		if status, err := h.status(r, name); err != nil {
			sum.Error = err.Error()
		} else {
			sum.Paused, sum.CaughtUp, sum.Workers, sum.Shards = status.Paused, status.CaughtUp(), len(status.Workers), len(status.Shards)
			sum.BehindRecords, sum.BehindBytes = status.BehindRecords, status.BehindBytes
			sum.BehindLatest = jsontext.Duration(status.BehindLatest)
			sum.AwaitedStreams = status.AwaitedStreams
			for i := range status.Shards {
				sum.States[status.Shards[i].State]++
			}
		}
		out.Apps = append(out.Apps, sum)
	}
	return out, nil
}

func (h *handler) status(r *http.Request, name string) (consumer.Status, error) {
	app, err := consumer.OpenApp(h.db, name)
	if err != nil {
		return consumer.Status{}, err
	}
	return app.Status(r.Context())
}

// app returns the application that the path names.
func (h *handler) app(r *http.Request) (*consumer.App, error) {
	return consumer.OpenApp(h.db, r.PathValue("app"))
}

type appAnswer struct {
	Time       time.Time
	Status     consumer.Status // with some of its shards
	Shards     int             // total number
	MoreShards bool            // there are more; continue with stream/shard of the last one as after
	CaughtUp   bool
}

func (h *handler) describeApp(r *http.Request) (any, error) {
	if err := onlyParameters(r, "after", "limit"); err != nil {
		return nil, err
	}
	limit, err := number(r, "limit", maxShards, 1, maxShards)
	if err != nil {
		return nil, err
	}
	status, err := h.status(r, r.PathValue("app"))
	if err != nil {
		return nil, err
	}
	out := appAnswer{Time: time.Now(), Shards: len(status.Shards), CaughtUp: status.CaughtUp()}
	if stream, shard, found := strings.Cut(r.URL.Query().Get("after"), "/"); found {
		for len(status.Shards) > 0 && !isAfter(status.Shards[0].LeaseKey, stream, shard) {
			status.Shards = status.Shards[1:]
		}
	}
	if len(status.Shards) > limit {
		status.Shards, out.MoreShards = status.Shards[:limit], true
	}
	for i := range status.Shards {
		if err := status.Shards[i].Err; err != nil {
			status.Shards[i].Err = errors.New(shortened(err.Error(), maxErrorText))
		}
	}
	out.Status = status
	return out, nil
}

func isAfter(key consumer.LeaseKey, stream, shard string) bool {
	return key.Stream > stream || key.Stream == stream && string(key.Shard) > shard
}

// shortened cuts off a text, between characters.
func shortened(text string, bytes int) string {
	if len(text) <= bytes {
		return text
	}
	return strings.ToValidUTF8(text[:bytes], "") + " …"
}

// letter is a record of a dead-letter stream.
type letter struct {
	ShardID        braid.ShardID // of the letter itself
	SequenceNumber braid.SequenceNumber
	ArrivalTime    time.Time
	Letter         *consumer.DeadLetter // nil if the letter cannot be read
	DataBytes      int                  // of the whole data of the failed record
	Problem        string               `json:",omitempty"` // why the letter cannot be read or is not shown
}

type letterAnswer struct {
	Stream   string
	Letters  []letter
	Next     braid.Position
	LookedAt int
	AtTip    bool
}

// deadLetters lists the letters that an application has put into a dead-letter stream. It
// skips letters of other applications.
func (h *handler) deadLetters(r *http.Request) (any, error) {
	if err := onlyParameters(r, "stream", "from", "limit", "data", "encrypted"); err != nil {
		return nil, err
	}
	limit, err := number(r, "limit", defaultRecords, 1, maxRecords)
	if err != nil {
		return nil, err
	}
	v, err := viewOf(r, maxDataBytes)
	if err != nil {
		return nil, err
	}
	from := braid.TrimHorizon()
	if text := r.URL.Query().Get("from"); text != "" {
		if from, err = braid.ParsePosition(text); err != nil {
			return nil, err
		}
	}
	name := r.URL.Query().Get("stream")
	if name == "" {
		if name, err = h.deadLetterStream(r); err != nil {
			return nil, err
		}
	}
	s, err := h.db.Stream(name)
	if err != nil {
		return nil, err
	}
	out := &letterAnswer{Stream: name, Letters: []letter{}, Next: from}
	shown := 0
	for rec, err := range s.Records(r.Context(), from) {
		if err != nil {
			return nil, err
		}
		if len(out.Letters) == limit || out.LookedAt == maxLookedAt || shown > maxAnswerBytes {
			return out, nil
		}
		if l, ours := letterOf(&rec, r.PathValue("app"), &v); ours {
			out.Letters = append(out.Letters, l)
			if l.Letter != nil {
				shown += len(l.Letter.Data) + len(l.Letter.Error)
			}
		}
		out.LookedAt++
		out.Next = braid.AfterSequence(rec.SequenceNumber)
	}
	out.AtTip = true
	return out, nil
}

// deadLetterStream returns the dead-letter stream of the application's workers, if there
// is only one.
func (h *handler) deadLetterStream(r *http.Request) (string, error) {
	status, err := h.status(r, r.PathValue("app"))
	if err != nil {
		return "", err
	}
	if len(status.DeadLetterStreams) != 1 {
		return "", badRequest("stream is missing; workers here name the dead-letter streams %q", status.DeadLetterStreams)
	}
	return status.DeadLetterStreams[0], nil
}

// letterOf reads a letter. ours is false for one of another application.
func letterOf(rec *braid.Record, app string, v *view) (l letter, ours bool) {
	l = letter{ShardID: rec.ShardID, SequenceNumber: rec.SequenceNumber, ArrivalTime: rec.ArrivalTime}
	var dead consumer.DeadLetter
	if err := json.Unmarshal(rec.Data, &dead); err != nil || dead.Stream == "" {
		l.Problem = "it is not a dead letter"
		return l, true
	}
	if dead.App != app {
		return l, false
	}
	l.DataBytes = len(dead.Data)
	if rec.Encrypted && !v.encrypted {
		l.Problem = "it is encrypted"
		return l, true
	}
	if len(dead.Data) > v.data {
		dead.Data = dead.Data[:v.data]
	}
	l.Letter = &dead
	return l, true
}

// leaseKey names the subject of an action on an application.
type leaseKey struct {
	Stream string
	Shard  braid.ShardID
}

func (k leaseKey) key() consumer.LeaseKey { return consumer.LeaseKey{Stream: k.Stream, Shard: k.Shard} }

func (h *handler) pause(r *http.Request) (any, error) {
	return h.onApp(r, func(app *consumer.App, key consumer.LeaseKey) error { return app.Pause(r.Context(), key) })
}

func (h *handler) resume(r *http.Request) (any, error) {
	return h.onApp(r, func(app *consumer.App, key consumer.LeaseKey) error { return app.Resume(r.Context(), key) })
}

func (h *handler) onApp(r *http.Request, fn func(*consumer.App, consumer.LeaseKey) error) (any, error) {
	var in leaseKey
	if err := readBody(r, &in); err != nil {
		return nil, err
	}
	app, err := h.app(r)
	if err != nil {
		return nil, err
	}
	return done{}, fn(app, in.key())
}

func (h *handler) seek(r *http.Request) (any, error) {
	var in struct {
		leaseKey
		To *braid.Position
	}
	if err := readBody(r, &in); err != nil {
		return nil, err
	}
	if in.To == nil {
		return nil, badRequest("To is missing; it is a position such as TRIM_HORIZON")
	}
	app, err := h.app(r)
	if err != nil {
		return nil, err
	}
	return done{}, app.Seek(r.Context(), in.key(), *in.To)
}

// putBack puts the record of a dead letter into its stream again, as a new record, which
// all readers of the stream get. The letter stays in its stream.
func (h *handler) putBack(r *http.Request) (any, error) {
	var in struct {
		Stream         string
		SequenceNumber braid.SequenceNumber
	}
	if err := readBody(r, &in); err != nil {
		return nil, err
	}
	letters, err := h.db.Stream(in.Stream)
	if err != nil {
		return nil, err
	}
	sh, err := letters.Shard(in.SequenceNumber.ShardID())
	if err != nil {
		return nil, err
	}
	rec, err := recordAt(r.Context(), sh, in.SequenceNumber)
	if err != nil {
		return nil, err
	}
	l, ours := letterOf(rec, r.PathValue("app"), &view{data: maxDataBytes, encrypted: true})
	if !ours || l.Letter == nil {
		return nil, &statusError{http.StatusConflict, "NoDeadLetter", "the record is not a dead letter of the application " + r.PathValue("app")}
	}
	s, err := h.db.Stream(l.Letter.Stream)
	if err != nil {
		return nil, err
	}
	results, err := s.PutRecords(r.Context(), []braid.Entry{
		{PartitionKey: l.Letter.PartitionKey, ExplicitHashKey: l.Letter.ExplicitHashKey, Data: l.Letter.Data},
	})
	if err != nil {
		return nil, err
	}
	return results[0], results[0].Err
}
