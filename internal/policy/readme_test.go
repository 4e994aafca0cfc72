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

// readmes are the guides, with where their code comes from, and the least that they
// have of it.
var readmes = []struct {
	path    string
	sources []string
	blocks  int
}{
	{"README.md", []string{"*_test.go", "consumer/*_test.go", "queue/*_test.go", "inspect/*_test.go", "examples/*/*.go", "kinesisapi/*_test.go", "kinesisapi/kinesistest/*_test.go"}, 12},
	{"kinesisapi/README.md", []string{"kinesisapi/*_test.go", "kinesisapi/kinesistest/sdktest/*_test.go"}, 5},
}

// Code in a README is taken from tests and examples, where it is compiled and its
// output checked. Only the indentation may differ.
func TestCodeInTheREADMEIsTested(t *testing.T) {
	for _, guide := range readmes {
		var sources strings.Builder
		for _, pattern := range guide.sources {
			paths, err := filepath.Glob(filepath.Join(root, pattern))
			require.NoError(t, err)
			for _, path := range paths {
				text, err := os.ReadFile(path)
				require.NoError(t, err)
				sources.WriteString(unindented(string(text)))
			}
		}
		readme, err := os.ReadFile(filepath.Join(root, guide.path))
		require.NoError(t, err)
		blocks := goBlock.FindAllStringSubmatch(string(readme), -1)
		require.GreaterOrEqual(t, len(blocks), guide.blocks, "a recipe for each thing one does")
		for _, block := range blocks {
			require.Contains(t, sources.String(), "\n"+unindented(block[1]), "%s: no test has this code:\n%s", guide.path, block[1])
		}
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
	var documents []string
	for _, pattern := range []string{"*.md", "*/*.md", "kinesisapi/*/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		documents = append(documents, found...)
	}
	require.NotEmpty(t, documents)
	links := 0
	for _, document := range documents {
		text, err := os.ReadFile(document)
		require.NoError(t, err)
		for _, link := range markdown.FindAllStringSubmatch(string(text), -1) {
			links++
			_, err := os.Stat(filepath.Join(filepath.Dir(document), link[1]))
			require.NoError(t, err, "%s links to %s", filepath.Base(document), link[1])
		}
	}
	require.Positive(t, links)
}
