package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"time"
)

func main() {
	if addr := os.Getenv(nothingVariable); addr != "" {
		fmt.Fprintln(os.Stderr, "bench:", serveNothing(addr))
		os.Exit(1)
	}
	if records := os.Getenv(crashVariable); records != "" {
		fmt.Fprintln(os.Stderr, "bench:", fillAndWait(records, os.Args[1:]))
		os.Exit(1)
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// flags are the command's flags.
type flags struct {
	run, systems   *regexp.Regexp
	targets        []string
	disks          []disk
	repeats        int
	quick          bool
	dir, json, svg string
	from           []string
	fromDisks      bool // -from keeps only the results of -disks
	npm            string
	cpuprofile     string
	sustainGiB     float64
	list, verbose  bool
	markdown       string
}

func parseFlags() (f flags, err error) {
	run := flag.String("run", "", "run the workloads whose id matches this `regexp`")
	systems := flag.String("systems", "", "leave out the entries whose name does not match this `regexp`")
	targets := flag.String("targets", "", "run only the workloads of these targets, such as `T1,T8` (default: all)")
	disks := flag.String("disks", realDisk, "measure T1, T2, T3 and T6 on each of these `disks`: real, or, on Linux, in memory with syncs of a fixed duration, such as real,0.05ms,0.2ms,1ms,5ms; without real, only these four are measured")
	flag.IntVar(&f.repeats, "repeats", 0, "repeat everything this often (default 5, and 3 for servers; with -quick 1)")
	flag.BoolVar(&f.quick, "quick", false, "measure only for a few minutes; the figures are rough")
	flag.StringVar(&f.dir, "dir", "", "put the files in a new directory in this `directory`, on the disk to be measured (default: the directory for temporary files)")
	flag.StringVar(&f.json, "json", "", "write all samples and verdicts to this `file`")
	from := flag.String("from", "", "measure nothing, and report the results in these `files` of -json, separated by commas, as far as -run, -targets and -disks select them; several files may have more repeats, or other workloads, of the same machine")
	flag.StringVar(&f.svg, "svg", "", "draw the verdicts to this `file`")
	flag.StringVar(&f.markdown, "markdown", "", "write a table in Markdown with a row for each workload to this `file`, between the lines <!-- bench: begin --> and <!-- bench: end -->, and a short one between those of bench figures; or, if it is -, to standard output instead of the summary")
	flag.StringVar(&f.npm, "npm", "", "keep the servers from npm in this `directory`, and install missing ones there (default: one in the user's cache)")
	flag.StringVar(&f.cpuprofile, "cpuprofile", "", "write a CPU profile of the whole run to this `file`")
	flag.Float64Var(&f.sustainGiB, "sustain", 0, "write this many `GiB` in T5 (default 3; with -quick 0.5)")
	flag.BoolVar(&f.list, "list", false, "list the workloads and exit")
	flag.BoolVar(&f.verbose, "v", false, "report progress on standard error")
	flag.Parse()
	if flag.NArg() > 0 {
		return f, fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if f.run, err = regexp.Compile(*run); err != nil {
		return f, err
	}
	if f.systems, err = regexp.Compile(*systems); err != nil {
		return f, err
	}
	if f.disks, err = parseDisks(*disks); err != nil {
		return f, err
	}
	if *from != "" {
		f.from = strings.Split(*from, ",")
		flag.Visit(func(given *flag.Flag) { f.fromDisks = f.fromDisks || given.Name == "disks" })
	}
	f.targets, err = parseTargets(*targets)
	return f, err
}

// parseTargets reads the value of -targets.
func parseTargets(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	known := make(map[string]bool)
	for _, w := range workloads([]disk{{}}) {
		for _, t := range w.targets {
			known[w.targetOf(t)] = true
		}
	}
	var ids []string
	for id := range strings.SplitSeq(text, ",") {
		id = strings.ToUpper(strings.TrimSpace(id))
		if !known[id] {
			return nil, fmt.Errorf("-targets: unknown target %q; the targets are T1 to T12, Q1 to Q5 and K1 to K6", id)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// environment returns the durations and sizes that the flags ask for.
func (f *flags) environment() *environment {
	e := &environment{
		repeats: 5,
		window:  1500 * time.Millisecond,
		warmup:  300 * time.Millisecond,
		load:    256 * mib,
		sustain: 3 * gib,
		retain:  512 * mib,
		records: 1_000_000,
	}
	if f.quick {
		e.repeats, e.window, e.warmup = 1, 500*time.Millisecond, 150*time.Millisecond
		e.load, e.sustain, e.retain, e.records = 96*mib, 512*mib, 128*mib, 200_000
	}
	if f.repeats > 0 {
		e.repeats = f.repeats
	}
	if f.sustainGiB > 0 {
		e.sustain = int64(f.sustainGiB * gib)
	}
	e.npmPackages = sync.OnceValues(func() (string, error) { return installPackages(f.npm) })
	e.braidKinesis = sync.OnceValues(func() (string, error) { return buildBraidKinesis(e.dir) })
	return e
}

// workloads returns all workloads, in the order of their targets and then of disks. Only
// durable puts are measured on simulated disks: the others do not wait for a sync, or need more
// space than memory has.
func workloads(disks []disk) []*workload {
	var all []*workload
	for _, d := range disks {
		all = append(all, durableWorkloads(d)...)
	}
	if slices.Contains(disks, disk{}) {
		all = slices.Concat(all, carelessWorkloads(), sustainWorkloads(), readWorkloads(), wakeWorkloads(), openWorkloads(), idleWorkloads(), consumeWorkloads(), queueWorkloads(), kinesisWorkloads())
	}
	slices.SortStableFunc(all, func(a, b *workload) int { return targetRank(a.targetOf(target{})) - targetRank(b.targetOf(target{})) })
	return all
}

// chosen returns the workloads that the flags ask for.
func (f *flags) chosen() []*workload {
	var chosen []*workload
	for _, w := range workloads(f.disks) {
		w.entries = slices.DeleteFunc(w.entries, func(e entry) bool {
			return !f.systems.MatchString(e.name) || f.quick && e.slow
		})
		if f.quick || f.repeats > 0 {
			w.repeats = 0 // an explicit flag wins
		}
		if f.asksFor(w) && len(w.entries) > 0 {
			chosen = append(chosen, w)
		}
	}
	return chosen
}

// asksFor reports whether the flags select a workload.
func (f *flags) asksFor(w *workload) bool {
	onDisk := !f.fromDisks || slices.ContainsFunc(f.disks, func(d disk) bool { return d.String() == diskOf(w.id) })
	return f.run.MatchString(w.id) && onDisk && f.isTargeted(w)
}

// isTargeted reports whether the workload judges a target that the flags name.
func (f *flags) isTargeted(w *workload) bool {
	return len(f.targets) == 0 || slices.ContainsFunc(w.targets, func(t target) bool {
		return slices.Contains(f.targets, w.targetOf(t))
	})
}

// command returns the command that repeats the measurement, without the names of files.
func command() string {
	text := "go run ."
	flag.Visit(func(given *flag.Flag) {
		switch given.Name {
		case "json", "svg", "markdown", "dir", "npm", "cpuprofile", "v":
		case "quick":
			text += " -quick"
		default:
			text += " -" + given.Name + " " + shellWord(given.Value.String())
		}
	})
	return text
}

// shellWord quotes a word for a shell, if necessary.
func shellWord(text string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(",./-_", r)
	}
	if text != "" && strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

func run() (err error) {
	f, err := parseFlags()
	if err != nil {
		return err
	}
	if len(f.from) > 0 {
		r, err := readResults(f.from)
		if err != nil {
			return err
		}
		all, err := r.workloads()
		if err != nil {
			return err
		}
		r.keep(slices.DeleteFunc(all, func(w *workload) bool { return !f.asksFor(w) }))
		return f.report(r)
	}
	chosen := f.chosen()
	if f.list {
		for _, w := range chosen {
			fmt.Printf("%-28s %s\n", w.id, w.about)
		}
		return nil
	}
	e := f.environment()
	if e.dir, err = os.MkdirTemp(f.dir, "braid-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(e.dir)) }()
	if f.cpuprofile != "" {
		stop, err := startProfile(f.cpuprofile)
		if err != nil {
			return err
		}
		defer stop()
	}
	return f.measure(e, chosen)
}

// startProfile starts profiling, until the returned function is called.
func startProfile(name string) (stop func(), err error) {
	file, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		if err := file.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "bench: write the profile:", err)
		}
	}, nil
}

func (f *flags) measure(e *environment, chosen []*workload) error {
	began := time.Now()
	r := &results{Machine: thisMachine(e.dir)}
	info := runInfo{Command: command(), Date: began.UTC().Truncate(time.Second), Code: revision()}
	fmt.Printf("%s; %s\n", r.Machine, plural(e.repeats, "repeat"))
	for _, d := range f.disks {
		p50, p99, err := d.syncTimes(e.dir)
		if err != nil {
			return err
		}
		info.Disks = append(info.Disks, diskInfo{d.String(), micros(p50), micros(p99)})
	}
	fmt.Printf("%s\n\n", describeDisks([]runInfo{info}))
	for _, w := range chosen {
		rounds, err := e.runWorkload(w, func(entry string, repeat int) {
			if f.verbose {
				fmt.Fprintf(os.Stderr, "%4.0f s  %s, %s, %d of %d\n", time.Since(began).Seconds(), w.id, entry, repeat+1, e.rounds(w))
			}
		})
		if err != nil {
			return err
		}
		writeReport(os.Stdout, w, rounds)
		r.Samples = append(r.Samples, samplesOf(w, rounds)...)
		if f.json != "" { // keeps the results of an interrupted run
			info.Seconds = time.Since(began).Seconds()
			r.Runs = []runInfo{info}
			if err := errors.Join(r.judge(), r.write(f.json)); err != nil {
				return err
			}
		}
	}
	info.Seconds = time.Since(began).Seconds()
	r.Runs = []runInfo{info}
	return f.report(r)
}

// report judges the results and writes the requested reports.
func (f *flags) report(r *results) error {
	if err := r.judge(); err != nil {
		return err
	}
	if f.json != "" {
		if err := r.write(f.json); err != nil {
			return err
		}
	}
	if f.svg != "" {
		if err := os.WriteFile(f.svg, drawSVG(r), 0o644); err != nil {
			return err
		}
	}
	if f.markdown != "" {
		all, err := r.workloads()
		if err != nil {
			return err
		}
		if f.markdown == "-" {
			writeMarkdown(os.Stdout, r, all)
			return nil
		}
		if err := insertMarkdown(f.markdown, r, all); err != nil {
			return err
		}
	}
	sortTargets(r.Targets)
	writeSummary(os.Stdout, r.Targets)
	for _, run := range r.Runs {
		fmt.Printf("%s took %.0f s\n", run.Command, run.Seconds)
	}
	return nil
}

func samplesOf(w *workload, rounds []round) []sampled {
	var samples []sampled
	for repeat, r := range rounds {
		for _, e := range w.entries {
			if m, found := r[e.name]; found {
				samples = append(samples, sampled{Workload: w.id, System: e.name, Repeat: repeat, Metrics: m})
			}
		}
	}
	return samples
}
