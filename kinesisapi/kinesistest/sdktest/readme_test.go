package sdktest_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi/internal/service"
)

// TestReadme checks that the README of kinesisapi has a row for every operation, that
// each row names its tests, and that there are such tests, here or there.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	readme := string(text)

	tests := make(map[string]bool)
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	raw, err := filepath.Glob("../../*_test.go")
	require.NoError(t, err)
	require.NotEmpty(t, raw)
	for _, file := range append(files, raw...) {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		require.NoError(t, err)
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
				tests[f.Name.Name] = true
			}
		}
	}
	named := regexp.MustCompile("`(Test\\w+)`")
	for _, name := range named.FindAllStringSubmatch(readme, -1) {
		require.Contains(t, tests, name[1])
	}

	rows := make(map[string]bool)
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (.*) \\| (.*) \\| (.*) \\|$").FindAllStringSubmatch(readme, -1) {
		operation, answer := row[1], row[2]
		require.False(t, rows[operation], "%s has two rows", operation)
		require.Contains(t, service.Operations, operation)
		require.Regexp(t, "^(same as the service|simpler: .+|unsupported: .+)", answer, operation)
		require.Regexp(t, "^documented(; chosen: .+)?$", row[3], operation)
		require.Regexp(t, named, row[4], operation)
		rows[operation] = true
	}
	require.Len(t, rows, len(service.Operations))
	require.Contains(t, readme, fmt.Sprintf("The newest model of the service has %d operations.", len(service.Operations)))
}
