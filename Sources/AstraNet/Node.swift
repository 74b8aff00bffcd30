public import Logging
internal import NIOConcurrencyHelpers
public import NIOCore
public import NIOPosix

/// A node of the mesh. It binds services, dials services of other nodes, and maintains the links between them.
///
/// ```swift
/// let node = Node()
/// try await node.join(host: "127.0.0.1", port: 5555, deadline: .now + .seconds(10))
/// let stream = try await node.dial("echo", deadline: .now + .seconds(10))
/// ```
public final class Node: Sendable {
    /// The identity of this process on the mesh. It is new at each start.
    public var id: HostID { core.id }

    package let core: NodeCore
    /// The listening sockets, in the order of the calls of ``listen(at:security:)``.
    let servers = NIOLockedValueBox<[any Channel]>([])

    /// Creates a node. It has no links until it listens or joins.
    ///
    /// - Parameters:
    ///   - configuration: the environment, timeouts and limits.
    ///   - group: the event loops that run the links. Each link runs on one of them. Default: NIO's shared event loops.
    ///   - logger: receives the log messages about links and protocol violations.
    public init(
        configuration: NodeConfiguration = NodeConfiguration(),
        group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton,
        logger: Logger = Logger(label: "astranet")
    ) {
        core = NodeCore(configuration: configuration, log: logger, group: group, surroundings: .real)
    }

    /// Creates a node with another network, clock and random source, for example a simulated one.
    package init(
        configuration: NodeConfiguration, group: any EventLoopGroup, logger: Logger, surroundings: NodeDependencies
    ) {
        core = NodeCore(configuration: configuration, log: logger, group: group, surroundings: surroundings)
    }

    // MARK: - Links

    /// Connects to a node and performs the handshake.
    ///
    /// Tries the addresses of the name one after the other. Each address gets an equal share of the remaining time.
    ///
    /// - Parameters:
    ///   - address: the address at which the node listens.
    ///   - security: secures the connection, for example `TLSClient` of `AstraNetTLS`. `nil`, the default, for none.
    ///   - deadline: the deadline for the whole operation.
    /// - Returns: the host id of the peer, once the link is up.
    /// - Throws: ``AstraNetError`` with code `connectionRefused`, or `unreachable` and the error of the operating
    ///   system, or `insecure`, or the error of the handshake.
    @discardableResult
    public func join(
        _ address: NodeAddress, security: (any LinkSecurity)? = nil, deadline: ContinuousClock.Instant
    ) async throws(AstraNetError) -> HostID {
        var failure: any Error = AstraNetError(.deadlineExceeded, "the deadline has passed")
        do {
            let addresses = try await core.lookUp(address).get()
            for (index, address) in addresses.enumerated() {
                let left = core.surroundings.deadline(deadline, on: core.timers) - core.timers.now
                guard left > .zero else { break }
                let share = TimeAmount.nanoseconds(left.nanoseconds / Int64(addresses.count - index))
                do {
                    return try await core.open(address, security: security, timeout: share).get().peer
                } catch {
                    failure = error
                }
            }
        } catch {
            failure = error
        }
        if let failure = failure as? AstraNetError, failure.code != .unreachable { throw failure }
        throw AstraNetError(
            SocketNetwork.isRefused(failure) ? .connectionRefused : .unreachable,
            "cannot join \(address): \(SocketNetwork.reason(failure))")
    }

    /// Joins all addresses of a name, and joins an address again when its link is lost.
    ///
    /// Retries with exponential back-off of up to one minute. Looks the name up every 10 s (`docs/protocol.md` §3).
    /// Does not join an address again while its host has a link. Returns when the task is cancelled or the node is shut
    /// down.
    ///
    /// - Parameters:
    ///   - address: the address at which the nodes listen.
    ///   - security: as in ``join(_:security:deadline:)``. Of several calls with the same address, the last one counts.
    public func keepJoined(_ address: NodeAddress, security: (any LinkSecurity)? = nil) async {
        await core.joiner.keepJoined(JoinPlan.Target(address), security: security, by: core)
    }

    /// Connects to a host and a port as ``join(_:security:deadline:)`` does.
    @discardableResult
    public func join(host: String, port: Int, deadline: ContinuousClock.Instant) async throws(AstraNetError) -> HostID {
        try await join(.tcp(host: host, port: port), deadline: deadline)
    }

    /// Joins a host and a port as ``keepJoined(_:security:)`` does.
    public func keepJoined(host: String, port: Int) async {
        await keepJoined(.tcp(host: host, port: port))
    }

    /// The access rules, which decide what peers may do (`docs/security.md`). `nil`, the default, allows everything.
    /// A change applies to the links that are up too.
    public var access: AccessRules? {
        get { core.access }
        set { core.access = newValue }
    }

    /// Makes a link from a connected socket, for example one end of a socket pair.
    ///
    /// - Parameters:
    ///   - socket: a connected stream socket. The node owns it from now on.
    ///   - memory: memory that this process shares with the peer, for the bytes of one direction. `nil`, the default,
    ///     for none.
    /// - Returns: the host id of the peer, once the link is up.
    /// - Throws: ``AstraNetError`` if the descriptor is no such socket or the handshake fails.
    @discardableResult
    public func attach(socket: CInt, memory: SharedMemory? = nil) async throws(AstraNetError) -> HostID {
        try await attach(input: socket, output: socket, memory: memory)
    }

    /// Makes a link from two descriptors, for example those of two pipes. The node owns both from now on.
    ///
    /// - Parameters:
    ///   - input: the descriptor from which this node reads what the peer writes.
    ///   - output: the descriptor to which this node writes.
    ///   - memory: as in ``attach(socket:memory:)``.
    /// - Returns: the host id of the peer, once the link is up.
    /// - Throws: ``AstraNetError`` if the descriptors cannot be used or the handshake fails.
    @discardableResult
    public func attach(
        input: CInt, output: CInt, memory: SharedMemory? = nil
    ) async throws(AstraNetError) -> HostID {
        let core = core
        let eventLoop = core.group.next()
        let up = eventLoop.makePromise(of: LinkUp.self)
        let attached = SocketNetwork.attach(input: input, output: output, on: eventLoop) { channel in
            core.makeLink(of: channel, origin: .attached, memory: memory, up: up)
        }
        attached.whenFailure { up.fail($0) }
        do {
            return try await up.futureResult.get().peer
        } catch let error as AstraNetError {
            throw error
        } catch {
            throw AstraNetError(
                .unreachable, "cannot make a link from this descriptor: \(SocketNetwork.reason(error))")
        }
    }

    /// A task executor that runs tasks on the event loops of this node's links. A task runs on the event loop that
    /// resumes it.
    ///
    /// It is meant for tasks that mostly wait for streams of this node. Such a task must not block or compute for long,
    /// because it delays all traffic of the links on that event loop.
    public var executor: any TaskExecutor { core.executor }

    /// Returns the current time of the node's clock.
    package var now: @Sendable () -> ContinuousClock.Instant { core.surroundings.now }

    /// Returns an unpredictable number from the node's random source.
    package var random: @Sendable () -> UInt64 { core.surroundings.random }

    /// Runs `body` on an event loop of the node when `instant` is reached. `body` must not block.
    ///
    /// - Returns: a closure that cancels the timer.
    package func schedule(
        at instant: ContinuousClock.Instant, _ body: @escaping @Sendable () -> Void
    ) -> @Sendable () -> Void {
        let scheduled = core.timers.scheduleTask(deadline: core.surroundings.deadline(instant, on: core.timers)) {
            body()
        }
        return { scheduled.cancel() }
    }

    /// The executor for tasks that libraries on top of this one start; `nil` for Swift's global pool.
    package var taskExecutor: (any TaskExecutor)? { core.surroundings.executor }

    /// Changes whenever ops of streams have arrived.
    package var streamActivity: UInt64 {
        core.directory.links.reduce(0) { $0 &+ $1.streamReads.load(ordering: .relaxed) &+ 1 }
    }

    /// The number of links that are up.
    public var linkCount: Int { core.directory.linkCount }

    // MARK: - Services

    /// Binds a service on a fresh port and announces it.
    ///
    /// - Parameters:
    ///   - name: the name of the service, without the environment suffix.
    ///   - peer: a stream whose peer is the only host that receives the announcement. The announcement is sent ahead of
    ///     the next bytes on that link, at most 1 s later. `nil`, the default, announces the service to all peers at
    ///     once.
    ///   - answersSoon: whether the service usually answers a stream at once. If so, the node delays the acceptance of
    ///     a stream by up to 1 ms, so that it is sent together with the answer. This applies only if the dialer is a
    ///     node of this library. Default: `false`.
    /// - Throws: ``AstraNetError`` with code `serviceInUse` or `closed`, or `limitReached` if the name is too long.
    public func bind(
        _ name: String, visibleTo peer: MeshStream? = nil, answersSoon: Bool = false
    ) throws(AstraNetError) -> Listener {
        try core.bind(name, visibility: peer.map { .peer($0.hostLink) } ?? .allNodes, answersSoon: answersSoon)
    }

    /// Binds a service as ``bind(_:visibleTo:answersSoon:)`` does, and passes its streams to a closure.
    ///
    /// - Parameter onStream: called for each dialled stream on the event loop of its link, before any bytes of the
    ///   stream are available. It must not block.
    package func bind(
        _ name: String, visibleTo peer: MeshStream? = nil, answersSoon: Bool = false,
        onStream: @escaping @Sendable (MeshStream) -> Acceptance
    ) throws(AstraNetError) -> Listener {
        try core.bind(
            name, visibility: peer.map { .peer($0.hostLink) } ?? .allNodes, answersSoon: answersSoon, onStream: onStream
        )
    }

    /// All services that other nodes have announced to this node.
    public var services: [ServiceOffer] {
        ServiceRegistry.ordered(core.directory.routes).map(\.offer)
    }

    // MARK: - Held resources, for tests and the simulation

    /// Number of bytes that this node buffers because of its peers.
    package var bufferedBytes: Int { core.buffered.held }

    /// Number of offers in the registry. An offer counts once for each link that announced it.
    package var offerCount: Int { core.directory.offerCount }

    /// Number of streams in the links' tables. The caller must run on the event loop of all links.
    package var streamCount: Int {
        core.directory.links.reduce(0) { $0 + ($1.handler.value?.streams.count ?? 0) }
    }

    /// Number of reserved stream slots on all links.
    package var reservedStreamSlots: Int { core.directory.links.reduce(0) { $0 + $1.reservedStreamSlots } }

    /// Number of bytes that are granted to servers for pushed sources.
    package var grantedBytes: Int { core.directory.links.reduce(0) { $0 + $1.pushGrants.held } }

    // MARK: - End

    /// Shuts the node down. The node cannot be used afterwards.
    ///
    /// Stops listening, flushes the queued bytes of closed streams, fails the streams that are open, and closes all
    /// links. Each link ends its own direction first and then reads until the peer closes too, so that no peer loses
    /// bytes that were sent before.
    ///
    /// - Parameter grace: the maximum time to wait for peers that do not read the remaining bytes or do not close.
    public func shutdown(grace: Duration = .seconds(5)) async {
        await stopListening(removesFiles: true)
        let (links, listeners) = core.close()
        for listener in listeners { listener.withdraw() }
        for link in links {
            link.finish(deadline: link.eventLoop.now + .nanoseconds(Int64(clamping: grace.nanoseconds)))
        }
        for link in links { await Self.waitUntilClosed(link.channel) }
        core.executor.retire()
    }

    static func closed(_ channel: any Channel) async {
        channel.close(promise: nil)
        await waitUntilClosed(channel)
    }

    private static func waitUntilClosed(_ channel: any Channel) async {
        do {
            try await channel.closeFuture.get()
        } catch {
            // NIO never fails this future. If it did, the channel would be closed as well.
        }
    }
}
