package policy_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// wording is a phrase that makes a reader stop, and its replacement.
type wording struct {
	pattern *regexp.Regexp
	instead string
}

// wordings are checked in all comments and documents.
var wordings = []wording{
	{regexp.MustCompile(`\b[Aa]lso (if|when|while|where|after)\b`), "even if, even when: also adds a second thing"},
	{regexp.MustCompile(`\b[Ff]or ever\b`), "forever"},
	{regexp.MustCompile(`\b[Ww]hoever\b`), "a caller that, a reader that: name the subject"},
	{regexp.MustCompile(`(^|//|[.;:]) Who [a-z]+ [^?]*$`), "a caller that, a reader that: name the subject"},
	{regexp.MustCompile(`\b(tell|tells) that\b`), "reports whether, means, notes"},
	{regexp.MustCompile(`\bwhat (it|they|he|she) (is|are) at\b`), "its current batch, the current step: name it"},
	{regexp.MustCompile(`\bmakes? that\b`), "say who does what"},
	{regexp.MustCompile(`\bof (no|any) use\b`), "useless, fails, cannot be used"},
	{regexp.MustCompile(`\bwhich there (is|are|was|were) not\b`), "that does not exist"},
	{regexp.MustCompile(`\bin the making\b`), "unfinished"},
	{regexp.MustCompile(`\b(is|are|was|were) waited for\b`), "say who waits: the worker waits for the stream"},
	{regexp.MustCompile(`\bhow manieth\b`), "its ordinal"},
	{regexp.MustCompile(`\bslip of the pen\b`), "a misspelled name, a mistake"},
}

// plainer are checked only in the comments of Go files: documents use some of these phrases in
// another sense.
var plainer = []wording{
	{regexp.MustCompile(`\bfor want of\b`), "for lack of"},
	{regexp.MustCompile(`\b(in|out)side of\b`), "inside, outside"},
	{regexp.MustCompile(`\bneighbour`), "neighbor"},
	{regexp.MustCompile(`\bparticulars\b`), "details"},
	{regexp.MustCompile(`\b[Tt]hose who\b`), "waiters, readers, callers: name them"},
	{regexp.MustCompile(`\bwhat there is\b`), "name it"},
	{regexp.MustCompile(`\btells? (of|whether|which|how|what)\b`), "reports, shows, says"},
	{regexp.MustCompile(`\b(are|was|were|be) told\b`), "gets an error, is reported"},
	{regexp.MustCompile(`\btaken for\b`), "counts as, looks like"},
	{regexp.MustCompile(`\b(takes?|taken) apart\b`), "decodes"},
	{regexp.MustCompile(`\bgoes? by\b`), "uses, depends on"},
	{regexp.MustCompile(`\bstands? (in|at|under|behind|before)\b`), "is in, lies in"},
}

// maxComment is the maximal number of characters in a line of a comment, without its
// indentation.
const maxComment = 120

// Text is for readers whose first language may be another one: standard words, subject first.
// This test finds what a machine can find.
func TestWording(t *testing.T) {
	lines := 0
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "testdata" || entry.Name() == ".git"):
			return filepath.SkipDir
		case filepath.Ext(path) != ".go" && filepath.Ext(path) != ".md" || filepath.Base(path) == "text_test.go":
			return nil
		}
		data, err := os.ReadFile(path)
		checked := wordings
		if filepath.Ext(path) == ".go" {
			checked = slices.Concat(wordings, plainer)
		}
		for i, line := range strings.Split(string(data), "\n") {
			if filepath.Ext(path) == ".go" {
				before, comment, found := strings.Cut(line, "//")
				if !found {
					continue
				}
				if line = "//" + comment; strings.TrimSpace(before) == "" && utf8.RuneCountInString(line) > maxComment {
					t.Errorf("%s:%d: a comment of more than %d characters", path, i+1, maxComment)
				}
			}
			lines++
			for _, w := range checked {
				if found := w.pattern.FindString(line); found != "" {
					t.Errorf("%s:%d: %q: write %s", path, i+1, strings.TrimSpace(found), w.instead)
				}
			}
		}
		return err
	}))
	require.Greater(t, lines, 10_000)
}

var (
	testFunc  = regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Fuzz)[A-Z]\w*)\(`)
	testNamed = regexp.MustCompile(`\b(?:Test|Benchmark|Fuzz)[A-Z]\w*`)
)

// A comment or document that names a test must name one that exists, or the beginning of
// its name, as for -run.
func TestNamedTestsExist(t *testing.T) {
	type mention struct{ place, name string }
	var defined []string
	var mentions []mention
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "testdata" || entry.Name() == ".git"):
			return filepath.SkipDir
		case filepath.Ext(path) != ".go" && filepath.Ext(path) != ".md":
			return nil
		}
		data, err := os.ReadFile(path)
		if strings.HasSuffix(path, "_test.go") {
			for _, f := range testFunc.FindAllSubmatch(data, -1) {
				defined = append(defined, string(f[1]))
			}
		}
		for i, line := range strings.Split(string(data), "\n") {
			if filepath.Ext(path) == ".go" {
				_, line, _ = strings.Cut(line, "//")
			}
			for _, name := range testNamed.FindAllString(line, -1) {
				mentions = append(mentions, mention{fmt.Sprintf("%s:%d", path, i+1), name})
			}
		}
		return err
	}))
	slices.Sort(defined)
	require.Greater(t, len(mentions), 100)
	for _, m := range mentions {
		i, _ := slices.BinarySearch(defined, m.name)
		if i == len(defined) || !strings.HasPrefix(defined[i], m.name) {
			t.Errorf("%s: there is no test %s", m.place, m.name)
		}
	}
}
