import AstraNet
import Chanserv
import ChanservAstraNet
import ChanservHost
import Foundation
import HostConfiguration
import Logging
import NIOConcurrencyHelpers
import NIOCore
import PluginRuntime
import TestSupport
import Testing

/// The host's side of the probe plugin: store, threads and instances.
final class ProbeHost: Sendable {
    let folder: TestFolder
    let log = RecordingLog()
    let threads: PluginThreads
    let store: PluginStore

    init(threads limit: Int = 4) throws {
        folder = try TestFolder()
        threads = PluginThreads(name: "shared", limit: limit)
        store = PluginStore(threads: threads, logger: log.logger)
    }

    deinit { threads.retire() }

    /// Compiles the probe.
    ///
    /// - Parameter flags: the flags of the descriptor, e.g. `CHANSERV_PLUGIN_SERIAL`. Default: none.
    @discardableResult
    func compile(_ name: String = "probe.so", flags: String = "0", version: String = "1") throws -> String {
        try CompiledPlugin.compile(
            probeSource, to: folder.file(name), options: ["-DFLAGS=\(flags)", "-DVERSION=\"\(version)\""])
        return folder.file(name)
    }

    /// Compiles the probe with the header of version 1.0.
    func compileWithABI10() throws -> String {
        // The compiler finds this header before that of the package, because it is in the folder of the source. It has
        // its own folder so that no other compilation finds it.
        let own = folder.file("abi10")
        try FileManager.default.createDirectory(atPath: own, withIntermediateDirectories: true)
        try Data(abi10Header.utf8).write(to: URL(fileURLWithPath: own + "/chanserv_plugin.h"))
        try CompiledPlugin.compile(probeSource, to: own + "/old.so", options: ["-DABI_1_0"])
        return own + "/old.so"
    }

    /// Makes an instance that requests can be posted to.
    ///
    /// - Parameter network: the network between the instance and its client. Default: in memory.
    func instance(
        of path: String? = nil, flags: String = "0", yaml: String = "", callBudget: Duration = .seconds(60),
        lifecycleBudget: Duration = .seconds(60), blockingThreads: Int = 16,
        lentBytesLimit: Int = LentFrames.bytesLimit,
        allowsInline: Bool = true, on network: ProbeNetwork = .memory()
    ) async throws -> ProbeInstance {
        let path = try path ?? compile(flags: flags)
        var configuration = PluginInstance.Configuration()
        configuration.callBudget = callBudget
        configuration.lifecycleBudget = lifecycleBudget
        configuration.blockingThreads = blockingThreads
        configuration.lentBytesLimit = lentBytesLimit
        configuration.allowsInline = allowsInline
        return ProbeInstance(
            try await PluginInstance.create(
                name: "probe", library: store.load(path), values: PluginConfiguration(yaml: yaml), threads: threads,
                logger: log.logger, configuration: configuration), on: network)
    }
}

/// The network between an instance and its client.
struct ProbeNetwork: Sendable {
    let server: any Multiplexer
    let client: any Multiplexer

    /// A network inside this process. Sources are named, and no code runs on an event loop.
    ///
    /// - Parameter window: maximum number of bytes of a source in flight.
    static func memory(window: Int = 65_536) -> ProbeNetwork {
        let network = InMemoryMultiplexer(window: window)
        return ProbeNetwork(server: network, client: network)
    }

    /// Calls `body` with two linked nodes. Sources are pushed.
    static func withNodes<Result>(_ body: (ProbeNetwork) async throws -> Result) async throws -> Result {
        let (server, client) = (Node(), Node())
        let result: Swift.Result<Result, any Error>
        do {
            let address = try await server.listen(host: "127.0.0.1", port: 0)
            try await client.join(host: "127.0.0.1", port: try #require(address.port), deadline: .now + .seconds(20))
            result = .success(
                try await body(
                    ProbeNetwork(server: AstraNetMultiplexer(server), client: AstraNetMultiplexer(client))))
        } catch {
            result = .failure(error)
        }
        await client.shutdown()
        await server.shutdown()
        return try result.get()
    }
}

/// An instance behind a server, as in a route, and its client.
final class ProbeInstance: Sendable {
    /// How frames are sent. Each way has its own service name.
    struct Way: Hashable {
        var batchSize = 65_536
        var compression = false
        var acceptsPushedSources = true
    }

    let plugin: PluginInstance
    let network: ProbeNetwork
    /// The open requests.
    let requests: OpenRequests
    private let services = NIOLockedValueBox<[Way: VirtualService]>([:])
    private let handler: Handler

    /// The lease of the instance in ``requests``.
    static let lease: UInt64 = 1

    init(_ plugin: PluginInstance, on network: ProbeNetwork) {
        self.plugin = plugin
        self.network = network
        requests = OpenRequests(surroundings: network.server.surroundings)
        requests.open(lease: Self.lease)
        handler = Handler(plugin: plugin, requests: requests)
    }

    /// Serves requests as a route does. The test can replace their context.
    private final class Handler: RequestHandler {
        let plugin: PluginInstance
        let requests: OpenRequests
        let context = NIOLockedValueBox<RequestContext?>(nil)
        let compression: Bool

        init(plugin: PluginInstance, requests: OpenRequests, compression: Bool = false) {
            self.plugin = plugin
            self.requests = requests
            self.compression = compression
        }

        func begin(_ request: Request, in scope: RequestScope) {
            guard requests.lease(ProbeInstance.lease, for: scope) else {
                scope.finish(PluginError(.withdrawn, "the probe is not served any more"))
                return scope.released()
            }
            var request = Request(
                body: request.body, vAddr: "probe",
                meta: SourceMeta(ConnectionAddresses(local: "here:1", remote: "there:2", network: "test")),
                context: request.context)
            request.context = context.withLockedValue { $0 } ?? request.context
            plugin.begin(request, in: scope, compression: compression)
        }
    }

    var library: PluginLibrary { plugin.library }
    var statistics: PluginStatistics { plugin.statistics }
    /// The number of requests that are not answered, or not closed by the plugin.
    var openRequests: Int { requests.count(.all) }

    /// The service that sends frames in this way. It is made at its first use.
    func service(_ way: Way = Way()) throws -> VirtualService {
        try services.withLockedValue { services in
            if let service = services[way] { return service }
            var configuration = Server.Configuration()
            configuration.batchSize = way.batchSize
            configuration.compression = way.compression
            configuration.maxErrorMass = 0
            configuration.errorText = { "!" + ErrorEnvelope.text(of: $0) }
            let server = Server(multiplexer: network.server, configuration: configuration, open: requests)
            let handler =
                way.compression ? Handler(plugin: plugin, requests: requests, compression: true) : handler
            let service = try server.serve("probe-\(services.count)", handler: handler)
            services[way] = service
            return service
        }
    }

    /// Posts a request to the probe.
    ///
    /// - Parameter context: replaces the context of the request.
    func open(
        _ command: String, context: RequestContext? = nil, _ way: Way = Way()
    ) async throws -> ProbeSources {
        handler.context.withLockedValue { $0 = context }
        let service = try service(way)
        var configuration = Client.Configuration()
        configuration.acceptsPushedSources = way.acceptsPushedSources
        let client = Client(multiplexer: network.client, configuration: configuration)
        do {
            return ProbeSources(
                sources: try await client.lookupAndPost(service.vAddr, body: ByteBuffer(string: command)))
        } catch let error as ChanservError {
            // The refusal of a large request may arrive before the client has sent all of it.
            throw error.asThePluginGaveIt
        }
    }

    /// Posts a request and returns its only source.
    func source(_ command: String, _ way: Way = Way()) async throws -> ProbeSource {
        var iterator = try await open(command, way).makeAsyncIterator()
        let source = try #require(try await iterator.next())
        let rest = try await iterator.next()
        #expect(rest == nil)
        return source
    }

    /// Posts a request and returns the frames of its only source.
    func frames(_ command: String, _ way: Way = Way()) async throws -> [ByteBuffer] {
        try await source(command, way).drain()
    }

    /// Posts a request and returns the frames of its only source as text.
    func texts(_ command: String, _ way: Way = Way()) async throws -> [String] {
        try await frames(command, way).map { String(buffer: $0) }
    }

    /// Posts a request whose frames are sent in batches of `target` bytes, and returns them as text.
    func texts(_ command: String, target: Int) async throws -> [String] {
        try await texts(command, Way(batchSize: target))
    }

    /// Posts a request whose listing fails, and returns its error.
    func failure(
        of command: String, sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> PluginError? {
        await #expect(throws: PluginError.self, sourceLocation: sourceLocation) {
            for try await source in try await self.open(command) { source.cancel() }
        }
    }

    /// The counts of the probe.
    func probeCounts() async throws -> [String: Int] {
        let text = try #require(try await texts("stats").first)
        let pairs = text.split(separator: " ").map { $0.split(separator: "=") }
        return Dictionary(uniqueKeysWithValues: pairs.map { (String($0[0]), Int($0[1]) ?? -1) })
    }

    /// Waits until all requests are answered and the plugin has closed them.
    func idle(sourceLocation: SourceLocation = #_sourceLocation) async {
        let left = await requests.wait(untilNone: .all, deadline: .now + .seconds(50))
        #expect(left == 0, sourceLocation: sourceLocation)
    }

    func retire(
        deadline: ContinuousClock.Instant, grace: Duration = .seconds(10)
    ) async -> PluginInstance.Retirement {
        await plugin.retire(Self.lease, in: requests, deadline: deadline, grace: grace)
    }

    func retireNow() async -> PluginInstance.Retirement { await retire(deadline: .now, grace: .seconds(50)) }
}

/// The sources of one request. Its errors are those of the plugin.
struct ProbeSources: AsyncSequence, Sendable {
    let sources: ReceivedSources

    /// Ends the request.
    func cancel() { sources.cancel() }

    func makeAsyncIterator() -> Iterator { Iterator(sources: sources.makeAsyncIterator()) }

    struct Iterator: AsyncIteratorProtocol {
        fileprivate var sources: ReceivedSources.Iterator

        mutating func next() async throws -> ProbeSource? {
            do throws(ChanservError) {
                return try await sources.next().map { ProbeSource($0) }
            } catch {
                throw error.asThePluginGaveIt
            }
        }
    }
}

/// One source. Its errors are those of the plugin.
///
/// `@unchecked Sendable`: only the one task that reads the source uses `frames`.
final class ProbeSource: @unchecked Sendable {
    private let source: ReceivedSource
    private var frames: ReceivedFrames.Iterator

    var header: ByteBuffer { source.header }

    init(_ source: ReceivedSource) {
        self.source = source
        frames = source.frames.makeAsyncIterator()
    }

    /// The next frame; `nil` at the end.
    func next() async throws -> ByteBuffer? {
        do throws(ChanservError) {
            return try await frames.next()?.bytes
        } catch {
            throw error.asThePluginGaveIt
        }
    }

    /// The next frame as text.
    func text() async throws -> String? { try await next().map { String(buffer: $0) } }

    /// Reads all frames to the end.
    func drain() async throws -> [ByteBuffer] {
        var all: [ByteBuffer] = []
        while let frame = try await next() { all.append(frame) }
        return all
    }

    /// Cancels the source at both ends.
    func cancel() { source.cancel() }
}

extension ChanservError {
    /// The error of the plugin, if the plugin returned one; otherwise this error.
    fileprivate var asThePluginGaveIt: any Error {
        guard code == .sourceFailed, message.hasPrefix("!") else { return self }
        return ErrorEnvelope.error(from: String(message.dropFirst()))
    }
}
