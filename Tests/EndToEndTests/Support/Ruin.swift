/// The ways in which the drill plugin can ruin its process (Plugins/ruin.h).
enum Ruin: String, CaseIterable, Sendable {
    case abort, null, leak, loop, hang, exit, overflow, close, fork, session, stop, trap

    /// The text that the error of a client contains.
    var fate: String {
        switch self {
        case .abort, .fork, .session: "was killed by SIGABRT"
        case .null, .overflow: "was killed by SIGSEGV"
        // The signal depends on which allocation fails first: that of the plugin or that of the runtime.
        case .leak: "was killed by SIG"
        case .loop, .hang: "poll_frames has not returned for"
        case .exit: "exited with code 3"
        // The reason depends on what fails first in the process without its descriptors.
        case .close: "it"
        case .stop: "sent no report for 4s and was killed"
        case .trap: "was killed by SIGILL"
        }
    }
}
