/// How far an instance is from being destroyed: it may be when nobody opens calls any more and the last is closed.
package struct InstanceLife: Sendable, Hashable {
    package enum Phase: Sendable, Hashable {
        case serving
        /// No new calls; the open ones go on.
        case draining
        /// The open calls were ended.
        case ending
        /// Destroyed, or given up because a call never returned.
        case over
    }

    package private(set) var phase: Phase = .serving
    /// Calls being opened, and open ones.
    package private(set) var calls = 0

    package init() {}

    /// - Returns: whether the call may be opened.
    package mutating func beginCall() -> Bool {
        guard phase == .serving else { return false }
        calls += 1
        return true
    }

    /// A call was closed, or could not be opened.
    ///
    /// - Returns: whether it was the last one that is waited for.
    package mutating func endCall() -> Bool {
        precondition(calls > 0, "more calls ended than begun")
        calls -= 1
        return isDrained
    }

    /// Lets no new calls begin.
    package mutating func drain() {
        if phase == .serving { phase = .draining }
    }

    /// The open calls are being ended.
    package mutating func end() {
        if phase != .over { phase = .ending }
    }

    package mutating func finish() {
        phase = .over
    }

    package var isDrained: Bool { calls == 0 && phase != .serving }
}
