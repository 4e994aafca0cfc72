// Package childtest runs tests in processes of their own: tests that leave
// goroutines parked for ever, as storage that failed does, or that could end
// the process, as Pebble does when it is used without care.
//
// It knows the testing package and nothing of braid. Tests of the packages
// around Pebble call it; nothing that ships does.
package childtest

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
)

const (
	variable = "BRAID_TEST_IN_CHILD" // holds the name of the test that a child is for
	passed   = "child: passed"       // what a child prints last
)

// Run runs body in a child process, and fails the test if the child does not
// come to the end of body in good order. In the child, Run does not return.
func Run(t *testing.T, body func(t *testing.T)) {
	t.Helper()
	if inChild(t) {
		body(t)
		pass(t)
	}
	output, err := command(t).CombinedOutput()
	if err != nil || !bytes.Contains(output, []byte(passed)) {
		t.Fatalf("child process: %v\n%s", err, output)
	}
}

// RunBubble is Run with body in a synctest bubble of the child, which need not
// end: goroutines may stay parked in it.
func RunBubble(t *testing.T, body func(t *testing.T)) {
	t.Helper()
	Run(t, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			body(t)
			pass(t)
		})
	})
}

// Output runs body in a child process and returns what the child printed and the
// error with which it ended, for tests of how a process dies.
func Output(t *testing.T, body func(t *testing.T)) (output string, err error) {
	t.Helper()
	if inChild(t) {
		body(t)
		pass(t)
	}
	out, err := command(t).CombinedOutput()
	return string(out), err
}

// Passed reports whether the output is of a child that came to its end.
func Passed(output string) bool { return strings.Contains(output, passed) }

func inChild(t *testing.T) bool { return os.Getenv(variable) == t.Name() }

// command is this program, told to run this one test. Verbose output is not held
// back, so that what a test said before its process died is seen.
func command(t *testing.T) *exec.Cmd {
	var pattern []string
	for _, part := range strings.Split(t.Name(), "/") {
		pattern = append(pattern, "^"+regexp.QuoteMeta(part)+"$")
	}
	cmd := exec.Command(os.Args[0], "-test.run="+strings.Join(pattern, "/"), "-test.v", "-test.timeout=60s")
	// The race detector would sleep a second at the end of every child.
	cmd.Env = append(os.Environ(), variable+"="+t.Name(), "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0")
	return cmd
}

// pass ends the child at once: what is parked would keep it from ending.
func pass(t *testing.T) {
	if t.Failed() {
		os.Exit(1) // what failed has been printed
	}
	_, _ = os.Stdout.WriteString("\n" + passed + "\n")
	os.Exit(0)
}
