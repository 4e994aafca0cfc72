package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

// set writes the version into the go.mod and go.sum of every module, and prints the tags
// that publish it. The commit that is tagged has to be the one with these changes.
func set(modules []module, version string) (err error) {
	if semver.Canonical(version) != version || semver.Major(version) > "v1" {
		return fmt.Errorf("%q must be a version such as v0.2.0, below v2", version)
	}
	changes, err := os.ReadFile(filepath.Join(modules[0].dir, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	if !bytes.Contains(changes, []byte("\n## "+version+" ")) {
		return fmt.Errorf("CHANGELOG.md has no section %q with a date", "## "+version)
	}
	dir, err := os.MkdirTemp("", "release-set-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p := proxy{dir}
	known := make(map[string]sums)
	for _, m := range modules { // each after those that it requires, whose sums it needs
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

// setSums writes the sums of the modules that this one requires into its go.sum.
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
	lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(data)), "\n"), func(line string) bool {
		path, _, _ := strings.Cut(line, " ")
		return isOwn(path)
	})
	for _, require := range file.Require {
		if s, has := known[require.Mod.Path]; has {
			lines = append(lines,
				require.Mod.Path+" "+version+" "+s.zip,
				require.Mod.Path+" "+version+"/go.mod "+s.mod)
		}
	}
	slices.Sort(lines)
	return os.WriteFile(name, []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}

// tidy runs go mod tidy in every nested module, as if the versions that their go.mod
// files name were published as the modules are now. It uses a cache of its own, so that
// those versions are not taken for the published ones later.
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

// dropSums removes the sums of our own modules, which only a release knows.
func (m module) dropSums() error { return m.setSums("", nil) }

// required returns the version of the module that the others require.
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
	return "v0.0.0" // of one that none requires
}
