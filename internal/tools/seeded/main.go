// Command seeded proves that the tests of braid can find bugs: it plants known faults, one at
// a time, and requires that a named test fails for the right reason.
//
//	seeded                    plant every fault
//	seeded -run 'split|trim'  only those whose names match
//	seeded -quick             only those that the tests find fastest, for every commit
//	seeded -list              print the faults and the promises that they break
//	seeded -search            print all tests of the fault's package that find it, for a new fault
//	seeded -markdown          print the results as a Markdown table
//
// It can run anywhere in the repository, and changes no file of it:
//
//	GOWORK=off go run -C internal/tools ./seeded
//
// A fault is one small change of the source, which the go command gets as an overlay. The
// tests must pass without it, within the same limit of 60 seconds. With it they must fail,
// and their output must match the fault's pattern: so neither a fault that does not compile
// nor an accident counts as a find. The exit status is 1 if a fault is missed.
//
// A fault that no test finds is the valuable result. Extend a harness so that it finds the
// fault by construction and not by chance, and keep the fault.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "seeded:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("seeded", flag.ContinueOnError)
	pattern := flags.String("run", "", "plant only the faults whose names match this regular expression")
	quick := flags.Bool("quick", false, "plant only the faults that the tests find fastest")
	search := flags.Bool("search", false, "print which tests of the fault's package fail, of those that -short leaves")
	list := flags.Bool("list", false, "print the faults, and plant none")
	markdown := flags.Bool("markdown", false, "print the results as a Markdown table")
	if err := flags.Parse(args); err != nil {
		return err
	}
	faults, err := choose(allFaults(), *pattern, *quick)
	if err != nil {
		return err
	}
	if *list {
		for _, f := range faults {
			fmt.Fprintf(out, "%s: %s\n\tbreaks: %s\n\tfound by: %s\n", f.name, f.what, f.promise, f.test)
		}
		return nil
	}
	top, err := exec.CommandContext(ctx, "git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		return fmt.Errorf("find the repository: %w", err)
	}
	dir, err := os.MkdirTemp("", "seeded")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{root: strings.TrimSpace(string(top)), dir: dir, limit: timeLimit, binaries: make(map[string]string)}
	if *search {
		return searchAll(ctx, b, faults, out)
	}
	return plantAll(ctx, b, faults, *markdown, out)
}

// choose returns the faults whose names match; with quick, only the quick ones.
func choose(faults []fault, pattern string, quick bool) (chosen []fault, err error) {
	names, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	for _, f := range faults {
		if names.MatchString(f.name) && (f.quick || !quick) {
			chosen = append(chosen, f)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no fault matches %q", pattern)
	}
	return chosen, nil
}

// plantAll checks that the tests pass without faults, plants one fault after the other, and
// prints the results.
func plantAll(ctx context.Context, b *bench, faults []fault, markdown bool, out io.Writer) error {
	passed := make(map[test]bool)
	for _, f := range faults {
		if passed[f.test] {
			continue
		}
		if err := b.mustPass(ctx, f.test); err != nil {
			return err
		}
		passed[f.test] = true
	}
	if markdown {
		fmt.Fprint(out, "| Fault | Promise that it breaks | Found by | Seconds |\n|---|---|---|---|\n")
	}
	var missed []error
	for _, f := range faults {
		result, err := b.plant(ctx, f)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		row := "%-46s %-58s %5.1f s\n"
		if markdown {
			row = "| `%s`: " + f.what + " | " + f.promise + " | `%s` | %.1f |\n"
		}
		if err != nil {
			missed = append(missed, fmt.Errorf("%s: %w", f.name, err))
			result.foundBy = "MISSED"
		}
		fmt.Fprintf(out, row, f.name, result.foundBy, result.took.Round(100*time.Millisecond).Seconds())
	}
	if len(missed) > 0 {
		return fmt.Errorf("%d of %d faults were missed:\n%w", len(missed), len(faults), errors.Join(missed...))
	}
	if !markdown {
		fmt.Fprintf(out, "all %d faults were found\n", len(faults))
	}
	return nil
}

// searchAll prints, for each fault, the tests of its package that fail with any message.
func searchAll(ctx context.Context, b *bench, faults []fault, out io.Writer) error {
	for _, f := range faults {
		failed, err := b.search(ctx, f)
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		fmt.Fprintf(out, "%s: %s\n", f.name, strings.Join(failed, " "))
	}
	return nil
}
