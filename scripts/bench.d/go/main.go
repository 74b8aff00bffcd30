// A peer of chanserv's benchmark: a client and a server process that use another library, with the same workloads as
// `chanserv bench`. Each program consists of the shared files and the file of its library.
//
//	PEER connect [--seconds 5] [--callers 4]                        sequential requests
//	PEER flood   [--sources 1000] [--frames 5000] [--size 64]       many small frames
//	PEER heavy   [--sources 10] [--frames 500] [--size 1048576]     a few large frames
//
// With --channels, each frame passes through a Go channel at both ends. The result is one JSON object on standard
// output. `PEER serve [ADDRESS]` is the server, which the client starts.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// A peer is the implementation of the benchmark with one library.
type peer struct {
	name string
	// broker starts the broker between client and server and returns its address; nil if there is none.
	broker func() string
	// serve starts the server and calls ready with its address. It may return while the server runs.
	serve func(broker string, channels bool, ready func(address string))
	// dial connects to a server.
	dial func(address string) caller
	// lossy is true if the library may lose frames by design. A loss is then part of the result, not an error.
	lossy bool
}

// A caller makes concurrent requests over one connection.
type caller interface {
	// request requests a load, passes its frames in order to consume, and returns when the source has ended. With keep,
	// the consumer owns each frame; otherwise a frame may be overwritten after consume returns.
	request(l load, keep bool, consume func(frame []byte)) error
}

// The result of a run, with the names and units of `chanserv bench --json`.
type result struct {
	Peer     string            `json:"peer"`
	Workload string            `json:"workload"`
	Dropped  uint64            `json:"dropped"`
	Figures  map[string]figure `json:"figures"`
}

type figure struct {
	Unit   string    `json:"unit"`
	Values []float64 `json:"values"`
}

func (r *result) add(name string, value float64, unit string) {
	r.Figures[name] = figure{unit, []float64{value}}
}

// Children are killed when the thread that started them ends, so the main thread must start them.
func init() { runtime.LockOSThread() }

func main() {
	if len(os.Args) < 2 {
		fail("usage: %s connect|flood|heavy|serve [options]", os.Args[0])
	}
	workload := os.Args[1]
	options := flag.NewFlagSet(workload, flag.ExitOnError)
	channels := options.Bool("channels", false, "pass each frame through a Go channel at both ends")
	deadline := options.Duration("deadline", 2*time.Minute, "time limit of the whole run")
	seconds := options.Float64("seconds", 5, "length of the run")
	callers := options.Int("callers", 4, "number of concurrent callers")
	sources, size, frames := 1000, uint64(64), uint64(5000)
	if workload == "heavy" {
		sources, size, frames = 10, 1<<20, 500
	}
	options.IntVar(&sources, "sources", sources, "number of concurrent sources")
	options.Uint64Var(&frames, "frames", frames, "number of frames per source")
	options.Uint64Var(&size, "size", size, "size of a frame in bytes")
	options.Parse(os.Args[2:])

	if workload == "serve" {
		this.serve(options.Arg(0), *channels, announce)
		select {} // The client stops the server.
	}
	time.AfterFunc(*deadline, func() { fail("not done within %v", *deadline) })
	c := this.dial(startServer(*channels))
	r := result{Peer: this.name, Workload: workload, Figures: map[string]figure{}}
	if *channels {
		r.Peer += "-channels"
	}
	// A request before the measurement, as in `chanserv bench`.
	_, err := load{frames: 1, size: 0}.consume(c, *channels)
	check(err)
	before := usage()
	switch workload {
	case "connect":
		connect(c, *callers, *seconds, *channels, &r)
	case "flood", "heavy":
		stream(c, sources, load{frames, size}, *channels, &r)
	default:
		fail("unknown workload: %s", workload)
	}
	r.addUsage(before, usage())
	endServers()
	check(json.NewEncoder(os.Stdout).Encode(r))
}

func fail(format string, arguments ...interface{}) {
	fmt.Fprintf(os.Stderr, "error: "+filepath.Base(os.Args[0])+": "+format+"\n", arguments...)
	os.Exit(1)
}

func check(err error) {
	if err != nil {
		fail("%v", err)
	}
}
