package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"

	"github.com/hashicorp/yamux"
)

// One session; one stream per request. A frame is its length (u64, little-endian) and its bytes, as in chanserv.
var this = peer{
	name: "yamux",
	serve: func(_ string, channels bool, ready func(string)) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		check(err)
		ready(listener.Addr().String())
		connection, err := listener.Accept()
		check(err)
		session, err := yamux.Server(connection, configuration())
		check(err)
		for {
			stream, err := session.AcceptStream()
			if err == io.EOF {
				select {} // The client has finished. The end of standard input stops the server.
			}
			check(err)
			go func() { check(answer(stream, channels)) }()
		}
	},
	dial: func(address string) caller {
		connection, err := net.Dial("tcp", address)
		check(err)
		session, err := yamux.Client(connection, configuration())
		check(err)
		return yamuxCaller{session}
	},
}

const bufferSize = 64 << 10

// A window of 1 MiB instead of 256 KiB makes large frames a fifth faster and does not slow down small ones.
func configuration() *yamux.Config {
	configuration := yamux.DefaultConfig()
	configuration.MaxStreamWindowSize = 1 << 20
	return configuration
}

func answer(stream *yamux.Stream, channels bool) error {
	body := make([]byte, 16)
	if _, err := io.ReadFull(stream, body); err != nil {
		return err
	}
	l := decodeLoad(body)
	// A smaller buffer for small loads: for one empty frame, allocating bufferSize would be most of the work.
	writer := bufio.NewWriterSize(stream, bufferFor(l))
	var length [8]byte
	err := l.produce(channels, func(frame []byte) error {
		binary.LittleEndian.PutUint64(length[:], uint64(len(frame)))
		writer.Write(length[:])
		_, err := writer.Write(frame)
		return err
	})
	if err == nil {
		err = writer.Flush()
	}
	if err == nil {
		err = stream.Close()
	}
	return err
}

func bufferFor(l load) int {
	if bytes := l.frames * (8 + l.size); bytes < bufferSize {
		return int(bytes)
	}
	return bufferSize
}

type yamuxCaller struct{ session *yamux.Session }

func (c yamuxCaller) request(l load, keep bool, consume func([]byte)) error {
	stream, err := c.session.OpenStream()
	if err != nil {
		return err
	}
	defer stream.Close()
	if _, err := stream.Write(l.encode()); err != nil {
		return err
	}
	reader := bufio.NewReaderSize(stream, bufferFor(l))
	var length [8]byte
	var buffer []byte
	for {
		if _, err := io.ReadFull(reader, length[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		size := binary.LittleEndian.Uint64(length[:])
		if size > l.size {
			fail("a frame of %d bytes", size)
		}
		if keep || uint64(cap(buffer)) < size {
			buffer = make([]byte, size)
		}
		if _, err := io.ReadFull(reader, buffer[:size]); err != nil {
			return err
		}
		consume(buffer[:size])
	}
}
