package policy_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Programs that watch a log match messages and attributes, so both are constant, and listed in
// docs/events.md. Rewrite the list with: go test ./internal/policy -update
func TestLogLinesAreListed(t *testing.T) {
	const begin, end = "<!-- generated: the list -->\n", "<!-- end of the list -->\n"
	path := filepath.Join(root, "docs/events.md")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	before, rest, found := strings.Cut(string(text), begin)
	require.True(t, found)
	_, after, found := strings.Cut(rest, end)
	require.True(t, found)
	want := before + begin + listOf(logLines(t)) + end + after
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o644))
		text = []byte(want)
	}
	require.Equal(t, want, string(text), "docs/events.md lacks a line of the log, or has one that is gone")
}

// logLine is a call that logs, as in the source.
type logLine struct {
	dir, level, message string
	attributes          []string
}

// spread are attributes of lines that are not literals of the call, by message.
var spread = map[string][]string{
	"disk space": {"space", "missing"},
	"request":    {"operation", "status", "error", "bytes", "duration", "remote"},
}

// passedOn are calls that pass on the message of another call in the list.
var passedOn = map[string]int{"internal/kv: rep.text": 1}

// notForUsers are directories of programs for developers of braid.
var notForUsers = []string{"bench", "examples", "internal/tools", "internal/modeltest", "internal/browsertest"}

// logLines finds all calls that log, by the names of methods, so that it misses none. It
// excludes other methods of these names by their receivers.
func logLines(t *testing.T) (lines []logLine) {
	passed := make(map[string]int)
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		require.NoError(t, err)
		dir := filepath.ToSlash(strings.TrimPrefix(strings.TrimPrefix(path, root), string(filepath.Separator)))
		if entry.IsDir() {
			if slices.Contains(notForUsers, dir) || path != root && strings.HasPrefix(entry.Name(), ".") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		dir = filepath.ToSlash(filepath.Dir(dir))
		ast.Inspect(file, func(n ast.Node) bool {
			call, is := n.(*ast.CallExpr)
			if !is {
				return true
			}
			level, args := logCall(dir, call)
			if level == "" {
				return true
			}
			where := fset.Position(call.Pos()).String()
			line := logLine{dir: dir, level: level}
			if line.message = messageOf(args[0]); line.message == "" {
				passed[dir+": "+textOf(args[0])]++
				return true
			}
			require.Regexp(t, `^[a-zA-Z]`, line.message, where)
			if call.Ellipsis.IsValid() {
				require.Contains(t, spread, line.message, "%s: say in spread which attributes there are", where)
				line.attributes = spread[line.message]
			} else {
				for i := 1; i < len(args); i += 2 {
					line.attributes = append(line.attributes, literalOf(args[i]))
				}
			}
			for _, attribute := range line.attributes {
				require.Regexp(t, `^[a-z][a-zA-Z]*$`, attribute, "%s: an attribute of %q is no literal in camel case", where, line.message)
			}
			lines = append(lines, line)
			return true
		})
		return nil
	}))
	require.Equal(t, passedOn, passed, "messages must be constant, so that they can be looked for")
	require.Greater(t, len(lines), 40)
	return lines
}

// logCall returns the level of a call that logs, and its message and attributes.
func logCall(dir string, call *ast.CallExpr) (level string, args []ast.Expr) {
	method, is := call.Fun.(*ast.SelectorExpr)
	if !is || len(call.Args) == 0 {
		return "", nil
	}
	name, withContext := strings.CutSuffix(method.Sel.Name, "Context")
	args = call.Args
	switch of := textOf(method.X); {
	case slices.Contains([]string{"Debug", "Info", "Warn", "Error"}, name):
		if slices.Contains([]string{"http", "t", "tb", "b"}, of) { // http.Error, testing.TB
			return "", nil
		}
		if withContext {
			args = args[1:]
		}
		return strings.ToUpper(name), args
	case (name == "Log" || name == "LogAttrs") && len(args) >= 3:
		return levelOf(args[1]), args[2:]
	case name == "report" && dir == "internal/kv":
		return levelOf(args[0]), args[1:]
	}
	return "", nil
}

func levelOf(arg ast.Expr) string {
	if level, is := strings.CutPrefix(textOf(arg), "slog.Level"); is {
		return strings.ToUpper(level)
	}
	return "varies"
}

// messageOf returns a constant message, or its constant beginning and an ellipsis, or "".
func messageOf(arg ast.Expr) string {
	if sum, is := arg.(*ast.BinaryExpr); is && sum.Op == token.ADD {
		begin := messageOf(sum.X)
		if rest := literalOf(sum.Y); rest != "" || begin == "" {
			return begin + rest
		}
		return begin + "…"
	}
	return literalOf(arg)
}

func literalOf(arg ast.Expr) string {
	if literal, is := arg.(*ast.BasicLit); is && literal.Kind == token.STRING {
		text, _ := strconv.Unquote(literal.Value)
		return text
	}
	return ""
}

// textOf returns a name with its qualifiers.
func textOf(arg ast.Expr) string {
	switch arg := arg.(type) {
	case *ast.Ident:
		return arg.Name
	case *ast.SelectorExpr:
		return textOf(arg.X) + "." + arg.Sel.Name
	}
	return ""
}

// listOf returns the list, by package.
func listOf(lines []logLine) string {
	slices.SortStableFunc(lines, func(a, b logLine) int {
		return cmp.Or(cmp.Compare(packageOf(a.dir), packageOf(b.dir)), cmp.Compare(a.message, b.message))
	})
	var b strings.Builder
	of, last := "", ""
	for _, line := range lines {
		if name := packageOf(line.dir); name != of {
			of = name
			fmt.Fprintf(&b, "\n### %s\n\n| Level | Message | Attributes |\n|---|---|---|\n", of)
		}
		attributes := ""
		if len(line.attributes) > 0 {
			attributes = "`" + strings.Join(line.attributes, "`, `") + "`"
		}
		row := fmt.Sprintf("| %s | %s | %s |\n", line.level, line.message, attributes)
		if row != last {
			b.WriteString(row)
		}
		last = row
	}
	return b.String() + "\n"
}

var internalPart = regexp.MustCompile(`/?internal/.*`)

// packageOf returns the package's name for users.
func packageOf(dir string) string {
	if name := internalPart.ReplaceAllString(dir, ""); name != "" && name != "." {
		return name
	}
	return "braid"
}
