package guardfs

import (
	"errors"
	"syscall"
)

// Windows's errors for a full disk.
const (
	errorHandleDiskFull = syscall.Errno(39)
	errorDiskFull       = syscall.Errno(112)
	errorDiskQuota      = syscall.Errno(1295)
)

// Windows's errors for a lack of handles and of memory.
const (
	errorTooManyOpenFiles  = syscall.Errno(4)
	errorNotEnoughMemory   = syscall.Errno(8)
	errorNoSystemResources = syscall.Errno(1450)
)

func isNoSpaceHere(err error) bool {
	return errors.Is(err, errorHandleDiskFull) || errors.Is(err, errorDiskFull) || errors.Is(err, errorDiskQuota)
}

func isNoResourceHere(err error) bool {
	return errors.Is(err, errorTooManyOpenFiles) || errors.Is(err, errorNotEnoughMemory) || errors.Is(err, errorNoSystemResources)
}
