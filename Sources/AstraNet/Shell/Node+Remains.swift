internal import NIOCore

/// Resources that a node holds, for tests and the simulation.
extension Node {
    /// The number of bytes that peers make this node buffer.
    package var bufferedBytes: Int { core.buffered.held }

    /// The number of offers in the registry. An offer counts once for each link that brought it.
    package var offerCount: Int {
        core.shared.withLockedValue { shared in
            shared.links.up.keys.reduce(0) { $0 + shared.offers.registry.count(on: $1) }
        }
    }

    /// The number of streams of all links. The caller must run on the event loops of all links.
    package var streamCount: Int {
        links.reduce(0) { $0 + ($1.handler.value?.streams.count ?? 0) }
    }

    /// The number of stream places in use, on all links.
    package var takenStreamPlaces: Int { links.reduce(0) { $0 + $1.takenStreamPlaces } }

    /// The number of bytes that this node has granted for pushed sources.
    package var grantedBytes: Int { links.reduce(0) { $0 + $1.pushGrants.held } }

    private var links: [Link] { core.shared.withLockedValue { Array($0.links.up.values) } }
}
