internal import NIOCore

/// The first bytes of a connection whose peer is not a node, by protocol.
enum ForeignBytes: Hashable, Sendable {
    case httpRequest
    case httpResponse
    case sshGreeting
    case tlsHandshake
    case unknown

    /// A description for messages, such as `it sent an HTTP request`.
    var phrase: String {
        switch self {
        case .httpRequest: "it sent an HTTP request"
        case .httpResponse: "it sent an HTTP response"
        case .sshGreeting: "it sent an SSH greeting"
        case .tlsHandshake: "it sent a TLS handshake"
        case .unknown: "its first bytes are not a handshake"
        }
    }

    /// The number of bytes that ``init(_:)`` looks at.
    static let examined = 4

    /// The first four bytes of the text protocols, and of TLS the type and version of a record.
    private static let beginnings: [(kind: ForeignBytes, bytes: [UInt8])] =
        ["GET ", "POST", "HEAD", "PUT ", "DELE", "OPTI", "PATC", "CONN", "TRAC", "PRI "].map {
            (.httpRequest, Array($0.utf8))
        } + [
            (.httpResponse, Array("HTTP".utf8)), (.sshGreeting, Array("SSH-".utf8)), (.tlsHandshake, [0x16, 0x03]),
        ]

    /// Classifies the first bytes of a connection. Returns `nil` if an op can begin with them, or if more bytes are
    /// needed.
    ///
    /// An op begins with its command, and HANDSHAKE is the first op of each side (`docs/protocol.md` §2).
    init?(_ first: some Collection<UInt8>) {
        guard let command = first.first, !Command(rawValue: command).isKnown else { return nil }
        let first = Array(first.prefix(Self.examined))
        if let match = Self.beginnings.first(where: { first.starts(with: $0.bytes) }) {
            self = match.kind
        } else if Self.beginnings.contains(where: { $0.bytes.starts(with: first) }) {
            return nil
        } else {
            self = .unknown
        }
    }
}
