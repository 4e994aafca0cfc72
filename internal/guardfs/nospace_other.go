//go:build !windows

package guardfs

func isNoSpaceHere(error) bool { return false }

func isNoResourceHere(error) bool { return false }
