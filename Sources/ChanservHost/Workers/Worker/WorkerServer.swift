internal import Chanserv
internal import NIOConcurrencyHelpers
internal import NIOCore
internal import PluginRuntime

/// Server of the instance in this process, for the host. It offers one name for each encoding of frames.
///
/// The host enforces deadlines, error mass and limits. The worker enforces none, so that a request ends in one way
/// only.
final class WorkerServer: Sendable {
    private let instance: PluginInstance
    private let multiplexer: any Multiplexer
    /// Open requests of this process.
    let open: OpenRequests
    private let services = NIOLockedValueBox<[VirtualService]>([])

    /// Lease of the instance, the only one of this process.
    static let instanceID: UInt64 = 1

    init(_ instance: PluginInstance, on multiplexer: any Multiplexer) {
        self.instance = instance
        self.multiplexer = multiplexer
        open = OpenRequests(surroundings: multiplexer.surroundings)
        open.open(instance: Self.instanceID)
    }

    /// Offers the instance under `name`.
    ///
    /// - Throws: an error if the name cannot be bound.
    func offer(_ name: String, compression: Bool, batchSize: Int) throws {
        var configuration = Server.Configuration()
        configuration.maxErrorMass = 0
        configuration.compression = compression
        configuration.batchSize = batchSize
        // A year, because the host accepts or gives up every source that was announced to it.
        configuration.chanAcceptTimeout = .seconds(365 * 24 * 3_600)
        configuration.maxListingRequests = 1 << 20
        configuration.errorText = { ErrorEnvelope.text(of: $0) }
        let server = Server(multiplexer: multiplexer, configuration: configuration, open: open)
        let service = try server.serve(
            name, handler: EnvelopeHandler(instance: instance, open: open, compression: compression))
        services.withLockedValue { $0.append(service) }
    }
}

/// Request handler that unpacks the envelopes of requests.
private struct EnvelopeHandler: RequestHandler {
    let instance: PluginInstance
    let open: OpenRequests
    let compression: Bool

    func begin(_ request: Request, in scope: RequestScope) {
        guard let envelope = RequestEnvelope(reading: request.body) else {
            scope.finish(PluginError(.internal, "the host sent a request without a valid envelope"))
            return scope.handlerFinished()
        }
        guard open.use(instance: WorkerServer.instanceID, for: scope) else {
            scope.finish(PluginError(.withdrawn, "the plugin is being replaced"))
            return scope.handlerFinished()
        }
        var meta = request.meta
        meta.remoteAddress = envelope.remoteAddress
        instance.begin(
            Request(
                body: envelope.body, vAddr: envelope.vAddr, meta: meta, tags: request.tags,
                context: envelope.context), in: scope, compression: compression)
    }
}
