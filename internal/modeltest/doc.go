// Package modeltest has the tests of package braid that are programs of their own: the
// model and its crash images, faults, damage, full and stalled disks, killed
// processes, concurrent histories, scenarios. It holds tests alone.
//
// They open databases on the disks of package testdisk, and see what package braid
// does not export through package inside.
package modeltest
