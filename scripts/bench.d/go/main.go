// A peer of chanserv's benchmark: a client and a server process that talk through somebody else's library, loaded as
// `chanserv bench` loads chanserv. One program a library: these shared files and the one named for it.
//
//	PEER connect [--seconds 5] [--callers 4]                        one request after another
//	PEER flood   [--sources 1000] [--frames 5000] [--size 64]       many small frames
//	PEER heavy   [--sources 10] [--frames 500] [--size 1048576]     few large ones
//
// --channels hands each frame through a Go channel at both ends. One JSON object on standard output is the result.
// `PEER serve [ADDRESS]` is the server, which the client starts.
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

// A peer is what one library has to say about itself.
type peer struct {
	name string
	// Starts what stands between client and server and gives its address; nil where nothing does.
	broker func() string
	// Serves; calls ready with the address it can be reached at, may return once it serves.
	serve func(broker string, channels bool, ready func(address string))
	// Connects to a server.
	dial func(address string) caller
	// May lose frames by design: then a loss is part of the result, not an error.
	lossy bool
}

// A caller makes requests over one connection; several at a time.
type caller interface {
	// Asks for a load, hands over its frames in order and returns when the source has ended. A frame is the consumer's own
	// when keep is set, else it may be overwritten once consume returns.
	request(l load, keep bool, consume func(frame []byte)) error
}

// What a run found, with the names and units of `chanserv bench --json`.
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

// The main thread starts the children, and with it they end.
func init() { runtime.LockOSThread() }

func main() {
	if len(os.Args) < 2 {
		fail("usage: %s connect|flood|heavy|serve [options]", os.Args[0])
	}
	workload := os.Args[1]
	options := flag.NewFlagSet(workload, flag.ExitOnError)
	channels := options.Bool("channels", false, "hand each frame through a Go channel at both ends")
	deadline := options.Duration("deadline", 2*time.Minute, "how long all of it may take")
	seconds := options.Float64("seconds", 5, "how long to make requests")
	callers := options.Int("callers", 4, "how many make requests at a time")
	sources, size, frames := 1000, uint64(64), uint64(5000)
	if workload == "heavy" {
		sources, size, frames = 10, 1<<20, 500
	}
	options.IntVar(&sources, "sources", sources, "how many sources send at a time")
	options.Uint64Var(&frames, "frames", frames, "how many frames each sends")
	options.Uint64Var(&size, "size", size, "the bytes of each frame")
	options.Parse(os.Args[2:])

	if workload == "serve" {
		this.serve(options.Arg(0), *channels, announce)
		select {} // The client ends it.
	}
	time.AfterFunc(*deadline, func() { fail("not done within %v", *deadline) })
	c := this.dial(startServer(*channels))
	r := result{Peer: this.name, Workload: workload, Figures: map[string]figure{}}
	if *channels {
		r.Peer += "-channels"
	}
	// The first request, as chanserv's own benchmark makes one.
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
