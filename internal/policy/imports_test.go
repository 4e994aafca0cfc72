package policy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	module = "github.com/braidstream/braid"
	root   = "../.." // the directory of the module
	pebble = "github.com/cockroachdb/pebble"
)

// goPackage is the output of go list about a package. Imports and Deps exclude packages that
// only its tests need.
type goPackage struct {
	ImportPath string
	Doc        string
	Imports    []string
	Deps       []string
}

// packages returns the packages of the module.
var packages = sync.OnceValues(func() (all []goPackage, err error) {
	if err := readDirectories(); err != nil {
		return nil, err
	}
	out, err := goCommand("list", "-json=ImportPath,Doc,Imports,Deps", "./...")
	if err != nil {
		return nil, err
	}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		switch err := dec.Decode(&p); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, err
		}
		all = append(all, p)
	}
})

// readDirectories reads all directories with sources. go test caches a test's result until a
// file changes that the test itself has read; files that the go command reads for the test do
// not count.
func readDirectories() error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && path != root && strings.HasPrefix(entry.Name(), ".") {
			return filepath.SkipDir
		}
		return err
	})
}

func goCommand(args ...string) ([]byte, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = errors.Join(err, errors.New(stderr.String()))
	}
	return out, err
}

func modulePackages(t *testing.T) []goPackage {
	t.Helper()
	all, err := packages()
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(all, func(p goPackage) bool { return p.ImportPath == module }))
	return all
}

// isInternal reports whether users cannot import the package.
func isInternal(importPath string) bool {
	return slices.Contains(strings.Split(importPath, "/"), "internal")
}

// isTestKit reports whether the package supports tests, so that it may import what tests
// import. Its name ends in "test", as in the standard library.
func isTestKit(importPath string) bool { return strings.HasSuffix(importPath, "test") }

// isOf reports whether the package belongs to the module, of any major version.
func isOf(importPath, module string) bool {
	return importPath == module || strings.HasPrefix(importPath, module+"/")
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range modulePackages(t) {
		require.NotEmpty(t, p.Doc, "%s has no package comment", p.ImportPath)
	}
}

// Only internal/kv uses Pebble, so that its errors, failures and options are handled in one
// place. guardfs implements the file system below Pebble; wreck reads the files of a database
// that Pebble cannot open; braidtest and testdisk provide file systems for tests.
func TestPebbleIsImportedInFivePlaces(t *testing.T) {
	owners := []string{module + "/braidtest", module + "/internal/guardfs", module + "/internal/kv", module + "/internal/testdisk", module + "/internal/wreck"}
	var found []string
	for _, p := range modulePackages(t) {
		if !slices.ContainsFunc(p.Imports, func(i string) bool { return isOf(i, pebble) }) {
			continue
		}
		require.Contains(t, owners, p.ImportPath, "it imports Pebble")
		found = append(found, p.ImportPath)
	}
	require.ElementsMatch(t, owners, found)
}

// A user's program must not link packages that only tests need: package testing adds flags, and
// testify adds its own requirements.
func TestNoUserLinksTestSupport(t *testing.T) {
	checked := 0
	for _, p := range modulePackages(t) {
		if isInternal(p.ImportPath) || isTestKit(p.ImportPath) {
			continue
		}
		checked++
		for _, dep := range p.Deps {
			require.False(t, isOf(dep, "testing") || isOf(dep, "github.com/stretchr/testify"),
				"%s links %s", p.ImportPath, dep)
		}
	}
	require.Positive(t, checked)
}

// Only tests use internal/inside, which package braid fills. Only tests import the support of
// tests.
func TestOnlyTestsLookInside(t *testing.T) {
	seen := 0
	for _, p := range modulePackages(t) {
		for _, i := range p.Imports {
			switch strings.TrimPrefix(i, module+"/") {
			case "internal/inside":
				seen++
				require.Equal(t, module, p.ImportPath)
			case "internal/testdisk", "internal/childtest", "internal/queuetest":
				require.Fail(t, "what ships imports it", "%s imports %s", p.ImportPath, i)
			}
		}
	}
	require.Equal(t, 1, seen)
}

// These packages stay independent: they import no package of the module except those listed.
func TestFoundationsStandOnTheirOwn(t *testing.T) {
	foundations := map[string][]string{
		"internal/decimal":   nil,
		"internal/uint128":   {"internal/decimal"},
		"internal/layout":    {"internal/decimal", "internal/uint128"},
		"internal/guardfs":   {"internal/histogram", "internal/layout", "internal/wake"},
		"internal/histogram": nil,
		"internal/wake":      nil,
	}
	seen := 0
	for _, p := range modulePackages(t) {
		allowed, ok := foundations[strings.TrimPrefix(p.ImportPath, module+"/")]
		if !ok {
			continue
		}
		seen++
		for _, i := range p.Imports {
			if isOf(i, module) {
				require.Contains(t, allowed, strings.TrimPrefix(i, module+"/"), "%s imports %s", p.ImportPath, i)
			}
		}
	}
	require.Equal(t, len(foundations), seen, "a package was renamed")
}

// Module kinesisapi imports only public packages, and nothing of AWS, even in tests. Its test
// kit, a module of its own, has the SDK. The kit imports internal packages of kinesisapi, which
// its path allows, so both are published at one version (command release sets them together).
// Neither imports internal packages of the core.
func TestTheProtocolIsBuiltOnThePublicAPI(t *testing.T) {
	dir := filepath.Join(root, "kinesisapi")
	files := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") {
			return err
		}
		files++
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		require.NoError(t, err)
		isKit := strings.HasPrefix(path, filepath.Join(dir, "kinesistest")+string(filepath.Separator))
		for _, spec := range file.Imports {
			i, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			if isOf(i, "github.com/aws") {
				require.True(t, isKit, "%s imports %s", path, i)
			}
			require.False(t, isOf(i, module+"/internal"), "%s imports %s", path, i)
		}
		return nil
	}))
	require.Greater(t, files, 100)
}

// goMod is the output of go mod edit -json.
type goMod struct {
	Module  struct{ Path string }
	Require []struct {
		Path, Version string
		Indirect      bool
	}
	Replace, Exclude, Tool []any
}

func readGoMod(t *testing.T, dir string) (mod goMod) {
	t.Helper()
	file := filepath.Join(dir, "go.mod")
	_, err := os.ReadFile(filepath.Join(root, file)) // see readDirectories
	require.NoError(t, err)
	out, err := goCommand("mod", "edit", "-json", file)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(out, &mod))
	return mod
}

// Published modules require one another at one version, and have no directives that are ignored
// in dependencies. A program that only serves the protocol has nothing of AWS in its module
// graph, which command release checks from outside.
func TestModulesCanBeFetched(t *testing.T) {
	versions := make(map[string]bool)
	for _, dir := range []string{".", "kinesisapi", "kinesisapi/kinesistest", "awskinesis", "braidprom", "braidotel", "cmd/braid"} {
		mod := readGoMod(t, dir)
		require.Equal(t, path.Join(module, dir), mod.Module.Path)
		require.Empty(t, mod.Replace, "%s: replace has no effect for users of the module", dir)
		require.Empty(t, mod.Exclude, "%s: exclude has no effect for users of the module", dir)
		require.Empty(t, mod.Tool, "%s: tools belong into internal/tools", dir)
		for _, r := range mod.Require {
			if isOf(r.Path, module) {
				versions[r.Version] = true
			}
			if isOf(r.Path, "github.com/aws") {
				require.Contains(t, []string{"kinesisapi/kinesistest", "awskinesis", "cmd/braid"}, dir, "it requires %s", r.Path)
			}
		}
	}
	require.Len(t, versions, 1)
}

// The core is in the module graphs of its users, so it requires little.
func TestTheModuleRequiresFourOthers(t *testing.T) {
	var direct []string
	for _, r := range readGoMod(t, ".").Require {
		if !r.Indirect {
			direct = append(direct, r.Path)
		}
	}
	require.ElementsMatch(t, []string{
		path.Join(pebble, "v2"),
		"github.com/google/uuid",
		"github.com/stretchr/testify",
		"golang.org/x/time",
	}, direct)
}
