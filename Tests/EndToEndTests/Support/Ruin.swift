/// What the drill plugin can do to its process (Plugins/ruin.h), and what is said of it afterwards.
enum Ruin: String, CaseIterable, Sendable {
    case abort, null, leak, loop, hang, exit, overflow, close, fork, session, stop, trap

    /// What the error of a client says.
    var fate: String {
        switch self {
        case .abort, .fork, .session: "was killed by SIGABRT"
        case .null, .overflow: "was killed by SIGSEGV"
        // Whoever asks for memory first gets none: the plugin, or the runtime.
        case .leak: "was killed by SIG"
        case .loop, .hang: "poll_frames has not returned for"
        case .exit: "exited with code 3"
        // Of what happens first: that is noticed here, or in the process by what runs without its descriptors.
        case .close: "it"
        case .stop: "sent no report for 4s and was killed"
        case .trap: "was killed by SIGILL"
        }
    }
}
