internal import NIOCore

/// The resources that a node holds, for tests and the simulation.
extension Node {
    /// Number of bytes that this node buffers because of its peers.
    package var bufferedBytes: Int { core.buffered.held }

    /// Number of offers in the registry. An offer counts once for each link that announced it.
    package var offerCount: Int {
        core.shared.withLockedValue { shared in
            shared.links.up.keys.reduce(0) { $0 + shared.offers.registry.count(on: $1) }
        }
    }

    /// Number of streams in the links' tables. The caller must run on the event loop of all links.
    package var streamCount: Int {
        links.reduce(0) { $0 + ($1.handler.value?.streams.count ?? 0) }
    }

    /// Number of reserved stream slots on all links.
    package var reservedStreamSlots: Int { links.reduce(0) { $0 + $1.reservedStreamSlots } }

    /// Number of bytes that are granted to servers for pushed sources.
    package var grantedBytes: Int { links.reduce(0) { $0 + $1.pushGrants.held } }

    private var links: [Link] { core.shared.withLockedValue { Array($0.links.up.values) } }
}
