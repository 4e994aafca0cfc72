// Command release prepares a version of all published modules, and checks that a user who has
// no copy of this repository can fetch them with go get.
//
//	release check           pack the modules as they are, and use them from outside
//	release tidy            go mod tidy in all modules, against the modules as they are
//	release set v0.2.0      set that version in all modules, and print the tags to make
//
// It can run anywhere in the repository:
//
//	GOWORK=off go run -C internal/tools ./release check
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const usage = "usage: release check | tidy | set vX.Y.Z"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	top, err := exec.Command("git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		return fmt.Errorf("find the repository: %w", err)
	}
	modules, err := readModules(strings.TrimSpace(string(top)), published)
	if err != nil {
		return err
	}
	switch {
	case len(args) == 1 && args[0] == "check":
		return check(modules)
	case len(args) == 1 && args[0] == "tidy":
		return tidy(modules)
	case len(args) == 2 && args[0] == "set":
		return set(modules, args[1])
	default:
		return errors.New(usage)
	}
}

// command prepares a go command that sees no workspace and takes modules from the
// proxies in this order.
func command(dir string, proxies []string, args ...string) *exec.Cmd {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(),
		"GOWORK=off",
		"GOFLAGS=-mod=mod",
		"GOPROXY="+strings.Join(proxies, ","),
		"GONOSUMDB="+prefix, // its versions are in no checksum database
		"GONOPROXY=none",
		"GOPRIVATE=")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd
}

// goEnv returns a setting of the go command.
func goEnv(name string) (string, error) {
	out, err := exec.Command("go", "env", name).Output()
	return strings.TrimSpace(string(out)), err
}

// fileURL returns the URL of a directory, for GOPROXY.
func fileURL(dir string) string {
	path := filepath.ToSlash(dir)
	if !strings.HasPrefix(path, "/") { // a drive
		path = "/" + path
	}
	return "file://" + path
}
