package main

import (
	"runtime"
	"syscall"
	"time"
)

// timerSlack is the option of prctl for how late a timer of the thread may fire, which
// is 50 us unless something else is asked for.
const timerSlack = 29

// sleep blocks the thread, or returns early after a signal.
func sleep(d time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, timerSlack, 1, 0)
	t := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&t, nil)
}
