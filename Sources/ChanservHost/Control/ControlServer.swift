internal import Glibc
internal import Logging
internal import NIOConcurrencyHelpers
internal import NIOCore
internal import NIOPosix

/// Takes commands on a Unix socket: one line with a JSON object for each, answered in the same way (docs/control.md).
///
/// What comes in is a stranger's until it is known to be the host's own user: lines, connections and the time for each are
/// bounded, and whatever a client does ends its own connection at most.
final class ControlServer: Sendable {
    typealias Child = NIOAsyncChannel<ByteBuffer, Never>

    private struct State {
        var isLetGo = false
        var hasEnded = false
    }

    private let file: ControlSocketFile
    private let listener: any Channel
    private let threads: PluginThreads
    private let logger: Logger
    private let state: NIOLockedValueBox<State>
    private let serving: Task<Void, Never>

    /// Listens at `path`.
    ///
    /// - Parameter threads: where the file system is waited for.
    static func start(
        at path: String, host: Host, threads: PluginThreads, logger: Logger, limits: ControlLimits = ControlLimits()
    ) async throws(ControlSocketError) -> ControlServer {
        let file = try await threads.run { () -> Result<ControlSocketFile, ControlSocketError> in
            do throws(ControlSocketError) {
                return .success(try ControlSocketFile(binding: path))
            } catch {
                return .failure(error)
            }
        }.get()
        let bootstrap = ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(AcceptFailures(logger))
                }
            }
            // Who has said all may still be answered.
            .childChannelOption(.allowRemoteHalfClosure, value: true)
        let channel: NIOAsyncChannel<Child, Never>
        do {
            channel = try await bootstrap.bind(file.descriptor) { channel in
                channel.eventLoop.makeCompletedFuture {
                    let decoder = ByteToMessageHandler(ControlLineDecoder())
                    try channel.pipeline.syncOperations.addHandler(decoder)
                    return try Child(wrappingChannelSynchronously: channel)
                }
            }
        } catch {
            throw ControlSocketError("cannot listen on the control socket \(quoted(path))", "\(error)")
        }
        return ControlServer(file, channel, host, threads, logger, limits)
    }

    private init(
        _ file: ControlSocketFile, _ channel: NIOAsyncChannel<Child, Never>, _ host: Host, _ threads: PluginThreads,
        _ logger: Logger, _ limits: ControlLimits
    ) {
        self.file = file
        self.threads = threads
        self.logger = logger
        listener = channel.channel
        let state = NIOLockedValueBox(State())
        self.state = state
        serving = Task {
            await Self.serve(channel, host, logger, limits, state)
            state.withLockedValue { $0.hasEnded = true }
        }
    }

    /// Whether clients find it at its path.
    var isInPlace: Bool {
        get async {
            let file = file
            return await threads.run { file.isInPlace }
        }
    }

    /// Takes no more connections. Those that are there go on, and the file is not its own any more.
    func letGo() {
        state.withLockedValue { $0.isLetGo = true }
        listener.close(promise: nil)
    }

    /// Whether it was let go, or failed, and its last connection has ended.
    var hasEnded: Bool { state.withLockedValue { $0.hasEnded } }

    /// Ends all connections and removes the socket.
    func stop() async {
        // The number of a file that was let go may be another's by now.
        if !state.withLockedValue({ $0.isLetGo }) { await removeFile() }
        serving.cancel()
        await serving.value
    }

    private func removeFile() async {
        let file = file
        let result = await threads.run { () -> Result<Void, ControlSocketError> in
            do throws(ControlSocketError) {
                return .success(try file.remove())
            } catch {
                return .failure(error)
            }
        }
        if case .failure(let error) = result { logger.warning("\(error)") }
    }

    private static func serve(
        _ channel: NIOAsyncChannel<Child, Never>, _ host: Host, _ logger: Logger, _ limits: ControlLimits,
        _ state: NIOLockedValueBox<State>
    ) async {
        do {
            try await channel.executeThenClose { inbound in
                await withDiscardingTaskGroup { group in
                    let places = Places(limits.connections)
                    do {
                        for try await child in inbound {
                            let place = places.take()
                            group.addTask {
                                defer { places.giveBack(place) }
                                await ControlConnection(child, host, logger, place, limits).serve()
                            }
                        }
                    } catch is CancellationError {
                        // The host has stopped.
                    } catch {
                        logger.error("the control socket takes no more connections: \(error)")
                    }
                    // Those that are open end with the server, unless it only takes no more.
                    if !state.withLockedValue({ $0.isLetGo }) { group.cancelAll() }
                }
            }
        } catch {
            logger.debug("the control socket was not closed in order: \(error)")
        }
    }

    /// What a connection gets.
    enum Place: Sendable {
        case served
        /// All places are taken, and it is told so.
        case told
        /// So many are being told already that it is closed at once.
        case closed
    }

    /// How many connections have which place.
    private final class Places: Sendable {
        private let limit: Int
        private let taken = NIOLockedValueBox((served: 0, told: 0))

        init(_ limit: Int) { self.limit = limit }

        func take() -> Place {
            taken.withLockedValue { taken in
                if taken.served < limit {
                    taken.served += 1
                    return .served
                }
                guard taken.told < limit else { return .closed }
                taken.told += 1
                return .told
            }
        }

        func giveBack(_ place: Place) {
            taken.withLockedValue { taken in
                switch place {
                case .served: taken.served -= 1
                case .told: taken.told -= 1
                case .closed: break
                }
            }
        }
    }

    /// A connection that could not be accepted, for want of descriptors or the like, is that connection's end only.
    private final class AcceptFailures: ChannelInboundHandler, Sendable {
        typealias InboundIn = any Channel

        private let logger: Logger

        init(_ logger: Logger) { self.logger = logger }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            logger.warning("the control socket could not accept a connection: \(error)")
        }
    }
}
