// Package childtest runs tests in processes of their own: tests that leave goroutines parked
// forever, as failed storage does; tests that can end the process, as careless use of Pebble
// does; and tests that kill their process.
//
// A child is this program again, with flags to run only the test that started it. In the child,
// the test runs up to the call that starts the child, and continues with the child's body
// there. Code that prepares the child belongs before that call, if not [InChild].
//
// It knows the testing package and nothing of braid. Only tests import it.
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

// The environment variables of a child.
const (
	nameVariable  = "BRAID_TEST_IN_CHILD"  // the name of its test
	tokenVariable = "BRAID_TEST_TOKEN"     // the token with which it proves that it came to its end
	argVariable   = "BRAID_TEST_CHILD_ARG" // its argument
)

// Result is how a child ended.
type Result struct {
	Output  string // everything that it printed
	Err     error  // of the process
	Passed  bool   // it came to the end of its body without a failure
	Skipped bool   // its body skipped the test
}

// InChild reports whether this process is a child for the test.
func InChild(t *testing.T) bool { return os.Getenv(nameVariable) == t.Name() }

// Run runs body in a child process, and fails the test unless the child passes and comes to the
// end of body. In the child, Run does not return.
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

// RunBubble is Run with body in a synctest bubble, in which goroutines may stay parked forever.
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

// Output runs body in a child process and returns how the child ended, for tests of a process
// that dies.
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

// Process is a child that runs concurrently with its test.
type Process struct {
	Stdout io.Reader // the child's output, up to its end

	cmd *exec.Cmd
}

// Start starts a child that runs body with an argument until it is killed. In the child, Start
// does not return.
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

// Kill kills the child.
func (p *Process) Kill() error { return p.cmd.Process.Kill() }

// Wait waits for the end of a killed child. Read Stdout to its end first. Wait returns an error
// if the child ended by itself.
func (p *Process) Wait() error {
	err := p.cmd.Wait()
	killed := !p.cmd.ProcessState.Exited() // Exited means by itself
	if runtime.GOOS == "windows" {         // there the killer sets an exit code
		killed = p.cmd.ProcessState.ExitCode() == 1
	}
	if killed {
		return nil
	}
	return fmt.Errorf("the child was not killed: it ended with %v", err)
}

// The last output of a child, before its token.
const (
	passed  = "child: passed "
	skipped = "child: skipped "
)

// runIfChild runs body and ends the process, if this process is a child of the test.
func runIfChild(t *testing.T, body func(t *testing.T, arg string)) {
	t.Helper()
	if !InChild(t) {
		return
	}
	defer endSkipped(t)
	body(t, os.Getenv(argVariable))
	pass(t)
}

// command runs this program with only this test. Verbose output is not buffered, so that the
// output of a test whose process dies is not lost. The child's temporary directories lie in one
// of the test, so they are removed with it.
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
		// Without this, the race detector sleeps a second at the end of every child.
		"GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0")
	return cmd, token
}

// pass ends the child at once: parked goroutines would keep it from ending. Only the end of the
// body calls it.
func pass(tests ...*testing.T) {
	for _, t := range tests {
		if t.Failed() {
			os.Exit(1) // the failure has been printed
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
