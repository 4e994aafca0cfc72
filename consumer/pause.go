package consumer

import (
	"context"
	"time"

	"github.com/braidstream/braid/internal/companion"
)

// pause waits before an attempt that follows the given one, which has failed with
// err: RetryPause, doubled for each attempt, up to MaxRetryPause. Of a database that
// was full it waits only until there is space again, but RetryPause at least. It
// returns the cause if ctx ends.
func (c *Config) pause(ctx context.Context, attempt int, err error) error {
	pause := c.RetryPause
	for ; attempt > 1 && pause < c.MaxRetryPause; attempt-- {
		pause *= 2
	}
	least := min(c.RetryPause, c.MaxRetryPause)
	if err := sleep(ctx, least); err != nil {
		return err
	}
	return sleepUntil(ctx, min(pause, c.MaxRetryPause)-least, companion.Over(err))
}

// sleep waits for d, or until ctx ends: then it returns the cause.
func sleep(ctx context.Context, d time.Duration) error { return sleepUntil(ctx, d, nil) }

// sleepUntil is sleep that ends when woken is closed.
func sleepUntil(ctx context.Context, d time.Duration, woken <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-woken:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
