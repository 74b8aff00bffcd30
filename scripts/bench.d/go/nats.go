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

// A broker between the two, one connection to it from each. A request for one frame is NATS's own request and reply; one
// for more is answered on a subject of its own. Core NATS has no flow control: what its limits do not hold, it drops.
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

// No answer for so long means that what is missing was dropped.
const patience = 5 * time.Second

// A frame of 1 MiB must fit, and a client that is behind for a moment must not be cut off.
const brokerConfiguration = `
listen: "127.0.0.1:-1"
max_payload: 2MB
max_pending: 1GB
write_deadline: "60s"
`

func startBroker() string {
	// By /dev/stdin: no file is left behind.
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
		answer, err := c.connection.Request(subject, l.encode(), patience)
		if err == nil {
			consume(answer.Data)
		}
		return err
	}
	var come uint64
	ended := make(chan struct{})
	inbox := nats.NewInbox()
	subscription, err := c.connection.Subscribe(inbox, func(frame *nats.Msg) {
		consume(frame.Data)
		if atomic.AddUint64(&come, 1) == l.frames {
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
	stalled := time.NewTicker(patience)
	defer stalled.Stop()
	for before := uint64(0); ; {
		select {
		case <-ended:
			return subscription.Unsubscribe()
		case <-stalled.C:
			now := atomic.LoadUint64(&come)
			if now == before {
				return subscription.Unsubscribe()
			}
			before = now
		}
	}
}
