import NIOConcurrencyHelpers
import NIOCore
import Testing

@testable import AstraNet

/// Two nodes with a link between them. The server's requests are for the test to answer.
struct PushPair {
    let server: Node
    let client: Node
    /// The server's ends of the requests, as they come.
    let requests = EventQueue<AstraNet.Stream>()
    let listener: Listener

    init(
        server configureServer: (inout NodeConfiguration) -> Void = { _ in },
        client configureClient: (inout NodeConfiguration) -> Void = { _ in }
    ) async throws {
        server = .patient(configureServer)
        client = .patient(configureClient)
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
    ///   - sources: how many unaccepted sources the client grants.
    ///   - body: what goes out with the dial; nothing by default.
    func request(_ sources: Int = 4, body: String = "") async throws -> (
        client: AstraNet.Stream, server: AstraNet.Stream
    ) {
        let request = DialRequest(first: ByteBuffer(string: body), maximumPushedSources: sources)
        let dialled = try await client.dial("push", request, deadline: .soon)
        return (dialled, try #require(await requests.next()))
    }

    /// Waits until nothing of a stream is left on either node, and shuts them down.
    func end() async throws {
        try await client.expectNothingLeft()
        try await server.expectNothingLeft()
        await client.shutdown()
        await server.shutdown()
    }
}

/// Records that a stream called its delegate.
final class ChangeRecorder: StreamDelegate {
    let changes = EventQueue<Void>()

    func streamChanged(_ stream: AstraNet.Stream) { changes.append(()) }
}

/// Calls a closure for each change.
final class ChangeHandler: StreamDelegate {
    private let body: @Sendable (AstraNet.Stream) -> Void

    init(_ body: @escaping @Sendable (AstraNet.Stream) -> Void) { self.body = body }

    func streamChanged(_ stream: AstraNet.Stream) { body(stream) }
}

extension AstraNet.Stream {
    struct Unexpected: Error {
        var what: String
    }

    /// Pushes a source, which must be possible.
    func pushed() throws -> AstraNet.Stream {
        let result = pushSource()
        guard case .opened(let stream) = result else { throw Unexpected(what: "\(result)") }
        return stream
    }

    /// Pushes a source as soon as there is room; `recorder` is the delegate.
    func pushed(waitingFor recorder: ChangeRecorder) async throws -> AstraNet.Stream {
        while true {
            switch pushSource() {
            case .opened(let stream): return stream
            case .noRoom: _ = await recorder.changes.next()
            case let result: throw Unexpected(what: "\(result)")
            }
        }
    }

    /// Pushes a source with these bytes, which ends well.
    func pushWhole(_ text: String) throws {
        let stream = try pushed()
        try stream.send(now: ByteBuffer(string: text))
        stream.close()
    }

    /// Pushes until the client's grant is used up; how many sources that were.
    func pushAll(limit: Int = 100) -> [AstraNet.Stream] {
        var streams: [AstraNet.Stream] = []
        while streams.count < limit, case .opened(let stream) = pushSource() { streams.append(stream) }
        return streams
    }

    /// The next thing that comes, which must be a pushed source.
    func nextPushed() async throws -> AstraNet.Stream {
        let news = try await nextStreamNews(deadline: .soon)
        guard case .pushed(let stream) = news else { throw Unexpected(what: "\(news)") }
        return stream
    }

    /// All that the stream has to say up to its end of file.
    func readText() async throws -> String { String(buffer: try await readAll()) }

    /// Waits for the end of a request without sources.
    func expectFinished(sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let news = try await nextStreamNews(deadline: .soon)
        guard case .finished = news else {
            Issue.record("\(news)", sourceLocation: sourceLocation)
            return
        }
    }

    /// The error that the request ends with, when its sources were taken.
    func newsFailure() async throws -> AstraNetError? {
        while true {
            switch try await nextStreamNews(deadline: .soon) {
            case .failed(let error): return error
            case .finished: return nil
            case .pushed(let stream): stream.close()
            case .bytes, .nothing: break
            }
        }
    }

    /// How many bytes of this end are under way.
    var inFlight: Int { withStorage { Int($0.state.sendWindow.inFlight) } }
    var phase: StreamState.Phase { withStorage { $0.state.phase } }
}

extension Node {
    /// The links that are up.
    var links: [Link] { core.shared.withLockedValue { Array($0.links.up.values) } }

    /// Waits until no link knows a stream, and nothing is counted for one.
    func expectNothingLeft(sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let deadline = ContinuousClock.Instant.soon
        while true {
            var left: [String] = []
            for link in links {
                // The event loop's turn, too.
                let known = try await link.eventLoop.submit { link.handler.value?.streams.count ?? 0 }.get()
                let counts = (known, link.takenStreamPlaces, link.pushGrants.held, link.buffered.held)
                if counts != (0, 0, 0, 0) { left.append("streams, places, grants, bytes: \(counts)") }
            }
            if left.isEmpty { return }
            try #require(.now < deadline, "\(left)", sourceLocation: sourceLocation)
            try await Task.sleep(for: .milliseconds(5))
        }
    }

    /// How many streams the node's links know.
    func streamCount() async throws -> Int {
        var count = 0
        for link in links { count += try await link.eventLoop.submit { link.handler.value?.streams.count ?? 0 }.get() }
        return count
    }
}

extension DialBlock {
    /// The payload of an op.
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
