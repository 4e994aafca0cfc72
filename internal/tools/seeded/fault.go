package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// timeLimit is how long a test may take to find a fault, and to pass without it. Building does
// not count.
const timeLimit = 60 * time.Second

// fault is a plausible bug.
type fault struct {
	name    string // kebab-case
	what    string // what the code does wrong, for the table
	promise string // what it breaks
	edits   []edit
	test    test
	finds   string // regular expression that matches the test's output when it finds the fault
	quick   bool   // planted for every commit; all quick faults together take less than a minute
}

// edit is a change of a file. The old text must be in the file exactly once, so that a fault
// whose code has changed fails loudly instead of changing nothing.
type edit struct{ file, old, new string }

// test is a run of one package's tests. It is comparable.
type test struct {
	dir   string // of the package, from the root of the repository
	run   string // as for go test -run
	flags string // more flags, separated by spaces
}

func (t test) String() string {
	text := t.dir + " " + t.run
	if t.flags != "" {
		text += " " + t.flags
	}
	return text
}

// result is how a fault was found.
type result struct {
	foundBy string
	took    time.Duration
}

// bench builds and runs tests, with and without a fault.
type bench struct {
	root  string // of the repository
	dir   string // for binaries
	limit time.Duration

	binaries map[string]string // tests without a fault, by the directory of their package
	built    int
}

// mustPass runs a test without a fault, which must pass.
func (b *bench) mustPass(ctx context.Context, t test) error {
	binary := b.binaries[t.dir]
	if binary == "" {
		var err error
		if binary, err = b.build(ctx, t.dir, nil); err != nil {
			return err
		}
		b.binaries[t.dir] = binary
	}
	output, _, err := b.runTest(ctx, binary, t)
	if err == nil && !bytes.Contains(output, []byte("--- PASS: ")) {
		err = errors.New("no test has this name")
	}
	if err != nil {
		return fmt.Errorf("without a fault: %s: %w\n%s", t, err, output)
	}
	return nil
}

// plant runs the fault's test with the fault, and returns an error unless the test finds it.
func (b *bench) plant(ctx context.Context, f fault) (result, error) {
	overlay, err := b.overlay(f.edits)
	if err != nil {
		return result{}, err
	}
	binary, err := b.build(ctx, f.test.dir, overlay)
	if err != nil {
		return result{}, fmt.Errorf("with the fault: %w", err)
	}
	defer os.Remove(binary)
	output, took, err := b.runTest(ctx, binary, f.test)
	return judge(f, output, took, err)
}

// search runs all tests of the fault's package with the fault, and returns the failed ones.
func (b *bench) search(ctx context.Context, f fault) (failed []string, err error) {
	overlay, err := b.overlay(f.edits)
	if err != nil {
		return nil, err
	}
	binary, err := b.build(ctx, f.test.dir, overlay)
	if err != nil {
		return nil, err
	}
	defer os.Remove(binary)
	output, _, err := b.runTest(ctx, binary, test{f.test.dir, ".", "-test.short -test.failfast=false"})
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	for _, m := range failedTests.FindAllSubmatch(output, -1) {
		failed = append(failed, string(m[1]))
	}
	if err != nil && len(failed) == 0 {
		return nil, fmt.Errorf("%w:\n%s", err, shortened(output))
	}
	return failed, nil
}

var failedTests = regexp.MustCompile(`(?m)^--- FAIL: (\w+)`)

// judge decides whether the output of a test with a fault finds it.
func judge(f fault, output []byte, took time.Duration, err error) (result, error) {
	r := result{took: took}
	var exit *exec.ExitError
	switch {
	case err == nil:
		return r, fmt.Errorf("%s passes", f.test)
	case !errors.As(err, &exit):
		return r, fmt.Errorf("%s: %w", f.test, err)
	}
	if !regexp.MustCompile(f.finds).Match(output) {
		return r, fmt.Errorf("%s fails, but does not say %q:\n%s", f.test, f.finds, shortened(output))
	}
	r.foundBy = f.test.dir + " " + failedTest(output, f.test)
	return r, nil
}

// failedTest returns the name of the failed test. If the test ended the process, the output
// does not name it, and failedTest returns the requested one.
func failedTest(output []byte, t test) string {
	if m := failedTests.FindSubmatch(output); m != nil {
		return string(m[1])
	}
	return strings.Trim(t.run, "^$")
}

// shortened cuts the middle out of a long text.
func shortened(output []byte) []byte {
	const most = 4000
	if n := len(output); n > most {
		return slices.Concat(output[:most/2], []byte("\n...\n"), output[n-most/2:])
	}
	return output
}

// overlay returns the edited files, by their full names.
func (b *bench) overlay(edits []edit) (map[string]string, error) {
	files := make(map[string]string)
	for _, e := range edits {
		name := filepath.Join(b.root, filepath.FromSlash(e.file))
		text, changed := files[name]
		if !changed {
			data, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			text = string(data)
		}
		if n := strings.Count(text, e.old); n != 1 {
			return nil, fmt.Errorf("%s holds the text that the fault replaces %d times, not once: the fault needs a new one:\n%s", e.file, n, e.old)
		}
		files[name] = strings.Replace(text, e.old, e.new, 1)
	}
	return files, nil
}

// build compiles the tests of a package, with these files instead of those on the disk.
func (b *bench) build(ctx context.Context, dir string, files map[string]string) (binary string, err error) {
	b.built++
	binary = filepath.Join(b.dir, strconv.Itoa(b.built)+".test")
	args := []string{"test", "-c", "-vet=off", "-ldflags=-w", "-o", binary} // -w: without what only debuggers read
	if len(files) > 0 {
		overlay, err := b.writeOverlay(files)
		if err != nil {
			return "", err
		}
		args = append(args, "-overlay="+overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, ".")...)
	cmd.Dir = filepath.Join(b.root, filepath.FromSlash(dir))
	cmd.Env = append(os.Environ(), "GOWORK=") // uses the workspace
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s does not build: %w\n%s", dir, err, output)
	}
	return binary, nil
}

// writeOverlay writes the files, and the go command's overlay file that lists them.
func (b *bench) writeOverlay(files map[string]string) (name string, err error) {
	replace := make(map[string]string, len(files))
	for original, text := range files {
		changed := filepath.Join(b.dir, fmt.Sprintf("%d.%d.go", b.built, len(replace)))
		if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[original] = changed
	}
	data, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	name = filepath.Join(b.dir, strconv.Itoa(b.built)+".json")
	return name, os.WriteFile(name, data, 0o600)
}

// runTest runs a built test. It returns an [exec.ExitError] if it fails, and another error if
// it takes too long.
func (b *bench) runTest(ctx context.Context, binary string, t test) (output []byte, took time.Duration, err error) {
	limited, cancel := context.WithTimeout(ctx, b.limit+10*time.Second)
	defer cancel()
	args := []string{"-test.v", "-test.failfast", "-test.run=" + t.run, fmt.Sprint("-test.timeout=", b.limit)}
	cmd := exec.CommandContext(limited, binary, append(args, strings.Fields(t.flags)...)...)
	cmd.Dir = filepath.Join(b.root, filepath.FromSlash(t.dir))
	cmd.WaitDelay = time.Second // for processes that the test has started
	began := time.Now()
	output, err = cmd.CombinedOutput()
	took = time.Since(began)
	if limited.Err() != nil || took > b.limit {
		err = fmt.Errorf("not done after %v:\n%s", b.limit, shortened(output))
	}
	return output, took, err
}
