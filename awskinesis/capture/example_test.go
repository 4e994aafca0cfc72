package capture_test

import (
	"context"
	"fmt"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis/capture"
	"github.com/braidstream/braid/consumer"
)

// Capture a stream once, and run tests on it as often as you like, at a hundred times the original
// pace.
func ExampleRun() {
	rehearse := func(ctx context.Context, db *braid.DB, source consumer.Source, handle func(braid.Record) error) error {
		err := capture.Run(ctx, source, "orders", db, "orders-captured", &capture.Options{UntilTip: true})
		if err != nil {
			return err
		}
		captured, err := db.Stream("orders-captured")
		if err != nil {
			return err
		}
		for rec, err := range capture.Replay(ctx, captured, &capture.ReplayOptions{Speed: 100}) {
			if err != nil {
				return err
			}
			if err := handle(rec); err != nil { // with its original shard, number and time
				return fmt.Errorf("record %s: %w", rec.SequenceNumber, err)
			}
		}
		return nil
	}
	_ = rehearse
}
