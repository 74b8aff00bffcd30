/// When a call may be closed: after each of its sources was (chanserv_plugin.h, close_call).
package struct CallLife: Sendable, Hashable {
    /// Sources added and not closed yet.
    package private(set) var openSources = 0
    /// The call itself is not polled any more.
    package private(set) var isPollingOver = false
    private var isClosed = false

    package init() {}

    package mutating func sourceAdded() {
        precondition(!isPollingOver, "a source was added to a call that is not polled any more")
        openSources += 1
    }

    /// - Returns: whether to call close_call now.
    package mutating func sourceClosed() -> Bool {
        precondition(openSources > 0, "more sources closed than added")
        openSources -= 1
        return closeIfPossible()
    }

    /// - Returns: whether to call close_call now.
    package mutating func pollingIsOver() -> Bool {
        isPollingOver = true
        return closeIfPossible()
    }

    private mutating func closeIfPossible() -> Bool {
        guard isPollingOver, openSources == 0, !isClosed else { return false }
        isClosed = true
        return true
    }
}
