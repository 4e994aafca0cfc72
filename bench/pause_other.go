//go:build !linux

package main

import "time"

// sleep may take a millisecond longer on some systems.
func sleep(d time.Duration) { time.Sleep(d) }
