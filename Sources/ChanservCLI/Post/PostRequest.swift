import HostConfiguration

/// The command-line options of `chanserv post`.
struct PostRequest: Sendable {
    var vAddr: String
    /// The nodes to join, at least one. One successful join is enough.
    var joins: JoinTargets
    var body: RequestBody
    /// Requests with the same bucket go to the same offer; `nil` for any offer.
    var bucket: String?
    /// Free text for the server; `nil` for none.
    var meta: String?
    /// Time limit for the whole request, which the server receives too; `nil` for no limit.
    var deadline: Duration?
    /// The environment of the address; empty for none.
    var environment: String
    /// Time limit for each of: joining, finding the address, opening a source.
    var timeout: Duration
    /// Time limit for the command, from its start to the last byte; `nil` for no limit.
    var maximumTime: Duration?
    /// Maximum time without a byte after a host has answered; `nil` for no limit.
    var idleTimeout: Duration?
    /// The number of times that the request may be sent again.
    var retries: Int
    var format: PostFormat
    /// The folder of `--save`; `nil` to write frames to standard output.
    var saveFolder: String?
}

/// The outcome of a request or of `chanserv mesh`.
enum CommandOutcome: Sendable, Equatable {
    /// The request and every source succeeded.
    case complete
    /// The request, a source or a local operation failed.
    case failed
    /// No node could be joined, or no node offers the address.
    case unavailable
    /// The body of the request cannot be read.
    case noInput
    /// The reader of standard output closed it.
    case outputClosed
    /// A signal stopped the command.
    case interrupted

    /// The exit code of the command.
    var exitCode: Int32 {
        switch self {
        case .complete: 0
        case .failed: 1
        case .unavailable: 69
        case .noInput: 66
        // The exit codes that a shell shows for a command ended by SIGPIPE or SIGINT.
        case .outputClosed: 128 + 13
        case .interrupted: 128 + 2
        }
    }
}
