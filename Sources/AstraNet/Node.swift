public import Logging
internal import NIOConcurrencyHelpers
public import NIOCore
public import NIOPosix

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#elseif canImport(Darwin)
    internal import Darwin
#endif

/// A node on the mesh: binds services, dials those of other nodes, and keeps the links between them.
///
/// ```swift
/// let node = Node()
/// try await node.join(host: "127.0.0.1", port: 5555, deadline: .now + .seconds(10))
/// let stream = try await node.dial("echo", deadline: .now + .seconds(10))
/// ```
public final class Node: Sendable {
    /// This process's identity on the mesh, new at each start.
    public var id: HostID { core.id }

    private let core: NodeCore
    private let group: any EventLoopGroup
    private let servers = NIOLockedValueBox<[any Channel]>([])

    /// - Parameters:
    ///   - configuration: the environment, deadlines and limits.
    ///   - group: the event loops that links run on, one loop for each link; NIO's shared ones by default.
    ///   - logger: where links coming and going and broken rules are logged.
    public init(
        configuration: NodeConfiguration = NodeConfiguration(),
        group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton,
        logger: Logger = Logger(label: "astranet")
    ) {
        core = NodeCore(configuration: configuration, log: logger, timers: group.next())
        self.group = group
    }

    // MARK: - Links

    /// Accepts links at an address.
    ///
    /// - Parameters:
    ///   - host: a name or an IP address.
    ///   - port: 0 for one that is free.
    /// - Returns: the address it listens at.
    /// - Throws: ``AstraNetError`` with code `addressInUse`, `addressNotAvailable` or `unreachable`, and the system's
    ///   reason.
    @discardableResult
    public func listen(host: String, port: Int) async throws -> SocketAddress {
        let core = core
        let bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 1_024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                let up = channel.eventLoop.makePromise(of: HostID.self)
                return Self.configure(channel, core: core, up: up)
            }
        do {
            let server = try await Self.withLinkOptions(bootstrap).bind(host: host, port: port).get()
            servers.withLockedValue { $0.append(server) }
            return server.localAddress!
        } catch {
            let code: AstraNetError.Code =
                switch (error as? IOError)?.errnoCode {
                case EADDRINUSE: .addressInUse
                case EADDRNOTAVAIL: .addressNotAvailable
                default: .unreachable
                }
            throw AstraNetError(code, "cannot listen on \(host):\(port): \(Self.reason(error))")
        }
    }

    /// Connects to a node and shakes hands with it.
    ///
    /// - Parameters:
    ///   - host: a name or an IP address.
    ///   - port: the port it listens at.
    ///   - deadline: when to give up.
    /// - Returns: the node's identity, once the link is up.
    /// - Throws: ``AstraNetError`` with code `unreachable`, with the system's reason, or why the handshake failed.
    @discardableResult
    public func join(host: String, port: Int, deadline: ContinuousClock.Instant) async throws -> HostID {
        try await connect(host: host, port: port, deadline: deadline).peer
    }

    /// Joins an address and joins it again whenever the link is gone, with an exponential back-off of up to one minute,
    /// until the task is cancelled or the node is shut down. The name is looked up anew each time.
    ///
    /// - Parameters:
    ///   - host: a name or an IP address.
    ///   - port: the port it listens at.
    public func keepJoined(host: String, port: Int) async {
        var backoff = JoinBackoff()
        while !Task.isCancelled, !core.isClosed {
            var reason = "the link was closed"
            do {
                let joined = try await connect(host: host, port: port, deadline: .now + .seconds(20))
                backoff.succeeded()
                core.log.info("joined", metadata: ["address": "\(host):\(port)", "peer": "\(joined.peer)"])
                await withTaskCancellationHandler {
                    await Self.waitUntilClosed(joined.channel)
                } onCancel: {
                    joined.channel.close(promise: nil)
                }
            } catch {
                reason = "\(error)"
            }
            let pause = backoff.failed(jitter: .random(in: 0..<1))
            core.log.info(
                "not joined", metadata: ["address": "\(host):\(port)", "reason": "\(reason)", "again in": "\(pause)"])
            do {
                try await Task.sleep(for: pause)
            } catch {
                return
            }
        }
    }

    /// A link that was joined: whom it leads to, and when it is over.
    struct Joined: Sendable {
        var peer: HostID
        var channel: any Channel
    }

    func connect(host: String, port: Int, deadline: ContinuousClock.Instant) async throws -> Joined {
        let core = core
        let eventLoop = group.next()
        let up = eventLoop.makePromise(of: HostID.self)
        let limit = NIODeadline(deadline) - .now()
        do {
            let channel = try await ClientBootstrap(group: eventLoop)
                .channelOption(.tcpOption(.tcp_nodelay), value: 1)
                .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: Self.readSize))
                .channelOption(.maxMessagesPerRead, value: 4)
                .channelOption(.writeBufferWaterMark, value: Self.waterMark)
                .connectTimeout(limit)
                .channelInitializer { Self.configure($0, core: core, up: up) }
                .connect(host: host, port: port).get()
            let timer = eventLoop.scheduleTask(deadline: NIODeadline(deadline)) {
                up.fail(AstraNetError(.deadlineExceeded, "no handshake from \(host):\(port) in time"))
                channel.close(promise: nil)
            }
            defer { timer.cancel() }
            let peer = try await withTaskCancellationHandler {
                try await up.futureResult.get()
            } onCancel: {
                channel.close(promise: nil)
            }
            return Joined(peer: peer, channel: channel)
        } catch let error as AstraNetError {
            throw error
        } catch {
            up.fail(error)
            throw AstraNetError(.unreachable, "cannot join \(host):\(port): \(Self.reason(error))")
        }
    }

    /// What the system said, without the wrapping.
    private static func reason(_ error: any Error) -> String {
        switch error {
        case let error as IOError: String(cString: strerror(error.errnoCode))
        case let error as NIOConnectionError:
            error.connectionErrors.first.map { reason($0.error) }
                ?? (error.dnsAError ?? error.dnsAAAAError).map { "\(error.host) is not known: \($0)" } ?? "\(error)"
        default: "\(error)"
        }
    }

    /// A read takes up to so many bytes: larger ones gain nothing, smaller ones cost system calls.
    private static let readSize = 256 * 1_024
    /// A connection takes so many bytes before it says that it is full.
    private static let waterMark = ChannelOptions.Types.WriteBufferWaterMark(low: 256 * 1_024, high: 1 << 20)

    private static func withLinkOptions(_ bootstrap: ServerBootstrap) -> ServerBootstrap {
        bootstrap
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: readSize))
            .childChannelOption(.maxMessagesPerRead, value: 4)
            .childChannelOption(.writeBufferWaterMark, value: waterMark)
    }

    private static func configure(
        _ channel: any Channel, core: NodeCore, up: EventLoopPromise<HostID>
    ) -> EventLoopFuture<Void> {
        channel.eventLoop.makeCompletedFuture {
            let link = Link(id: core.takeLinkID(), channel: channel)
            try channel.pipeline.syncOperations.addHandler(LinkHandler(node: core, link: link, up: up))
        }
    }

    /// How many links are up.
    public var linkCount: Int { core.linkCount }

    // MARK: - Services

    /// Binds a service on a fresh port and announces it at once.
    ///
    /// - Parameters:
    ///   - name: the service's name without the environment.
    ///   - peer: announces it only on the link this stream came over; `nil`, the default, on all links.
    /// - Throws: ``AstraNetError`` with code `serviceInUse`, `closed`, or `limitReached` for a name that is too long.
    public func bind(_ name: String, visibleTo peer: Stream? = nil) throws(AstraNetError) -> Listener {
        try core.bind(name, visibility: peer.map { .link($0.link.id) } ?? .everybody)
    }

    /// Opens a stream to some node that offers a service, waiting for an offer where there is none yet.
    ///
    /// - Parameters:
    ///   - name: the service's name without the environment.
    ///   - bucket: the same bucket goes to the same offer for as long as the set of offers stays the same; `nil` picks at
    ///     random.
    ///   - peer: the stream on which the name was learnt; where nobody offers it and that stream's link is gone, nothing
    ///     is waited for. `nil`, the default, for a name of one's own.
    ///   - deadline: when to give up.
    /// - Throws: ``AstraNetError`` with code `noOffer`, `refused`, `linkLost`, `deadlineExceeded` or `closed`;
    ///   `CancellationError`.
    public func dial(
        _ name: String, bucket: String? = nil, learntFrom peer: Stream? = nil, deadline: ContinuousClock.Instant
    ) async throws -> Stream {
        let fullName = core.configuration.fullName(name)
        // An offer that was withdrawn while it was dialled refuses; another one may be there already.
        var refused: Set<Address> = []
        var refusal: AstraNetError?
        while true {
            guard let (link, offer) = try core.pickOffer(of: fullName, bucket: bucket, except: refused) else {
                // Refused by all who offer it; where the offers are gone meanwhile, the next one is waited for.
                if let refusal, core.hasOffer(of: fullName) { throw refusal }
                do {
                    try await core.waitForOffer(of: fullName, over: peer?.link.id, deadline: deadline)
                } catch let error as AstraNetError where error.code == .deadlineExceeded {
                    throw AstraNetError(.noOffer, error.message)
                }
                continue
            }
            let stream = Stream(
                state: .dialer(), local: core.address(port: core.takePort()), remote: offer.address, link: link)
            do {
                try link.open(stream)
                try await stream.opened(deadline: deadline)
                return stream
            } catch {
                stream.close()
                guard let error = error as? AstraNetError, ContinuousClock.now < deadline else { throw error }
                switch error.code {
                case .refused:
                    refused.insert(offer.address)
                    refusal = error
                case .linkLost:
                    // It takes its offers along, so the next round finds another one or waits.
                    await Task.yield()
                default: throw error
                }
            }
        }
    }

    /// All that other nodes offer, as far as this node has heard.
    public var services: [ServiceOffer] { core.offers }

    // MARK: - End

    /// Stops listening, lets what was written to closed streams leave, closes all links and fails the streams that are
    /// still open. The node cannot be used again.
    ///
    /// - Parameter grace: how long to wait for peers that do not take the last bytes.
    public func shutdown(grace: Duration = .seconds(5)) async {
        let servers = servers.withLockedValue { servers in
            defer { servers = [] }
            return servers
        }
        for server in servers { await Self.closed(server) }
        let (links, listeners) = core.close()
        for listener in listeners { listener.close() }
        let deadline = NIODeadline(.now + grace)
        for link in links { link.closeWhenFlushed(deadline: deadline) }
        for link in links { await Self.waitUntilClosed(link.channel) }
    }

    private static func closed(_ channel: any Channel) async {
        channel.close(promise: nil)
        await waitUntilClosed(channel)
    }

    private static func waitUntilClosed(_ channel: any Channel) async {
        do {
            try await channel.closeFuture.get()
        } catch {
            // The future of a close never fails in NIO; were it to, the channel is closed all the same.
        }
    }
}
