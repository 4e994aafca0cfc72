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
	markdown = regexp.MustCompile(`\]\(([^)#:]*)(#[^)]*)?\)`)
	heading  = regexp.MustCompile(`(?m)^#+ (.*)$`)

	notInNames = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// guides are the documents with code, with the sources of the code and the minimal number of
// blocks.
var guides = []struct {
	paths   string
	sources []string
	blocks  int
}{
	{"README.md", []string{"examples/*/*.go", "*_test.go"}, 1},
	{"docs/*.md", []string{
		"*_test.go", "consumer/*_test.go", "queue/*_test.go", "inspect/*_test.go", "examples/*/*.go",
		"kinesisapi/*_test.go", "kinesisapi/kinesistest/*_test.go", "awskinesis/*_test.go", "awskinesis/*/*_test.go",
		"awskinesis/examples/*/*.go",
		"braidprom/*_test.go", "braidotel/*_test.go",
	}, 30},
	{"kinesisapi/README.md", []string{"kinesisapi/*_test.go", "kinesisapi/kinesistest/sdktest/*_test.go"}, 5},
}

// Code in the documents is taken from tests and examples, where it is compiled and its
// output checked. Only the indentation may differ.
func TestCodeInDocumentsIsTested(t *testing.T) {
	for _, guide := range guides {
		var sources strings.Builder
		for _, pattern := range guide.sources {
			for _, path := range glob(t, pattern) {
				text, err := os.ReadFile(path)
				require.NoError(t, err)
				sources.WriteString(unindented(string(text)))
			}
		}
		count := 0
		for _, path := range glob(t, guide.paths) {
			document, err := os.ReadFile(path)
			require.NoError(t, err)
			blocks := goBlock.FindAllStringSubmatch(string(document), -1)
			count += len(blocks)
			for _, block := range blocks {
				require.Contains(t, sources.String(), "\n"+unindented(block[1]), "%s: no test has this code:\n%s", path, block[1])
			}
		}
		require.GreaterOrEqual(t, count, guide.blocks, "%s: a piece of code for each task", guide.paths)
	}
}

// glob returns the files of the repository that match.
func glob(t *testing.T, pattern string) []string {
	paths, err := filepath.Glob(filepath.Join(root, pattern))
	require.NoError(t, err)
	require.NotEmpty(t, paths, pattern)
	return paths
}

// unindented removes the indentation of each line.
func unindented(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimLeft(line, " \t")
	}
	return strings.Join(lines, "\n")
}

// A newcomer reads the README in a few minutes, and finds everything else from there.
func TestREADMEIsShort(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	require.LessOrEqual(t, strings.Count(string(text), "\n"), 200, "lines; recipes go to docs")
	for _, path := range glob(t, "docs/*.md") {
		require.Contains(t, string(text), "](docs/"+filepath.Base(path)+")", "a page that the README does not lead to")
	}
}

// Links between the documents, and from them to the code, point to a file that exists, and to a
// heading that exists if they name one.
func TestLinksLeadSomewhere(t *testing.T) {
	links := 0
	for _, pattern := range []string{"*.md", "docs/*.md", "*/*.md", "kinesisapi/*/*/*.md"} {
		for _, document := range glob(t, pattern) {
			text, err := os.ReadFile(document)
			require.NoError(t, err)
			for _, link := range markdown.FindAllStringSubmatch(string(text), -1) {
				links++
				target := document
				if link[1] != "" {
					target = filepath.Join(filepath.Dir(document), link[1])
				}
				_, err := os.Stat(target)
				require.NoError(t, err, "%s links to %s", document, link[1])
				if link[2] != "" {
					require.Contains(t, headings(t, target), link[2], "%s links to a heading of %s", document, target)
				}
			}
		}
	}
	require.Positive(t, links)
}

// headings returns the anchors of the headings of a document.
func headings(t *testing.T, document string) []string {
	text, err := os.ReadFile(document)
	require.NoError(t, err)
	var names []string
	for _, heading := range heading.FindAllStringSubmatch(string(text), -1) {
		name := notInNames.ReplaceAllString(strings.ToLower(heading[1]), "")
		names = append(names, "#"+strings.ReplaceAll(name, " ", "-"))
	}
	return names
}
