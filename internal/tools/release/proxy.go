package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	mod "golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/zip"
)

// proxy is a module proxy in a directory. See "go help goproxy" for its layout.
type proxy struct{ dir string }

// sums are the lines of a go.sum for one version of a module.
type sums struct{ zip, mod string }

// add packs a module as it is on disk, at that version, requiring the others at that version.
func (p proxy) add(m module, version string) (s sums, err error) {
	escaped, err := mod.EscapePath(m.path)
	if err != nil {
		return s, err
	}
	dir := filepath.Join(p.dir, filepath.FromSlash(escaped), "@v")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return s, err
	}
	goMod, err := m.at(version)
	if err != nil {
		return s, err
	}
	info, err := json.Marshal(struct {
		Version string
		Time    time.Time
	}{version, time.Unix(0, 0).UTC()})
	if err != nil {
		return s, err
	}
	name := filepath.Join(dir, version)
	err = errors.Join(
		os.WriteFile(name+".info", info, 0o644),
		os.WriteFile(name+".mod", goMod, 0o644),
		os.WriteFile(filepath.Join(dir, "list"), []byte(version+"\n"), 0o644),
		m.pack(name+".zip", version, goMod))
	if err != nil {
		return s, err
	}
	if s.zip, err = dirhash.HashZip(name+".zip", dirhash.Hash1); err != nil {
		return s, err
	}
	s.mod, err = dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) { return os.Open(name + ".mod") })
	return s, err
}

// pack writes the module's zip file. The go.mod in it is the given one.
func (m module) pack(name, version string, goMod []byte) (err error) {
	dir, err := os.MkdirTemp("", "release-pack-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	files, err := m.files()
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := copyFile(filepath.Join(dir, file), filepath.Join(m.dir, file)); err != nil {
			return err
		}
	}
	if !slices.Contains(files, license) { // the go command uses that of the repository
		if err := copyFile(filepath.Join(dir, license), filepath.Join(m.root, license)); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), goMod, 0o644); err != nil {
		return err
	}
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(zip.CreateFromDir(out, mod.Version{Path: m.path, Version: version}, dir), out.Close())
}

const license = "LICENSE"

// files returns the packed files of the module, relative to its directory: those that git has
// or would add.
func (m module) files() (names []string, err error) {
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = m.dir
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list the files of %s: %w", m.path, err)
	}
	known := strings.Split(string(out), "\x00")
	slices.Sort(known)
	checked, err := zip.CheckDir(m.dir)
	if err = errors.Join(err, checked.Err()); err != nil {
		return nil, err
	}
	for _, path := range checked.Valid {
		name, err := filepath.Rel(m.dir, path)
		if err != nil {
			return nil, err
		}
		if _, found := slices.BinarySearch(known, filepath.ToSlash(name)); found {
			names = append(names, name)
		}
	}
	return names, nil
}

func copyFile(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, data, 0o644))
}

// contentVersion returns a version that identifies the content of all modules. The go command
// caches versions forever, so each content needs a version of its own.
func contentVersion(modules []module) (string, error) {
	all := sha256.New()
	for _, m := range modules {
		files, err := m.files()
		if err != nil {
			return "", err
		}
		for _, file := range files {
			data, err := os.ReadFile(filepath.Join(m.dir, file))
			if err != nil {
				return "", err
			}
			fmt.Fprintf(all, "%s %s %d\n", m.path, file, len(data))
			all.Write(data)
		}
	}
	return "v0.0.0-check.h" + hex.EncodeToString(all.Sum(nil)[:8]), nil
}

// forget removes a version of the modules from the go command's cache.
func forget(modules []module, version string) error {
	cache, err := goEnv("GOMODCACHE")
	if err != nil {
		return err
	}
	var failed error
	for _, m := range modules {
		tree := filepath.Join(cache, filepath.FromSlash(m.path)+"@"+version)
		downloads, err := filepath.Glob(filepath.Join(cache, "cache", "download", filepath.FromSlash(m.path), "@v", version+".*"))
		failed = errors.Join(failed, err, writable(tree), os.RemoveAll(tree))
		for _, file := range downloads {
			failed = errors.Join(failed, os.Remove(file))
		}
	}
	return failed
}

// writable makes a directory tree in the go command's cache writable.
func writable(tree string) error {
	return filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !entry.IsDir() {
			return err
		}
		return os.Chmod(path, 0o755)
	})
}

// otherProxies are the proxies from which the go command fetches modules.
func otherProxies() ([]string, error) {
	list, err := goEnv("GOPROXY")
	return strings.Split(list, ","), err
}
