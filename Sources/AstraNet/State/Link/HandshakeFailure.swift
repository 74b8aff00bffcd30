/// The reason why a connection is closed before its link is up: the peer is not a node, or sent no valid HANDSHAKE.
enum HandshakeFailure: Hashable, Sendable {
    /// The first bytes belong to another protocol.
    case foreign(ForeignBytes)
    /// The peer's HANDSHAKE cannot be decoded.
    case invalid(AstraNetError)
    /// The connection could not be secured.
    case insecure(AstraNetError)
    /// No HANDSHAKE arrived in time.
    case late(nanoseconds: UInt64)

    /// Returns the error of the link.
    ///
    /// - Parameter isDialled: whether this node dialled the connection. Then the peer is called a server.
    func error(isDialled: Bool) -> AstraNetError {
        switch self {
        case .foreign(let bytes):
            AstraNetError(
                .protocolViolation,
                "the \(isDialled ? "server there" : "peer") is not a chanserv node (\(bytes.phrase))")
        case .invalid(let error), .insecure(let error):
            error
        case .late(let nanoseconds):
            Self.late(within: nanoseconds, isDialled: isDialled)
        }
    }

    static func late(within nanoseconds: UInt64, isDialled: Bool) -> AstraNetError {
        let time = TimeText.text(nanoseconds: nanoseconds)
        return AstraNetError(
            .deadlineExceeded,
            isDialled
                ? "the server accepted the connection but sent no handshake within \(time); it may be another kind of "
                    + "server"
                : "no handshake within \(time)")
    }

    /// Returns the log message about a connection that this node accepted.
    ///
    /// - Parameter address: the `ip:port` of the peer; empty if it has none.
    func warning(about address: String) -> String {
        let peer = address.isEmpty ? "the peer" : address
        return switch self {
        case .foreign(let bytes): "\(peer) is not a chanserv node (\(bytes.phrase)); connection closed"
        case .invalid(let error): "\(peer) sent an invalid handshake (\(error.message)); connection closed"
        // The message names the peer.
        case .insecure(let error): "\(error.message); connection closed"
        case .late(let nanoseconds):
            "\(peer) sent no handshake within \(TimeText.text(nanoseconds: nanoseconds)); connection closed"
        }
    }
}
