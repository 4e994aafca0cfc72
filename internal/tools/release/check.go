package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

//go:embed testdata/stranger_test.go.txt
var strangersTest []byte

// check acts as a user: it packs the modules into a proxy of its own. A new module outside the
// repository fetches them, builds and runs the first program of the README, and builds and runs
// a test with the test kit.
func check(modules []module) (err error) {
	version, err := contentVersion(modules)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "release-check-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir), forget(modules, version)) }()
	proxies, err := otherProxies()
	if err != nil {
		return err
	}
	p := proxy{filepath.Join(dir, "proxy")}
	proxies = append([]string{fileURL(p.dir)}, proxies...)
	for _, m := range modules {
		fmt.Printf("pack %s\n", m.path)
		if _, err := p.add(m, version); err != nil {
			return fmt.Errorf("pack %s: %w", m.path, err)
		}
	}
	readme, err := os.ReadFile(filepath.Join(modules[0].dir, "README.md"))
	if err != nil {
		return err
	}
	program, output, err := firstProgram(string(readme))
	if err != nil {
		return err
	}

	s := stranger{dir: filepath.Join(dir, "stranger"), proxies: proxies, version: version}
	fmt.Println("a module with the README's first program")
	if err := s.begin("main.go", []byte(program)); err != nil {
		return err
	}
	if err := s.get(modules[0]); err != nil {
		return err
	}
	var printed bytes.Buffer
	cmd := command(s.dir, proxies, "run", ".")
	cmd.Stdout = &printed
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the README's first program: %w", err)
	}
	if printed.String() != output {
		return fmt.Errorf("the README's first program prints %q, where the README says %q", printed.String(), output)
	}

	fmt.Println("a module with a test that uses the test kit; every package builds there")
	s.dir += "-test"
	if err := s.begin("stranger_test.go", strangersTest); err != nil {
		return err
	}
	if err := s.get(modules...); err != nil {
		return err
	}
	if err := s.run("test", "-count=1", "."); err != nil {
		return err
	}
	for _, m := range modules {
		if err := s.run("build", m.path+"/..."); err != nil {
			return err
		}
	}
	return servesWithoutAWS(&s, modules)
}

// servesWithoutAWS checks that a module that requires kinesisapi, and not its test kit,
// has nothing of AWS in its module graph.
func servesWithoutAWS(s *stranger, modules []module) error {
	fmt.Println("a module that only serves has nothing of AWS in its module graph")
	s.dir += "-serves"
	if err := s.begin("main.go", []byte("package main\n\nimport _ \"github.com/braidstream/braid/kinesisapi\"\n\nfunc main() {}\n")); err != nil {
		return err
	}
	handler := slices.IndexFunc(modules, func(m module) bool { return m.sub == "kinesisapi" })
	if err := s.get(modules[:handler+1]...); err != nil {
		return err
	}
	var graph bytes.Buffer
	cmd := command(s.dir, s.proxies, "mod", "graph")
	cmd.Stdout = &graph
	if err := cmd.Run(); err != nil {
		return err
	}
	if !strings.Contains(graph.String(), modules[handler].path+"@"+s.version) {
		return fmt.Errorf("the module graph lacks %s:\n%s", modules[handler].path, graph.String())
	}
	if strings.Contains(graph.String(), "github.com/aws/") {
		return errors.New("its module graph has modules of AWS")
	}
	return nil
}

// stranger is a user's module that fetches ours.
type stranger struct {
	dir     string
	proxies []string
	version string // of ours
}

// begin makes the module with one file.
func (s *stranger) begin(name string, content []byte) error {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.dir, name), content, 0o644); err != nil {
		return err
	}
	return s.run("mod", "init", "example.com/stranger")
}

// get fetches the modules, and the other imports of the module's file. It downloads the modules
// first: if the cache has that version of the core but not of a nested module, go get looks for
// a package of the nested module only in the core.
func (s *stranger) get(modules ...module) error {
	var versions []string
	for _, m := range modules {
		versions = append(versions, m.path+"@"+s.version)
	}
	if err := s.run(append([]string{"mod", "download"}, versions...)...); err != nil {
		return err
	}
	if err := s.run(append([]string{"get"}, versions...)...); err != nil {
		return err
	}
	return s.run("mod", "tidy")
}

func (s *stranger) run(args ...string) error {
	if err := command(s.dir, s.proxies, args...).Run(); err != nil {
		return fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

var programBlock = regexp.MustCompile("(?s)```go\n(package main\n.*?)```.*?```text\n(.*?)```")

// firstProgram returns the first whole program of the README, and the output that the
// README shows after it.
func firstProgram(readme string) (program, output string, err error) {
	found := programBlock.FindStringSubmatch(readme)
	if found == nil {
		return "", "", errors.New("README.md has no program of package main that is followed by its output")
	}
	return found[1], found[2], nil
}
