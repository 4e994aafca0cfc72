package braid

import (
	"fmt"
	"time"
)

// Bounds of a retention period. Below the default one, only a new stream can go.
const (
	defaultRetention = 24 * time.Hour
	maxRetention     = 8760 * time.Hour
)

func validateRetentionBytes(bytes int64) error {
	if bytes < 0 {
		return &InvalidArgumentError{"RetentionBytes", bytes, "must be positive, or 0 for no bound"}
	}
	return nil
}

// hours describes a period in the unit of Kinesis.
func hours(d time.Duration) string { return fmt.Sprintf("%g hours", d.Hours()) }
