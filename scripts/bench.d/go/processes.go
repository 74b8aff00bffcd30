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

// A server is a process that the client starts and stops.
type server struct {
	command *exec.Cmd
	end     func()
}

// The servers in the order in which they are stopped.
var servers []server

// start starts a process that the kernel kills when this process exits for any reason.
func start(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	check(command.Start())
}

// startServer starts the server, and before it the broker if there is one. It returns the address to dial.
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

// announce prints the address of the server, and exits the server when the client closes its standard input.
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
