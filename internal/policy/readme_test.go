package policy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	goBlock  = regexp.MustCompile("(?s)```go\n(.*?)```")
	markdown = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
)

// Code in the README is taken from tests and examples, where it is compiled and
// its output checked. Only the indentation may differ.
func TestCodeInTheREADMEIsTested(t *testing.T) {
	var sources strings.Builder
	for _, pattern := range []string{"*_test.go", "consumer/*_test.go", "examples/*/*.go"} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		for _, path := range paths {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			sources.WriteString(unindented(string(text)))
		}
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	blocks := goBlock.FindAllStringSubmatch(string(readme), -1)
	require.GreaterOrEqual(t, len(blocks), 12, "a recipe for each thing one does")
	for _, block := range blocks {
		require.Contains(t, sources.String(), "\n"+unindented(block[1]), "no test has this code:\n%s", block[1])
	}
}

// unindented removes what stands in front of each line.
func unindented(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimLeft(line, " \t")
	}
	return strings.Join(lines, "\n")
}

// Links between the documents, and from them to the code, lead somewhere.
func TestLinksLeadSomewhere(t *testing.T) {
	documents, err := filepath.Glob(filepath.Join(root, "*.md"))
	require.NoError(t, err)
	require.NotEmpty(t, documents)
	links := 0
	for _, document := range documents {
		text, err := os.ReadFile(document)
		require.NoError(t, err)
		for _, link := range markdown.FindAllStringSubmatch(string(text), -1) {
			links++
			_, err := os.Stat(filepath.Join(root, link[1]))
			require.NoError(t, err, "%s links to %s", filepath.Base(document), link[1])
		}
	}
	require.Positive(t, links)
}
