package childtest_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/childtest"
)

func TestAChildRunsItsBody(t *testing.T) {
	mark := ""
	if !childtest.InChild(t) {
		mark = filepath.Join(t.TempDir(), "mark")
	}
	childtest.RunWith(t, mark, func(t *testing.T, mark string) {
		require.NoError(t, os.WriteFile(mark, []byte(t.TempDir()), 0o600))
	})
	left, err := os.ReadFile(mark)
	require.NoError(t, err)
	require.NotEqual(t, filepath.Dir(mark), string(left))
	require.DirExists(t, string(left), "a child ends without tidying up")
}

func TestAChildLeavesABubbleBehind(t *testing.T) {
	t.Run("of a sub test", func(t *testing.T) {
		childtest.RunBubble(t, func(*testing.T) { go func() { select {} }() })
	})
}

// A child that does not come to the end of its body has not passed, whatever it prints
// and whatever its exit code is.
func TestAChildProvesItsEnd(t *testing.T) {
	for name, body := range map[string]func(*testing.T){
		"passes":      func(*testing.T) {},
		"fails":       func(t *testing.T) { t.Error("it fails") },
		"fails fast":  func(t *testing.T) { t.FailNow() },
		"panics":      func(*testing.T) { panic("it panics") },
		"exits":       func(*testing.T) { os.Exit(0) },
		"says so":     func(*testing.T) { fmt.Println("\nchild: passed \nchild: passed"); os.Exit(0) },
		"leaves":      func(*testing.T) { runtime.Goexit() },
		"skips":       func(t *testing.T) { t.Skip("for a reason") },
		"fails, then": func(t *testing.T) { t.Error("it fails"); t.SkipNow() },
		"fails in a bubble": func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { t.Error("it fails") })
		},
	} {
		t.Run(name, func(t *testing.T) {
			result := childtest.Output(t, body)
			require.Equal(t, name == "passes", result.Passed, result.Output)
			require.Equal(t, name == "skips", result.Skipped, result.Output)
			if name == "skips" {
				require.Contains(t, result.Output, "for a reason")
			}
		})
	}
}

func TestAChildIsKilled(t *testing.T) {
	child := childtest.Start(t, "hello", func(_ *testing.T, arg string) {
		fmt.Println(arg)
		select {}
	})
	lines := bufio.NewScanner(child.Stdout)
	for lines.Scan() && lines.Text() != "hello" {
		continue
	}
	require.Equal(t, "hello", lines.Text())
	require.NoError(t, child.Kill())
	require.False(t, lines.Scan())
	require.NoError(t, lines.Err())
	require.NoError(t, child.Wait())
}

func TestAChildThatEndsWasNotKilled(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the exit code of a killed process is that of any that fails")
	}
	child := childtest.Start(t, "", func(t *testing.T, _ string) { t.Error("it fails") })
	for lines := bufio.NewScanner(child.Stdout); lines.Scan(); {
		continue
	}
	require.Error(t, child.Wait())
}
