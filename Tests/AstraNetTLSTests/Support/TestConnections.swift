import AstraNet
import NIOCore
import NIOPosix
import Testing

/// What one end of a connection has seen.
enum EndEvent: Hashable, Sendable {
    case credentials(PeerCredentials)
    case bytes(String)
    /// An error with code `insecure`: its message.
    case insecure(String)
    /// Another error.
    case failed(String)
    case closed
}

/// One end of a connection, with a handler that plays the part of a link: it greets when the connection is there.
struct End: Sendable {
    let channel: any Channel
    let events: AsyncStream<EndEvent>
    fileprivate let localAddress: EventLoopFuture<String>

    /// The address of this end, as the other end names it.
    var address: String { get async throws { try await localAddress.get() } }

    /// All further events up to the end of the connection.
    func all() async -> [EndEvent] {
        var all: [EndEvent] = []
        for await event in events { all.append(event) }
        return all
    }

    /// Waits for the text and returns the events up to it, with the text as one event.
    func until(text: String) async throws -> [EndEvent] {
        var all: [EndEvent] = []
        var seen = ""
        for await event in events {
            guard case .bytes(let part) = event else {
                all.append(event)
                continue
            }
            seen += part
            if seen == text { return all + [.bytes(seen)] }
        }
        Issue.record("the connection ended before '\(text.prefix(100))': \(all), '\(seen.prefix(100))'")
        throw CancellationError()
    }

    func send(_ text: String) {
        channel.writeAndFlush(ByteBuffer(string: text), promise: nil)
    }

    func close() { channel.close(promise: nil) }
}

extension End {
    /// Adds the handlers to a new channel, on its event loop.
    ///
    /// - Parameters:
    ///   - greeting: the bytes that this end writes at once; empty for none.
    ///   - splits: whether the bytes of the peer arrive one at a time.
    static func make(
        _ channel: any Channel, _ security: (any LinkSecurity)?, greeting: String, splits: Bool = false
    ) throws -> End {
        let operations = channel.pipeline.syncOperations
        if splits { try operations.addHandler(ByteSplitter()) }
        try security?.addHandlers(to: channel)
        let (events, continuation) = AsyncStream.makeStream(of: EndEvent.self)
        let address = channel.eventLoop.makePromise(of: String.self)
        try operations.addHandler(RecordingHandler(greeting: greeting, continuation, address))
        return End(channel: channel, events: events, localAddress: address.futureResult)
    }

    /// Connects to an address of this machine.
    static func connect(
        _ address: SocketAddress, _ security: (any LinkSecurity)?, greeting: String = "hello from the client"
    ) async throws -> End {
        let (ends, continuation) = AsyncStream.makeStream(of: End.self)
        _ = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    continuation.yield(try End.make(channel, security, greeting: greeting))
                }
            }
            .connect(to: address).get()
        return try #require(await ends.first { _ in true })
    }
}

/// A listener whose connections use `security`.
struct TestListener: Sendable {
    let channel: any Channel
    let address: SocketAddress
    let accepted: AsyncStream<End>

    init(
        _ security: (any LinkSecurity)?, greeting: String = "hello from the server", splits: Bool = false
    ) async throws {
        let (accepted, continuation) = AsyncStream.makeStream(of: End.self)
        self.accepted = accepted
        channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    continuation.yield(try End.make(channel, security, greeting: greeting, splits: splits))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        address = try #require(channel.localAddress)
    }

    /// The next connection.
    func next() async throws -> End { try #require(await accepted.first { _ in true }) }

    /// Connects a client, and returns both ends.
    func connect(
        _ security: (any LinkSecurity)?, greeting: String = "hello from the client"
    ) async throws -> (client: End, server: End) {
        let client = try await End.connect(address, security, greeting: greeting)
        return (client, try await next())
    }

    func close() async throws { try await channel.close() }
}

private final class RecordingHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let greeting: String
    private let events: AsyncStream<EndEvent>.Continuation
    private let address: EventLoopPromise<String>

    init(
        greeting: String, _ events: AsyncStream<EndEvent>.Continuation, _ address: EventLoopPromise<String>
    ) {
        self.greeting = greeting
        self.events = events
        self.address = address
    }

    func channelActive(context: ChannelHandlerContext) {
        // The address is gone when the connection is closed.
        address.succeed(context.localAddress?.printed ?? "")
        guard !greeting.isEmpty else { return }
        context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: greeting)), promise: nil)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        events.yield(.bytes(String(buffer: unwrapInboundIn(data))))
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let credentials = event as? PeerCredentials { events.yield(.credentials(credentials)) }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if let error = error as? AstraNetError, error.code == .insecure {
            events.yield(.insecure(error.message))
        } else {
            events.yield(.failed("\(error)"))
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        events.yield(.closed)
        events.finish()
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        // For a connection that was never active.
        address.succeed("")
        events.finish()
    }
}

/// Passes on the bytes of the peer one at a time.
private final class ByteSplitter: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = unwrapInboundIn(data)
        while let byte = bytes.readSlice(length: 1) {
            context.fireChannelRead(wrapInboundOut(byte))
            context.fireChannelReadComplete()
        }
    }
}
