internal import NIOCore

/// What a node holds, for tests and the simulation.
extension Node {
    /// How many bytes peers make this node hold.
    package var bufferedBytes: Int { core.buffered.held }

    /// How many offers its registry holds, each as often as links brought it.
    package var offerCount: Int {
        core.shared.withLockedValue { shared in
            shared.links.up.keys.reduce(0) { $0 + shared.offers.registry.count(on: $1) }
        }
    }

    /// How many streams its links know. Only where all links' event loops are the caller's.
    package var streamCount: Int {
        links.reduce(0) { $0 + ($1.handler.value?.streams.count ?? 0) }
    }

    /// How many streams hold a place on its links.
    package var takenStreamPlaces: Int { links.reduce(0) { $0 + $1.takenStreamPlaces } }

    /// How many bytes it has granted to sources that servers may push.
    package var grantedBytes: Int { links.reduce(0) { $0 + $1.pushGrants.held } }

    private var links: [Link] { core.shared.withLockedValue { Array($0.links.up.values) } }
}
