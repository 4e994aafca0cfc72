// Package pebblefacts tests facts about Pebble that braid relies on and that Pebble does not
// document. There is one test for each fact that shaped the code around Pebble, internal/kv and
// internal/guardfs. After an upgrade of Pebble, a changed fact fails here, and names the code
// to review.
//
// It knows Pebble and nothing of braid. Some facts are bugs: a test that fails because Pebble
// has improved is good news, and still needs a review.
package pebblefacts
