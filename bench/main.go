// Command bench measures the cache against go-containerregistry's own
// pkg/v1/cache, and against doing the same with bare files, in one run.
//
// The contestants take turns, and what is compared is medians and their
// ratios: times of different runs or machines do not compare. It writes to a
// temporary directory, which it removes, and talks to nobody but itself.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
)

func main() {
	if isChild() {
		exit(runChild())
	}
	exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(args []string, stdout, stderr io.Writer) error {
	cfg := defaults()
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	flags.SetOutput(stderr)
	short := flags.Bool("short", false, "small sizes, one run: shows that it works, measures nothing")
	output := flags.String("o", "table", "output: table or json")
	only := flags.String("only", "", "measure only the rows that match this `regexp`")
	flags.IntVar(&cfg.runs, "runs", cfg.runs, "how often each contestant takes its turn; at most 3 where that takes long")
	flags.Int64Var(&cfg.size, "size", cfg.size, "size of the big layer's tar, in `bytes`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *short {
		cfg = tiny()
	}
	match, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	write, ok := map[string]func(io.Writer, []result) error{"table": writeTable, "json": writeJSON}[*output]
	if !ok {
		return fmt.Errorf("-o %s: want table or json", *output)
	}

	e, err := newEnv(cfg)
	if err != nil {
		return err
	}
	defer e.close()
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	go func() {
		<-interrupted
		os.RemoveAll(e.tmp)
		os.Exit(1)
	}()
	results, err := measure(e, match, stderr)
	if err != nil {
		return err
	}
	return write(stdout, results)
}
