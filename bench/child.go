package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// A child is this program, started again to be one of several processes.
type child struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
}

const childVar = "OCICACHE_BENCH_CHILD" // holds a workload

// runChildren starts all processes of a workload, lets them go at once, and
// returns how many operations failed.
func runChildren(w workload) (failed int, err error) {
	children := make([]*child, w.Procs)
	for i := range children {
		w.Who = i
		if children[i], err = startChild(w); err != nil {
			return 0, err
		}
	}
	for _, c := range children {
		if err := c.ready(); err != nil {
			return 0, err
		}
	}
	for _, c := range children {
		if err := c.stdin.Close(); err != nil { // go
			return 0, err
		}
	}
	for _, c := range children {
		n, err := c.wait()
		if err != nil {
			return 0, err
		}
		failed += n
	}
	return failed, nil
}

func startChild(w workload) (*child, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	task, err := json.Marshal(w)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childVar+"="+string(task))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &child{cmd, stdin, bufio.NewReader(stdout)}, cmd.Start()
}

// ready waits until the child is about to work.
func (c *child) ready() error {
	_, err := c.stdout.ReadString('\n')
	return err
}

// wait returns how many operations failed.
func (c *child) wait() (failed int, err error) {
	line, err := c.stdout.ReadString('\n')
	if err := errors.Join(err, c.cmd.Wait()); err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(line))
}

func isChild() bool { return os.Getenv(childVar) != "" }

// runChild says that it is ready, waits for the end of its input, works, and
// says how many operations failed.
func runChild() error {
	var task workload
	if err := json.Unmarshal([]byte(os.Getenv(childVar)), &task); err != nil {
		return fmt.Errorf("%s is for internal use: %w", childVar, err)
	}
	w, err := newWorker(task)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	if err := w.run(); err != nil {
		return err
	}
	fmt.Println(w.failed)
	return nil
}
