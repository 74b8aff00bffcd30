package import NIOCore

/// The payload of HANDSHAKE, the first op of each side (`docs/protocol.md` §2). It is a JSON object with the address at
/// which the sender sees the receiver. Keys that Go nodes ignore contain the sender's abilities beyond the Go protocol.
package struct Handshake: Hashable, Sendable {
    /// The `ip:port` of the receiver as the sender sees it.
    package var remoteAddress: String
    /// The sender's abilities beyond the Go protocol. An ability is used only if both nodes announced it.
    package var abilities: Set<Ability> = []
    /// The largest payload of an op that the sender takes, in bytes. The default is the limit of Go nodes.
    package var maximumPayload = Op.maximumPayload
    /// The name of the sender for people; `nil` if it has none.
    package var name: String?

    /// Maximum length of a name in bytes.
    private static let longestName = 63

    /// An ability beyond the Go protocol, between two nodes of this library.
    package enum Ability: String, CaseIterable, Sendable {
        /// A refused DIAL is answered with ERR, so that it fails at once and not at its deadline.
        case refuse
        /// DATA may follow a DIAL at once, and the stream is open for the listener at once. So the first byte of an
        /// answer takes one round trip.
        case eager
        /// The node understands WND_SIZE, so that windows may grow.
        case window
        /// The node, if it is a router, replaces the identity in the dial blocks that it forwards.
        case identity
        /// DIAL may carry a dial block, and the sources of a request may be pushed (`docs/protocol.md` §6).
        case push
    }

    /// Returns the encoded payload.
    package func encoded() -> ByteBuffer {
        var members: [String] = []
        if !abilities.isEmpty {
            let names = abilities.map { JSONValue.quoted($0.rawValue) }.sorted().joined(separator: ",")
            members.append("\"Abilities\":[\(names)]")
        }
        if maximumPayload != Op.maximumPayload { members.append("\"MaxOp\":\(maximumPayload)") }
        if let name { members.append("\"Name\":\(JSONValue.quoted(name))") }
        members.append("\"RAddr\":\(JSONValue.quoted(remoteAddress))")
        return ByteBuffer(string: "{\(members.joined(separator: ","))}")
    }

    /// Decodes a payload. Ignores unknown keys and unknown abilities.
    ///
    /// - Throws: ``AstraNetError`` with code `protocolViolation` if the payload is not a JSON object with values of the
    ///   right types.
    package init(decoding payload: ByteBuffer) throws(AstraNetError) {
        let wrong = AstraNetError(
            .protocolViolation, "the payload of HANDSHAKE is not a JSON object with values of the right types")
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
        switch members["Name"] {
        // Another name is ignored, so that a name never makes a log line or a table unreadable.
        case .string(let text): name = Self.isValid(name: text) ? text : nil
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

    package init(
        remoteAddress: String, abilities: Set<Ability> = [], maximumPayload: Int = Op.maximumPayload,
        name: String? = nil
    ) {
        self.remoteAddress = remoteAddress
        self.abilities = abilities
        self.maximumPayload = maximumPayload
        self.name = name
    }

    private static func isValid(name: String) -> Bool {
        (1...longestName).contains(name.utf8.count)
            && name.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-_.".contains($0)) }
    }
}
