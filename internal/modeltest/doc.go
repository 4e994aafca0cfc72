// Package modeltest tests package braid from outside: with the model and its crash images, faults,
// damage, full and stalled disks, killed processes, concurrent histories, and scenarios. It
// contains tests only.
//
// The tests open databases on the disks of package testdisk, and use package inside for what
// package braid does not export.
package modeltest
