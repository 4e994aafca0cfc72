package consumer

import (
	"context"
	"time"

	"github.com/braidstream/braid/internal/companion"
)

// pause waits before the attempt after the given one, which has failed with err:
// RetryPause, doubled for each attempt, up to MaxRetryPause. If the database was full,
// the wait ends when there is space again, but not before RetryPause. If ctx ends, pause
// returns its cause.
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

// sleep waits for d. If ctx ends earlier, it returns the cause.
func sleep(ctx context.Context, d time.Duration) error { return sleepUntil(ctx, d, nil) }

// sleepUntil is sleep that also ends when woken is closed.
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
