import CProcess
import Glibc
import Synchronization

/// A file descriptor, closed with its last reference.
final class Descriptor: Sendable {
    let number: Int32

    init(_ number: Int32) { self.number = number }

    deinit { close(number) }
}

/// A thread that polls descriptors, so that no task has to block.
final class Reactor: Sendable {
    private struct Wait {
        let descriptors: [Descriptor]
        let deadline: ContinuousClock.Instant?
        let continuation: CheckedContinuation<Bool, any Error>
    }

    private struct State {
        var waits: [UInt64: Wait] = [:]
        var nextWait: UInt64 = 0
        var isStopped = false
        var thread: pthread_t?
    }

    private let state = Mutex(State())
    /// A byte in this pipe makes the thread read its list of waits again.
    private let wakePipe: (reader: Descriptor, writer: Descriptor)

    init() throws(SystemError) {
        wakePipe = try Pipe.make()
        guard fcntl(wakePipe.writer.number, F_SETFL, O_NONBLOCK) == 0 else { throw SystemError("cannot make a pipe") }
        let thread = try Self.startThread { [self] in run() }
        state.withLock { $0.thread = thread }
    }

    /// Ends all waits, and waits for the end of the thread. Later waits fail.
    func stop() {
        let (waits, thread) = state.withLock { state in
            state.isStopped = true
            defer { (state.waits, state.thread) = ([:], nil) }
            return (Array(state.waits.values), state.thread)
        }
        for wait in waits { wait.continuation.resume(throwing: CancellationError()) }
        wakeThread()
        if let thread { pthread_join(thread, nil) }
    }

    /// Waits until one of `descriptors` is readable or at its end.
    ///
    /// - Returns: `false` if the time has passed before.
    /// - Throws: `CancellationError` if the task is cancelled or the reactor is stopped.
    func readable(_ descriptors: Descriptor..., within time: Duration? = nil) async throws -> Bool {
        let deadline = time.map { ContinuousClock.now + $0 }
        let number = state.withLock { state in
            state.nextWait += 1
            return state.nextWait
        }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let waits = state.withLock { state in
                    // If the cancellation handler has already run, nothing would resume a stored continuation.
                    guard !state.isStopped, !Task.isCancelled else { return false }
                    state.waits[number] = Wait(
                        descriptors: descriptors, deadline: deadline, continuation: continuation)
                    return true
                }
                if waits { wakeThread() } else { continuation.resume(throwing: CancellationError()) }
            }
        } onCancel: {
            state.withLock { $0.waits.removeValue(forKey: number) }?.continuation.resume(throwing: CancellationError())
        }
    }

    private func wakeThread() {
        // If the pipe is full, the thread wakes up anyway.
        _ = write(wakePipe.writer.number, [UInt8(1)], 1)
    }

    private func run() {
        var bytes = [UInt8](repeating: 0, count: 512)
        while let waits = state.withLock({ $0.isStopped ? nil : $0.waits }) {
            // `waits` keeps the descriptors open during the poll.
            var polled = [pollfd(fd: wakePipe.reader.number, events: Int16(POLLIN), revents: 0)]
            var owners: [UInt64] = []
            for (number, wait) in waits {
                for descriptor in wait.descriptors {
                    polled.append(pollfd(fd: descriptor.number, events: Int16(POLLIN), revents: 0))
                    owners.append(number)
                }
            }
            let count = poll(
                &polled, nfds_t(polled.count), Self.milliseconds(to: waits.values.compactMap(\.deadline).min()))
            // The error is temporary: no memory, or more descriptors than allowed. Pausing leaves the processor to the
            // processes that the thread waits for. Nothing is ready, but deadlines are still checked.
            if count < 0, errno != EINTR { usleep(10_000) }
            if polled[0].revents != 0 { _ = read(wakePipe.reader.number, &bytes, bytes.count) }
            var ready: Set<UInt64> = []
            for (owner, entry) in zip(owners, polled.dropFirst()) where entry.revents != 0 { ready.insert(owner) }
            let now = ContinuousClock.now
            for (number, wait) in waits {
                let isLate = wait.deadline.map { $0 <= now } ?? false
                guard ready.contains(number) || isLate else { continue }
                let own = state.withLock { $0.waits.removeValue(forKey: number) }
                own?.continuation.resume(returning: ready.contains(number))
            }
        }
    }

    /// The timeout for poll, rounded up so that it does not end too early.
    private static func milliseconds(to deadline: ContinuousClock.Instant?) -> Int32 {
        guard let deadline else { return -1 }
        let (seconds, attoseconds) = (deadline - .now).components
        guard seconds >= 0, attoseconds >= 0 else { return 0 }
        return Int32(min(seconds, 1_000_000) * 1000 + attoseconds / 1_000_000_000_000_000 + 1)
    }

    private static func startThread(_ body: @escaping @Sendable () -> Void) throws(SystemError) -> pthread_t {
        final class Body {
            let run: @Sendable () -> Void
            init(_ run: @escaping @Sendable () -> Void) { self.run = run }
        }
        var thread = pthread_t()
        let argument = Unmanaged.passRetained(Body(body))
        let code = pthread_create(
            &thread, nil,
            { argument in
                Unmanaged<Body>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            }, argument.toOpaque())
        guard code == 0 else {
            argument.release()
            throw SystemError("cannot start a thread", code: code)
        }
        return thread
    }
}

enum Pipe {
    /// Makes a pipe whose ends are not inherited and whose reader does not block.
    static func make() throws(SystemError) -> (reader: Descriptor, writer: Descriptor) {
        var ends: [Int32] = [0, 0]
        guard chanserv_pipe(&ends) == 0 else { throw SystemError("cannot make a pipe") }
        let pipe = (reader: Descriptor(ends[0]), writer: Descriptor(ends[1]))
        guard fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0 else { throw SystemError("cannot make a pipe") }
        return pipe
    }
}

/// The failure of a system call.
struct SystemError: Error, CustomStringConvertible {
    let description: String

    init(_ operation: String, code: Int32 = errno) {
        description = "\(operation): \(String(cString: strerror(code)))"
    }
}
