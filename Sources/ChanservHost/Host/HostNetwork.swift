internal import AstraNet
public import Chanserv
internal import ChanservAstraNet
package import Logging
internal import NIOCore

/// What a host needs of its network: a multiplexer that can be made reachable and shut down.
///
/// ``AstraNetHostNetwork`` is the real one; ``LocalHostNetwork`` serves clients in the same process.
public protocol HostNetwork: Sendable {
    /// Where routes are bound.
    var multiplexer: any Multiplexer { get }

    /// Accepts links at an address.
    ///
    /// - Returns: the address it listens at, with the port it got where 0 was asked for.
    /// - Throws: where the address cannot be had; the description says why.
    func listen(at address: HostAddress) async throws -> HostAddress

    /// Links with another node and stays linked for as long as the task is not cancelled, whatever happens to the link.
    func keepJoined(_ address: HostAddress) async

    /// Closes all links. The network cannot be used again.
    func shutdown() async
}

/// An AstraNet node.
package struct AstraNetHostNetwork: HostNetwork {
    package let multiplexer: any Multiplexer
    private let node: Node
    private let listenKey: String

    /// - Parameters:
    ///   - configuration: what of the node stands in the file, or was said otherwise.
    ///   - logger: gets what the node has to say.
    ///   - listenKey: where an address to listen at is changed, for messages.
    package init(_ configuration: HostConfiguration.Node, logger: Logger, listenKey: String = "node.listen") {
        node = Node(configuration: NodeConfiguration(configuration), logger: logger)
        multiplexer = AstraNetMultiplexer(node)
        self.listenKey = listenKey
    }

    package func listen(at address: HostAddress) async throws -> HostAddress {
        let bound: SocketAddress
        do {
            bound = try await node.listen(host: address.host, port: address.port)
        } catch let error as AstraNetError {
            let wayOut =
                switch error.code {
                case .addressInUse:
                    ": another process listens there: choose another address under \(listenKey) or end it"
                case .addressNotAvailable:
                    ": it is none of this machine's addresses: choose another under \(listenKey) (0.0.0.0 is all of them)"
                default: ""
                }
            throw ListenError(description: error.message + wayOut)
        }
        return HostAddress(host: address.host, port: bound.port ?? address.port)
    }

    package func keepJoined(_ address: HostAddress) async {
        await node.keepJoined(host: address.host, port: address.port)
    }

    package func shutdown() async {
        await node.shutdown()
    }
}

extension NodeConfiguration {
    init(_ node: HostConfiguration.Node) {
        self.init(environment: node.environment ?? "")
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
    }
}

/// Why an address cannot be listened at, and the way out.
private struct ListenError: Error, CustomStringConvertible {
    let description: String
}

/// A multiplexer without a network: for tests, and for a host and its clients in one process.
public struct LocalHostNetwork: HostNetwork {
    public let multiplexer: any Multiplexer

    public init(_ multiplexer: any Multiplexer) {
        self.multiplexer = multiplexer
    }

    /// Listens nowhere, successfully.
    public func listen(at address: HostAddress) async throws -> HostAddress { address }

    /// Has nobody to join.
    public func keepJoined(_ address: HostAddress) async {}

    /// Leaves the multiplexer to its owner.
    public func shutdown() async {}
}
