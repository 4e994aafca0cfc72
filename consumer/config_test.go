package consumer_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/consumer/leasetest"
)

func TestConfigSaysWhatIsWrong(t *testing.T) {
	db, err := braid.Open(braid.InMemory, nil)
	require.NoError(t, err)
	defer db.Close()
	nop := consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error { return nil })
	ok := consumer.Config{App: "a", Streams: []string{"s"}}
	for _, row := range []struct {
		field string
		spoil func(*consumer.Config)
	}{
		{"App", func(c *consumer.Config) { c.App = "no spaces" }},
		{"App", func(c *consumer.Config) { c.App = "" }},
		{"Streams", func(c *consumer.Config) { c.Streams = nil }},
		{"Streams[1]", func(c *consumer.Config) { c.Streams = []string{"s", "s"} }},
		{"Start", func(c *consumer.Config) {
			c.Start = braid.AfterSequence(mustNumber(t, "49568749374218235080373793662021150003767486140978823170"))
		}},
		{"BatchRecords", func(c *consumer.Config) { c.BatchRecords = 10_001 }},
		{"BatchBytes", func(c *consumer.Config) { c.BatchBytes = -1 }},
		{"MaxBytes", func(c *consumer.Config) { c.MaxBytes = 1 }},
		{"Linger", func(c *consumer.Config) { c.Linger = -1 }},
		{"Lanes", func(c *consumer.Config) { c.Lanes = -1 }},
		{"Checkpoints", func(c *consumer.Config) { c.Checkpoints = 3 }},
		{"Checkpoints", func(c *consumer.Config) { c.Checkpoints = -1 }},
		{"Checkpoints", func(c *consumer.Config) { c.Checkpoints, c.Lanes = consumer.Manual, 2 }},
		{"DeadLetterStream", func(c *consumer.Config) { c.Checkpoints, c.DeadLetterStream = consumer.Manual, "d" }},
		{"MaxRetryPause", func(c *consumer.Config) { c.RetryPause, c.MaxRetryPause = time.Hour, time.Minute }},
		{"MaxRetryPause", func(c *consumer.Config) { c.MaxRetryPause = -1 }},
		{"RetryPause", func(c *consumer.Config) { c.RetryPause = -1 }},
		{"ReuseRecords", func(c *consumer.Config) { c.ReuseRecords, c.Lanes = true, 2 }},
		{"ReuseRecords", func(c *consumer.Config) { c.ReuseRecords, c.Checkpoints = true, consumer.Acks }},
		{"KeepForeign", func(c *consumer.Config) { c.KeepForeign = true }},
		{"SkipFailed", func(c *consumer.Config) { c.SkipFailed, c.DeadLetterStream = true, "d" }},
		{"DeadLetterStream", func(c *consumer.Config) { c.DeadLetterStream = "s" }},
		{"HandOverTimeout", func(c *consumer.Config) { c.HandOverTimeout = -1 }},
	} {
		cfg := ok
		row.spoil(&cfg)
		_, err := consumer.New(db, &cfg, nop)
		var invalid *braid.InvalidArgumentError
		require.ErrorAs(t, err, &invalid, row.field)
		require.Equal(t, row.field, invalid.Field)
	}
	_, err = consumer.New(db, &ok, nil)
	require.ErrorIs(t, err, braid.ErrInvalidArgument)
	_, err = consumer.New(nil, &ok, nop)
	require.ErrorIs(t, err, braid.ErrInvalidArgument)
	for field, spoil := range map[string]func(*consumer.Config){
		"Lanes":              func(c *consumer.Config) { c.Lanes = 2 },
		"Checkpoints":        func(c *consumer.Config) { c.Checkpoints = consumer.Manual },
		"CheckpointInterval": func(c *consumer.Config) { c.CheckpointInterval = 1 },
	} {
		tx := ok
		spoil(&tx)
		_, err = consumer.NewTx(db, &tx, consumer.TxProcessorFunc(nil))
		var invalid *braid.InvalidArgumentError
		require.ErrorAs(t, err, &invalid, field)
		require.Equal(t, field, invalid.Field)
	}
}

func mustNumber(t *testing.T, text string) braid.SequenceNumber {
	n, err := braid.ParseSequenceNumber(text)
	require.NoError(t, err)
	return n
}

func TestWorkersOfAnApplicationMustAgree(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		nop := consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error { return nil })
		w := f.worker(consumer.Config{WorkerID: "w"}, nop)
		stop := f.start(w)
		require.ErrorIs(f, w.Run(f.Context()), braid.ErrInvalidArgument, "it runs already")
		require.ErrorContains(f, f.worker(consumer.Config{WorkerID: "w"}, nop).Run(f.Context()), "WorkerID")
		require.ErrorContains(f, f.worker(consumer.Config{Streams: []string{"others"}}, nop).Run(f.Context()), "Streams")
		require.ErrorContains(f, f.worker(consumer.Config{Source: consumer.NewDBSource(f.db)}, nop).Run(f.Context()), "Source")
		require.NoError(f, stop())
		require.NoError(f, f.start(f.worker(consumer.Config{Source: consumer.NewDBSource(f.db)}, nop))(), "now it is alone")
	})
}

func TestLeasesElsewhereMustExpire(t *testing.T) {
	_, err := consumer.New(nil, &consumer.Config{
		App: "a", Streams: []string{"s"}, Leases: leasetest.NewMemory(0), Source: consumer.NewDBSource(nil),
	}, consumer.ProcessorFunc(nil))
	require.ErrorContains(t, err, "LeaseDuration")
}
