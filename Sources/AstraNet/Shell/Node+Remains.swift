internal import NIOCore

/// What a node holds, for tests and the simulation.
extension Node {
    /// How many bytes peers make this node hold.
    package var bufferedBytes: Int { core.buffered.held }

    /// How many offers its registry holds, each as often as links brought it.
    package var offerCount: Int {
        core.shared.withLockedValue { shared in
            shared.links.keys.reduce(0) { $0 + shared.registry.count(on: $1) }
        }
    }

    /// How many streams its links know. Only where all links' event loops are the caller's.
    package var streamCount: Int {
        core.shared.withLockedValue { Array($0.links.values) }.reduce(0) { $0 + ($1.handler.value?.streams.count ?? 0) }
    }
}
