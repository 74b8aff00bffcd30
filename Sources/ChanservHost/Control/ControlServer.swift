internal import AstraNet
internal import Glibc
internal import HostConfiguration
package import Logging
internal import NIOConcurrencyHelpers
internal import NIOCore
internal import NIOPosix
package import PluginRuntime

/// Serves commands on a Unix socket. Each request and each answer line is one JSON object (docs/control.md).
///
/// A client is untrusted until its user is known. Lines, connections and times are limited, and an error of a client
/// ends only its own connection.
package final class ControlServer: Sendable {
    typealias Child = NIOAsyncChannel<ByteBuffer, Never>

    private struct State {
        var file: ControlSocketFile
        var isLetGo = false
        var hasEnded = false
    }

    private let listener: any Channel
    private let threads: PluginThreads
    private let logger: Logger
    private let state: NIOLockedValueBox<State>
    private let serving: Task<Void, Never>

    /// Listens at `path`.
    ///
    /// - Parameters:
    ///   - threads: run the calls that block on the file system.
    ///   - replacesListener: whether to replace a socket at which another host listens.
    package static func start(
        at path: String, host: PluginHost, threads: PluginThreads, logger: Logger,
        limits: ControlLimits = ControlLimits(), replacesListener: Bool = false
    ) async throws(ControlSocketError) -> ControlServer {
        let file = try await threads.run { () -> Result<ControlSocketFile, ControlSocketError> in
            do throws(ControlSocketError) {
                return .success(try ControlSocketFile(binding: path, replacesListener: replacesListener))
            } catch {
                return .failure(error)
            }
        }.get()
        let bootstrap = ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(AcceptHandler(name: "control socket", log: logger))
                }
            }
            // A client that has closed its writing side still gets its answer.
            .childChannelOption(.allowRemoteHalfClosure, value: true)
        let channel: NIOAsyncChannel<Child, Never>
        do {
            channel = try await bootstrap.bind(file.descriptor) { channel in
                channel.setCloseOnExec()
                return channel.eventLoop.makeCompletedFuture {
                    let decoder = ByteToMessageHandler(ControlLineDecoder())
                    try channel.pipeline.syncOperations.addHandler(decoder)
                    return try Child(wrappingChannelSynchronously: channel)
                }
            }
        } catch {
            throw ControlSocketError("cannot listen on the control socket \(quoted(path))", SocketNetwork.reason(error))
        }
        return ControlServer(file, channel, host, threads, logger, limits)
    }

    private init(
        _ file: ControlSocketFile, _ channel: NIOAsyncChannel<Child, Never>, _ host: PluginHost,
        _ threads: PluginThreads,
        _ logger: Logger, _ limits: ControlLimits
    ) {
        self.threads = threads
        self.logger = logger
        listener = channel.channel
        let state = NIOLockedValueBox(State(file: file))
        self.state = state
        serving = Task {
            await Self.serve(channel, host, logger, limits, state)
            state.withLockedValue { $0.hasEnded = true }
        }
    }

    /// Whether the file at the path is still this socket.
    var isInPlace: Bool {
        get async {
            let file = state.withLockedValue { $0.file }
            return await threads.run { file.isInPlace }
        }
    }

    /// Moves the socket to its path with the process id at the end, so that another host can create its own. The server
    /// goes on to accept connections.
    ///
    /// - Returns: the new path; `nil` if the socket could not be moved, which is logged.
    func moveAside() async -> String? {
        let file = state.withLockedValue { $0.file }
        let result = await threads.run { () -> Result<ControlSocketFile, ControlSocketError> in
            do throws(ControlSocketError) {
                return .success(try file.movedAside())
            } catch {
                return .failure(error)
            }
        }
        switch result {
        case .success(let moved):
            state.withLockedValue { $0.file = moved }
            return moved.path
        case .failure(let error):
            logger.warning("\(error)")
            return nil
        }
    }

    /// Accepts no more connections. Open connections continue. The server no longer owns the file at its path.
    func releaseSocket() {
        state.withLockedValue { $0.isLetGo = true }
        listener.close(promise: nil)
    }

    /// Whether the server has stopped listening, or failed, and its last connection has ended.
    var hasEnded: Bool { state.withLockedValue { $0.hasEnded } }

    /// Ends all connections and removes the socket.
    package func stop() async {
        // After releaseSocket() the descriptor may be closed, so another file at the path may have the same inode
        // number.
        if !state.withLockedValue({ $0.isLetGo }) { await removeFile() }
        serving.cancel()
        await serving.value
    }

    private func removeFile() async {
        let file = state.withLockedValue { $0.file }
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
        _ channel: NIOAsyncChannel<Child, Never>, _ host: PluginHost, _ logger: Logger, _ limits: ControlLimits,
        _ state: NIOLockedValueBox<State>
    ) async {
        do {
            try await channel.executeThenClose { inbound in
                await withDiscardingTaskGroup { group in
                    let slots = ConnectionSlots(limits.connections)
                    do {
                        for try await child in inbound {
                            let place = slots.take()
                            group.addTask {
                                defer { slots.release(place) }
                                await ControlConnection(child, host, logger, place, limits).serve()
                            }
                        }
                    } catch is CancellationError {
                        // The host is stopping.
                    } catch {
                        logger.error("control socket: accepts no more connections: \(SocketNetwork.reason(error))")
                    }
                    // Open connections end with the server, except after releaseSocket().
                    if !state.withLockedValue({ $0.isLetGo }) { group.cancelAll() }
                }
            }
        } catch {
            logger.debug("control socket: error while closing: \(SocketNetwork.reason(error))")
        }
    }

    /// The treatment of a new connection.
    enum Place: Sendable {
        case served
        /// All slots are taken. The client gets the error `busy`.
        case told
        /// Too many clients are being rejected. The connection is closed at once.
        case closed
    }

    /// Counts the connections by their treatment.
    private final class ConnectionSlots: Sendable {
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

        func release(_ place: Place) {
            taken.withLockedValue { taken in
                switch place {
                case .served: taken.served -= 1
                case .told: taken.told -= 1
                case .closed: break
                }
            }
        }
    }
}
