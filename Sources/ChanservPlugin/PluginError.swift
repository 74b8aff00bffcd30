import CChanservPlugin

/// A failure with a code the host knows. Throw it to say more than "internal error", which any other error becomes.
public struct PluginError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The kind of failure; more may be added.
    public struct Code: Sendable, Hashable {
        let status: chanserv_status

        /// The request (or the configuration) is wrong; trying it again will not help.
        public static let badRequest = Code(status: chanserv_status(CHANSERV_ERROR_BAD_REQUEST))
        /// What was asked for does not exist.
        public static let notFound = Code(status: chanserv_status(CHANSERV_ERROR_NOT_FOUND))
        /// Not now, perhaps later or elsewhere.
        public static let busy = Code(status: chanserv_status(CHANSERV_ERROR_BUSY))
        /// Anything else.
        public static let `internal` = Code(status: chanserv_status(CHANSERV_ERROR_INTERNAL))
    }

    /// The kind of failure.
    public var code: Code
    /// What happened. It is logged and sent to the client: it should help both and tell no secrets.
    public var message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// What an author's code threw, as the host gets it.
    init(describing error: any Error) {
        switch error {
        case let error as PluginError: self = error
        case is CancellationError: self.init(.internal, "cancelled")
        default: self.init(.internal, String(describing: error))
        }
    }

    public var description: String { message }

    /// Hands the error to the host: the message into its buffer, cut between characters where it is too long.
    func report(to error: UnsafeMutablePointer<chanserv_error>?) -> chanserv_status {
        guard let error, error.pointee.capacity > 0, let buffer = error.pointee.message else { return code.status }
        let room = error.pointee.capacity - 1
        var used = 0
        for scalar in message.unicodeScalars {
            // A zero would end the text early.
            let bytes = UTF8.encode(scalar.value == 0 ? "\u{FFFD}" : scalar) ?? UTF8.encodedReplacementCharacter
            guard used + bytes.count <= room else { break }
            for byte in bytes {
                buffer[used] = CChar(bitPattern: byte)
                used += 1
            }
        }
        buffer[used] = 0
        return code.status
    }
}
