package main

import (
	"runtime"
	"syscall"
	"time"
)

// timerSlack is the option of prctl for the slack of the thread's timers, 50 us by default.
const timerSlack = 29

// sleep blocks the thread, or returns early after a signal.
func sleep(d time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, timerSlack, 1, 0)
	t := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&t, nil)
}
