// Package policy has the rules of this repository as tests: the imports of packages, the
// requirements of modules, the exported APIs and the notes about their changes, the words of
// texts. It reads the source tree and does not run the code.
package policy
