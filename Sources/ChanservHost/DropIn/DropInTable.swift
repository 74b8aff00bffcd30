internal import HostConfiguration
internal import PluginRuntime

/// The drop-ins of a host and their states, for the status and for the log.
struct DropInTable: Sendable {
    /// A drop-in.
    struct Entry: Sendable {
        /// The library or the YAML file.
        var file: String
        var state: State
        /// The time of the last change of ``state``.
        var since: ContinuousClock.Instant
        /// What was rejected, so that the same files are not tried again after each change of another drop-in.
        var rejected: RejectedDropIn?
    }

    enum State: Hashable, Sendable {
        case serving
        /// Its YAML file has `enabled: false`.
        case disabled
        /// Its files are gone, and `on_remove: keep` keeps its routes.
        case removed
        /// It cannot be served, for these reasons. The version that was served before, if any, goes on.
        case rejected([String])
    }

    private(set) var entries: [String: Entry] = [:]

    /// Whether the routes of this plugin come from a drop-in.
    func contains(_ plugin: String) -> Bool { entries[plugin] != nil }

    /// Whether every rejection may be over at the next attempt.
    var isTemporary: Bool { entries.values.allSatisfy { $0.rejected?.isTemporary ?? ($0.state == .serving) } }

    /// The reasons of all rejected drop-ins, one line each.
    var rejections: [String] {
        entries.sorted { $0.key < $1.key }.flatMap { name, entry -> [String] in
            guard case .rejected(let reasons) = entry.state else { return [] }
            return reasons.map { "drop-in '\(name)': \($0)" }
        }
    }

    /// Records the drop-ins after a configuration was applied.
    ///
    /// - Parameters:
    ///   - rejected: the drop-ins that cannot be served.
    ///   - kept: the names of removed drop-ins whose routes are still served.
    /// - Returns: the drop-ins whose state has changed, in the order of their names.
    mutating func update(
        _ configuration: HostConfiguration, rejected: [String: RejectedDropIn], kept: Set<String>,
        at now: ContinuousClock.Instant
    ) -> [(name: String, entry: Entry)] {
        var next: [String: Entry] = [:]
        for dropIn in configuration.dropIns {
            let state: State =
                if let rejection = rejected[dropIn.name] { .rejected(rejection.reasons) } else {
                    switch dropIn.content {
                    case .valid: .serving
                    case .disabled: .disabled
                    case .invalid(let errors): .rejected(errors.map(\.description))
                    }
                }
            next[dropIn.name] = Entry(file: dropIn.file, state: state, since: now, rejected: rejected[dropIn.name])
        }
        for name in kept where next[name] == nil {
            if let entry = entries[name] { next[name] = Entry(file: entry.file, state: .removed, since: now) }
        }
        var changed: [(name: String, entry: Entry)] = []
        for (name, entry) in next.sorted(by: { $0.key < $1.key }) {
            if let before = entries[name], before.state == entry.state {
                next[name]?.since = before.since
            } else {
                changed.append((name, entry))
            }
        }
        entries = next
        return changed
    }
}

/// The bytes of a library and of the libraries that it needs.
struct LibraryIdentity: Hashable, Sendable {
    /// The SHA-256 of the library in hex.
    var digest: String
    var needed: [NeededLibrary]
}

/// A drop-in that could not be served, with everything that its result depended on.
struct RejectedDropIn: Hashable, Sendable {
    var plugin: HostConfiguration.Plugin
    var routes: [HostConfiguration.Route]
    /// `nil` if the library could not be read.
    var library: LibraryIdentity?
    /// One line each; at least one.
    var reasons: [String]
    /// Whether another attempt may succeed, because neither the files nor the plugin is wrong.
    var isTemporary: Bool

    /// Whether a plugin is the one that was rejected.
    func isSame(
        _ plugin: HostConfiguration.Plugin, _ routes: [HostConfiguration.Route], _ library: LibraryIdentity
    ) -> Bool {
        !isTemporary && self.plugin == plugin && self.library == library && self.routes == routes
    }
}
