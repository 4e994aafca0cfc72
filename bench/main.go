package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"runtime/pprof"
	"slices"
	"sync"
	"time"
)

func main() {
	if addr := os.Getenv(nothingVariable); addr != "" {
		fmt.Fprintln(os.Stderr, "bench:", serveNothing(addr))
		os.Exit(1)
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// flags are what a run is told.
type flags struct {
	run, systems  *regexp.Regexp
	repeats       int
	quick         bool
	dir, json     string
	npm           string
	cpuprofile    string
	sustainGiB    float64
	list, verbose bool
}

func parseFlags() (f flags, err error) {
	run := flag.String("run", "", "run the workloads whose id matches this `regexp`")
	systems := flag.String("systems", "", "leave out the entries whose name does not match this `regexp`")
	flag.IntVar(&f.repeats, "repeats", 0, "measure everything this often (default 5, and 3 for servers; with -quick 1)")
	flag.BoolVar(&f.quick, "quick", false, "measure shortly, for a look in about two minutes")
	flag.StringVar(&f.dir, "dir", "", "put the files in a new directory in this `directory`, which should be on the disk in question (default: that for temporary files)")
	flag.StringVar(&f.json, "json", "", "write all samples to this `file`")
	flag.StringVar(&f.npm, "npm", "", "keep the servers that come from npm in this `directory`, and install them if they are not there (default: one in the user's cache)")
	flag.StringVar(&f.cpuprofile, "cpuprofile", "", "write a CPU profile of the whole run to this `file`")
	flag.Float64Var(&f.sustainGiB, "sustain", 0, "write this many `GiB` in T5 (default 3; with -quick 0.5)")
	flag.BoolVar(&f.list, "list", false, "list the workloads and end")
	flag.BoolVar(&f.verbose, "v", false, "tell on standard error what is being measured")
	flag.Parse()
	if flag.NArg() > 0 {
		return f, fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if f.run, err = regexp.Compile(*run); err != nil {
		return f, err
	}
	f.systems, err = regexp.Compile(*systems)
	return f, err
}

// environment returns how long and how much the flags ask for.
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

// workloads returns all of them, in the order of their targets.
func workloads() []*workload {
	all := slices.Concat(writeWorkloads(), sustainWorkloads(), readWorkloads(), wakeWorkloads(), openWorkloads())
	slices.SortStableFunc(all, func(a, b *workload) int { return int(a.id[1]) - int(b.id[1]) })
	return slices.Concat(all, consumeWorkloads(), kinesisWorkloads())
}

// chosen returns the workloads that the flags ask for.
func (f *flags) chosen() []*workload {
	var chosen []*workload
	for _, w := range workloads() {
		w.entries = slices.DeleteFunc(w.entries, func(e entry) bool {
			return !f.systems.MatchString(e.name) || f.quick && e.slow
		})
		if f.quick || f.repeats > 0 {
			w.repeats = 0 // who asks gets what was asked for
		}
		if f.run.MatchString(w.id) && len(w.entries) > 0 {
			chosen = append(chosen, w)
		}
	}
	return chosen
}

func run() (err error) {
	f, err := parseFlags()
	if err != nil {
		return err
	}
	chosen := f.chosen()
	if f.list {
		for _, w := range chosen {
			fmt.Printf("%-22s %s\n", w.id, w.about)
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

// startProfile begins to profile, until the returned function is called.
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

// sampled is one sample in the file of -json.
type sampled struct {
	Workload string  `json:"workload"`
	System   string  `json:"system"`
	Repeat   int     `json:"repeat"`
	Metrics  metrics `json:"metrics"`
}

func (f *flags) measure(e *environment, chosen []*workload) error {
	fmt.Printf("%s on %s/%s, %d CPUs; files in %s; %d repeats\n\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), e.dir, e.repeats)
	began := time.Now()
	verdicts := make(map[string][]verdict)
	var order []string
	var samples []sampled
	for _, w := range chosen {
		rounds, err := e.runWorkload(w, func(entry string, repeat int) {
			if f.verbose {
				fmt.Fprintf(os.Stderr, "%4.0f s  %s, %s, %d of %d\n", time.Since(began).Seconds(), w.id, entry, repeat+1, e.rounds(w))
			}
		})
		if err != nil {
			return err
		}
		order = append(order, w.id)
		verdicts[w.id] = writeReport(os.Stdout, w, rounds)
		samples = append(samples, samplesOf(w, rounds)...)
	}
	writeSummary(os.Stdout, verdicts, order)
	fmt.Printf("it took %.0f s\n", time.Since(began).Seconds())
	if f.json == "" {
		return nil
	}
	data, err := json.MarshalIndent(samples, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(f.json, data, 0o644)
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
