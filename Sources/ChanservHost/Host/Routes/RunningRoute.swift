package import Chanserv
internal import HostConfiguration
internal import Logging
internal import NIOConcurrencyHelpers

/// A bound route.
package struct RunningRoute: Sendable {
    let id: RouteID
    var planned: PlannedRoute<RouteOptions>
    package let service: VirtualService
    let log: RouteLog
    let admission: RouteAdmission

    /// Binds a route. Requests are served by `instance` from now on, also before the next generation is published.
    ///
    /// - Throws: the error of the multiplexer; then the route is not in `table`.
    init(
        binding planned: PlannedRoute<RouteOptions>, id: RouteID, to instance: RunningInstance, in table: ServingTable,
        on multiplexer: any Multiplexer, logger: Logger
    ) throws {
        log = RouteLog(planned.vAddr, logger: logger)
        admission = RouteAdmission(planned.vAddr, planned.options.access)
        table.prepare(id, instance)
        let server = Server(
            multiplexer: multiplexer, configuration: Server.Configuration(planned.options, log: log, admission),
            open: table.open)
        do {
            service = try server.serve(planned.vAddr, handler: table.handler(for: id, options: planned.options))
        } catch {
            table.abandon(id)
            throw error
        }
        log.attach(service)
        (self.id, self.planned) = (id, planned)
    }

    /// Undoes a binding that was not published.
    func unbind(from table: ServingTable) async {
        service.stopAccepting()
        await service.drain(until: .now)
        table.abandon(id)
        log.detach()
    }
}

extension Server.Configuration {
    /// Creates the server's configuration from the options of a route. Failures go to the log.
    init(_ options: RouteOptions, log: RouteLog, _ admission: RouteAdmission) {
        self.init()
        // Most routes are for all, and then no request pays for the question.
        self.admission = options.access == RouteOptions.Access() ? nil : admission
        maxErrorMass = options.errorMass.limit ?? 0
        errorPause = options.errorMass.pause
        maxErrorPause = options.errorMass.maxPause
        chanAcceptTimeout = options.timeouts.chanAccept
        servingTimeout = options.timeouts.serving
        sourcingTimeout = options.timeouts.sourcing
        masterReadTimeout = options.timeouts.masterRead
        masterWriteTimeout = options.timeouts.masterWrite
        frameWriteTimeout = options.timeouts.frameWrite
        compression = options.compression
        batchSize = options.batchSize
        maxListingRequests = options.limits.requests
        maxOpenRequests = options.limits.concurrent
        maxUnacceptedSources = options.limits.unacceptedSources
        onError = { log.failed("request", $0) }
        onChanError = { log.failed("source", $0) }
        onMaxErrorMass = { log.withdrawn(after: $0, last: $1) }
    }
}

/// Logs the events of a route.
final class RouteLog: Sendable {
    private let vAddr: String
    private let logger: Logger
    /// The bound service. Set after the initialization, because binding needs the log first.
    private let service = NIOLockedValueBox<VirtualService?>(nil)

    init(_ vAddr: String, logger: Logger) {
        self.vAddr = vAddr
        self.logger = logger
    }

    func attach(_ service: VirtualService) {
        self.service.withLockedValue { $0 = service }
    }

    /// Forgets the service when the route is removed. Later errors are still logged.
    func detach() {
        service.withLockedValue { $0 = nil }
    }

    func failed(_ what: StaticString, _ error: ChanservError) {
        // Errors that a client causes are logged at level debug, because a client could fill the log with them.
        let level: Logger.Level = Self.isCausedByClient(error) ? .debug : .warning
        logger.log(level: level, "route '\(vAddr)': a \(what) failed: \(error)", metadata: ["route": "\(vAddr)"])
    }

    func withdrawn(after mass: Int, last: ChanservError) {
        var pause = "a while"
        if case .withdrawn(let until) = service.withLockedValue({ $0 })?.state {
            pause = Self.seconds(ContinuousClock.now.duration(to: until))
        }
        let failures = mass == 1 ? "a failure" : "\(mass) failures in a row"
        logger.error(
            "route '\(vAddr)' withdrawn for \(pause) after \(failures): \(last)",
            metadata: ["route": "\(vAddr)", "failures": .stringConvertible(mass)])
    }

    private static func isCausedByClient(_ error: ChanservError) -> Bool {
        if let cause = error.cause as? any ServingError { return !cause.countsAsFailure }
        // Errors of the connection are caused by the client or the network, e.g. a source that the client does not
        // fetch.
        return error.cause is ConnectionError || error.code == .cancelled
    }

    /// Returns a rounded duration for people: `30s`, `250ms`.
    private static func seconds(_ duration: Duration) -> String {
        let milliseconds = duration / .milliseconds(1)
        return milliseconds < 1000
            ? "\(Int(max(0, milliseconds).rounded()))ms" : "\(Int((milliseconds / 1000).rounded()))s"
    }
}
