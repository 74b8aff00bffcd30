internal import CProcess
@preconcurrency package import Dispatch
internal import Glibc
internal import NIOConcurrencyHelpers

/// Event source that calls a handler each time a descriptor is readable or has ended, until it is cancelled.
///
/// It replaces Dispatch's read source, which is unsafe on Linux. When a descriptor hangs up, libdispatch frees its
/// record on one thread while its manager thread still uses that record (swift-corelibs-libdispatch issue 949). That
/// crashed the host.
///
/// An active source stays alive until it is cancelled.
package final class ReadSource: Sendable {
    private struct State {
        /// Number that identifies the source's events; `nil` while the source is not active.
        var number: UInt64?
        var isCancelled = false
    }

    private let descriptor: Int32
    private let queue: DispatchQueue
    private let onReadable: @Sendable (ReadSource) -> Void
    private let onCancel: @Sendable () -> Void
    private let state = NIOLockedValueBox(State())

    /// - Parameters:
    ///   - descriptor: a pipe, a socket, a pidfd or an inotify instance. It must stay open until `onCancel` is called.
    ///   - queue: serial queue that runs both handlers.
    ///   - onReadable: called while the descriptor is readable or has ended.
    ///   - onCancel: called once after ``cancel()``. `onReadable` is not called after it.
    package init(
        _ descriptor: Int32, on queue: DispatchQueue, onReadable: @escaping @Sendable (ReadSource) -> Void,
        onCancel: @escaping @Sendable () -> Void
    ) {
        self.descriptor = descriptor
        self.queue = queue
        self.onReadable = onReadable
        self.onCancel = onCancel
    }

    /// Starts calling the handler. Must be called at most once.
    ///
    /// - Throws: ``ProcessError`` if the system cannot watch the descriptor. The caller must then cancel the source as
    ///   if it were active.
    package func activate() throws(ProcessError) {
        let code = state.withLockedValue { state -> Int32 in
            precondition(state.number == nil, "a source was activated twice")
            guard !state.isCancelled else { return 0 }
            let number = ReadSourcePoller.register(self)
            guard chanserv_epoll_add(ReadSourcePoller.epoll, descriptor, number) == 0 else {
                let code = errno
                ReadSourcePoller.forget(number)
                return code
            }
            state.number = number
            return 0
        }
        guard code == 0 else { throw ProcessError("cannot watch a descriptor", code: code) }
    }

    /// Stops calling the handler. Repeated calls have no effect.
    package func cancel() {
        let isFirst = state.withLockedValue { state -> Bool in
            guard !state.isCancelled else { return false }
            state.isCancelled = true
            if let number = state.number {
                _ = chanserv_epoll_remove(ReadSourcePoller.epoll, descriptor)
                ReadSourcePoller.forget(number)
            }
            return true
        }
        // Queued, so that it follows a running or scheduled call of `onReadable`.
        if isFirst { queue.async(execute: onCancel) }
    }

    /// Handles an event. The next event comes only after the descriptor is rearmed.
    fileprivate func hasEvent() {
        queue.async { [self] in
            if state.withLockedValue({ $0.isCancelled }) { return }
            onReadable(self)
            state.withLockedValue { state in
                guard !state.isCancelled, let number = state.number else { return }
                let result = chanserv_epoll_rearm(ReadSourcePoller.epoll, descriptor, number)
                precondition(result == 0, "a descriptor was closed while it was watched: \(systemMessage(errno))")
            }
        }
    }
}

/// Thread that waits for the events of all sources.
private enum ReadSourcePoller {
    private struct Sources {
        var last: UInt64 = 0
        /// Active sources by number. Numbers are not reused, so a late event finds no source.
        var active: [UInt64: ReadSource] = [:]
    }

    private static let sources = NIOLockedValueBox(Sources())

    static let epoll: Int32 = {
        let epoll = chanserv_epoll_create()
        precondition(epoll >= 0, "no epoll instance: \(systemMessage(errno))")
        var thread = pthread_t()
        let result = pthread_create(
            &thread, nil,
            { _ in
                _ = chanserv_name_thread("read-sources")
                ReadSourcePoller.run()
            }, nil)
        precondition(result == 0, "no thread to watch descriptors: \(systemMessage(result))")
        pthread_detach(thread)
        return epoll
    }()

    static func register(_ source: ReadSource) -> UInt64 {
        sources.withLockedValue { sources in
            sources.last += 1
            sources.active[sources.last] = source
            return sources.last
        }
    }

    static func forget(_ number: UInt64) {
        // The lock is not held while the source is released.
        let source = sources.withLockedValue { $0.active.removeValue(forKey: number) }
        withExtendedLifetime(source) {}
    }

    private static func run() -> Never {
        var numbers = [UInt64](repeating: 0, count: 32)
        while true {
            let count = chanserv_epoll_wait(epoll, &numbers)
            // A signal interrupted the wait.
            guard count > 0 else { continue }
            for number in numbers[..<Int(count)] { sources.withLockedValue { $0.active[number] }?.hasEvent() }
        }
    }
}
