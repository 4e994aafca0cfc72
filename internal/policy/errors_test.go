package policy_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Callers distinguish errors by sentinels, so code that handles all of them must know each: the
// names and statuses of package inspect, which the command turns back into errors, and the
// errors of the wire protocol.
func TestEverySentinelHasAKind(t *testing.T) {
	table := parseFile(t, "internal/errorkind/errorkind.go")
	kinds := make(map[string]string) // by sentinel, such as "braid.ErrClosed"
	ast.Inspect(table, func(n ast.Node) bool {
		if row, is := n.(*ast.CompositeLit); is && len(row.Elts) == 3 {
			kinds[textOf(row.Elts[0])] = literalOf(row.Elts[2])
		}
		return true
	})
	protocol := used(parseFile(t, "kinesisapi/internal/service/errors_test.go"))

	count := 0
	for dir, name := range map[string]string{".": "braid", "consumer": "consumer", "queue": "queue"} {
		for _, sentinel := range sentinels(t, dir) {
			count++
			require.Equal(t, strings.TrimPrefix(sentinel, "Err"), kinds[name+"."+sentinel],
				"internal/errorkind: All lacks %s.%s, or has it by another name", name, sentinel)
			if name == "braid" {
				typed := strings.TrimPrefix(sentinel, "Err") + "Error"
				require.True(t, slices.Contains(protocol, sentinel) || slices.Contains(protocol, typed),
					"kinesisapi/internal/service/errors_test.go lacks a row of %s: what does the protocol answer?", sentinel)
			}
		}
	}
	require.Len(t, kinds, count, "internal/errorkind: All has a sentinel that is gone")
	require.Greater(t, count, 30)
}

func parseFile(t *testing.T, path string) *ast.File {
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, path), nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	return file
}

// sentinels returns the exported variables of a package whose names begin with Err.
func sentinels(t *testing.T, dir string) (names []string) {
	for _, path := range glob(t, filepath.Join(dir, "*.go")) {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		rel, err := filepath.Rel(root, path)
		require.NoError(t, err)
		for _, decl := range parseFile(t, rel).Decls {
			gen, is := decl.(*ast.GenDecl)
			if !is || gen.Tok != token.VAR {
				continue
			}
			for _, spec := range gen.Specs {
				for _, name := range spec.(*ast.ValueSpec).Names {
					if strings.HasPrefix(name.Name, "Err") {
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	return names
}

// used returns the identifiers of package braid that a file uses.
func used(file *ast.File) (names []string) {
	ast.Inspect(file, func(n ast.Node) bool {
		if selector, is := n.(*ast.SelectorExpr); is && textOf(selector.X) == "braid" {
			names = append(names, selector.Sel.Name)
		}
		return true
	})
	return names
}
