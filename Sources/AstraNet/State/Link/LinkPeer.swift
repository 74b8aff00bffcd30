/// The peer of a link, as its HANDSHAKE describes it.
package struct LinkPeer: Hashable, Sendable {
    package let host: HostID
    /// The largest payload of an op that both nodes accept, in bytes.
    let maximumPayload: Int
    private let abilities: UInt8

    init(host: HostID, handshake: Handshake) {
        self.host = host
        maximumPayload = min(handshake.maximumPayload, Op.largePayload)
        abilities = handshake.abilities.reduce(0) { $0 | $1.bit }
    }

    /// Whether both nodes have the ability.
    func has(_ ability: Handshake.Ability) -> Bool { abilities & ability.bit != 0 }

    /// Whether this node and `host` both have the ability. Abilities end at the peer: hosts behind a router are treated
    /// as Go nodes.
    func can(_ ability: Handshake.Ability, with host: HostID) -> Bool { host == self.host && has(ability) }

    /// Returns the maximum number of bytes in a DATA op to `host`.
    func payloadLimit(for host: HostID) -> Int { host == self.host ? maximumPayload : Op.maximumPayload }
}

extension Handshake.Ability {
    fileprivate var bit: UInt8 {
        switch self {
        case .refuse: 1
        case .eager: 2
        case .window: 4
        case .push: 8
        case .identity: 16
        }
    }
}
