package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// results are a run, or several runs on one machine: -json writes them and -from reads them.
type results struct {
	Machine machine   `json:"machine"`
	Runs    []runInfo `json:"runs"`
	Samples []sampled `json:"samples"`

	// Targets are for other programs: -from judges the samples again.
	Targets []judged `json:"targets"`
}

// machine describes the machine that the figures depend on.
type machine struct {
	CPU  string `json:"cpu"`
	CPUs int    `json:"cpus"`
	OS   string `json:"os"`
	Arch string `json:"arch"`
	Go   string `json:"go"`
	Disk string `json:"disk"` // the file system and the device of -dir
}

// runInfo is the time and the command of a run.
type runInfo struct {
	Command string     `json:"command"`
	Date    time.Time  `json:"date"`
	Code    string     `json:"code,omitempty"` // the commit, if known
	Disks   []diskInfo `json:"disks"`
	Seconds float64    `json:"seconds"`
}

// diskInfo is the measured duration of a sync on a disk.
type diskInfo struct {
	Disk string  `json:"disk"`
	P50  float64 `json:"sync_p50_us"`
	P99  float64 `json:"sync_p99_us"`
}

// sampled is one sample.
type sampled struct {
	Workload string  `json:"workload"`
	System   string  `json:"system"`
	Repeat   int     `json:"repeat"`
	Metrics  metrics `json:"metrics"`
}

// judged is a verdict in JSON.
type judged struct {
	Target   string   `json:"target"`
	Workload string   `json:"workload"`
	Disk     string   `json:"disk"`
	Rule     string   `json:"rule"`
	Limit    float64  `json:"limit"`
	Value    *float64 `json:"value"` // the median; null, like the fields below, if it was not measured
	Low      *float64 `json:"low"`
	High     *float64 `json:"high"`
	Margin   *float64 `json:"margin"` // a share of the limit; negative if it was missed
	Met      *bool    `json:"met"`
	Parts    []part   `json:"parts,omitempty"` // the figures behind the value
}

func thisMachine(dir string) machine {
	return machine{
		CPU: cpuModel(), CPUs: runtime.GOMAXPROCS(0), OS: runtime.GOOS, Arch: runtime.GOARCH,
		Go: runtime.Version(), Disk: diskKind(dir),
	}
}

// String describes the machine in one line.
func (m machine) String() string {
	return fmt.Sprintf("%s, %s, %s/%s, %s, files on %s", plural(m.CPUs, "core"), m.CPU, m.OS, m.Arch, m.Go, m.Disk)
}

// cpuModel returns the model of the processor, on Linux.
func cpuModel() string {
	data, _ := os.ReadFile("/proc/cpuinfo") // fails on other systems
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

// diskKind returns the file system that a directory is on.
func diskKind(dir string) string {
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	data, readErr := os.ReadFile("/proc/self/mounts")
	if err == nil && readErr == nil {
		if kind, found := mountOf(data, dir); found {
			return kind
		}
	}
	return "an unknown file system"
}

// mountOf finds the mount with the longest path above dir in a list of Linux's.
func mountOf(mounts []byte, dir string) (kind string, found bool) {
	longest := ""
	for line := range bytes.Lines(mounts) {
		fields := strings.Fields(string(line))
		if len(fields) < 3 {
			continue
		}
		path, fs := fields[1], fields[2]
		inside := dir == path || strings.HasPrefix(dir, strings.TrimSuffix(path, "/")+"/")
		if inside && len(path) >= len(longest) { // the last of several at one path counts
			longest, kind, found = path, fs, true
		}
	}
	return kind, found
}

// readResults reads and merges the files of several runs. They must be from one machine.
func readResults(names []string) (*results, error) {
	var all *results
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		one := new(results)
		if err := json.Unmarshal(data, one); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if all == nil {
			all = one
			continue
		}
		if err := all.add(one); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return all, nil
}

// add adds a later run. Its samples of a workload count as further repeats.
func (r *results) add(later *results) error {
	if r.Machine != later.Machine {
		return fmt.Errorf("results are from another machine: %s, not %s", later.Machine, r.Machine)
	}
	repeats := make(map[string]int)
	for _, s := range r.Samples {
		repeats[s.Workload] = max(repeats[s.Workload], s.Repeat+1)
	}
	for _, s := range later.Samples {
		s.Repeat += repeats[s.Workload]
		r.Samples = append(r.Samples, s)
	}
	r.Runs = append(r.Runs, later.Runs...)
	return nil
}

// keep drops the samples of all other workloads.
func (r *results) keep(chosen []*workload) {
	r.Samples = slices.DeleteFunc(r.Samples, func(s sampled) bool {
		return !slices.ContainsFunc(chosen, func(w *workload) bool { return w.id == s.Workload })
	})
}

// rounds returns the repeats of a workload, without missing ones.
func (r *results) rounds(workload string) []round {
	var rounds []round
	for _, s := range r.Samples {
		if s.Workload != workload {
			continue
		}
		for len(rounds) <= s.Repeat {
			rounds = append(rounds, make(round))
		}
		rounds[s.Repeat][s.System] = s.Metrics
	}
	return slices.DeleteFunc(rounds, func(r round) bool { return len(r) == 0 })
}

// disks returns the measured disks.
func (r *results) disks() ([]disk, error) {
	names := []string{}
	for _, s := range r.Samples {
		if name := diskOf(s.Workload); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	disks, err := parseDisks(strings.Join(names, ","))
	slices.SortFunc(disks, func(a, b disk) int { return int(a.sync - b.sync) })
	return disks, err
}

// workloads returns the measured workloads, in order.
func (r *results) workloads() ([]*workload, error) {
	disks, err := r.disks()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(workloads(disks), func(w *workload) bool { return len(r.rounds(w.id)) == 0 }), nil
}

// judge judges the samples.
func (r *results) judge() error {
	all, err := r.workloads()
	if err != nil {
		return err
	}
	r.Targets = nil
	for _, w := range all {
		rounds := r.rounds(w.id)
		for _, t := range w.targets {
			r.Targets = append(r.Targets, t.judge(rounds).judged(w))
		}
	}
	return nil
}

func (v verdict) judged(w *workload) judged {
	j := judged{Target: w.targetOf(v.target), Workload: w.id, Disk: diskOf(w.id), Rule: v.name, Limit: v.limit}
	if !v.known || math.IsInf(v.value, 0) {
		return j
	}
	margin := v.margin()
	j.Value, j.Low, j.High, j.Margin, j.Met, j.Parts = &v.value, &v.low, &v.high, &margin, &v.met, v.parts
	return j
}

// targetOf returns the id of a target of the workload, such as "T1".
func (w *workload) targetOf(t target) string {
	if t.id != "" {
		return t.id
	}
	id, _, _ := strings.Cut(w.id, "/")
	return id
}

func (r *results) write(name string) error {
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(data, '\n'), 0o644)
}

// revision returns the commit of the working directory, "" if git does not know it.
func revision() string {
	head, err := gitOutput("rev-parse", "--short", "HEAD")
	if err != nil {
		return ""
	}
	if changes, err := gitOutput("status", "--porcelain", "--untracked-files=no"); err != nil || changes != "" {
		head += " with changes"
	}
	return head
}

func gitOutput(args ...string) (string, error) {
	output, err := exec.Command("git", args...).Output()
	return strings.TrimSpace(string(output)), err
}
