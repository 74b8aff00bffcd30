package main

import (
	"context"
	"io"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
)

// One connection; one server-streaming call per request; one message per frame.
var this = peer{
	name: "grpc",
	serve: func(_ string, channels bool, ready func(string)) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		check(err)
		server := grpc.NewServer(grpc.InitialWindowSize(window), grpc.InitialConnWindowSize(connectionWindow))
		service := grpc.ServiceDesc{ServiceName: "bench", HandlerType: (*interface{})(nil)}
		description := frames
		description.Handler = func(_ interface{}, stream grpc.ServerStream) error {
			var body []byte
			if err := stream.RecvMsg(&body); err != nil {
				return err
			}
			return decodeLoad(body).produce(channels, func(frame []byte) error { return stream.SendMsg(&frame) })
		}
		service.Streams = []grpc.StreamDesc{description}
		server.RegisterService(&service, nil)
		ready(listener.Addr().String())
		check(server.Serve(listener))
	},
	dial: func(address string) caller {
		connection, err := grpc.Dial(address, grpc.WithInsecure(), grpc.WithBlock(),
			grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(connectionWindow),
			grpc.WithDefaultCallOptions(grpc.CallContentSubtype(raw{}.Name())))
		check(err)
		return grpcCaller{connection}
	},
}

// With HTTP/2's default window of 64 KiB, each frame of 1 MiB would wait for credit many times.
const window, connectionWindow = 1 << 20, 16 << 20

var frames = grpc.StreamDesc{StreamName: "Frames", ServerStreams: true}

type grpcCaller struct{ connection *grpc.ClientConn }

func (c grpcCaller) request(l load, _ bool, consume func([]byte)) error {
	stream, err := c.connection.NewStream(context.Background(), &frames, "/bench/Frames")
	if err != nil {
		return err
	}
	body := l.encode()
	if err := stream.SendMsg(&body); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for {
		var frame []byte
		if err := stream.RecvMsg(&frame); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		consume(frame)
	}
}

func init() { encoding.RegisterCodec(raw{}) }

// A codec for messages that are byte slices. grpc reads each message into a new slice, which the codec passes on.
type raw struct{}

func (raw) Name() string                                  { return "raw" }
func (raw) Marshal(message interface{}) ([]byte, error)   { return *message.(*[]byte), nil }
func (raw) Unmarshal(data []byte, into interface{}) error { *into.(*[]byte) = data; return nil }
