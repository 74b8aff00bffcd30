import AstraNet
import Chanserv
import Logging
import NIOCore

/// A node of this library: the real `Node` with its shell.
///
/// `@unchecked Sendable`: see ``World``.
final class OurNode: SimulatedNode, @unchecked Sendable {
    let node: Node
    private let world: World
    private let network: SimulatedNetwork
    private var tasks: [Task<Void, Never>] = []
    private var listeners: [String: Listener] = [:]
    private let ports: NamedPorts
    private let plan: (host: Int, incarnation: Int)
    /// Created with the first name that the node serves.
    private var answering: AnsweringServer?
    private(set) var isGone = false

    var hostID: HostID { node.id }
    var bound: [String: UInt32] { listeners.mapValues(\.address.port).merging(ports.bound) { $1 } }

    /// - Parameters:
    ///   - access: the access rules of a guarded seed.
    ///   - security: secures all connections; `nil` for none.
    init(
        _ plan: HostPlan, host: Int, incarnation: Int, internet: Internet, access: AccessRules? = nil,
        security: SimulatedSecurity? = nil
    ) {
        let world = internet.world
        self.world = world
        network = SimulatedNetwork(internet: internet, host: host)
        var configuration = NodeConfiguration()
        configuration.role = plan.kind.role
        // A Go client that leaves sends only FIN2. Bytes that are queued for it then wait for credit that never comes.
        configuration.lingerTimeout = .seconds(30)
        let logger = Logger(label: "n\(host)") { label -> any LogHandler in
            world.trace.isOn ? TraceLog(world: world, host: label) : SwiftLogNoOpLogHandler()
        }
        node = Node(
            configuration: configuration, group: world.loop, logger: logger,
            surroundings: world.surroundings(host, incarnation: incarnation, network: network))
        ports = NamedPorts(node)
        self.plan = (host, incarnation)
        node.access = access
        let node = node
        // Every second node listens on all addresses and must learn its own address from its peers.
        let ip = host % 2 == 0 ? Internet.ip(of: host) : "0.0.0.0"
        run {
            do {
                _ = try await node.listen(at: .tcp(host: ip, port: Internet.port), security: security)
            } catch {
                world.broken("n\(host) cannot listen: \(error)")
            }
        }
        for name in plan.joins {
            run { await node.keepJoined(.tcp(host: name, port: Internet.port), security: security) }
        }
    }

    private func run(_ body: @escaping @Sendable () async -> Void) {
        tasks.append(world.task(body))
    }

    func bind(_ name: String, accepted: @escaping @Sendable (any SimulatedStream) -> Void) {
        guard listeners[name] == nil, !isGone else { return }
        do {
            let listener = try node.bind(name)
            listeners[name] = listener
            let world = world
            run {
                while true {
                    do {
                        let stream = try await listener.nextStream()
                        accepted(OurStream(stream, world))
                    } catch {
                        return
                    }
                }
            }
        } catch {
            world.broken("cannot bind \(name): \(error)")
        }
    }

    func unbind(_ name: String) {
        listeners.removeValue(forKey: name)?.close()
    }

    func dial(_ name: String, first: ByteBuffer, deadline: UInt64) async throws -> any SimulatedStream {
        OurStream(try await node.dial(name, sending: first, deadline: world.instant(at: deadline)), world)
    }

    // MARK: - Requests

    func serve(_ name: String, for workload: RequestWorkload) {
        guard !isGone else { return }
        let answering = self.answering ?? makeServer(workload)
        answering.serve(name)
    }

    private func makeServer(_ workload: RequestWorkload) -> AnsweringServer {
        var random = SeededRandom(world.seed, 20, UInt64(plan.host), UInt64(plan.incarnation))
        let server = AnsweringServer(ports, workload, &random)
        workload.add(server)
        answering = server
        return server
    }

    func stopServing(_ name: String) { answering?.stop(name) }

    func run(_ request: SimulatedRequest, for workload: RequestWorkload) async -> RequestWorkload.Outcome {
        await PostingClient(request, workload, ports).run()
    }

    /// Posts a request and reads the answer of one source with one frame.
    ///
    /// - Returns: the time from the post to the last byte of the frame, in nanoseconds.
    func roundTrip(_ name: String, pushed: Bool, for workload: RequestWorkload) async throws -> UInt64 {
        let began = world.now
        var configuration = Client.Configuration()
        configuration.acceptsPushedSources = pushed
        let client = Client(multiplexer: ports, configuration: configuration)
        var random = SeededRandom(began, 24)
        var request = SimulatedRequest.calm(id: began, host: plan.host, name: name, &random)
        while !Answer(id: request.id, seed: request.seed).isOneFrame { request.seed = random.next() }
        request.bodySize = 7
        var sources = try await client.lookupAndPost(name, body: RequestBody.bytes(of: request)).makeAsyncIterator()
        guard let source = try await sources.next() else { throw AnswerFailure() }
        var frames = source.frames.makeAsyncIterator()
        guard let frame = try await frames.next(),
            Answer(id: request.id, seed: request.seed).isRight(frame.bytes, frame: 0, of: 0, of: request.id)
        else { throw AnswerFailure() }
        let time = world.now - began
        guard try await frames.next() == nil, try await sources.next() == nil else { throw AnswerFailure() }
        return time
    }

    /// Cancels one of the requests that the node serves.
    func cancelServed(_ pick: Int) { answering?.cancel(pick) }

    func crash() {
        isGone = true
        network.isGone = true
        for task in tasks { task.cancel() }
        tasks = []
        listeners = [:]
        let node = node
        // Only frees memory: no byte of the node reaches the network any more.
        world.task { await node.shutdown(grace: .zero) }
    }
}

/// `@unchecked Sendable`: see ``World``.
final class OurStream: SimulatedStream, @unchecked Sendable {
    let stream: AstraNet.MeshStream
    private let world: World

    init(_ stream: AstraNet.MeshStream, _ world: World) {
        self.stream = stream
        self.world = world
    }

    func receive(deadline: UInt64) async throws -> ByteBuffer? {
        try await stream.receive(deadline: world.instant(at: deadline))
    }

    func send(_ bytes: ByteBuffer, deadline: UInt64) async throws {
        try await stream.send(bytes, deadline: world.instant(at: deadline))
    }

    func close() { stream.close() }

    func fail(_ message: String) { stream.fail(message) }

    var isPeerClosed: Bool { stream.isPeerClosed }

    var caller: SimulatedCaller? {
        let identity = stream.callerIdentity
        return SimulatedCaller(identity: identity.name, isNamed: !identity.identities.isEmpty)
    }
}

/// Writes the log of a node to the trace.
private struct TraceLog: LogHandler {
    let world: World
    let host: String
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.debug

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let all = metadata.merging(event.metadata ?? [:]) { $1 }
        let pairs = all.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
        world.note("  \(host) \(event.level): \(event.message) \(pairs.joined(separator: " "))")
    }
}
