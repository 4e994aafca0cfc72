//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package kv

func descriptorLimit() string { return "" }
