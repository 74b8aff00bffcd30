/// What an op asks for (`docs/protocol.md` §1). Commands a node does not know are kept as they are, and ignored.
public struct Command: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt8

    public init(rawValue: UInt8) {
        self.rawValue = rawValue
    }

    /// Listener's side accepted a DIAL.
    public static let syn = Command(rawValue: 2)
    /// The dialer has learned the stream's address.
    public static let ack = Command(rawValue: 4)
    /// Listener's side confirms.
    public static let synAck = Command(rawValue: 6)
    /// "Stop writing".
    public static let fin1 = Command(rawValue: 8)
    /// "No more from me".
    public static let fin2 = Command(rawValue: 16)
    /// The stream failed; between our own nodes the payload says why.
    public static let err = Command(rawValue: 32)
    /// Both directions are over at once.
    public static let forceClosed = Command(rawValue: 62)
    /// Stream bytes.
    public static let data = Command(rawValue: 128)
    /// Sets how many unacknowledged bytes the receiver of this op may have in flight.
    public static let windowSize = Command(rawValue: 129)
    /// That many bytes were consumed.
    public static let rewind = Command(rawValue: 130)
    /// Asks for a PONG.
    public static let ping = Command(rawValue: 160)
    /// Answers a PING.
    public static let pong = Command(rawValue: 161)
    /// Opens a stream.
    public static let dial = Command(rawValue: 190)
    /// First op from each side.
    public static let handshake = Command(rawValue: 191)
    /// The source offers the service named by the payload.
    public static let service = Command(rawValue: 192)
    /// And now no longer does.
    public static let noService = Command(rawValue: 193)
    /// The source host can be reached directly at the payload's `ip:port`.
    public static let follow = Command(rawValue: 194)
    /// Asks the destination for its FOLLOWs.
    public static let discover = Command(rawValue: 195)
    /// All streams with the source host over this link are dead.
    public static let rst = Command(rawValue: 196)
    /// The source reads what both ends share: bytes may come as SHARED (``SharedMemory``).
    static let reads = Command(rawValue: 240)
    /// As DATA, with the place of the bytes in what is shared.
    static let shared = Command(rawValue: 241)
    /// So many SHARED were read.
    static let taken = Command(rawValue: 242)
}

extension Command: CustomStringConvertible {
    private static let names: [Command: String] = [
        .syn: "SYN", .ack: "ACK", .synAck: "SYN_ACK", .fin1: "FIN1", .fin2: "FIN2", .err: "ERR",
        .forceClosed: "FORCE_CLOSED", .data: "DATA", .windowSize: "WND_SIZE", .rewind: "REWIND", .ping: "PING",
        .pong: "PONG", .dial: "DIAL", .handshake: "HANDSHAKE", .service: "SERVICE", .noService: "NO_SERVICE",
        .follow: "FOLLOW", .discover: "DISCOVER", .rst: "RST", .reads: "READS", .shared: "SHARED", .taken: "TAKEN",
    ]

    public var description: String { Self.names[self] ?? "command \(rawValue)" }
}
