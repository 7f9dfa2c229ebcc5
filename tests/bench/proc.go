package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU times in /proc: USER_HZ is 100 on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// stat is what the benchmark reads of /proc/PID/stat, see proc(5).
type stat struct {
	parent int
	cpu    time.Duration // user and system
}

// parseStat reads the line of /proc/PID/stat. The name of the program is in
// parentheses and may hold any character, so fields count from the last one.
func parseStat(line string) (stat, error) {
	_, rest, ok := cutLast(line, ") ")
	f := strings.Fields(rest)
	if !ok || len(f) < 13 {
		return stat{}, fmt.Errorf("%q is no line of /proc/PID/stat", line)
	}
	var n [3]int
	for i, k := range []int{1, 11, 12} { // ppid, utime, stime
		v, err := strconv.Atoi(f[k])
		if err != nil {
			return stat{}, err
		}
		n[i] = v
	}
	return stat{parent: n[0], cpu: time.Duration(n[1]+n[2]) * tick}, nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// tree returns the CPU time of each process that descends from root, root included.
func tree(root int) (map[int]time.Duration, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	stats := map[int]stat{}
	for _, d := range dirs {
		line, err := os.ReadFile(d + "/stat")
		if err != nil {
			continue // it has ended
		}
		pid, err := strconv.Atoi(filepath.Base(d))
		if err != nil {
			continue
		}
		s, err := parseStat(string(line))
		if err != nil {
			return nil, err
		}
		stats[pid] = s
	}
	out := map[int]time.Duration{}
	for pid, s := range stats {
		for p := pid; p > 1; p = stats[p].parent {
			if p == root {
				out[pid] = s.cpu
				break
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("process %d is gone", root)
	}
	return out, nil
}

// cpuOf is the CPU time of a program and its children so far.
func cpuOf(root int) (sum time.Duration, err error) {
	times, err := tree(root)
	for _, t := range times {
		sum += t
	}
	return sum, err
}

// footprint is what a program and its children occupy.
type footprint struct {
	pss int64 // bytes; shared pages count in proportion
	fds int
}

func footprintOf(root int) (footprint, error) {
	pids, err := tree(root)
	if err != nil {
		return footprint{}, err
	}
	var sum footprint
	for pid := range pids {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return footprint{}, err
		}
		pss, err := parsePSS(data)
		if err != nil {
			return footprint{}, err
		}
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			return footprint{}, err
		}
		sum.pss += pss
		sum.fds += len(fds)
	}
	return sum, nil
}

// parsePSS reads the proportional set size, in bytes, out of smaps_rollup.
func parsePSS(data []byte) (int64, error) {
	for sc := bufio.NewScanner(bytes.NewReader(data)); sc.Scan(); {
		if f := strings.Fields(sc.Text()); len(f) == 3 && f[0] == "Pss:" && f[2] == "kB" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, errors.New("no Pss in smaps_rollup")
}

// machineCPU is what all processes of the machine used so far, interrupts left out: they
// belong to whoever sent the packets.
func machineCPU() (time.Duration, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return parseMachine(string(data))
}

func parseMachine(text string) (time.Duration, error) {
	line, _, _ := strings.Cut(text, "\n")
	f := strings.Fields(line)
	if len(f) < 5 || f[0] != "cpu" {
		return 0, fmt.Errorf("%q is no first line of /proc/stat", line)
	}
	var sum time.Duration
	for _, v := range f[1:4] { // user, nice, system
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}
