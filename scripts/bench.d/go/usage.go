package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// The resource usage of the client and of its servers so far: processor time in seconds and peak memory in MiB.
type used struct {
	at                           time.Time
	clientProcessor, clientPeak  float64
	serversProcessor, serverPeak float64
}

func usage() used {
	u := used{at: time.Now()}
	u.clientProcessor, u.clientPeak = usageOf("self")
	for _, s := range servers {
		processor, peak := usageOf(fmt.Sprint(s.command.Process.Pid))
		u.serversProcessor += processor
		u.serverPeak += peak
	}
	return u
}

func (r *result) addUsage(before, after used) {
	r.add("seconds", after.at.Sub(before.at).Seconds(), "s")
	r.add("client_processor", after.clientProcessor-before.clientProcessor, "s")
	r.add("client_peak_memory", after.clientPeak, "MiB")
	r.add("host_processor", after.serversProcessor-before.serversProcessor, "s")
	r.add("host_peak_memory", after.serverPeak, "MiB")
}

// The unit of times in /proc/PID/stat: 100 ticks per second on all Linux architectures that Go supports.
const ticksPerSecond = 100

func usageOf(process string) (processor, peak float64) {
	status, err := os.ReadFile("/proc/" + process + "/status")
	check(err)
	_, line, _ := strings.Cut(string(status), "VmHWM:")
	_, err = fmt.Sscanf(line, "%f kB", &peak)
	check(err)
	stat, err := os.ReadFile("/proc/" + process + "/stat")
	check(err)
	// The process name can contain any character, so the fields are counted after it. utime and stime are the 12th and the
	// 13th.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var user, system float64
	_, err = fmt.Sscan(fields[11]+" "+fields[12], &user, &system)
	check(err)
	return (user + system) / ticksPerSecond, peak / 1024
}
