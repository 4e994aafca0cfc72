package policy_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/doc"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the golden texts of exported APIs")

// The exported API is a promise, so each change of it shows in a golden text that is reviewed
// with the change. Rewrite it with: go test ./internal/policy -update
func TestExportedAPI(t *testing.T) {
	for _, row := range []struct {
		dir, golden string
		limit       int // of top-level identifiers, to keep the page readable
	}{
		{dir: ".", golden: "testdata/api.txt", limit: 100},
		{dir: "consumer", golden: "testdata/consumer.txt", limit: 68},
		{dir: "queue", golden: "testdata/queue.txt", limit: 20},
		{dir: "inspect", golden: "testdata/inspect.txt", limit: 6},
		{dir: "kpl", golden: "testdata/kpl.txt", limit: 4},
		{dir: "braidtest", golden: "testdata/braidtest.txt", limit: 5},
		{dir: "kinesisapi", golden: "testdata/kinesisapi.txt", limit: 10},
		{dir: "kinesisapi/kinesistest", golden: "testdata/kinesistest.txt", limit: 25},
		{dir: "awskinesis", golden: "testdata/awskinesis.txt", limit: 30},
		{dir: "awskinesis/capture", golden: "testdata/capture.txt", limit: 6},
		{dir: "braidprom", golden: "testdata/braidprom.txt", limit: 3},
		{dir: "braidotel", golden: "testdata/braidotel.txt", limit: 20},
		{dir: "awskinesis/envelope", golden: "testdata/envelope.txt", limit: 15},
	} {
		t.Run(row.golden, func(t *testing.T) {
			names, text := exportedAPI(t, filepath.Join(root, row.dir))
			require.NotEmpty(t, names)
			require.LessOrEqual(t, len(names), row.limit, "too many top-level identifiers: %v", names)
			if *update {
				require.NoError(t, os.WriteFile(row.golden, []byte(text), 0o644))
			}
			want, err := os.ReadFile(row.golden)
			require.NoError(t, err)
			// Only the lines that differ: the whole text would bury them.
			require.Equal(t, linesWithout(string(want), text), linesWithout(text, string(want)),
				"if the change is meant: go test ./internal/policy -update")
			require.True(t, string(want) == text, "declarations have moved: go test ./internal/policy -update")
		})
	}
}

// linesWithout returns the lines of a text that another one does not have as often.
func linesWithout(text, other string) (lines []string) {
	has := make(map[string]int)
	for line := range strings.Lines(other) {
		has[line]++
	}
	for line := range strings.Lines(text) {
		if has[line]--; has[line] < 0 {
			lines = append(lines, line)
		}
	}
	return lines
}

// blankLines are left where comments were. Comments are no part of the API.
var blankLines = regexp.MustCompile(`\n\n+`)

// exportedAPI returns the exported top-level identifiers of the package in dir, and all its
// exported declarations without comments and bodies, in the order of go doc. It reads only the
// syntax, so the package need not compile.
func exportedAPI(t *testing.T, dir string) (names []string, text string) {
	fset := token.NewFileSet()
	p, err := doc.NewFromFiles(fset, parsePackage(t, fset, dir), module)
	require.NoError(t, err)

	var out strings.Builder
	fmt.Fprintf(&out, "package %s\n", p.Name)
	decl := func(node ast.Node) {
		var b bytes.Buffer
		require.NoError(t, format.Node(&b, fset, node))
		dense, err := format.Source(blankLines.ReplaceAll(b.Bytes(), []byte("\n")))
		require.NoError(t, err)
		fmt.Fprintf(&out, "\n%s\n", dense)
	}
	values := func(values []*doc.Value) {
		for _, v := range values {
			decl(v.Decl)
			names = append(names, exportedOf(v.Names)...)
		}
	}
	functions := func(functions []*doc.Func) {
		for _, f := range functions {
			decl(f.Decl)
			if f.Recv == "" {
				names = append(names, f.Name)
			}
		}
	}
	values(p.Consts)
	values(p.Vars)
	functions(p.Funcs)
	for _, typ := range p.Types {
		names = append(names, typ.Name)
		decl(typ.Decl)
		values(typ.Consts)
		values(typ.Vars)
		functions(typ.Funcs)
		functions(typ.Methods)
	}
	return names, out.String()
}

// parsePackage parses the package's files without tests and comments.
func parsePackage(t *testing.T, fset *token.FileSet, dir string) (files []*ast.File) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		files = append(files, f)
	}
	return files
}

func exportedOf(names []string) (exported []string) {
	for _, name := range names {
		if token.IsExported(name) {
			exported = append(exported, name)
		}
	}
	return exported
}
