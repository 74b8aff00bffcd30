/// The command of an op (`docs/protocol.md` §1). A node keeps unknown commands as they are and ignores their ops.
public struct Command: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt8

    public init(rawValue: UInt8) {
        self.rawValue = rawValue
    }

    /// The listener has accepted a DIAL, or the client has accepted a pushed source.
    public static let syn = Command(rawValue: 2)
    /// The dialer has received the SYN.
    public static let ack = Command(rawValue: 4)
    /// The listener has received the ACK.
    public static let synAck = Command(rawValue: 6)
    /// The sender reads no more bytes.
    public static let fin1 = Command(rawValue: 8)
    /// The sender sends no more bytes.
    public static let fin2 = Command(rawValue: 16)
    /// The stream has failed, or the DIAL is refused. Between nodes of this library, the payload is the error text.
    public static let err = Command(rawValue: 32)
    /// Both directions end at once.
    public static let forceClosed = Command(rawValue: 62)
    /// Bytes of the stream.
    public static let data = Command(rawValue: 128)
    /// Sets the window: the maximum number of unacknowledged bytes that the receiver of this op may have in flight.
    public static let windowSize = Command(rawValue: 129)
    /// Returns the credit of consumed bytes.
    public static let rewind = Command(rawValue: 130)
    /// Asks for a PONG.
    public static let ping = Command(rawValue: 160)
    /// Answers a PING.
    public static let pong = Command(rawValue: 161)
    /// Opens a stream.
    public static let dial = Command(rawValue: 190)
    /// The first op of each side.
    public static let handshake = Command(rawValue: 191)
    /// The source offers the service named in the payload.
    public static let service = Command(rawValue: 192)
    /// The source withdraws that offer.
    public static let noService = Command(rawValue: 193)
    /// The source host accepts links at the `ip:port` in the payload.
    public static let follow = Command(rawValue: 194)
    /// Asks the destination host for its FOLLOWs.
    public static let discover = Command(rawValue: 195)
    /// All streams with the source host on this link are lost.
    public static let rst = Command(rawValue: 196)
    /// The sender leaves this link soon: the receiver dials over other links, and joins the sender's address again.
    public static let goAway = Command(rawValue: 197)
    /// The sender reads the shared memory, so the peer may send SHARED (``SharedMemory``).
    package static let reads = Command(rawValue: 240)
    /// Like DATA, but with the place of the bytes in the shared memory.
    package static let shared = Command(rawValue: 241)
    /// Reports the number of SHARED ops that the sender has read.
    package static let taken = Command(rawValue: 242)
}

extension Command: CustomStringConvertible {
    private static let names: [Command: String] = [
        .syn: "SYN", .ack: "ACK", .synAck: "SYN_ACK", .fin1: "FIN1", .fin2: "FIN2", .err: "ERR",
        .forceClosed: "FORCE_CLOSED", .data: "DATA", .windowSize: "WND_SIZE", .rewind: "REWIND", .ping: "PING",
        .pong: "PONG", .dial: "DIAL", .handshake: "HANDSHAKE", .service: "SERVICE", .noService: "NO_SERVICE",
        .follow: "FOLLOW", .discover: "DISCOVER", .rst: "RST", .goAway: "GOAWAY", .reads: "READS", .shared: "SHARED",
        .taken: "TAKEN",
    ]

    /// Whether this node knows the command.
    var isKnown: Bool { Self.names[self] != nil }

    public var description: String { Self.names[self] ?? "command \(rawValue)" }
}
