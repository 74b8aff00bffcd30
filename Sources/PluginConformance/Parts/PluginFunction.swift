/// The functions of a plugin, for messages and for the record of the functions that ran when a process died.
enum PluginFunction: Int, CaseIterable, Sendable {
    case link, entry, create, destroy, open, pollSources, cancelCall, closeCall, pollFrames, cancelSource, closeSource
    case release

    /// The name of the function in the header.
    var name: String {
        switch self {
        case .link: "dlopen (its constructors)"
        case .entry: "chanserv_plugin_v1"
        case .create: "create"
        case .destroy: "destroy"
        case .open: "open"
        case .pollSources: "poll_sources"
        case .cancelCall: "cancel_call"
        case .closeCall: "close_call"
        case .pollFrames: "poll_frames"
        case .cancelSource: "cancel_source"
        case .closeSource: "close_source"
        case .release: "the release function of a lent frame"
        }
    }
}
