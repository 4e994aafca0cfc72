package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

// set writes the version into the go.mod and go.sum of every module and into go.work, and
// prints the tags that publish it. The tagged commit must have exactly these changes, because
// the sums are of these files.
func set(modules []module, version string) (err error) {
	if semver.Canonical(version) != version || semver.Major(version) > "v1" {
		return fmt.Errorf("%q must be a version such as v0.2.0, below v2", version)
	}
	root := modules[0].root
	changes, err := os.ReadFile(filepath.Join(root, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	if !hasSection(changes, version) {
		return fmt.Errorf("CHANGELOG.md must have the heading \"## %s — YYYY-MM-DD\"", version)
	}
	cmd := exec.Command("git", "status", "--porcelain")
	cmd.Dir = root
	if out, err := cmd.Output(); err != nil || len(out) > 0 {
		return errors.Join(err, fmt.Errorf("everything must be committed first:\n%s", out))
	}
	if err := setWorkspace(filepath.Join(root, "go.work"), version); err != nil {
		return err // before the core is packed, which contains that file
	}
	dir, err := os.MkdirTemp("", "release-set-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p := proxy{dir}
	known := make(map[string]sums)
	for _, m := range modules { // each after those that it requires, because it needs their sums
		goMod, err := m.at(version)
		if err != nil {
			return err
		}
		err = errors.Join(
			os.WriteFile(filepath.Join(m.dir, "go.mod"), goMod, 0o644),
			m.setSums(version, known))
		if err != nil {
			return err
		}
		if known[m.path], err = p.add(m, version); err != nil {
			return err
		}
	}
	fmt.Printf("Commit these changes, and give that commit the tags:\n\n")
	for _, m := range modules {
		fmt.Println("git tag", m.tag(version))
	}
	return nil
}

// hasSection reports whether the change log has a dated section for the version.
func hasSection(changes []byte, version string) bool {
	return regexp.MustCompile(`(?m)^## ` + regexp.QuoteMeta(version) + ` — \d{4}-\d{2}-\d{2}$`).Match(changes)
}

// setWorkspace replaces that version of our modules in go.work.
func setWorkspace(name, version string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	file, err := modfile.ParseWork(name, data, nil)
	if err != nil {
		return err
	}
	for _, r := range slices.Clone(file.Replace) {
		if !isOwn(r.Old.Path) || r.Old.Version == version {
			continue
		}
		err := errors.Join(
			file.AddReplace(r.Old.Path, version, r.New.Path, r.New.Version),
			file.DropReplace(r.Old.Path, r.Old.Version))
		if err != nil {
			return err
		}
	}
	file.Cleanup()
	return os.WriteFile(name, modfile.Format(file.Syntax), 0o644)
}

// setSums replaces all sums of our modules in this module's go.sum by the known sums of those
// that it requires.
func (m module) setSums(version string, known map[string]sums) error {
	file, err := m.read()
	if err != nil {
		return err
	}
	name := filepath.Join(m.dir, "go.sum")
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	lines := slices.DeleteFunc(slices.Collect(strings.Lines(string(data))), func(line string) bool {
		return isOwn(pathOf(line))
	})
	for _, require := range file.Require {
		if s, has := known[require.Mod.Path]; has {
			lines = append(lines,
				require.Mod.Path+" "+version+" "+s.zip+"\n",
				require.Mod.Path+" "+version+"/go.mod "+s.mod+"\n")
		}
	}
	// The go command sorts by path, and then by version, which is sorted already.
	slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(pathOf(a), pathOf(b)) })
	return os.WriteFile(name, []byte(strings.Join(lines, "")), 0o644)
}

// pathOf returns the path of the module in a line of a go.sum.
func pathOf(line string) string {
	path, _, _ := strings.Cut(line, " ")
	return path
}

// tidy runs go mod tidy in every published module, as if the modules in this state were
// published under the versions that their go.mod files name. It uses a separate cache, so that
// these versions never pass for the published ones.
func tidy(modules []module) (err error) {
	dir, err := os.MkdirTemp("", "release-tidy-")
	if err != nil {
		return err
	}
	cache := filepath.Join(dir, "cache")
	defer func() { err = errors.Join(err, writable(cache), os.RemoveAll(dir)) }()
	p := proxy{filepath.Join(dir, "proxy")}
	proxies, err := otherProxies()
	if err != nil {
		return err
	}
	fetched, err := goEnv("GOMODCACHE")
	if err != nil {
		return err
	}
	proxies = append([]string{fileURL(p.dir), fileURL(filepath.Join(fetched, "cache", "download"))}, proxies...)
	for _, m := range modules {
		if err := m.dropSums(); err != nil { // the sums of a release
			return err
		}
		cmd := command(m.dir, proxies, "mod", "tidy")
		cmd.Env = append(cmd.Env, "GOMODCACHE="+cache)
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("go mod tidy in %s: %w", m.sub, err)
		}
		if err := m.dropSums(); err != nil {
			return err
		}
		if _, err := p.add(m, m.required(modules)); err != nil {
			return err
		}
	}
	return nil
}

// dropSums removes the sums of our own modules, which exist only for a release.
func (m module) dropSums() error { return m.setSums("", nil) }

// required returns the version of the module in the requirements of the others.
func (m module) required(modules []module) string {
	for _, other := range modules {
		file, err := other.read()
		if err != nil {
			continue // it was read before
		}
		for _, require := range file.Require {
			if require.Mod.Path == m.path {
				return require.Mod.Version
			}
		}
	}
	return "v0.0.0" // no other module requires it
}
