import AstraNet
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// Two nodes with a link between them. The test answers the requests at the server.
struct PushPair {
    let server: Node
    let client: Node
    /// The server's ends of the requests, in the order of their arrival.
    let requests = EventQueue<AstraNet.MeshStream>()
    let listener: Listener

    init(
        server configureServer: (inout NodeConfiguration) -> Void = { _ in },
        client configureClient: (inout NodeConfiguration) -> Void = { _ in }
    ) async throws {
        server = .withoutTimeouts(configureServer)
        client = .withoutTimeouts(configureClient)
        let requests = requests
        listener = try server.bind("push") { stream in
            requests.append(stream)
            return .accepted
        }
        try await client.join(try await server.listening())
    }

    /// Both ends of a new request.
    ///
    /// - Parameters:
    ///   - sources: maximum number of unaccepted sources that the client grants.
    ///   - body: bytes to send with the dial; by default none.
    func request(_ sources: Int = 4, body: String = "") async throws -> (
        client: AstraNet.MeshStream, server: AstraNet.MeshStream
    ) {
        let request = DialRequest(first: ByteBuffer(string: body), maximumPushedSources: sources)
        let dialled = try await client.dial("push", request, deadline: .testDeadline)
        return (dialled, try #require(await requests.next()))
    }

    /// Waits until neither node has a stream or counts one, and shuts both down.
    func end() async throws {
        try await client.expectNothingLeft()
        try await server.expectNothingLeft()
        await client.shutdown()
        await server.shutdown()
    }
}

/// A delegate that records each call.
final class ChangeRecorder: StreamDelegate {
    let changes = EventQueue<Void>()

    func streamChanged(_ stream: AstraNet.MeshStream) { changes.append(()) }
}

/// A delegate that calls a closure for each change.
final class ChangeHandler: StreamDelegate {
    private let body: @Sendable (AstraNet.MeshStream) -> Void

    init(_ body: @escaping @Sendable (AstraNet.MeshStream) -> Void) { self.body = body }

    func streamChanged(_ stream: AstraNet.MeshStream) { body(stream) }
}

extension AstraNet.MeshStream {
    struct Unexpected: Error {
        var what: String
    }

    /// Pushes a source. Throws if that is not possible.
    func pushed() throws -> AstraNet.MeshStream {
        let result = pushSource()
        guard case .opened(let stream) = result else { throw Unexpected(what: "\(result)") }
        return stream
    }

    /// Pushes a source as soon as the grant allows it. `recorder` is the stream's delegate.
    func pushed(waitingFor recorder: ChangeRecorder) async throws -> AstraNet.MeshStream {
        while true {
            switch pushSource() {
            case .opened(let stream): return stream
            case .grantExhausted: _ = await recorder.changes.next()
            case let result: throw Unexpected(what: "\(result)")
            }
        }
    }

    /// Pushes a source with the bytes of `text` and closes it.
    func pushWhole(_ text: String) throws {
        let stream = try pushed()
        try stream.send(now: ByteBuffer(string: text))
        stream.close()
    }

    /// Pushes sources until the client's grant is used up, and returns them.
    func pushAll(limit: Int = 100) -> [AstraNet.MeshStream] {
        var streams: [AstraNet.MeshStream] = []
        while streams.count < limit, case .opened(let stream) = pushSource() { streams.append(stream) }
        return streams
    }

    /// Waits for the next event of the request, which must be a pushed source.
    func nextPushed() async throws -> AstraNet.MeshStream {
        let news = try await nextMasterEvent(deadline: .testDeadline)
        guard case .pushed(let stream) = news else { throw Unexpected(what: "\(news)") }
        return stream
    }

    /// Reads to the end of file.
    func readText() async throws -> String { String(buffer: try await readAll()) }

    /// Waits for the end of a request without sources.
    func expectFinished(sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let news = try await nextMasterEvent(deadline: .testDeadline)
        guard case .finished = news else {
            Issue.record("\(news)", sourceLocation: sourceLocation)
            return
        }
    }

    /// Takes and closes all sources. Returns the error that the request ends with, or `nil`.
    func newsFailure() async throws -> AstraNetError? {
        while true {
            switch try await nextMasterEvent(deadline: .testDeadline) {
            case .failed(let error): return error
            case .finished: return nil
            case .pushed(let stream): stream.close()
            case .bytes, .nothing: break
            }
        }
    }

    /// Number of unacknowledged bytes that this end has sent.
    var inFlight: Int { withStorage { Int($0.state.sendWindow.inFlight) } }
    var phase: StreamState.Phase { withStorage { $0.state.phase } }
}

extension Node {
    /// The links that are up.
    var links: [Link] { core.directory.links }

    /// Waits until no link has a stream, or counts places, grants or bytes for one.
    func expectNothingLeft(sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let deadline = ContinuousClock.Instant.testDeadline
        while true {
            var left: [String] = []
            for link in links {
                // Reading the count on the event loop also waits for its current turn to end.
                let known = try await link.eventLoop.submit { link.handler.value?.streams.count ?? 0 }.get()
                let counts = (known, link.reservedStreamSlots, link.pushGrants.held, link.buffered.held)
                if counts != (0, 0, 0, 0) { left.append("streams, places, grants, bytes: \(counts)") }
            }
            if left.isEmpty { return }
            try #require(.now < deadline, "\(left)", sourceLocation: sourceLocation)
            try await Task.sleep(for: .milliseconds(5))
        }
    }

    /// Number of streams on all links of the node.
    func streamCount() async throws -> Int {
        var count = 0
        for link in links { count += try await link.eventLoop.submit { link.handler.value?.streams.count ?? 0 }.get() }
        return count
    }
}

extension DialBlock {
    /// The encoded block, to be used as the payload of an op.
    var bytes: [UInt8] {
        var buffer = ByteBuffer()
        encode(into: &buffer)
        return Array(buffer: buffer)
    }
}

extension WireOp {
    /// The dial block that is the payload.
    var block: DialBlock? { DialBlock(decoding: ByteBuffer(bytes: payload)) }
}

extension RawPeer {
    /// The HANDSHAKE of a node of this library.
    static let ourHandshake = #"{"Abilities":["eager","push","refuse","window"],"RAddr":"127.0.0.1:5555"}"#
}
