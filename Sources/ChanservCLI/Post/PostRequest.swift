import ChanservHost

/// One request of `chanserv post`, with all that was said about it on the command line.
struct PostRequest: Sendable {
    var vAddr: String
    /// The nodes to join, at least one; it takes one of them to answer.
    var joins: [HostAddress]
    var body: RequestBody
    /// Requests of the same bucket go to the same offer; `nil` for any.
    var bucket: String?
    /// Free text for the server; `nil` for none.
    var meta: String?
    /// How long the request may take in all, which the server is told; `nil` for no limit.
    var deadline: Duration?
    /// Empty for none.
    var environment: String
    /// For joining, for finding the address, and for opening each source.
    var timeout: Duration
    var format: PostFormat
    /// `nil` to write frames to standard output.
    var saveFolder: String?
}

/// How a request ended.
enum PostOutcome: Sendable, Equatable {
    /// Every source ended well.
    case complete
    /// The request or a source failed, or something here did.
    case failed
    /// No node could be joined, or none offers the address.
    case unavailable
    /// Whoever read standard output does not any more.
    case outputClosed
    /// A signal asked to stop.
    case interrupted

    /// What the command ends with.
    var exitCode: Int32 {
        switch self {
        case .complete: 0
        case .failed: 1
        case .unavailable: 69
        // What a shell shows for a command that SIGPIPE or SIGINT ended.
        case .outputClosed: 128 + 13
        case .interrupted: 128 + 2
        }
    }
}
