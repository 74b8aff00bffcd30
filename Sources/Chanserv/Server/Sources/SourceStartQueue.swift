import DequeModule

/// State machine that decides when the pushed sources of a request start. It limits the memory of the frames that the
/// client has not accepted.
struct SourceStartQueue: ~Copyable {
    /// Encoded bytes of unaccepted sources, in all, above which no further source is started: 1 MiB.
    private static let unacceptedLimit = 1 << 20
    /// Bytes that count for a source that has started and has sent nothing: 64 KiB. First frames may be large, so this
    /// limits how many sources make theirs at the same time.
    private static let assumedStartBytes = 65_536

    /// Encoded bytes of sources that the client has not accepted.
    var unacceptedBytes = 0
    /// The number of sources that have started, have sent no frames yet, and that the client has not accepted.
    private var starting = 0
    /// Sources that have not started.
    private var held = Deque<SourceScope>()
    /// Whether a thread is starting a source.
    private var isStarting = false

    /// Whether another source may start.
    ///
    /// `false` while another thread starts one. That thread asks again afterwards, because a source that sends at once
    /// changes the counts.
    private var mayStart: Bool {
        !isStarting && unacceptedBytes + starting * Self.assumedStartBytes < Self.unacceptedLimit
    }

    /// Decides about a new source. Queues it behind the others if it may not start now.
    ///
    /// - Returns: whether the caller starts it now, and then calls ``started(_:)``.
    mutating func startOrQueue(_ source: SourceScope) -> Bool {
        guard held.isEmpty, mayStart else {
            held.append(source)
            return false
        }
        beginStart()
        return true
    }

    /// Removes and returns the next queued source that may start; `nil` if none may. The caller starts it, and then
    /// calls ``started(_:)``.
    mutating func next() -> SourceScope? {
        guard mayStart, let next = held.popFirst() else { return nil }
        beginStart()
        return next
    }

    private mutating func beginStart() {
        starting += 1
        isStarting = true
    }

    /// Records that the source has started; `false` if the client accepted it before, or it has ended.
    mutating func started(_ hasStarted: Bool) {
        isStarting = false
        if !hasStarted { starting -= 1 }
    }

    /// Takes back what was counted for a source, because it has sent its first frames, was accepted or has ended.
    mutating func settle(bytes: Int, wasStarting: Bool) {
        unacceptedBytes -= bytes
        if wasStarting { starting -= 1 }
    }

    /// Removes all queued sources.
    mutating func removeAll() { held = [] }
}
