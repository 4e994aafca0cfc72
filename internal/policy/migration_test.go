package policy_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var released = flag.Bool("released", false, "keep the exported APIs as those of the newest version in the change log")

// releasedDir has the exported APIs of the last version, and its number.
const releasedDir = "testdata/released"

// A user who upgrades has to learn what to change. So a line of CHANGELOG.md, under Unreleased,
// names each declaration of the last version that has changed or is gone:
//
//   - Migration: `Stream.Describe` is `Stream.Description`.
//
// A release keeps the texts: go test ./internal/policy -run Migration -released
func TestMigrationsAreInTheChangeLog(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "CHANGELOG.md"))
	require.NoError(t, err)
	version, unreleased := changeLog(string(text))
	if version == "" {
		t.Skip("nothing is released yet, so nothing can be incompatible")
	}
	golden, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, golden)
	if *released {
		require.NoError(t, os.RemoveAll(releasedDir))
		require.NoError(t, os.MkdirAll(releasedDir, 0o755))
		for _, path := range golden {
			api, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(releasedDir, filepath.Base(path)), api, 0o644))
		}
		require.NoError(t, os.WriteFile(filepath.Join(releasedDir, "VERSION"), []byte(version+"\n"), 0o644))
	}
	kept, err := os.ReadFile(filepath.Join(releasedDir, "VERSION"))
	require.NoError(t, err, "part of a release is: go test ./internal/policy -run Migration -released")
	require.Equal(t, version, strings.TrimSpace(string(kept)), "part of a release is: go test ./internal/policy -run Migration -released")

	paths, err := filepath.Glob(filepath.Join(releasedDir, "*.txt"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		was, err := os.ReadFile(path)
		require.NoError(t, err)
		is, err := os.ReadFile(filepath.Join("testdata", filepath.Base(path)))
		require.NoError(t, err, "a package is gone")
		require.Empty(t, unnamed(incompatible(string(was), string(is)), unreleased), "%s: CHANGELOG.md needs a line \"- Migration: `NAME` ...\" for these", filepath.Base(path))
	}
}

var versions = regexp.MustCompile(`(?m)^## (v\S+)`)

// changeLog returns the newest version in the change log, "" if there is none, and the text
// above it.
func changeLog(text string) (version, unreleased string) {
	at := versions.FindStringSubmatchIndex(text)
	if at == nil {
		return "", text
	}
	return text[at[2]:at[3]], text[:at[0]]
}

var migrations = regexp.MustCompile("(?m)^- Migration: .*(?:\n  .*)*")

// unnamed returns the names without a line about a migration.
func unnamed(names []string, unreleased string) (missing []string) {
	lines := strings.Join(migrations.FindAllString(unreleased, -1), "\n")
	for _, name := range names {
		if !strings.Contains(lines, "`"+name+"`") {
			missing = append(missing, name)
		}
	}
	return missing
}

// incompatible returns the names whose declarations have changed or are gone. New declarations
// are compatible, except in an interface. It compares text, so it may ask for an unnecessary
// entry, for instance when a parameter was renamed.
func incompatible(was, is string) (names []string) {
	have := make(map[string]bool)
	for _, d := range declarations(is) {
		have[d.text] = true
	}
	for _, d := range declarations(was) {
		if !have[d.text] && (len(names) == 0 || names[len(names)-1] != d.name) {
			names = append(names, d.name)
		}
	}
	return names
}

// declaration is a part of an exported API that must not change.
type declaration struct{ name, text string }

var (
	spaces   = regexp.MustCompile(`\s+`)
	group    = regexp.MustCompile(`^(?:(?:var|const) \(|type (\w+) struct {)$`)
	declared = regexp.MustCompile(`^(?:type|var|const|func(?: \((?:\w+ )?\*?(\w+)\))?) (\w+)`)
)

// declarations splits the text of an API: each field of a struct and each name of a group is a
// declaration, and so is every other whole declaration.
func declarations(text string) (all []declaration) {
	for block := range strings.SplitSeq(text, "\n\n") {
		lines := strings.Split(strings.TrimSpace(block), "\n")
		if m := group.FindStringSubmatch(lines[0]); m != nil {
			if m[1] != "" {
				all = append(all, declaration{m[1], lines[0]})
			}
			for _, line := range lines[1 : len(lines)-1] {
				line, _, _ = strings.Cut(spaces.ReplaceAllString(strings.TrimSpace(line), " "), " =")
				if strings.HasPrefix(line, "//") {
					continue
				}
				name, _, _ := strings.Cut(line, " ")
				if m[1] != "" {
					name = m[1] + "." + strings.TrimSuffix(name, ",")
				}
				all = append(all, declaration{name, lines[0] + line})
			}
			continue
		}
		block = spaces.ReplaceAllString(strings.TrimSpace(block), " ")
		if m := declared.FindStringSubmatch(block); m != nil {
			name := m[2]
			if m[1] != "" {
				name = m[1] + "." + name
			}
			all = append(all, declaration{name, block})
		}
	}
	return all
}

func TestIncompatibleChangesAreRecognized(t *testing.T) {
	const was = `package braid

const InMemory = ":memory:"

var (
	ErrA = kv.ErrA
	ErrB = errors.New("b")
)

func Open(dir string) error

type Options struct {
	Size int
	Rate, Burst int
	// contains filtered or unexported fields
}

func (o *Options) Check() error

type Mode int

const (
	First Mode = iota
	Second
)

type Provider interface {
	Key() string
}
`
	replaced := func(old, text string) string {
		t.Helper()
		require.Contains(t, was, old)
		return strings.Replace(was, old, text, 1)
	}
	for _, row := range []struct {
		change string
		is     string
		want   []string
	}{
		{"none", was, nil},
		{"a field is new", replaced("\tSize int", "\tSize        int\n\tLimit       int"), nil},
		{"an error is new and one comes from elsewhere", replaced("ErrA = kv.ErrA", "ErrA  = other.ErrA\n\tErrC = errors.New(\"c\")"), nil},
		{"a function is new", was + "\nfunc Close()\n", nil},
		{"a constant is gone", replaced("const InMemory = \":memory:\"\n\n", ""), []string{"InMemory"}},
		{"an error is gone", replaced("\tErrB = errors.New(\"b\")\n", ""), []string{"ErrB"}},
		{"a parameter is new", replaced("Open(dir string)", "Open(dir string, size int)"), []string{"Open"}},
		{"a field is gone", replaced("\tSize int\n", ""), []string{"Options.Size"}},
		{"a field has another type", replaced("Size int", "Size int64"), []string{"Options.Size"}},
		{"one of two fields is gone", replaced("Rate, Burst int", "Rate int"), []string{"Options.Rate"}},
		{"a method is gone", replaced("func (o *Options) Check() error\n\n", ""), []string{"Options.Check"}},
		{"a type is another", replaced("type Mode int", "type Mode string"), []string{"Mode"}},
		{"a value of a group is gone", replaced("\tSecond\n", ""), []string{"Second"}},
		{"a method of an interface is new", replaced("Key() string", "Key() string\n\tOther()"), []string{"Provider"}},
		{"a struct is an interface", replaced("type Options struct {", "type Options interface {"), []string{"Options", "Options.Size", "Options.Rate"}},
	} {
		require.Equal(t, row.want, incompatible(was, row.is), row.change)
	}

	version, unreleased := changeLog("# Changelog\n\n## Unreleased\n\n- New: `Open`.\n- Migration: call `Options.Check`\n  in place of `ErrA`.\n\n## v0.1.0 — 2026-01-01\n\n- Migration: `Old`.\n")
	require.Equal(t, "v0.1.0", version)
	require.Equal(t, []string{"Open", "Old"}, unnamed([]string{"Open", "Options.Check", "ErrA", "Old"}, unreleased))
	version, _ = changeLog("# Changelog\n\n## Unreleased\n\nThe first version.\n")
	require.Empty(t, version)

	golden, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, golden)
	for _, path := range golden { // no kind of declaration is missed
		api, err := os.ReadFile(path)
		require.NoError(t, err)
		blocks := strings.Split(string(api), "\n\n")[1:]
		require.NotEmpty(t, blocks, path)
		for _, block := range blocks {
			require.NotEmpty(t, incompatible(block, ""), "%s: %s", path, block)
		}
	}
}
