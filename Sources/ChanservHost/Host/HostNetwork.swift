package import AstraNet
public import Chanserv
internal import ChanservAstraNet
public import HostConfiguration
package import Logging
internal import NIOConcurrencyHelpers
internal import NIOCore

/// The network of a host: a multiplexer that can listen, join and shut down.
///
/// ``AstraNetHostNetwork`` is a node of a mesh. ``LocalHostNetwork`` serves clients in the same process.
public protocol HostNetwork: Sendable {
    /// The multiplexer on which routes are bound.
    var multiplexer: any Multiplexer { get }

    /// The identity of this host on the mesh, which ``HostStatus`` contains; `nil`, the default, if it has none.
    var hostID: String? { get }

    /// The links to other nodes, the oldest first; empty, the default, if the network has none.
    var links: [HostLink] { get }

    /// What the network has refused on its links; `nil`, the default, if it has none.
    var linkRefusals: HostStatus.LinkRefusals? { get }

    /// Accepts links at an address.
    ///
    /// - Returns: the address, with the assigned port if `address` has port 0.
    /// - Throws: if the address cannot be used; the description contains the reason.
    func listen(at address: HostAddress) async throws -> HostAddress

    /// Keeps a link to another node until the task is cancelled. Connects again if the link is lost.
    func keepJoined(_ address: HostAddress) async

    /// Closes all links. The network cannot be used again.
    func shutdown() async
}

extension HostNetwork {
    public var hostID: String? { nil }
    public var links: [HostLink] { [] }
    public var linkRefusals: HostStatus.LinkRefusals? { nil }
}

/// A network whose links can be secured and restricted.
package protocol SecurableNetwork: HostNetwork {
    /// Secures the links of listeners and joins. Called once, before the first of them.
    func use(_ security: HostSecurity)

    /// Restricts what peers may do; `nil` allows everything.
    func use(_ access: AccessRules?)
}

/// A network that is an AstraNet node.
package struct AstraNetHostNetwork: ReplaceableNetwork, SecurableNetwork {
    package let multiplexer: any Multiplexer
    private let node: Node
    private let listenKey: String
    /// The addresses in the configuration of the listening sockets, in the order in which they were opened.
    private let listened = NIOLockedValueBox<[HostAddress]>([])
    private let security = NIOLockedValueBox<HostSecurity?>(nil)
    /// The permissions of the files of Unix sockets.
    private let modes: [HostAddress: UInt32]

    /// - Parameters:
    ///   - configuration: the `node` section of the file, with the changes of command line options.
    ///   - logger: receives the messages of the node.
    ///   - listenKey: the option or key that sets the address to listen at, for error messages.
    package init(_ configuration: HostConfiguration.Node, logger: Logger, listenKey: String = "node.listen") {
        node = Node(configuration: NodeConfiguration(configuration), logger: logger)
        multiplexer = AstraNetMultiplexer(node)
        modes = Dictionary(configuration.listen.map { ($0.address, $0.mode) }) { first, _ in first }
        self.listenKey = listenKey
    }

    package var hostID: String? { "\(node.id)" }

    package var links: [HostLink] { node.linkList.map(HostLink.init) }

    package var linkRefusals: HostStatus.LinkRefusals? { HostStatus.LinkRefusals(node.refused) }

    package func use(_ security: HostSecurity) {
        self.security.withLockedValue { $0 = security }
    }

    package func use(_ access: AccessRules?) {
        // Links that are up are not examined again without a reason.
        if node.access != access { node.access = access }
    }

    package func listen(at address: HostAddress) async throws -> HostAddress {
        try await listen(at: address, inheriting: InheritedListeners())
    }

    package func listen(at address: HostAddress, inheriting sockets: InheritedListeners) async throws -> HostAddress {
        let bound: SocketAddress
        let security = security.withLockedValue { $0?.listener(at: address) }
        do throws(AstraNetError) {
            bound = try await node.listen(
                at: NodeAddress(address), security: security, mode: modes[address] ?? ListenOptions.defaultMode
            ) { resolved in
                sockets.take(for: address, at: resolved)
            }
            listened.withLockedValue { $0.append(address) }
        } catch {
            let wayOut =
                switch error.code {
                case .addressInUse:
                    ": another process listens there: choose another address under \(listenKey) or end it"
                case .addressNotAvailable:
                    ": this machine does not have the address: choose another under \(listenKey) (0.0.0.0 is all)"
                case .permissionDenied where (1..<1_024).contains(address.port ?? 0):
                    ": ports below 1024 need the capability CAP_NET_BIND_SERVICE: grant it, or choose another port "
                        + "under \(listenKey)"
                default: ""
                }
            throw ListenError(description: error.message + wayOut)
        }
        guard case .tcp(let host, let port) = address else { return address }
        return .tcp(host: host, port: bound.port ?? port)
    }

    package func duplicateListeners() async throws -> [(address: HostAddress, descriptor: Int32)] {
        Array(zip(listened.withLockedValue { $0 }, try await node.duplicateListeners()))
    }

    package func startAccepting() async {
        await node.startAccepting()
    }

    package func goAway() async {
        await node.goAway()
    }

    package func closeIdleLinks() {
        node.closeIdleLinks()
    }

    package func waitForForwardedStreams(until deadline: ContinuousClock.Instant) async {
        await node.waitForForwardedStreams(until: deadline)
    }

    package func keepJoined(_ address: HostAddress) async {
        await node.keepJoined(NodeAddress(address), security: security.withLockedValue { $0?.join(address) })
    }

    package func shutdown() async {
        await node.shutdown()
    }
}

extension NodeAddress {
    package init(_ address: HostAddress) {
        switch address {
        case .tcp(let host, let port): self = .tcp(host: host, port: port)
        case .unix(let path): self = .unix(path: path)
        }
    }
}

extension NodeConfiguration {
    package init(_ node: HostConfiguration.Node) {
        self.init(environment: node.environment ?? "")
        name = node.name
        role =
            switch node.role {
            case .client: .client
            case .server: .server
            case .peer: .peer
            case .router: .router
            }
        maximumLinks = node.limits.links
        maximumStreamsPerLink = node.limits.streams
        maximumHalfOpenPerLink = node.limits.halfOpen
        maximumServicesPerLink = node.limits.services
        maximumBufferedPerLink = node.limits.buffer
        maximumBuffered = node.limits.totalBuffer
        maximumBytesPerSecond = node.limits.bytesPerSecond
    }
}

/// The reason why the node cannot listen at an address, and what to do.
private struct ListenError: Error, CustomStringConvertible {
    let description: String
}

/// A network without links: for tests, and for a host and its clients in one process.
public struct LocalHostNetwork: HostNetwork {
    public let multiplexer: any Multiplexer

    public init(_ multiplexer: any Multiplexer) {
        self.multiplexer = multiplexer
    }

    /// Returns `address` and does not listen.
    public func listen(at address: HostAddress) async throws -> HostAddress { address }

    /// Does nothing: there is no other node.
    public func keepJoined(_ address: HostAddress) async {}

    /// Does nothing: the multiplexer belongs to the caller.
    public func shutdown() async {}
}
