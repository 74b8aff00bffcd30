internal import NIOCore

/// The payload of HANDSHAKE, the first op from each side (`docs/protocol.md` §2): JSON with the address the sender sees the
/// receiver at, and, in keys that Go nodes ignore, what the sender can do beyond the protocol they know.
struct Handshake: Hashable, Sendable {
    /// `ip:port` of the receiver as the sender sees it.
    var remoteAddress: String
    /// What the sender can do beyond Go's protocol; a node uses one only when both sides announced it.
    var abilities: Set<Ability> = []
    /// The largest payload of an op that the sender takes, in bytes; Go's where it says nothing.
    var maximumPayload = Op.maximumPayload

    /// Something a pair of our own nodes can do.
    enum Ability: String, CaseIterable, Sendable {
        /// A DIAL to a port nobody listens on is answered with ERR, so that it fails at once and not at its deadline.
        case refuse
        /// DATA may come right behind a DIAL, and the stream is open for the listener at once: one round trip from a
        /// request to the first byte of its answer.
        case eager
        /// WND_SIZE is understood, so that a window may grow.
        case window
        /// DIAL may carry a block, and the sources of a request may be pushed (`docs/protocol.md` §6).
        case push
    }

    /// The payload.
    func encoded() -> ByteBuffer {
        var members: [String] = []
        if !abilities.isEmpty {
            let names = abilities.map { JSONValue.quoted($0.rawValue) }.sorted().joined(separator: ",")
            members.append("\"Abilities\":[\(names)]")
        }
        if maximumPayload != Op.maximumPayload { members.append("\"MaxOp\":\(maximumPayload)") }
        members.append("\"RAddr\":\(JSONValue.quoted(remoteAddress))")
        return ByteBuffer(string: "{\(members.joined(separator: ","))}")
    }

    /// - Throws: ``AstraNetError`` with code `protocolViolation` where it is no JSON object of that shape. Unknown keys
    ///   and unknown abilities are ignored.
    init(decoding payload: ByteBuffer) throws(AstraNetError) {
        let wrong = AstraNetError(.protocolViolation, "the handshake is not a JSON object as it should be")
        guard case .object(let members) = JSONValue(payload.readableBytesView) else { throw wrong }
        switch members["RAddr"] {
        case .string(let address): remoteAddress = address
        case .null, nil: remoteAddress = ""
        default: throw wrong
        }
        switch members["Abilities"] {
        case .array(let names):
            for name in names {
                guard case .string(let text) = name else { throw wrong }
                if let ability = Ability(rawValue: text) { abilities.insert(ability) }
            }
        case .null, nil: break
        default: throw wrong
        }
        switch members["MaxOp"] {
        case .number(let text):
            guard let size = Int(text) else { throw wrong }
            maximumPayload = max(Op.maximumPayload, size)
        case .null, nil: break
        default: throw wrong
        }
    }

    init(remoteAddress: String, abilities: Set<Ability> = [], maximumPayload: Int = Op.maximumPayload) {
        self.remoteAddress = remoteAddress
        self.abilities = abilities
        self.maximumPayload = maximumPayload
    }
}
