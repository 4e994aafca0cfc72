package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Each edit must fit the source, and each test must exist. This test checks that without
// planting the faults, which takes minutes.
func TestFaultsFitTheSource(t *testing.T) {
	b := newBench(t, filepath.Join("..", "..", ".."))
	names := make(map[string]bool)
	for _, f := range allFaults() {
		t.Run(f.name, func(t *testing.T) {
			if names[f.name] || !regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`).MatchString(f.name) {
				t.Error("the name is not kebab-case, or is taken")
			}
			names[f.name] = true
			if f.what == "" || f.promise == "" {
				t.Error("what is wrong, and which promise it breaks, must be said")
			}
			if _, err := b.overlay(f.edits); err != nil {
				t.Error(err)
			}
			if regexp.MustCompile(f.finds).MatchString("") {
				t.Errorf("%q matches any output", f.finds)
			}
			if !hasTest(t, filepath.Join(b.root, f.test.dir), regexp.MustCompile(f.test.run)) {
				t.Errorf("there is no such test: %s", f.test)
			}
		})
	}
}

// hasTest reports whether a package has a test whose name matches.
func hasTest(t *testing.T, dir string, name *regexp.Regexp) bool {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllSubmatch(data, -1) {
			if name.Match(m[1]) {
				return true
			}
		}
	}
	return false
}

// The bench is tested on a module with one function, which should return its argument.
func TestAFaultIsFoundMissedOrRefused(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "go.mod", "module example.com/same\n\ngo 1.26\n")
	write(t, dir, "same.go", "package same\n\nfunc Same(n int) int { return n }\n")
	write(t, dir, "same_test.go", `package same

import (
	"testing"
	"time"
)

func TestSame(t *testing.T) {
	if n := Same(1); n != 1 {
		t.Fatalf("one has become %d", n)
	}
}

func TestNothing(t *testing.T) {}

func TestSlow(t *testing.T) {
	if Same(1) != 1 {
		time.Sleep(time.Hour)
	}
}
`)
	same := test{dir: ".", run: "^TestSame$"}
	for name, c := range map[string]struct {
		old, new string
		test     test
		finds    string
		want     string // in the error; empty if the fault is found
	}{
		"found":          {"return n", "return n + 1", same, `one has become 2`, ""},
		"missed":         {"return n", "return n + 1", test{dir: ".", run: "^TestNothing$"}, `one has become 2`, "passes"},
		"other reason":   {"return n", "panic(n)", same, `one has become 2`, "does not say"},
		"does not build": {"return n", "return", same, `not enough`, "does not build"},
		"does not fit":   {"return m", "return n + 1", same, `one`, "0 times, not once"},
		"ambiguous":      {"n", "m", same, `one`, "times, not once"},
		"too slow":       {"return n", "return n + 1", test{dir: ".", run: "^TestSlow$"}, `one`, "not done after"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, dir)
			b.limit = 2 * time.Second
			r, err := b.plant(context.Background(), fault{edits: []edit{{"same.go", c.old, c.new}}, test: c.test, finds: c.finds})
			if c.want == "" {
				if err != nil || r.foundBy != ". TestSame" {
					t.Errorf("found by %q: %v", r.foundBy, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error should say %q: %v", c.want, err)
			}
		})
	}
	b := newBench(t, dir)
	if err := b.mustPass(context.Background(), same); err != nil {
		t.Error("the file on the disk has changed:", err)
	}
	if err := b.mustPass(context.Background(), test{dir: ".", run: "^TestOther$"}); err == nil {
		t.Error("a test that is not there has passed")
	}
	missed := fault{name: "missed", edits: []edit{{"same.go", "return n", "return n + 1"}}, test: test{dir: ".", run: "^TestNothing$"}, finds: "one"}
	if err := plantAll(context.Background(), b, []fault{missed}, false, io.Discard); err == nil || !strings.Contains(err.Error(), "1 of 1 faults were missed") {
		t.Error("a fault was missed, and the error is:", err)
	}
}

func newBench(t *testing.T, root string) *bench {
	root, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{root: root, dir: t.TempDir(), limit: timeLimit, binaries: make(map[string]string)}
}

func write(t *testing.T, dir, name, text string) {
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
