internal import FoundationEssentials
internal import NIOCore

/// The payload of HANDSHAKE, the first op from each side (protocol section 2): JSON with the address the sender sees the
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
    }

    private struct Wire: Codable {
        var RAddr: String?
        var Abilities: [String]?
        var MaxOp: Int?
    }

    /// The payload.
    func encoded() -> ByteBuffer {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let wire = Wire(
            RAddr: remoteAddress, Abilities: abilities.isEmpty ? nil : abilities.map(\.rawValue).sorted(),
            MaxOp: maximumPayload == Op.maximumPayload ? nil : maximumPayload)
        do {
            return ByteBuffer(bytes: try encoder.encode(wire))
        } catch {
            preconditionFailure("a struct of strings is always JSON: \(error)")
        }
    }

    /// - Throws: ``AstraNetError`` with code `protocolViolation` where it is no JSON object of that shape. Unknown keys
    ///   and unknown abilities are ignored.
    init(decoding payload: ByteBuffer) throws(AstraNetError) {
        do {
            let wire = try JSONDecoder().decode(Wire.self, from: Data(payload.readableBytesView))
            remoteAddress = wire.RAddr ?? ""
            abilities = Set((wire.Abilities ?? []).compactMap(Ability.init(rawValue:)))
            maximumPayload = max(Op.maximumPayload, wire.MaxOp ?? 0)
        } catch {
            throw AstraNetError(.protocolViolation, "the handshake is not a JSON object")
        }
    }

    init(remoteAddress: String, abilities: Set<Ability> = [], maximumPayload: Int = Op.maximumPayload) {
        self.remoteAddress = remoteAddress
        self.abilities = abilities
        self.maximumPayload = maximumPayload
    }
}
