//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package kv

import (
	"fmt"
	"syscall"
)

// descriptorLimit returns the process's limit of descriptors, as a remark for the end of an
// error.
func descriptorLimit() string {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return ""
	}
	return fmt.Sprintf(" (the process may have %d: RLIMIT_NOFILE, ulimit -n)", limit.Cur)
}
