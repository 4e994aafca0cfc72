package main

import (
	"archive/zip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// write makes a tree of files, and returns its root.
func write(t *testing.T, files map[string]string) (root string) {
	t.Helper()
	root = t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// same compares whole texts.
func same(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}

const (
	coreMod = "module github.com/braidstream/braid\n"
	apiMod  = "module github.com/braidstream/braid/api\n\nrequire (\n\texample.com/other v1.0.0\n\tgithub.com/braidstream/braid v0.1.0\n)\n"
	kitMod  = "module github.com/braidstream/braid/api/kit\n\nrequire (\n\tgithub.com/braidstream/braid v0.1.0 // indirect\n\tgithub.com/braidstream/braid/api v0.1.0\n)\n"
)

func TestModulesAreReadInTheirOrder(t *testing.T) {
	root := write(t, map[string]string{"go.mod": coreMod, "api/go.mod": apiMod, "api/kit/go.mod": kitMod})
	modules, err := readModules(root, []string{".", "api", "api/kit"})
	if err != nil {
		t.Fatal(err)
	}
	var tags []string
	for _, m := range modules {
		tags = append(tags, m.path+" "+m.tag("v0.2.0"))
	}
	same(t, "tags", strings.Join(tags, "\n"), ""+
		"github.com/braidstream/braid v0.2.0\n"+
		"github.com/braidstream/braid/api api/v0.2.0\n"+
		"github.com/braidstream/braid/api/kit api/kit/v0.2.0")

	kit, err := modules[2].at("v0.2.0")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "go.mod", string(kit), strings.ReplaceAll(kitMod, "v0.1.0", "v0.2.0"))
	api, err := modules[1].at("v0.2.0")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "go.mod", string(api), strings.ReplaceAll(apiMod, "v0.1.0", "v0.2.0"))
	if got := modules[1].required(modules); got != "v0.1.0" {
		t.Errorf("the others require %s", got)
	}
}

func TestModulesThatOthersCannotUse(t *testing.T) {
	for name, c := range map[string]struct {
		api  string
		subs []string
		want string
	}{
		"order":       {apiMod, []string{"api", "."}, "requires github.com/braidstream/braid, which is not published before it"},
		"unpublished": {apiMod + "\nrequire github.com/braidstream/braid/bench v0.1.0\n", []string{".", "api"}, "requires github.com/braidstream/braid/bench,"},
		"replace":     {apiMod + "\nreplace github.com/braidstream/braid => ../\n", []string{".", "api"}, "has a replace"},
		"exclude":     {apiMod + "\nexclude example.com/other v1.1.0\n", []string{".", "api"}, "has a replace or an exclude"},
		"path":        {"module github.com/braidstream/api\n", []string{".", "api"}, "api has the path github.com/braidstream/api"},
		"missing":     {apiMod, []string{".", "none"}, "none"},
	} {
		t.Run(name, func(t *testing.T) {
			root := write(t, map[string]string{"go.mod": coreMod, "api/go.mod": c.api})
			modules, err := readModules(root, c.subs)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, %v", modules, err)
			}
		})
	}
}

func TestSums(t *testing.T) {
	root := write(t, map[string]string{
		"go.mod": coreMod, "api/go.mod": apiMod,
		"api/go.sum": "" +
			"example.com/other v1.0.0 h1:a\n" +
			"github.com/braidstream/braid v0.0.9 h1:old\n" +
			"github.com/braidstream/braid v0.0.9/go.mod h1:old\n" +
			"github.com/braidstreams/x v1.9.0/go.mod h1:b\n" +
			"github.com/braidstreams/x v1.16.0 h1:c\n",
	})
	modules, err := readModules(root, []string{".", "api"})
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]sums{modules[0].path: {"h1:zip", "h1:mod"}, modules[1].path: {"h1:self", "h1:self"}}
	if err := modules[1].setSums("v0.1.0", known); err != nil {
		t.Fatal(err)
	}
	same(t, "go.sum", read(t, root, "api/go.sum"), ""+
		"example.com/other v1.0.0 h1:a\n"+
		"github.com/braidstream/braid v0.1.0 h1:zip\n"+
		"github.com/braidstream/braid v0.1.0/go.mod h1:mod\n"+
		"github.com/braidstreams/x v1.9.0/go.mod h1:b\n"+
		"github.com/braidstreams/x v1.16.0 h1:c\n")
	if err := modules[1].dropSums(); err != nil {
		t.Fatal(err)
	}
	same(t, "go.sum", read(t, root, "api/go.sum"), ""+
		"example.com/other v1.0.0 h1:a\n"+
		"github.com/braidstreams/x v1.9.0/go.mod h1:b\n"+
		"github.com/braidstreams/x v1.16.0 h1:c\n")
}

func TestWorkspace(t *testing.T) {
	const before = `go 1.26.0

use (
	.
	./api
)

// Why they are here.
replace (
	example.com/other v0.1.0 => ./other
	github.com/braidstream/braid v0.1.0 => ./
	github.com/braidstream/braid/api v0.1.0 => ./api
)
`
	name := filepath.Join(write(t, map[string]string{"go.work": before}), "go.work")
	for range 2 {
		if err := setWorkspace(name, "v0.2.0"); err != nil {
			t.Fatal(err)
		}
		want := strings.ReplaceAll(before, "v0.1.0", "v0.2.0")
		same(t, "go.work", read(t, name), strings.Replace(want, "other v0.2.0", "other v0.1.0", 1))
	}
}

func TestSection(t *testing.T) {
	for _, c := range []struct {
		heading string
		want    bool
	}{
		{"## v0.2.0 — 2026-12-01", true},
		{"## v0.2.0", false},
		{"## v0.2.0 — soon", false},
		{"## v0.2.0 — 2026-12-01, late", false},
		{"### v0.2.0 — 2026-12-01", false},
		{"## v0.2.00 — 2026-12-01", false},
		{"## v0x2.0 — 2026-12-01", false},
		{"## Unreleased", false},
	} {
		if got := hasSection([]byte("# Changelog\n\n"+c.heading+"\n\n- A change.\n"), "v0.2.0"); got != c.want {
			t.Errorf("%q: %v", c.heading, got)
		}
	}
}

func TestSetRefusesBadVersions(t *testing.T) {
	root := write(t, map[string]string{"go.mod": coreMod, "CHANGELOG.md": "# Changelog\n\n## Unreleased\n"})
	modules, err := readModules(root, []string{"."})
	if err != nil {
		t.Fatal(err)
	}
	for version, want := range map[string]string{
		"0.2.0":  "must be a version",
		"v0.2":   "must be a version",
		"latest": "must be a version",
		"v2.0.0": "below v2",
		"v0.2.0": "## v0.2.0 — ",
	} {
		if err := set(modules, version); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", version, err)
		}
	}
	same(t, "go.mod", read(t, root, "go.mod"), coreMod)
}

// The sums are those of the files that are committed afterwards, with the repository's license
// in each module, and without files that git ignores.
func TestSet(t *testing.T) {
	root := write(t, map[string]string{
		"go.mod": coreMod, "core.go": "package braid\n", "go.sum": "", "LICENSE": "Do as you like.\n",
		"api/go.mod": apiMod, "api/go.sum": "", "api/api.go": "package api\n",
		"api/kit/go.mod": kitMod, "api/kit/go.sum": "", "api/kit/kit.go": "package kit\n",
		"CHANGELOG.md": "# Changelog\n\n## v0.2.0 — 2026-12-01\n",
		"go.work":      "go 1.26.0\n\nuse ./api\n\nreplace github.com/braidstream/braid v0.1.0 => ./\n",
		".gitignore":   "*.out\n", "core.out": "a profile",
	})
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", root, "-c", "user.name=a", "-c", "user.email=a@example.com"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	git("init", "-q")
	git("add", ".")
	modules, err := readModules(root, []string{".", "api", "api/kit"})
	if err != nil {
		t.Fatal(err)
	}
	if err := set(modules, "v0.2.0"); err == nil || !strings.Contains(err.Error(), "must be committed first:\nA") {
		t.Fatal(err)
	}
	git("commit", "-q", "-m", "all")
	if err := set(modules, "v0.2.0"); err != nil {
		t.Fatal(err)
	}
	same(t, "kit's go.mod", read(t, root, "api/kit/go.mod"), strings.ReplaceAll(kitMod, "v0.1.0", "v0.2.0"))
	if work := read(t, root, "go.work"); !strings.Contains(work, "braid v0.2.0 => ./") {
		t.Error(work)
	}

	again := proxy{t.TempDir()}
	var want []string
	for i, files := range [][]string{
		{"go.work", "LICENSE", "core.go"},
		{"LICENSE", "api.go"},
	} {
		m := modules[i]
		s, err := again.add(m, "v0.2.0")
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, m.path+" v0.2.0 "+s.zip, m.path+" v0.2.0/go.mod "+s.mod)
		packed, err := zip.OpenReader(filepath.Join(again.dir, filepath.FromSlash(m.path), "@v", "v0.2.0.zip"))
		if err != nil {
			t.Fatal(err)
		}
		has := make(map[string]bool)
		for _, file := range packed.File {
			has[strings.TrimPrefix(file.Name, m.path+"@v0.2.0/")] = true
		}
		for _, name := range files {
			if !has[name] {
				t.Errorf("%s is packed without %s: %v", m.path, name, has)
			}
		}
		for name := range has {
			if name == "core.out" || strings.HasPrefix(name, "api/") || strings.HasPrefix(name, "kit/") {
				t.Errorf("%s is packed with %s", m.path, name)
			}
		}
		if err := packed.Close(); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "api's go.sum", read(t, root, "api/go.sum"), strings.Join(want[:2], "\n")+"\n")
	same(t, "kit's go.sum", read(t, root, "api/kit/go.sum"), strings.Join(want, "\n")+"\n")
}

func TestFirstProgram(t *testing.T) {
	readme := strings.ReplaceAll(`# A library

'''go
part(of, a, program)
'''

'''go
package main

func main() { println("hello") }
'''

prints:

'''text
hello
'''

'''go
package main
'''
`, "'''", "```")
	program, output, err := firstProgram(readme)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "program", program, "package main\n\nfunc main() { println(\"hello\") }\n")
	same(t, "output", output, "hello\n")
	if _, _, err := firstProgram("# A library\n\n```text\nhello\n```\n"); err == nil {
		t.Error("found a program where there is none")
	}
}
