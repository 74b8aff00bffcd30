internal import CProcess
@preconcurrency internal import Dispatch
internal import Glibc
internal import NIOConcurrencyHelpers

/// Calls a handler each time a descriptor has something to read or has ended, until it is cancelled.
///
/// It stands for Dispatch's read source, which must not be used on Linux: when a descriptor hangs up, libdispatch frees its record of
/// it on one thread while its manager thread works on that record (swift-corelibs-libdispatch issue 949). That ended the host.
///
/// An active source lives until it is cancelled.
final class ReadSource: Sendable {
    private struct State {
        /// Tells its events from those of others; `nil` while it is not active.
        var number: UInt64?
        var isCancelled = false
    }

    private let descriptor: Int32
    private let queue: DispatchQueue
    private let onReadable: @Sendable (ReadSource) -> Void
    private let onCancel: @Sendable () -> Void
    private let state = NIOLockedValueBox(State())

    /// - Parameters:
    ///   - descriptor: a pipe, a socket or a pidfd. It stays open until `onCancel` is called.
    ///   - queue: a serial queue, on which both handlers are called.
    ///   - onReadable: called while there is something to read, or the end of it.
    ///   - onCancel: called once after ``cancel()``; `onReadable` is not called after it.
    init(
        _ descriptor: Int32, on queue: DispatchQueue, onReadable: @escaping @Sendable (ReadSource) -> Void,
        onCancel: @escaping @Sendable () -> Void
    ) {
        self.descriptor = descriptor
        self.queue = queue
        self.onReadable = onReadable
        self.onCancel = onCancel
    }

    /// Begins to call the handler. Once.
    ///
    /// - Throws: ``ProcessError`` if the system cannot watch the descriptor. Then it is to be cancelled as if it were active.
    func activate() throws(ProcessError) {
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

    /// Ends the calls. Repeating it does nothing.
    func cancel() {
        let isFirst = state.withLockedValue { state -> Bool in
            guard !state.isCancelled else { return false }
            state.isCancelled = true
            if let number = state.number {
                _ = chanserv_epoll_remove(ReadSourcePoller.epoll, descriptor)
                ReadSourcePoller.forget(number)
            }
            return true
        }
        // Behind a call of the other handler that is running, or about to.
        if isFirst { queue.async(execute: onCancel) }
    }

    /// There is something to read. No other event comes before the descriptor is rearmed.
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

/// The thread that waits for the events of all sources.
private enum ReadSourcePoller {
    private struct Sources {
        var last: UInt64 = 0
        /// By number. Numbers are not reused: an event that comes late finds nothing.
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
        // Released outside the lock.
        let source = sources.withLockedValue { $0.active.removeValue(forKey: number) }
        withExtendedLifetime(source) {}
    }

    private static func run() -> Never {
        var numbers = [UInt64](repeating: 0, count: 32)
        while true {
            let count = chanserv_epoll_wait(epoll, &numbers)
            // A signal interrupted it.
            guard count > 0 else { continue }
            for number in numbers[..<Int(count)] { sources.withLockedValue { $0.active[number] }?.hasEvent() }
        }
    }
}
