// Package childtest runs tests in processes of their own: tests that leave
// goroutines parked forever, as storage that failed does, that could end the
// process, as Pebble does when it is used without care, or that are to be killed.
//
// A child is this program again, told to run the one test that asked for it. The test
// runs up to where it asks for the child, and there goes on as the child does. What a
// test prepares for its child goes before that, behind [InChild].
//
// It knows the testing package and nothing of braid. Nothing that ships calls it.
package childtest

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
)

// What a child is told by its environment.
const (
	nameVariable  = "BRAID_TEST_IN_CHILD"  // the name of the test that it is for
	tokenVariable = "BRAID_TEST_TOKEN"     // what it proves its end with
	argVariable   = "BRAID_TEST_CHILD_ARG" // what the test gave it
)

// Result is how a child ended.
type Result struct {
	Output  string // all that it printed
	Err     error  // with which the process ended
	Passed  bool   // it came to the end of its body, without a failure
	Skipped bool   // its body skipped the test
}

// InChild reports whether this process is a child for the test.
func InChild(t *testing.T) bool { return os.Getenv(nameVariable) == t.Name() }

// Run runs body in a child process, and fails the test if the child does not
// come to the end of body in good order. In the child, Run does not return.
func Run(t *testing.T, body func(t *testing.T)) {
	t.Helper()
	RunWith(t, "", func(t *testing.T, _ string) { body(t) })
}

// RunWith is Run with a text for the child, such as the name of a directory.
func RunWith(t *testing.T, arg string, body func(t *testing.T, arg string)) {
	t.Helper()
	switch result := output(t, arg, body); {
	case result.Skipped:
		t.Skip(result.Output)
	case !result.Passed:
		t.Fatalf("child process: %v\n%s", result.Err, result.Output)
	}
}

// RunBubble is Run with body in a synctest bubble of the child, which need not
// end: goroutines may stay parked in it.
func RunBubble(t *testing.T, body func(t *testing.T)) {
	t.Helper()
	Run(t, func(outer *testing.T) {
		synctest.Test(outer, func(t *testing.T) {
			defer endSkipped(t)
			body(t)
			pass(t, outer)
		})
	})
}

// Output runs body in a child process and returns how that ended, for tests of how a
// process dies.
func Output(t *testing.T, body func(t *testing.T)) Result {
	t.Helper()
	return output(t, "", func(t *testing.T, _ string) { body(t) })
}

func output(t *testing.T, arg string, body func(t *testing.T, arg string)) (result Result) {
	t.Helper()
	runIfChild(t, body)
	cmd, token := command(t, arg)
	out, err := cmd.CombinedOutput()
	result = Result{Output: string(out), Err: err}
	result.Passed = err == nil && bytes.Contains(out, []byte("\n"+passed+token+"\n"))
	result.Skipped = err == nil && bytes.Contains(out, []byte("\n"+skipped+token+"\n"))
	return result
}

// Process is a child that runs beside its test.
type Process struct {
	Stdout io.Reader // what it prints, up to its end

	cmd *exec.Cmd
}

// Start starts a child that runs body until it is killed, with a text for it. In the
// child, Start does not return.
func Start(t *testing.T, arg string, body func(t *testing.T, arg string)) *Process {
	t.Helper()
	runIfChild(t, body)
	cmd, _ := command(t, arg)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatalf("child process: %v", err)
	}
	return &Process{out, cmd}
}

// Kill kills the child without a warning.
func (p *Process) Kill() error { return p.cmd.Process.Kill() }

// Wait waits for the end of a child that was killed, once Stdout was read to its end.
// It returns an error if the child had ended by itself.
func (p *Process) Wait() error {
	err := p.cmd.Wait()
	killed := !p.cmd.ProcessState.Exited() // by itself, that is
	if runtime.GOOS == "windows" {         // where who kills gives an exit code
		killed = p.cmd.ProcessState.ExitCode() == 1
	}
	if killed {
		return nil
	}
	return fmt.Errorf("the child was not killed: it ended with %v", err)
}

// What a child prints last, before its token.
const (
	passed  = "child: passed "
	skipped = "child: skipped "
)

// runIfChild runs body and ends the process, if it is a child for the test.
func runIfChild(t *testing.T, body func(t *testing.T, arg string)) {
	t.Helper()
	if !InChild(t) {
		return
	}
	defer endSkipped(t)
	body(t, os.Getenv(argVariable))
	pass(t)
}

// command is this program, told to run this one test. Verbose output is not held
// back, so that what a test said before its process died is seen. What the child
// leaves behind in directories for temporary files goes with those of the test.
func command(t *testing.T, arg string) (cmd *exec.Cmd, token string) {
	t.Helper()
	var pattern []string
	for _, part := range strings.Split(t.Name(), "/") {
		pattern = append(pattern, "^"+regexp.QuoteMeta(part)+"$")
	}
	cmd = exec.Command(os.Args[0], "-test.run="+strings.Join(pattern, "/"), "-test.v", "-test.timeout=60s")
	token = rand.Text()
	dir := t.TempDir()
	cmd.Env = append(os.Environ(),
		nameVariable+"="+t.Name(), tokenVariable+"="+token, argVariable+"="+arg,
		"TMPDIR="+dir, "TMP="+dir, "TEMP="+dir,
		// The race detector would sleep a second at the end of every child.
		"GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0")
	return cmd, token
}

// pass ends the child at once: what is parked would keep it from ending. It is called
// where the body has come to its end, and nowhere else.
func pass(tests ...*testing.T) {
	for _, t := range tests {
		if t.Failed() {
			os.Exit(1) // what failed has been printed
		}
	}
	end(passed)
}

// endSkipped is deferred, since t.Skip does not return.
func endSkipped(t *testing.T) {
	if t.Skipped() && !t.Failed() {
		end(skipped)
	}
}

func end(how string) {
	_, _ = os.Stdout.WriteString("\n" + how + os.Getenv(tokenVariable) + "\n")
	os.Exit(0)
}
