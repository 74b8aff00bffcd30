internal import NIOConcurrencyHelpers

/// Libraries outside of the system folders that this process has loaded for plugins. Process-wide like the list of the
/// dynamic linker, which finds a library by its name and never loads a second one of that name.
enum LoadedLibraries {
    private struct State {
        /// Content of each file when it was loaded, by the path under which the linker has loaded it.
        var contents: [String: String] = [:]
        /// Stamps of files of the host itself when they were first needed by a plugin.
        var hostStamps: [String: String] = [:]
        /// Libraries that define a unique name (`STB_GNU_UNIQUE`), the first one of each name.
        var definers: [String: String] = [:]
    }

    /// Bounded by the number of libraries, which are never unloaded.
    private static let state = NIOLockedValueBox(State())

    /// Returns the content of a library when it was loaded; `nil` if it was not loaded for a plugin.
    static func content(of path: String) -> String? { state.withLockedValue { $0.contents[path] } }

    /// Returns the stamp that a file of the host itself had at the first call.
    static func hostStamp(of path: String, now: (String) -> String?) -> String? {
        state.withLockedValue { state in
            if let stamp = state.hostStamps[path] { return stamp }
            state.hostStamps[path] = now(path)
            return state.hostStamps[path]
        }
    }

    /// Returns the loaded library that defines a unique name.
    static func definer(ofUnique name: String) -> String? { state.withLockedValue { $0.definers[name] } }

    static func record(_ path: String, content: String, uniqueNames: [String] = []) {
        state.withLockedValue { state in
            state.contents[path] = content
            for name in uniqueNames where state.definers[name] == nil { state.definers[name] = path }
        }
    }
}
