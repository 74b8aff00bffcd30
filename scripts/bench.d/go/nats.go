package main

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// A broker with one connection from the client and one from the server. A request for one frame uses NATS
// request-reply. The frames of other requests are published on a separate subject. Core NATS has no flow control:
// above its limits it drops messages.
var this = peer{
	name:   "nats",
	lossy:  true,
	broker: startBroker,
	serve: func(broker string, channels bool, ready func(string)) {
		connection := connectTo(broker)
		_, err := connection.Subscribe(subject, func(request *nats.Msg) {
			l := decodeLoad(request.Data)
			if l.frames == 1 {
				check(request.Respond(make([]byte, l.size)))
				return
			}
			go func() {
				check(l.produce(channels, func(frame []byte) error { return connection.Publish(request.Reply, frame) }))
			}()
		})
		check(err)
		check(connection.Flush())
		ready(broker)
	},
	dial: func(broker string) caller { return natsCaller{connectTo(broker)} },
}

const subject = "bench"

// After this time without a message, the missing messages count as dropped.
const idleTimeout = 5 * time.Second

// A frame of 1 MiB must fit, and the broker must not disconnect a client that is slow for a moment.
const brokerConfiguration = `
listen: "127.0.0.1:-1"
max_payload: 2MB
max_pending: 1GB
write_deadline: "60s"
`

func startBroker() string {
	// The configuration comes from standard input, so that no file is left behind.
	command := exec.Command("nats-server", "--config", "/dev/stdin")
	command.Stdin = strings.NewReader(brokerConfiguration)
	stderr, err := command.StderrPipe()
	check(err)
	start(command)
	servers = append(servers, server{command, func() { command.Process.Signal(os.Interrupt) }})
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if _, address, found := strings.Cut(lines.Text(), "Listening for client connections on "); found {
			go func() {
				for lines.Scan() {
					if strings.Contains(lines.Text(), "[ERR]") || strings.Contains(lines.Text(), "Slow Consumer") {
						os.Stderr.WriteString(lines.Text() + "\n")
					}
				}
			}()
			return address
		}
		if strings.Contains(lines.Text(), "nats-server:") {
			fail("%s", lines.Text())
		}
	}
	fail("nats-server did not start")
	return ""
}

func connectTo(broker string) *nats.Conn {
	connection, err := nats.Connect("nats://"+broker, nats.NoReconnect(),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			os.Stderr.WriteString("nats: " + err.Error() + "\n")
		}))
	check(err)
	return connection
}

type natsCaller struct{ connection *nats.Conn }

func (c natsCaller) request(l load, _ bool, consume func([]byte)) error {
	if l.frames == 1 {
		answer, err := c.connection.Request(subject, l.encode(), idleTimeout)
		if err == nil {
			consume(answer.Data)
		}
		return err
	}
	var received uint64
	ended := make(chan struct{})
	inbox := nats.NewInbox()
	subscription, err := c.connection.Subscribe(inbox, func(frame *nats.Msg) {
		consume(frame.Data)
		if atomic.AddUint64(&received, 1) == l.frames {
			close(ended)
		}
	})
	if err != nil {
		return err
	}
	if err := subscription.SetPendingLimits(-1, -1); err != nil {
		return err
	}
	if err := c.connection.PublishRequest(subject, inbox, l.encode()); err != nil {
		return err
	}
	stalled := time.NewTicker(idleTimeout)
	defer stalled.Stop()
	for before := uint64(0); ; {
		select {
		case <-ended:
			return subscription.Unsubscribe()
		case <-stalled.C:
			now := atomic.LoadUint64(&received)
			if now == before {
				return subscription.Unsubscribe()
			}
			before = now
		}
	}
}
