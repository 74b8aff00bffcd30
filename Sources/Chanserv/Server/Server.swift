import NIOConcurrencyHelpers
public import ServiceLifecycle

/// Offers services on a network: names to which clients post requests, and which answer with sources.
///
/// ```swift
/// let server = Server(multiplexer: AstraNetMultiplexer(node))
/// try await server.listenAndServe("echo") { request in
///     SourceList([Source(header: "", frames: [request.body])])
/// }
/// ```
///
/// As a `ServiceLifecycle.Service` it runs until the group is shut down, and then drains.
public final class Server: ServiceLifecycle.Service {
    /// Where the names are bound.
    public let multiplexer: any Multiplexer
    /// The options that services start with.
    public let configuration: Configuration
    /// The open requests of all its services.
    package let open: OpenRequests
    private let services = NIOLockedValueBox<[Service]>([])

    /// Makes a server. It does nothing by itself.
    public convenience init(multiplexer: any Multiplexer, configuration: Configuration = Configuration()) {
        self.init(
            multiplexer: multiplexer, configuration: configuration,
            open: OpenRequests(surroundings: multiplexer.surroundings))
    }

    /// As ``init(multiplexer:configuration:)``, with a set of open requests that several servers share.
    package init(multiplexer: any Multiplexer, configuration: Configuration, open: OpenRequests) {
        self.multiplexer = multiplexer
        self.configuration = configuration
        self.open = open
    }

    /// Binds `vAddr` and serves the requests posted to it until the service is stopped.
    ///
    /// - Parameters:
    ///   - vAddr: the virtual address.
    ///   - sourceFunc: answers a request; called for several at the same time.
    /// - Throws: ``ChanservError`` with code `addressInUse` if the name is bound already, or `cancelled` after the
    ///   multiplexer was shut down.
    @discardableResult
    public func serve(_ vAddr: String, _ sourceFunc: @escaping SourceFunc) throws -> Service {
        try serve(vAddr, handler: AsyncRequestHandler(sourceFunc, configuration))
    }

    /// As ``serve(_:_:)``, for code that does not wait.
    package func serve(_ vAddr: String, handler: any RequestHandler) throws(ChanservError) -> Service {
        let service = Service(vAddr, on: multiplexer, open: open, configuration, handler)
        try service.start()
        services.withLockedValue { $0.append(service) }
        return service
    }

    /// Serves the requests posted to `vAddr` until the task is cancelled or the service group shuts down; then it withdraws the
    /// name, and returns when the requests that are open have ended, at the latest after ``Configuration/drainTimeout``.
    ///
    /// - Throws: as ``serve(_:_:)``.
    public func listenAndServe(_ vAddr: String, _ sourceFunc: @escaping SourceFunc) async throws {
        let service = try serve(vAddr, sourceFunc)
        await waitForEnd()
        await drain([service])
    }

    /// Serves until the task is cancelled or the service group shuts down; then it withdraws all names, and returns when the
    /// requests that are open have ended, at the latest after ``Configuration/drainTimeout``.
    public func run() async throws {
        await waitForEnd()
        await drain(services.withLockedValue { $0 })
    }

    private func waitForEnd() async {
        let end = Event()
        await withGracefulShutdownHandler {
            _ = await end.wait()
        } onGracefulShutdown: {
            end.signal()
        }
    }

    private func drain(_ services: [Service]) async {
        for service in services { service.stopAccepting() }
        let deadline = multiplexer.surroundings.now() + configuration.drainTimeout
        // In tasks of their own: a cancelled caller has no time left to wait with.
        await Task(executorPreference: multiplexer.surroundings.executor) {
            await withTaskGroup(of: Void.self) { group in
                for service in services { group.addTask { await service.drain(until: deadline) } }
            }
        }.value
    }
}
