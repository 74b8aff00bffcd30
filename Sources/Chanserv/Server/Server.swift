import NIOConcurrencyHelpers
public import ServiceLifecycle

/// A server of services on a network. Clients post requests to the name of a service, which answers with sources.
///
/// ```swift
/// let server = Server(multiplexer: AstraNetMultiplexer(node))
/// try await server.listenAndServe("echo") { request in
///     SourceList([Source(header: "", frames: [request.body])])
/// }
/// ```
///
/// As a `ServiceLifecycle.Service` it runs until its service group shuts down, and then drains.
public final class Server: ServiceLifecycle.Service {
    /// The network on which names are bound.
    public let multiplexer: any Multiplexer
    /// The initial options of the services.
    public let configuration: Configuration
    /// The open requests of all services of this server.
    package let open: OpenRequests
    private let services = NIOLockedValueBox<[VirtualService]>([])

    /// Creates a server. It binds no name.
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
    ///   - sourceFunc: answers a request. Called for several requests at the same time.
    /// - Throws: ``ChanservError`` with code `addressInUse` if the name is already bound, or `cancelled` after the
    ///   multiplexer was shut down.
    @discardableResult
    public func serve(_ vAddr: String, _ sourceFunc: @escaping SourceFunc) throws(ChanservError) -> VirtualService {
        try serve(vAddr, handler: AsyncRequestHandler(sourceFunc, configuration))
    }

    /// As ``serve(_:_:)``, with a handler that does not suspend.
    package func serve(_ vAddr: String, handler: any RequestHandler) throws(ChanservError) -> VirtualService {
        let service = VirtualService(vAddr, on: multiplexer, open: open, configuration, handler)
        try service.start()
        services.withLockedValue { $0.append(service) }
        return service
    }

    /// Serves the requests posted to `vAddr` until the task is cancelled or the service group shuts down. It then
    /// withdraws the name and waits until the open requests have ended, at most for ``Configuration/drainTimeout``.
    ///
    /// - Throws: as ``serve(_:_:)``.
    public func listenAndServe(_ vAddr: String, _ sourceFunc: @escaping SourceFunc) async throws(ChanservError) {
        let service = try serve(vAddr, sourceFunc)
        await waitForEnd()
        await drain([service])
    }

    /// Serves until the task is cancelled or the service group shuts down. It then withdraws all names and waits until
    /// the open requests have ended, at most for ``Configuration/drainTimeout``.
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

    private func drain(_ services: [VirtualService]) async {
        for service in services { service.stopAccepting() }
        let deadline = multiplexer.surroundings.now() + configuration.drainTimeout
        // An unstructured task, because a cancelled caller cannot wait.
        await Task(executorPreference: multiplexer.surroundings.executor) {
            await withTaskGroup(of: Void.self) { group in
                for service in services { group.addTask { await service.drain(until: deadline) } }
            }
        }.value
    }
}
