import CChanservPlugin

/// A failure with an error code of the ABI. Any other error that a plugin throws is reported as "internal error".
public struct PluginError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The kind of failure. Later versions may add more.
    public struct Code: Sendable, Hashable {
        let status: chanserv_status

        /// The request or the configuration is wrong. Repeating it fails again.
        public static let badRequest = Code(status: chanserv_status(CHANSERV_ERROR_BAD_REQUEST))
        /// The requested object does not exist.
        public static let notFound = Code(status: chanserv_status(CHANSERV_ERROR_NOT_FOUND))
        /// The plugin cannot serve now. A later attempt, or another host, may succeed.
        public static let busy = Code(status: chanserv_status(CHANSERV_ERROR_BUSY))
        /// Any other failure.
        public static let `internal` = Code(status: chanserv_status(CHANSERV_ERROR_INTERNAL))
    }

    /// The kind of failure.
    public var code: Code
    /// A description of the failure. It is logged and sent to the client, so it must not contain secrets.
    public var message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// Converts an error that a plugin threw.
    init(describing error: any Error) {
        switch error {
        case let error as PluginError: self = error
        case is CancellationError: self.init(.internal, "cancelled")
        default: self.init(.internal, String(describing: error))
        }
    }

    public var description: String { message }

    /// Reports the error to the host. Copies the message into the host's buffer, truncated between characters if
    /// necessary.
    func report(to error: UnsafeMutablePointer<chanserv_error>?) -> chanserv_status {
        guard let error, error.pointee.capacity > 0, let buffer = error.pointee.message else { return code.status }
        let room = error.pointee.capacity - 1
        var used = 0
        for scalar in message.unicodeScalars {
            // A zero byte would end the C string.
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
