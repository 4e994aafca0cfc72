package guardfs

import (
	"errors"
	"syscall"
)

// What Windows says for a full disk.
const (
	errorHandleDiskFull = syscall.Errno(39)
	errorDiskFull       = syscall.Errno(112)
	errorDiskQuota      = syscall.Errno(1295)
)

func isNoSpaceHere(err error) bool {
	return errors.Is(err, errorHandleDiskFull) || errors.Is(err, errorDiskFull) || errors.Is(err, errorDiskQuota)
}
