package capture_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis/capture"
	"github.com/braidstream/braid/awskinesis/envelope"
	"github.com/braidstream/braid/braidtest"
	"github.com/braidstream/braid/consumer"
)

// kit has the database that is captured from and the one that is captured to, in a bubble.
type kit struct {
	*testing.T
	source *source
	from   *braid.Stream
	disk   *braidtest.Disk
	db     *braid.DB
	next   map[string]int // by key
	puts   int
}

func inBubble(t *testing.T, shards int, test func(k *kit)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		origin := open(t, braidtest.NewDisk())
		defer func() { require.NoError(t, origin.Close()) }()
		from, err := origin.CreateStream(t.Context(), "orders", &braid.StreamOptions{Shards: shards, MaxRecordBytes: 10 << 20, Retention: -1})
		require.NoError(t, err)
		k := &kit{T: t, source: &source{db: origin}, from: from, disk: braidtest.NewDisk(), next: make(map[string]int)}
		k.db = open(t, k.disk)
		defer func() { _ = k.db.Close() }()
		test(k)
	})
}

func open(t testing.TB, disk *braidtest.Disk) *braid.DB {
	db, err := disk.Open(&braid.Options{Logger: quiet()})
	require.NoError(t, err)
	return db
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

var keys = []string{"a", "b", "c", "d", "e"}

// put puts n records, with a pause before each.
func (k *kit) put(n int, pause time.Duration) {
	for range n {
		time.Sleep(pause)
		key := keys[k.puts%len(keys)]
		k.puts++
		k.next[key]++
		_, err := k.from.PutRecord(context.Background(), key, fmt.Append(nil, k.next[key]))
		require.NoError(k, err)
	}
}

func (k *kit) capture(ctx context.Context, opts capture.Options) error {
	opts.Logger = quiet()
	return capture.Run(ctx, k.source, "orders", k.db, "copy", &opts)
}

func (k *kit) copy() *braid.Stream {
	stream, err := k.db.Stream("copy")
	require.NoError(k, err)
	return stream
}

// originals returns the records of the captured stream.
func (k *kit) originals() (records []braid.Record) {
	for rec, err := range k.from.Records(context.Background(), braid.TrimHorizon()) {
		require.NoError(k, err)
		records = append(records, rec)
	}
	return records
}

func (k *kit) replayed(opts *capture.ReplayOptions) (records []braid.Record) {
	for rec, err := range capture.Replay(context.Background(), k.copy(), opts) {
		require.NoError(k, err)
		records = append(records, rec)
	}
	return records
}

// A replay yields exactly the captured records, in the order of arrival over all shards, even if
// they were captured shard by shard.
func TestReplayIsWhatWasCaptured(t *testing.T) {
	for _, compress := range []bool{false, true} {
		inBubble(t, 3, func(k *kit) {
			k.put(300, time.Millisecond)
			_, err := k.from.PutRecord(k.Context(), "large", []byte(strings.Repeat("x", 1<<20)))
			require.NoError(k, err)
			explicit := braid.MaxHashKey()
			_, err = k.from.PutRecords(k.Context(), []braid.Entry{{PartitionKey: "explicit", ExplicitHashKey: &explicit}})
			require.NoError(k, err)
			require.NoError(k, k.capture(k.Context(), capture.Options{UntilTip: true, Compress: compress}))
			require.Equal(k, k.originals(), k.replayed(nil))
			require.Equal(k, compress, k.copy().Describe().Bytes < 1<<20)
		})
	}
}

// A capture during splits and merges keeps each key in order.
func TestCaptureThroughReshards(t *testing.T) {
	inBubble(t, 2, func(k *kit) {
		ctx, cancel := context.WithCancel(k.Context())
		var running sync.WaitGroup
		running.Go(func() { require.NoError(k, k.capture(ctx, capture.Options{})) })
		for n := range 6 {
			k.put(50, 10*time.Millisecond)
			require.NoError(k, k.from.UpdateShardCount(k.Context(), []int{4, 2, 3, 1, 5, 2}[n]))
			require.NoError(k, k.copy().UpdateShardCount(k.Context(), 1+n))
		}
		time.Sleep(time.Minute)
		cancel()
		running.Wait()
		require.Equal(k, k.originals(), k.replayed(nil))
		last := make(map[string]int)
		for rec, err := range k.copy().Records(k.Context(), braid.TrimHorizon()) {
			require.NoError(k, err)
			last[rec.PartitionKey]++
			was, err := capture.Original(rec)
			require.NoError(k, err)
			require.Equal(k, fmt.Sprint(last[rec.PartitionKey]), string(was.Data))
		}
	})
}

// Each record is captured once, whenever the power is cut.
func TestCaptureGoesOnAfterACrash(t *testing.T) {
	inBubble(t, 2, func(k *kit) {
		for range 5 {
			k.put(100, time.Millisecond)
			var running sync.WaitGroup
			running.Go(func() {
				if err := k.capture(k.Context(), capture.Options{}); err == nil {
					k.Error("the database has failed, and nobody is told")
				}
			})
			k.source.failAfter(120)
			synctest.Wait()
			k.disk = k.disk.PowerCut()
			require.NoError(k, k.db.Close())
			running.Wait()
			k.db = open(k, k.disk)
		}
		k.source.failAfter(0)
		require.NoError(k, k.capture(k.Context(), capture.Options{UntilTip: true}))
		require.Equal(k, k.originals(), k.replayed(nil))
	})
}

func TestReplayKeepsThePace(t *testing.T) {
	inBubble(t, 2, func(k *kit) {
		k.put(10, time.Minute)
		k.put(1, 24*time.Hour)
		k.put(10, time.Minute)
		require.NoError(k, k.capture(k.Context(), capture.Options{UntilTip: true}))
		was := k.originals()
		for _, row := range []struct {
			opts  capture.ReplayOptions
			takes time.Duration
		}{
			{capture.ReplayOptions{}, 0},
			{capture.ReplayOptions{Speed: 1}, 24*time.Hour + 19*time.Minute},
			{capture.ReplayOptions{Speed: 60}, 24*time.Minute + 19*time.Second},
			{capture.ReplayOptions{Speed: 0.5}, 48*time.Hour + 38*time.Minute},
			{capture.ReplayOptions{Speed: 1, MaxPause: time.Hour}, time.Hour + 19*time.Minute},
		} {
			began := time.Now()
			n := 0
			for rec, err := range capture.Replay(k.Context(), k.copy(), &row.opts) {
				require.NoError(k, err)
				require.Equal(k, was[n], rec)
				if row.opts.MaxPause == 0 && row.opts.Speed > 0 {
					at := time.Duration(float64(rec.ArrivalTime.Sub(was[0].ArrivalTime)) / row.opts.Speed)
					require.InDelta(k, at, time.Since(began), float64(time.Millisecond))
				}
				n++
			}
			require.Equal(k, len(was), n)
			require.InDelta(k, row.takes, time.Since(began), float64(time.Millisecond), "%+v", row.opts)
		}

		// A slow loop body does not lengthen the pauses.
		began := time.Now()
		for range capture.Replay(k.Context(), k.copy(), &capture.ReplayOptions{Speed: 1}) {
			time.Sleep(50 * time.Second)
		}
		require.InDelta(k, 24*time.Hour+19*time.Minute+50*time.Second, time.Since(began), float64(time.Millisecond))

		part := k.replayed(&capture.ReplayOptions{From: was[3].ArrivalTime, Until: was[7].ArrivalTime})
		require.Equal(k, was[3:7], part)
	})
}

func TestReplayEnds(t *testing.T) {
	inBubble(t, 1, func(k *kit) {
		k.put(10, time.Minute)
		require.NoError(k, k.capture(k.Context(), capture.Options{UntilTip: true}))
		ctx, cancel := context.WithTimeoutCause(k.Context(), 90*time.Second, errors.New("time is up"))
		defer cancel()
		seen, failed := 0, error(nil)
		for _, err := range capture.Replay(ctx, k.copy(), &capture.ReplayOptions{Speed: 1}) {
			if failed = err; err == nil {
				seen++
			}
		}
		require.Equal(k, 2, seen)
		require.ErrorContains(k, failed, "time is up")
		for range capture.Replay(k.Context(), k.copy(), nil) {
			break
		}

		_, err := k.copy().PutRecord(k.Context(), "a", []byte("something else"))
		require.NoError(k, err)
		for _, err := range capture.Replay(k.Context(), k.copy(), nil) {
			require.ErrorIs(k, err, capture.ErrNotCaptured)
		}
		for _, opts := range []capture.ReplayOptions{{Speed: -1}, {Speed: 1e9}, {MaxPause: -1}} {
			for _, err := range capture.Replay(k.Context(), k.copy(), &opts) {
				require.ErrorIs(k, err, braid.ErrInvalidArgument)
			}
		}
	})
}

func TestOriginalRefusesWhatIsNotCaptured(t *testing.T) {
	codec := envelope.New(nil)
	for name, headers := range map[string][]envelope.Header{
		"no headers": nil,
		"no number":  {{Key: "capture-sequence-number", Value: "x"}},
		"no time":    {{Key: "capture-sequence-number", Value: "49545115243490985018280067714973144582180062593244200961"}},
	} {
		data, err := codec.Append(nil, &envelope.Message{Headers: headers})
		require.NoError(t, err)
		_, err = capture.Original(braid.Record{Data: data})
		require.ErrorIs(t, err, capture.ErrNotCaptured, name)
		data[len(data)-1]++
		_, err = capture.Original(braid.Record{Data: data})
		require.ErrorIs(t, err, envelope.ErrCorrupt)
	}
}

// A record that cannot be captured ends Run with an error that names it.
func TestCaptureSaysWhatDoesNotFit(t *testing.T) {
	inBubble(t, 1, func(k *kit) {
		k.put(10, 0)
		res, err := k.from.PutRecord(k.Context(), "a", make([]byte, 10<<20))
		require.NoError(k, err)
		err = k.capture(k.Context(), capture.Options{})
		require.ErrorIs(k, err, braid.ErrInvalidArgument)
		require.ErrorContains(k, err, res.SequenceNumber.String())
	})
}

func TestCaptureChecksItsArguments(t *testing.T) {
	inBubble(t, 1, func(k *kit) {
		for _, err := range []error{
			capture.Run(k.Context(), nil, "orders", k.db, "copy", nil),
			capture.Run(k.Context(), k.source, "", k.db, "copy", nil),
			capture.Run(k.Context(), k.source, "orders", nil, "copy", nil),
			capture.Run(k.Context(), k.source, "orders", k.db, "a b", nil),
			k.capture(k.Context(), capture.Options{App: "a b"}),
		} {
			require.ErrorIs(k, err, braid.ErrInvalidArgument)
		}
		ctx, cancel := context.WithTimeout(k.Context(), time.Minute)
		defer cancel()
		require.NoError(k, capture.Run(ctx, k.source, "unknown", k.db, "copy", &capture.Options{UntilTip: true, Logger: quiet()}), "Run waits for the stream")
	})
}

// source reads the streams of a database page by page, like a service.
type source struct {
	db *braid.DB

	mu   sync.Mutex // guards what follows
	left int        // number of records before reads fail; 0 for never
}

var errUnreachable = errors.New("service is unreachable")

func (s *source) failAfter(records int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = records
}

func (s *source) Stream(_ context.Context, name string) (info consumer.StreamInfo, err error) {
	stream, err := s.db.Stream(name)
	if err != nil {
		return info, err
	}
	info.Incarnation = uint64(stream.CreatedAt().UnixNano())
	for _, sh := range stream.Shards() {
		info.Shards = append(info.Shards, consumer.ShardInfo{ID: sh.ID(), Parents: sh.Parents(), HashKeyRange: sh.HashKeyRange(), Start: braid.TrimHorizon()})
	}
	return info, nil
}

func (s *source) Changed() <-chan struct{} { return nil }

func (s *source) Resolve(_ context.Context, _ string, _ braid.ShardID, from braid.Position) (consumer.Checkpoint, error) {
	return consumer.Checkpoint{Start: from}, nil // the tests begin at the beginning
}

func (s *source) Peek(ctx context.Context, stream string, shard braid.ShardID, from braid.Position) (consumer.Page, error) {
	return s.read(ctx, stream, shard, from, 1)
}

func (s *source) read(ctx context.Context, name string, shard braid.ShardID, from braid.Position, limit int) (consumer.Page, error) {
	stream, err := s.db.Stream(name)
	if err != nil {
		return consumer.Page{}, err
	}
	sh, err := stream.Shard(shard)
	if err != nil {
		return consumer.Page{}, err
	}
	page, err := sh.GetRecords(ctx, from, &braid.GetRecordsOptions{Limit: limit, Unmetered: true})
	if err != nil {
		return consumer.Page{}, err
	}
	return consumer.Page{
		Records: page.Records, Next: page.Next, BehindRecords: page.BehindRecords, BehindBytes: page.BehindBytes,
		AtTip: page.BehindRecords == 0, EndOfShard: page.EndOfShard,
	}, nil
}

func (s *source) Open(_ context.Context, stream string, shard braid.ShardID, from braid.Position) (consumer.ShardReader, error) {
	return &reader{s, stream, shard, from}, nil
}

type reader struct {
	source *source
	stream string
	shard  braid.ShardID
	at     braid.Position
}

// Next polls, like GetRecords.
func (r *reader) Next(ctx context.Context, limits consumer.Limits) (consumer.Page, error) {
	page, err := r.source.read(ctx, r.stream, r.shard, r.at, min(limits.Records, 100))
	if err != nil {
		return page, err
	}
	r.source.mu.Lock()
	failed := r.source.left > 0 && r.source.left <= len(page.Records)
	r.source.left = max(r.source.left-len(page.Records), min(r.source.left, 1))
	r.source.mu.Unlock()
	if failed {
		return consumer.Page{}, errUnreachable
	}
	r.at = page.Next
	if len(page.Records) == 0 && !page.EndOfShard {
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return page, context.Cause(ctx)
		}
	}
	return page, nil
}

func (r *reader) Close() {}
