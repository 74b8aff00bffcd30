/// The failure of a request, a source or a frame.
///
/// The client's sequences throw it. The callbacks of client and server receive it. A sequence ends without an error
/// only if the server ended it; every other end is a `ChanservError`.
public struct ChanservError: Error, Sendable {
    /// The kind of failure. Later versions may add more.
    public struct Code: Sendable, Hashable, CustomStringConvertible {
        public let description: String

        /// A frame, header or body has more than 104,857,600 bytes (`docs/protocol.md` §5).
        public static let wrongFrameSize = Code(description: "wrong frame size")
        /// A compressed frame claims more than 209,715,200 bytes, or more than its block can hold (`docs/protocol.md`
        /// §5).
        public static let wrongUncompressedFrameSize = Code(description: "wrong uncompressed frame size")
        /// The stream ended in the middle of a frame.
        public static let truncatedFrame = Code(description: "truncated frame")
        /// A compressed frame does not decompress to the size that it claims.
        public static let corruptCompression = Code(description: "corrupt compression")
        /// The server announced something that cannot be the name of a source.
        public static let wrongAnnouncement = Code(description: "wrong announcement")
        /// The peer reported a failure. The message is the text that it sent.
        public static let sourceFailed = Code(description: "source failed")
        /// The network connection between client and server broke.
        public static let connectionLost = Code(description: "connection lost")
        /// A deadline passed. The message names the deadline.
        public static let deadlineExceeded = Code(description: "deadline exceeded")
        /// No node offers the name.
        public static let notFound = Code(description: "not found")
        /// The name is already bound.
        public static let addressInUse = Code(description: "address in use")
        /// The peer refused the connection.
        public static let refused = Code(description: "refused")
        /// A local limit was reached.
        public static let limitReached = Code(description: "limit reached")
        /// The local side cancelled or closed the operation.
        public static let cancelled = Code(description: "cancelled")
    }

    /// The kind of failure.
    public var code: Code
    /// A description for people. For ``Code/sourceFailed`` it is the text that the peer sent.
    public var message: String
    /// The underlying error, if there is one.
    public var cause: (any Error)?

    /// Creates an error.
    public init(_ code: Code, _ message: String, cause: (any Error)? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
    }

    /// Wraps an error that a multiplexer threw during `what`, e.g. `reading a frame`.
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

/// An error of a source function or a frame producer that decides whether it counts as a failure of the server.
///
/// An error that does not conform counts. An error that is the client's fault, such as a bad request, should conform
/// and return `false`. Otherwise a client could make a service reach its limit of failures in a row and withdraw.
public protocol ServingError: Error {
    /// Whether this error counts as one of the failures in a row that ``Server/Configuration/maxErrorMass`` limits.
    var countsAsFailure: Bool { get }
}
