internal import Synchronization

/// The locks that guard the streams of a link. Streams share locks, because at most one stream per thread is locked at
/// a time.
struct StreamLocks: ~Copyable, Sendable {
    #if DEBUG
        /// Debug builds have one lock, so that locking a second stream while a first is locked always fails.
        private typealias Locks = InlineArray<1, PaddedLock>
    #else
        private typealias Locks = InlineArray<64, PaddedLock>
    #endif

    /// A lock with padding, so that two locks do not share a cache line and threads do not slow each other down.
    private struct PaddedLock: ~Copyable, Sendable {
        let mutex = Mutex(())
        private let padding = InlineArray<15, UInt32>(repeating: 0)
    }

    private let locks = Locks { _ in PaddedLock() }

    /// Runs `body` while it holds the lock of a stream.
    @inline(__always)
    func withLock<Value>(of stream: MeshStream, _ body: () -> Value) -> Value {
        // Both nodes assign ports in ascending order, so consecutive streams have different locks.
        let index = Int(truncatingIfNeeded: (stream.localPort ^ stream.remoteAddress.port) % UInt32(locks.count))
        // The closure of `withLock` is not inlined, which costs as many instructions as the lock itself.
        locks[index].mutex._unsafeLock()
        defer { locks[index].mutex._unsafeUnlock() }
        return body()
    }
}
