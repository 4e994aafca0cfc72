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

	"github.com/braidstream/braid/internal/errorkind"
)

// Callers distinguish errors by sentinels, so code that handles all of them must know each: the
// names and statuses of package inspect, which the command turns back into errors, and the
// errors of the wire protocol.
func TestEverySentinelHasAKind(t *testing.T) {
	table := parseFile(t, "internal/errorkind/errorkind.go")
	kinds := make(map[string]string) // by sentinel, such as "braid.ErrClosed"
	ast.Inspect(table, func(n ast.Node) bool {
		if row, is := n.(*ast.CompositeLit); is && row.Type == nil && len(row.Elts) == 3 {
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

// localErrors are exported error types that no request of package inspect can cause.
var localErrors = []string{
	"FileDamageError", "VerifyError", // of Open and DB.Verify
	"StreamMismatchError",                                                              // of DB.OpenStream
	"ReceiptError",                                                                     // part of a ReceiptsError
	"ShardError", "StoppedShardsError", "RecordError", "PanicError", "HungShardsError", // of workers
	"PermanentError", // of sources and lease stores that are not the database
}

// Package inspect answers with the fields of an error, and the command makes it again.
func TestEveryErrorTypeHasDetails(t *testing.T) {
	var listed []string
	for _, typed := range errorkind.Details {
		listed = append(listed, typed.Name)
	}
	var found []string
	for _, dir := range []string{".", "consumer", "queue"} {
		for _, path := range glob(t, filepath.Join(dir, "*.go")) {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			rel, err := filepath.Rel(root, path)
			require.NoError(t, err)
			ast.Inspect(parseFile(t, rel), func(n ast.Node) bool {
				if spec, is := n.(*ast.TypeSpec); is && spec.Name.IsExported() && strings.HasSuffix(spec.Name.Name, "Error") {
					found = append(found, spec.Name.Name)
				}
				return true
			})
		}
	}
	require.ElementsMatch(t, found, append(listed, localErrors...), "internal/errorkind: Details or localErrors lacks a type, or has one that is gone")
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
