package main

import (
	"encoding/binary"
	"math"
	"sort"
	"sync"
	"time"
)

// The channel capacity of Go chanserv between the connection and the consumer of a source.
const channelCapacity = 1024

// A load is the content of a request: the number and the size of the frames of one source.
type load struct{ frames, size uint64 }

func (l load) encode() []byte {
	b := make([]byte, 16)
	binary.LittleEndian.PutUint64(b, l.frames)
	binary.LittleEndian.PutUint64(b[8:], l.size)
	return b
}

func decodeLoad(b []byte) load {
	if len(b) != 16 {
		fail("a request of %d bytes", len(b))
	}
	return load{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}
}

// produce writes the frames of a load. It runs in the server.
func (l load) produce(channels bool, write func(frame []byte) error) error {
	payload := make([]byte, l.size)
	if !channels {
		for i := uint64(0); i < l.frames; i++ {
			if err := write(payload); err != nil {
				return err
			}
		}
		return nil
	}
	frames := make(chan []byte, channelCapacity)
	go func() {
		for i := uint64(0); i < l.frames; i++ {
			frames <- payload
		}
		close(frames)
	}()
	var failure error
	for frame := range frames {
		if failure == nil {
			failure = write(frame)
		}
	}
	return failure
}

// consume requests a load and counts its frames. It runs in the client and returns the number of lost frames.
func (l load) consume(c caller, channels bool) (dropped uint64, err error) {
	var frames, bytes uint64
	count := func(frame []byte) {
		frames++
		bytes += uint64(len(frame))
	}
	if channels {
		handed, counted := make(chan []byte, channelCapacity), make(chan struct{})
		go func() {
			for frame := range handed {
				count(frame)
			}
			close(counted)
		}()
		err = c.request(l, true, func(frame []byte) { handed <- frame })
		close(handed)
		<-counted
	} else {
		err = c.request(l, false, count)
	}
	if err != nil {
		return 0, err
	}
	if frames > l.frames || bytes != frames*l.size || frames < l.frames && !this.lossy {
		fail("received %d frames and %d bytes instead of %d frames of %d bytes", frames, bytes, l.frames, l.size)
	}
	return l.frames - frames, nil
}

// stream runs the workloads flood and heavy: concurrent requests, one source each.
func stream(c caller, sources int, l load, channels bool, r *result) {
	var all sync.WaitGroup
	var lock sync.Mutex
	began := time.Now()
	for i := 0; i < sources; i++ {
		all.Add(1)
		go func() {
			dropped, err := l.consume(c, channels)
			check(err)
			lock.Lock()
			r.Dropped += dropped
			lock.Unlock()
			all.Done()
		}()
	}
	all.Wait()
	seconds := time.Since(began).Seconds()
	frames := float64(uint64(sources)*l.frames-r.Dropped) / seconds
	r.add("frames", frames, "1/s")
	r.add("payload", frames*float64(l.size)/1e9, "GB/s")
}

// connect runs the workload connect: each caller makes sequential requests for one empty frame.
func connect(c caller, callers int, seconds float64, channels bool, r *result) {
	l := load{frames: 1, size: 0}
	call := func(until time.Time) (took []time.Duration) {
		for began := time.Now(); began.Before(until); {
			dropped, err := l.consume(c, channels)
			check(err)
			if dropped > 0 {
				fail("a request without an answer")
			}
			now := time.Now()
			took = append(took, now.Sub(began))
			began = now
		}
		return took
	}
	each := make(chan []time.Duration)
	began := time.Now()
	until := began.Add(time.Duration(seconds * float64(time.Second)))
	for i := 0; i < callers; i++ {
		go func() { each <- call(until) }()
	}
	var took []time.Duration
	for i := 0; i < callers; i++ {
		took = append(took, <-each...)
	}
	r.add("requests", float64(len(took))/time.Since(began).Seconds(), "1/s")
	sort.Slice(took, func(i, j int) bool { return took[i] < took[j] })
	for name, quantile := range map[string]float64{"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1} {
		at := took[int(math.Ceil(quantile*float64(len(took))))-1]
		r.add("latency_"+name, at.Seconds()*1e6, "us")
	}
}
