// Package pebblefacts holds what braid takes for granted about Pebble and what
// is not in Pebble's documentation. It has tests only: one for each fact that
// the code around Pebble, internal/kv and internal/guardfs, was made the way it
// is for. After an upgrade of Pebble a fact that changed fails here, and says
// which code to look at.
//
// It knows Pebble and nothing of braid. Some facts are faults: a test that fails
// because Pebble has become better is good news, and still a change to look at.
package pebblefacts
