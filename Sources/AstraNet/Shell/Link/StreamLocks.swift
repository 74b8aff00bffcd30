internal import Synchronization

/// The locks that guard the streams of a link. Streams share them: there are never more streams at work at a time than threads.
struct StreamLocks: ~Copyable, Sendable {
    #if DEBUG
        /// One, so that taking the lock of a second stream inside that of a first is found every time.
        private typealias Locks = InlineArray<1, PaddedLock>
    #else
        private typealias Locks = InlineArray<64, PaddedLock>
    #endif

    /// Alone on its cache line, so that threads that take different locks do not slow each other down.
    private struct PaddedLock: ~Copyable, Sendable {
        let mutex = Mutex(())
        private let padding = InlineArray<15, UInt32>(repeating: 0)
    }

    private let locks = Locks { _ in PaddedLock() }

    /// Runs `body` under the lock of a stream.
    @inline(__always)
    func withLock<Value>(of stream: Stream, _ body: () -> Value) -> Value {
        // Both ends count their ports up, so neighbours do not share a lock.
        let index = Int(truncatingIfNeeded: (stream.localPort ^ stream.remoteAddress.port) % UInt32(locks.count))
        // Not `withLock`: its closure is not inlined, which takes as many instructions as the lock.
        locks[index].mutex._unsafeLock()
        defer { locks[index].mutex._unsafeUnlock() }
        return body()
    }
}
