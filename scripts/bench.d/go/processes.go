package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// A server is a process that the client started, and ends.
type server struct {
	command *exec.Cmd
	end     func()
}

// In the order in which they are to end.
var servers []server

// Starts a process that is killed when this one ends, however it ends.
func start(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	check(command.Start())
}

// Starts the server, and the broker ahead of it where there is one. Gives the address to dial.
func startServer(channels bool) string {
	arguments := []string{"serve", fmt.Sprintf("--channels=%v", channels)}
	if this.broker != nil {
		arguments = append(arguments, this.broker())
	}
	command := exec.Command("/proc/self/exe", arguments...)
	command.Stderr = os.Stderr
	stdin, err := command.StdinPipe()
	check(err)
	stdout, err := command.StdoutPipe()
	check(err)
	start(command)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		fail("the server did not start")
	}
	servers = append([]server{{command, func() { stdin.Close() }}}, servers...)
	return strings.TrimSpace(line)
}

// Says in the server's name where it can be reached, and ends it when the client is gone.
func announce(address string) {
	fmt.Println(address)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
}

func endServers() {
	for _, s := range servers {
		s.end()
		kill := time.AfterFunc(5*time.Second, func() { s.command.Process.Kill() })
		if err := s.command.Wait(); err != nil {
			fail("the server: %v", err)
		}
		kill.Stop()
	}
}
