import AstraNet
import Chanserv
import Foundation
import NIOCore
import TestSupport
import Testing

extension EndToEnd {
    /// Servers that violate the protocol: each violation fails its own source and allocates no memory.
    @Suite(.serialized, .timeLimit(.minutes(2))) struct HostileServer {
        struct Fault: Sendable {
            var name: String
            var bytes: ByteBuffer
            var code: ChanservError.Code
        }

        static let faults = [
            Fault(name: "100 MiB + 1", bytes: length(100 << 20 | 1, [1, 2, 3]), code: .wrongFrameSize),
            Fault(name: "2^63", bytes: length(1 << 63, [1, 2, 3]), code: .wrongFrameSize),
            Fault(
                name: "200 MiB in 20 bytes", bytes: block(claiming: 200 << 20, [UInt8](repeating: 7, count: 20)),
                code: .wrongUncompressedFrameSize),
            Fault(
                name: "200 MiB + 1 in a block that could hold them",
                bytes: block(claiming: 200 << 20 | 1, [UInt8](repeating: 0, count: 900_000)),
                code: .wrongUncompressedFrameSize),
            Fault(name: "cut off", bytes: length(1000, [UInt8](repeating: 1, count: 999)), code: .truncatedFrame),
            Fault(name: "cut off at the limit", bytes: length(100 << 20, [1, 2, 3]), code: .truncatedFrame),
        ]

        private static func length(_ length: UInt64, _ payload: [UInt8]) -> ByteBuffer {
            var buffer = ByteBuffer(integer: length, endianness: .little)
            buffer.writeBytes(payload)
            return buffer
        }

        private static func block(claiming size: UInt64, _ block: [UInt8]) -> ByteBuffer {
            var buffer = ByteBuffer(string: "lz4!")
            buffer.writeInteger(size, endianness: .little)
            buffer.writeBytes(block)
            return length(UInt64(buffer.readableBytes), Array(buffer.readableBytesView))
        }

        /// The request has a valid source too. The server sends its second frame after the others have failed.
        @Test func `each invalid source fails with its own error and other sources continue`() async throws {
            let server = try await HandMadeServer.start()
            let client = try await TestClient(port: server.port)
            async let answering = server.answer(headers: ["good"] + Self.faults.map(\.name))
            let sources = try await client.sources("hostile", "")
            let streams = try await answering
            try #require(sources.count == streams.count)

            var good = sources[0].frames.makeAsyncIterator()
            try await streams[0].send(Self.length(5, Array("first".utf8)))
            #expect(try await good.next()?.string == "first")
            for (index, fault) in Self.faults.enumerated() {
                // Runs concurrently, because bytes beyond the window are sent only while the client reads.
                async let sent: Void = sendAndFinish(fault.bytes, on: streams[index + 1])
                let error = try await failure(of: { try await sources[index + 1].frames.all() })
                #expect(error.code == fault.code, "\(fault.name): \(error)")
                try await sent
            }
            try await streams[0].send(Self.length(6, Array("second".utf8)))
            streams[0].finish()
            #expect(try await good.next()?.string == "second")
            #expect(try await good.next() == nil)
            await client.close()
            await server.stop()
        }

        /// The source is announced but its name is never bound, so the client still dials it when the server stops.
        @Test func `a source that is being dialled fails when its server is lost`() async throws {
            let server = try await HandMadeServer.start()
            let client = try await TestClient(port: server.port)
            async let answering: Void = server.announceNothing(header: "never bound")
            let sources = try await client.sources("hostile", "")
            try await answering
            try #require(sources.count == 1)
            async let failing = failure(of: { try await sources[0].frames.all() })
            await server.stop()
            let error = try await failing
            #expect(error.code == .connectionLost, "\(error)")
            await client.close()
        }

        private func sendAndFinish(_ bytes: ByteBuffer, on stream: AstraNet.MeshStream) async throws {
            do {
                try await stream.send(bytes, deadline: .now + TestClient.patience)
            } catch let error as AstraNetError where error.code == .closedByPeer {
                // The client has found the fault in the first bytes and wants no others.
                return
            }
            stream.finish()
        }

        /// The client is a separate process, so that its memory can be measured.
        @Test func `a claimed size allocates no memory`() async throws {
            let server = try await HandMadeServer.start()
            let post = try ChanservCommand.start(
                "post", "hostile", "--body", "", "--join", "127.0.0.1:\(server.port)", "--output", "json")
            defer { post.end() }
            let streams = try await server.answer(headers: ["good"] + Self.faults.map(\.name))
            try await streams[0].send(Self.length(5, Array("first".utf8)))
            _ = try await post.outputLines(with: #""frame":"first""#, count: 1)
            let before = try ProcessFigures(post.pid).peakMemory
            for (stream, fault) in zip(streams.dropFirst(), Self.faults) {
                try await sendAndFinish(fault.bytes, on: stream)
            }
            let failed = try await post.outputLines(with: #""end":"error""#, count: Self.faults.count)
            let growth = try ProcessFigures(post.pid).peakMemory - before
            #expect(growth < 32 << 10, "KiB for claims of 100 MiB and more")
            for (index, fault) in Self.faults.enumerated() {
                #expect(failed.contains { $0.contains("\"source\":\(index + 1),") && $0.contains("\(fault.code)") })
            }
            try await streams[0].send(Self.length(6, Array("second".utf8)))
            streams[0].finish()
            let exit = try await post.exit()
            #expect(exit.code == 1)
            #expect(exit.text.contains(#"{"source":0,"frame":"second"}"#))
            #expect(exit.text.contains(#"{"source":0,"end":"ok"}"#))
            await server.stop()
        }
    }
}

/// A chanserv server on which the test writes the bytes of the sources itself.
struct HandMadeServer: Sendable {
    let port: Int
    private let node: Node
    private let listener: Listener

    static func start() async throws -> HandMadeServer {
        let node = Node()
        let address = try await node.listen(host: "127.0.0.1", port: 0)
        return HandMadeServer(port: address.port!, node: node, listener: try node.bind("hostile"))
    }

    /// Answers one request with sources that have these headers.
    ///
    /// - Returns: the stream of each source. Nothing is sent on it yet.
    func answer(headers: [String]) async throws -> [AstraNet.MeshStream] {
        let deadline = ContinuousClock.now + TestClient.patience
        let master = try await acceptRequest(deadline)
        var listeners: [Listener] = []
        for header in headers {
            let name = "source-\(UUID().uuidString)"
            listeners.append(try node.bind(name, visibleTo: master))
            try await master.send(announcement(header, name), deadline: deadline)
        }
        master.finish()
        var streams: [AstraNet.MeshStream] = []
        for listener in listeners { streams.append(try await listener.nextStream(deadline: deadline)) }
        return streams
    }

    /// Answers one request with a source whose name is not bound.
    func announceNothing(header: String) async throws {
        let deadline = ContinuousClock.now + TestClient.patience
        let master = try await acceptRequest(deadline)
        try await master.send(announcement(header, "source-\(UUID().uuidString)"), deadline: deadline)
        master.finish()
    }

    private func acceptRequest(_ deadline: ContinuousClock.Instant) async throws -> AstraNet.MeshStream {
        let master = try await listener.nextStream(deadline: deadline)
        var request = ByteBuffer()
        while request.readableBytes < 8 {
            var bytes = try #require(try await master.receive(deadline: deadline))
            request.writeBuffer(&bytes)
        }
        return master
    }

    private func announcement(_ header: String, _ name: String) -> ByteBuffer {
        var announcement = ByteBuffer()
        for frame in [header, name] {
            announcement.writeInteger(UInt64(frame.utf8.count), endianness: .little)
            announcement.writeString(frame)
        }
        return announcement
    }

    func stop() async {
        await node.shutdown(grace: .zero)
    }
}
