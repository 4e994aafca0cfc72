// Package policy holds the rules of this repository as tests: what packages may
// import, what the module may require, what its packages export, and that changes
// of that say how to migrate. It knows the source tree and must not know what the
// code does. Nothing calls it; go test does.
package policy
