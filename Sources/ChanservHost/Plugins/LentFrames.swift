internal import CChanservPlugin
internal import NIOConcurrencyHelpers
internal import NIOCore
internal import NIOPosix
internal import Synchronization

/// The frames that one instance has lent to the host and whose release has not returned yet.
final class LentFrames: Sendable {
    private struct State {
        var frames = 0
        var bytes = 0
        /// Nothing may be lent any more.
        var isEnding = false
        /// What nothing uses any more, to be released by the turn that is scheduled while this is not empty.
        var returned: [Lease] = []
    }

    /// How many bytes one instance may have lent, 64 MiB. What it lends beyond that is copied.
    static let bytesLimit = 64 << 20

    /// Happens after ``end()`` as soon as nothing is lent.
    let allReturned = Event()
    private let bytesLimit: Int
    private let state = NIOLockedValueBox(State())

    /// - Parameter bytesLimit: how many bytes may be lent at the same time; 0 to copy everything.
    init(bytesLimit: Int = LentFrames.bytesLimit) {
        self.bytesLimit = bytesLimit
    }

    /// How many frames are lent.
    var frames: Int { state.withLockedValue { $0.frames } }
    /// How many bytes they have.
    var bytes: Int { state.withLockedValue { $0.bytes } }

    /// Begins a lease on `size` bytes at `data`.
    ///
    /// - Parameters:
    ///   - size: larger than 0.
    ///   - context: the instance's, which has this object.
    ///   - release: the plugin's function, called once when nothing uses the buffers any more.
    ///   - argument: for `release`.
    /// - Returns: buffers over the memory, in order; `nil` if the frame must be copied. Then there is no lease.
    func lend(
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

    /// Lends nothing from now on: frames are copied. ``allReturned`` happens when what is lent now is released.
    ///
    /// For the end of an instance, before destroy. The owner of the outgoing buffers then copies those that are left, or
    /// drops them.
    func end() {
        let isOver = state.withLockedValue { state in
            state.isEnding = true
            return state.frames == 0
        }
        if isOver { allReturned.happened() }
    }

    /// Nothing uses the memory of `lease` any more.
    ///
    /// This is called where NIO or a queue drops its last buffer, perhaps while a lock of the host is held. So the release
    /// never runs in place: what is returned meanwhile is released in one later turn.
    fileprivate func returned(_ lease: Lease) {
        let schedulesTurn = state.withLockedValue { state in
            state.returned.append(lease)
            return state.returned.count == 1
        }
        guard schedulesTurn else { return }
        let context = lease.context
        if context.descriptor.isInline, let loop = MultiThreadedEventLoopGroup.currentEventLoop {
            // A task of its own on this loop: it needs no other thread, and runs when the present work has returned.
            loop.execute { self.releaseReturned(context) }
        } else if context.descriptor.isBlocking {
            // All ordinary threads may be held up in polls.
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

/// One lent frame: the memory is the host's to read from ``begin(pieces:)`` until the last buffer over it is dropped.
final class Lease: Sendable {
    typealias Release = @convention(c) (UnsafeMutableRawPointer?) -> Void

    fileprivate let context: PluginContext
    fileprivate let size: Int
    fileprivate let release: Release
    /// `nonisolated(unsafe)`: the plugin's, passed back to it and not used otherwise.
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

    /// Called once, before any of the buffers exists.
    func begin(pieces count: Int) {
        pieces.store(count, ordering: .relaxed)
    }

    /// A buffer over a part of the memory was dropped.
    func pieceReturned() {
        // Whoever drops the last piece has seen all reads of the others before the release.
        let (_, left) = pieces.subtract(1, ordering: .acquiringAndReleasing)
        if left == 0 { context.lent.returned(self) }
    }
}
