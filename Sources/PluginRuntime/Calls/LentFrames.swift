internal import CChanservPlugin
internal import NIOConcurrencyHelpers
package import NIOCore
internal import NIOPosix
internal import Synchronization

/// Frames that one instance has lent to the host and whose release function has not returned.
package final class LentFrames: Sendable {
    private struct State {
        var frames = 0
        var bytes = 0
        /// Set by ``LentFrames/end()``. Nothing may be lent any more.
        var isEnding = false
        /// Leases that are no longer used. While this is not empty, a turn that releases them is scheduled.
        var returned: [Lease] = []
    }

    /// Default maximum number of bytes that one instance may have lent: 64 MiB. The host copies frames beyond that.
    package static let bytesLimit = 64 << 20

    /// Happens after ``end()`` as soon as no frame is lent.
    package let allReturned = OneTimeEvent()
    private let bytesLimit: Int
    private let state = NIOLockedValueBox(State())

    /// - Parameter bytesLimit: maximum number of bytes that are lent at the same time. 0 copies all frames.
    init(bytesLimit: Int = LentFrames.bytesLimit) {
        self.bytesLimit = bytesLimit
    }

    /// Number of lent frames.
    var frames: Int { state.withLockedValue { $0.frames } }
    /// Size of the lent frames in bytes.
    var bytes: Int { state.withLockedValue { $0.bytes } }

    /// Begins a lease on `size` bytes at `data`.
    ///
    /// - Parameters:
    ///   - size: size in bytes, larger than 0.
    ///   - context: context of the instance that owns this object.
    ///   - release: function of the plugin. The host calls it once, when the buffers are no longer used.
    ///   - argument: argument of `release`.
    /// - Returns: buffers over the memory, in order. `nil` if the frame must be copied; no lease has begun then.
    package func lend(
        _ data: UnsafeRawPointer, size: Int, context: PluginContext, release: @escaping Lease.Release,
        argument: UnsafeMutableRawPointer?
    ) -> [ByteBuffer]? {
        let isAllowed = state.withLockedValue { state in
            guard !state.isEnding, size <= bytesLimit - state.bytes else { return false }
            state.frames += 1
            state.bytes += size
            return true
        }
        guard isAllowed else { return nil }
        let lease = Lease(context: context, size: size, release: release, argument: argument)
        if let buffers = LentMemory.buffers(over: data, size: size, for: lease) { return buffers }
        ended(frames: 1, bytes: size)
        return nil
    }

    /// Stops lending; further frames are copied. ``allReturned`` happens when all lent frames are released.
    ///
    /// Called at the end of an instance, before destroy. The owner of the outgoing buffers then copies or drops the
    /// remaining ones.
    package func end() {
        let isOver = state.withLockedValue { state in
            state.isEnding = true
            return state.frames == 0
        }
        if isOver { allReturned.happened() }
    }

    /// Records that the memory of `lease` is no longer used.
    ///
    /// Called where NIO or a queue drops the last buffer, possibly while the host holds a lock. So the release function
    /// never runs in place. One later turn releases all leases that were returned until then.
    fileprivate func returned(_ lease: Lease) {
        let schedulesTurn = state.withLockedValue { state in
            state.returned.append(lease)
            return state.returned.count == 1
        }
        guard schedulesTurn else { return }
        let context = lease.context
        if context.descriptor.isInline, let loop = MultiThreadedEventLoopGroup.currentEventLoop {
            // A task on the same event loop wakes no other thread. It runs after the current work has returned.
            loop.execute { self.releaseReturned(context) }
        } else if context.descriptor.isBlocking {
            // Polls may occupy all ordinary threads.
            context.executor.submitUrgent { self.releaseReturned(context) }
        } else {
            context.executor.submitUnhurried { self.releaseReturned(context) }
        }
    }

    private func releaseReturned(_ context: PluginContext) {
        let leases = state.withLockedValue { state in
            defer { state.returned = [] }
            return state.returned
        }
        var bytes = 0
        for lease in leases {
            context.callRelease { lease.release(lease.argument) }
            bytes += lease.size
        }
        ended(frames: leases.count, bytes: bytes)
    }

    private func ended(frames: Int, bytes: Int) {
        let isOver = state.withLockedValue { state in
            state.frames -= frames
            state.bytes -= bytes
            return state.isEnding && state.frames == 0
        }
        if isOver { allReturned.happened() }
    }
}

/// One lent frame. The host may read the memory from ``begin(pieces:)`` until the last buffer over it is dropped.
package final class Lease: Sendable {
    package typealias Release = @convention(c) (UnsafeMutableRawPointer?) -> Void

    fileprivate let context: PluginContext
    fileprivate let size: Int
    fileprivate let release: Release
    /// `nonisolated(unsafe)`: the pointer belongs to the plugin, and the host only passes it back.
    fileprivate nonisolated(unsafe) let argument: UnsafeMutableRawPointer?
    private let pieces = Atomic<Int>(0)

    fileprivate init(
        context: PluginContext, size: Int, release: @escaping Release, argument: UnsafeMutableRawPointer?
    ) {
        self.context = context
        self.size = size
        self.release = release
        self.argument = argument
    }

    /// Sets the number of buffers. Called once, before any of them exists.
    func begin(pieces count: Int) {
        pieces.store(count, ordering: .relaxed)
    }

    /// Records that a buffer over a part of the memory was dropped.
    func pieceReturned() {
        // The ordering makes all reads through the other pieces happen before the release.
        let (_, left) = pieces.subtract(1, ordering: .acquiringAndReleasing)
        if left == 0 { context.lent.returned(self) }
    }
}
