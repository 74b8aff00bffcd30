public import Logging
internal import NIOConcurrencyHelpers
public import NIOCore
public import NIOPosix

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

    let core: NodeCore
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
        core = NodeCore(configuration: configuration, log: logger, group: group, surroundings: .real)
    }

    /// A node in another world than the real one.
    package init(
        configuration: NodeConfiguration, group: any EventLoopGroup, logger: Logger, surroundings: Surroundings
    ) {
        core = NodeCore(configuration: configuration, log: logger, group: group, surroundings: surroundings)
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
        let network = core.surroundings.network
        do {
            let addresses = try await network.addresses(of: host, port: port, on: core.timers).get()
            let server = try await network.listen(at: addresses[0], on: core.group) { channel in
                core.makeLink(of: channel, isDialled: false, up: channel.eventLoop.makePromise())
            }.get()
            servers.withLockedValue { $0.append(server) }
            if core.isClosed {
                server.close(promise: nil)
                throw AstraNetError(.closed, "the node is closed")
            }
            let address = server.localAddress ?? addresses[0]
            core.shared.withLockedValue {
                $0.offers.ownAddresses.listens(at: address.ipAddress ?? host, port: address.port ?? port)
            }
            return address
        } catch {
            throw AstraNetError(
                SocketNetwork.listenFailure(error),
                "cannot listen on \(host):\(port): \(SocketNetwork.reason(error))")
        }
    }

    /// Connects to a node and shakes hands with it, at the first of the name's addresses that answers: each gets its share of the
    /// time that is left.
    ///
    /// - Parameters:
    ///   - host: a name or an IP address.
    ///   - port: the port it listens at.
    ///   - deadline: when to give up.
    /// - Returns: the node's identity, once the link is up.
    /// - Throws: ``AstraNetError`` with code `unreachable`, with the system's reason, or why the handshake failed.
    @discardableResult
    public func join(host: String, port: Int, deadline: ContinuousClock.Instant) async throws -> HostID {
        var failure: any Error = AstraNetError(.deadlineExceeded, "it was given no time")
        do {
            let addresses = try await core.surroundings.network.addresses(of: host, port: port, on: core.timers).get()
            for (index, address) in addresses.enumerated() {
                let left = core.surroundings.deadline(deadline, on: core.timers) - core.timers.now
                guard left > .zero else { break }
                let share = TimeAmount.nanoseconds(left.nanoseconds / Int64(addresses.count - index))
                do {
                    return try await core.open(address, timeout: share).get().peer
                } catch {
                    failure = error
                }
            }
        } catch {
            failure = error
        }
        if let failure = failure as? AstraNetError, failure.code != .unreachable { throw failure }
        throw AstraNetError(.unreachable, "cannot join \(host):\(port): \(SocketNetwork.reason(failure))")
    }

    /// Joins every address of a name, and joins each again whenever its link is gone, with an exponential back-off of up to
    /// one minute, until the task is cancelled or the node is shut down. The name is looked up anew every 10 s
    /// (`docs/protocol.md` §3). An address that leads to a host which is linked already is left alone for as long as it is.
    ///
    /// - Parameters:
    ///   - host: a name or an IP address.
    ///   - port: the port it listens at.
    public func keepJoined(host: String, port: Int) async {
        await core.keepJoined(JoinPlan.Target(host: host, port: port))
    }

    /// Makes a link of a connection that is there already: a socket, one of a pair for example.
    ///
    /// - Parameters:
    ///   - socket: a connected stream socket, which the node owns from now on.
    ///   - memory: that both ends share, for the bytes in one direction; `nil`, the default, where there is none.
    /// - Returns: the identity of the node at the other end, once the link is up.
    /// - Throws: ``AstraNetError``, where it is no such socket or the handshake failed.
    @discardableResult
    public func attach(socket: CInt, memory: SharedMemory? = nil) async throws -> HostID {
        try await attach(input: socket, output: socket, memory: memory)
    }

    /// Makes a link of two descriptors, those of two pipes for example.
    ///
    /// - Parameters:
    ///   - input: what the other node writes can be read here.
    ///   - output: what is written here the other node reads. The node owns both from now on.
    ///   - memory: as in ``attach(socket:memory:)``.
    /// - Returns: the identity of the node at the other end, once the link is up.
    /// - Throws: ``AstraNetError``, where they cannot be used or the handshake failed.
    @discardableResult
    public func attach(
        input: CInt, output: CInt, memory: SharedMemory? = nil
    ) async throws -> HostID {
        let core = core
        let eventLoop = core.group.next()
        let up = eventLoop.makePromise(of: LinkUp.self)
        let attached = SocketNetwork.attach(input: input, output: output, on: eventLoop) { channel in
            core.makeLink(of: channel, isDialled: false, memory: memory, up: up)
        }
        attached.whenFailure { up.fail($0) }
        do {
            return try await up.futureResult.get().peer
        } catch let error as AstraNetError {
            throw error
        } catch {
            throw AstraNetError(.unreachable, "cannot be a link: \(SocketNetwork.reason(error))")
        }
    }

    /// Runs tasks on the event loops of this node's links, right where they are resumed: for those that mostly wait for its
    /// streams. They must not block nor compute for long, or all that runs over these links waits.
    public var executor: any TaskExecutor { core.executor }

    /// The present on the node's clock.
    package var now: @Sendable () -> ContinuousClock.Instant { core.surroundings.now }

    /// The node's source of unpredictable numbers.
    package var random: @Sendable () -> UInt64 { core.surroundings.random }

    /// Runs `body` at an instant on an event loop of the node. It must return at once.
    ///
    /// - Returns: a closure that cancels that.
    package func schedule(
        at instant: ContinuousClock.Instant, _ body: @escaping @Sendable () -> Void
    ) -> @Sendable () -> Void {
        let scheduled = core.timers.scheduleTask(deadline: core.surroundings.deadline(instant, on: core.timers)) {
            body()
        }
        return { scheduled.cancel() }
    }

    /// Runs the tasks that libraries on top of this one start; `nil` for Swift's own pool.
    package var taskExecutor: (any TaskExecutor)? { core.surroundings.executor }

    /// How many links are up.
    public var linkCount: Int { core.linkCount }

    // MARK: - Services

    /// Binds a service on a fresh port and announces it.
    ///
    /// - Parameters:
    ///   - name: the service's name without the environment.
    ///   - peer: announces it only to the host at the other end of this stream, ahead of what is sent there next and at the
    ///     latest a second later; `nil`, the default, to everybody at once.
    ///   - answersSoon: whether its streams are answered as a rule as soon as they are there: then their acceptance leaves with
    ///     the answer where the dialer is a node of this library, and by itself only after a millisecond. `false` by default.
    /// - Throws: ``AstraNetError`` with code `serviceInUse`, `closed`, or `limitReached` for a name that is too long.
    public func bind(
        _ name: String, visibleTo peer: Stream? = nil, answersSoon: Bool = false
    ) throws(AstraNetError) -> Listener {
        try core.bind(name, visibility: peer.map { .peer($0.way) } ?? .everybody, answersSoon: answersSoon)
    }

    /// As ``bind(_:visibleTo:answersSoon:)``, for a service that takes its streams on the event loop of their link.
    ///
    /// - Parameter onStream: called for each stream when it is dialled, before any of its bytes are there; it must return at
    ///   once.
    package func bind(
        _ name: String, visibleTo peer: Stream? = nil, answersSoon: Bool = false,
        onStream: @escaping @Sendable (Stream) -> Acceptance
    ) throws(AstraNetError) -> Listener {
        try core.bind(
            name, visibility: peer.map { .peer($0.way) } ?? .everybody, answersSoon: answersSoon, onStream: onStream)
    }

    /// All that other nodes offer, as far as this node has heard.
    public var services: [ServiceOffer] {
        ServiceRegistry.ordered(core.shared.withLockedValue { $0.offers.registry.routes }).map(\.offer)
    }

    // MARK: - End

    /// Stops listening, lets what was written to closed streams leave, closes all links and fails the streams that are
    /// still open. The node cannot be used again.
    ///
    /// Each link says that nothing more comes and is read until its peer has closed it too, so that no peer loses what was
    /// said before.
    ///
    /// - Parameter grace: how long to wait for peers that do not take the last bytes, or do not close.
    public func shutdown(grace: Duration = .seconds(5)) async {
        let servers = servers.withLockedValue { servers in
            defer { servers = [] }
            return servers
        }
        for server in servers { await Self.closed(server) }
        let (links, listeners) = core.close()
        for listener in listeners { listener.withdraw() }
        for link in links {
            link.finish(deadline: link.eventLoop.now + .nanoseconds(Int64(clamping: grace.nanoseconds)))
        }
        for link in links { await Self.waitUntilClosed(link.channel) }
        core.executor.retire()
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
