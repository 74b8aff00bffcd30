internal import Synchronization

/// The locks of the streams of a link. The streams share 64 locks. These are enough, because a thread holds the lock of
/// only one stream at a time.
struct StreamLocks: ~Copyable, Sendable {
    #if DEBUG
        /// A single lock, so that taking the lock of a second stream inside that of a first one is always found.
        private typealias Locks = InlineArray<1, PaddedLock>
    #else
        private typealias Locks = InlineArray<64, PaddedLock>
    #endif

    /// A lock on its own cache line, so that threads that take different locks do not slow each other down.
    private struct PaddedLock: ~Copyable, Sendable {
        let mutex = Mutex(())
        private let padding = InlineArray<15, UInt32>(repeating: 0)
    }

    private let locks = Locks { _ in PaddedLock() }

    /// Runs `body` under the lock of `stream`.
    @inline(__always)
    func withLock<Value>(of stream: Stream, _ body: () -> Value) -> Value {
        // Port numbers count up at both ends, so consecutive streams do not share a lock.
        let index = Int(truncatingIfNeeded: (stream.localPort ^ stream.remoteAddress.port) % UInt32(locks.count))
        // `withLock` is not used: its closure is not inlined, which costs the instructions of a second lock.
        locks[index].mutex._unsafeLock()
        defer { locks[index].mutex._unsafeUnlock() }
        return body()
    }
}
