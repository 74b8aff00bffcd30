/// Why a request, a source or a frame failed.
///
/// What the client's sequences throw and what the callbacks of both sides get. An end without an error means that the
/// server said so; everything else arrives as one of these.
public struct ChanservError: Error, Sendable {
    /// The kind of failure; more may be added.
    public struct Code: Sendable, Hashable, CustomStringConvertible {
        public let description: String

        /// A frame, header or body of more than 104,857,600 bytes (protocol section 5).
        public static let wrongFrameSize = Code(description: "wrong frame size")
        /// A compressed frame that claims more than 209,715,200 bytes, or more than its block can hold.
        public static let wrongUncompressedFrameSize = Code(description: "wrong uncompressed frame size")
        /// The stream ended in the middle of a frame.
        public static let truncatedFrame = Code(description: "truncated frame")
        /// A compressed frame that does not decompress to the size it claims.
        public static let corruptCompression = Code(description: "corrupt compression")
        /// The server announced something that cannot be the name of a source.
        public static let wrongAnnouncement = Code(description: "wrong announcement")
        /// The other side reported a failure; the message is what it said.
        public static let sourceFailed = Code(description: "source failed")
        /// The network between the two ends broke.
        public static let connectionLost = Code(description: "connection lost")
        /// A deadline passed; the message says which.
        public static let deadlineExceeded = Code(description: "deadline exceeded")
        /// Nobody offers the name.
        public static let notFound = Code(description: "not found")
        /// The name is bound already.
        public static let addressInUse = Code(description: "address in use")
        /// The other side refused the connection.
        public static let refused = Code(description: "refused")
        /// A limit of this side was reached.
        public static let limitReached = Code(description: "limit reached")
        /// This side cancelled, dropped or closed what was asked for.
        public static let cancelled = Code(description: "cancelled")
    }

    /// The kind of failure.
    public var code: Code
    /// What happened, for a person; for ``Code/sourceFailed`` what the other side said.
    public var message: String
    /// What it came from, where it came from another error.
    public var cause: (any Error)?

    /// Makes an error.
    public init(_ code: Code, _ message: String, cause: (any Error)? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
    }

    /// Wraps what a multiplexer threw while doing `what`, e.g. `reading a frame`.
    package init(_ error: any Error, while what: String) {
        switch error {
        case let error as ChanservError:
            self = error
        case let error as ConnectionError where error.code == .failedByPeer:
            self.init(.sourceFailed, error.message, cause: error)
        case let error as ConnectionError:
            let detail = error.message.isEmpty ? what : "\(what): \(error.message)"
            self.init(Self.code(for: error.code), detail, cause: error)
        case is CancellationError:
            self.init(.cancelled, what, cause: error)
        default:
            self.init(.connectionLost, "\(what): \(error)", cause: error)
        }
    }

    private static func code(for code: ConnectionError.Code) -> Code {
        switch code {
        case .deadlineExceeded: .deadlineExceeded
        case .notFound: .notFound
        case .addressInUse: .addressInUse
        case .refused: .refused
        case .limitReached: .limitReached
        case .closed: .cancelled
        default: .connectionLost
        }
    }
}

extension ChanservError: CustomStringConvertible {
    public var description: String { message.isEmpty ? code.description : "\(code): \(message)" }
}

/// An error of a source function or a frame producer that says whether it speaks against the server.
///
/// Errors that do not conform count. One that is the client's fault (a bad request, say) conforms and answers `false`,
/// so that a client cannot drive a service into its error mass.
public protocol ServingError: Error {
    /// Whether this is one of the failures in a row that ``Server/Configuration/maxErrorMass`` limits.
    var countsAsFailure: Bool { get }
}
