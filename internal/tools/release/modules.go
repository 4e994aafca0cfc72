package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

// prefix is the path of the core module, and the beginning of all others' paths.
const prefix = "github.com/braidstream/braid"

// published are the directories of the published modules, each after those that it requires.
var published = []string{".", "kinesisapi", "kinesisapi/kinesistest", "awskinesis", "braidprom", "braidotel", "cmd/braid"}

// module is a published module.
type module struct {
	path string
	root string // of the repository
	dir  string
	sub  string // the directory below the root of the repository; "." for the core
}

// tag returns the name of the tag that publishes a version of the module.
func (m module) tag(version string) string { return path.Join(m.sub, version) }

// readModules reads the go.mod files of the modules in these directories below root, and checks
// that others can use them.
func readModules(root string, subs []string) (modules []module, err error) {
	for _, sub := range subs {
		m := module{root: root, dir: filepath.Join(root, filepath.FromSlash(sub)), sub: sub}
		file, err := m.read()
		if err != nil {
			return nil, err
		}
		if m.path = file.Module.Mod.Path; m.path != path.Join(prefix, sub) {
			return nil, fmt.Errorf("%s has the path %s", sub, m.path)
		}
		if len(file.Replace)+len(file.Exclude) > 0 {
			return nil, fmt.Errorf("%s has a replace or an exclude, which has no effect for others", m.path)
		}
		for _, require := range file.Require {
			if isOwn(require.Mod.Path) && !slices.ContainsFunc(modules, func(m module) bool { return m.path == require.Mod.Path }) {
				return nil, fmt.Errorf("%s requires %s, which is not published before it", m.path, require.Mod.Path)
			}
		}
		modules = append(modules, m)
	}
	return modules, nil
}

func isOwn(path string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }

func (m module) read() (*modfile.File, error) {
	name := filepath.Join(m.dir, "go.mod")
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return modfile.Parse(name, data, nil)
}

// at returns the module's go.mod with that version of the other modules.
func (m module) at(version string) ([]byte, error) {
	file, err := m.read()
	if err != nil {
		return nil, err
	}
	for _, require := range slices.Clone(file.Require) {
		if isOwn(require.Mod.Path) {
			if err := file.AddRequire(require.Mod.Path, version); err != nil {
				return nil, err
			}
		}
	}
	return file.Format()
}
