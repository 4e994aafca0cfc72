package policy_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// wordings are turns that make a reader stop, with what to write in their place.
var wordings = []struct {
	pattern *regexp.Regexp
	instead string
}{
	{regexp.MustCompile(`\b[Aa]lso (if|when|while|where|after)\b`), "even if, even when: also adds a second thing"},
	{regexp.MustCompile(`\b[Ff]or ever\b`), "forever"},
	{regexp.MustCompile(`\b[Ww]hoever\b`), "a caller that, a reader that: name the subject"},
	{regexp.MustCompile(`(^|//|[.;:]) Who [a-z]+ [^?]*$`), "a caller that, a reader that: name the subject"},
	{regexp.MustCompile(`\b(tell|tells) that\b`), "reports whether, means, notes"},
	{regexp.MustCompile(`\bwhat (it|they|he|she) (is|are) at\b`), "its current batch, the current step: name it"},
	{regexp.MustCompile(`\bmakes? that\b`), "say who does what"},
	{regexp.MustCompile(`\bof (no|any) use\b`), "useless, fails, cannot be used"},
	{regexp.MustCompile(`\b(is|are|was|were) waited for\b`), "say who waits: the worker waits for the stream"},
	{regexp.MustCompile(`\bhow manieth\b`), "its ordinal"},
	{regexp.MustCompile(`\bslip of the pen\b`), "a misspelled name, a mistake"},
}

// maxComment is how many characters a line of a comment has at most, without its indentation.
const maxComment = 120

// Text is for readers whose first language may be another one: standard words, subject
// first. What can be found by machine is found here.
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
			for _, w := range wordings {
				if found := w.pattern.FindString(line); found != "" {
					t.Errorf("%s:%d: %q: write %s", path, i+1, strings.TrimSpace(found), w.instead)
				}
			}
		}
		return err
	}))
	require.Greater(t, lines, 10_000)
}
