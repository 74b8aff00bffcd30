@preconcurrency internal import Dispatch
internal import Glibc
public import Logging
internal import NIOPosix
internal import PluginRuntime
internal import Synchronization

/// Connection to the service manager that started this process, such as systemd. It is notified when the host is ready,
/// reloads and stops.
///
/// Messages are sent in order on a separate queue, so that an unresponsive manager does not delay the host.
public final class ServiceManager: Sendable {
    /// Maximum time for which a message waits for space in the manager's queue, in seconds.
    private static let sendTimeout = 5

    private let environment: NotifyEnvironment
    private let descriptor: Int32
    private let logger: Logger
    private let queue = DispatchQueue(label: "chanserv.notify")
    /// Whether the last message could not be sent.
    private let isFailing = Atomic(false)

    /// Finds the manager through the environment (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`) and removes these
    /// variables. Must be called before any other code reads the environment.
    ///
    /// - Parameter logger: receives errors.
    /// - Returns: `nil` if there is no manager or if it cannot be notified.
    public static func fromEnvironment(logger: Logger) -> ServiceManager? {
        let variables = NotifyEnvironment.take()
        do throws(NotifyError) {
            guard let environment = try NotifyEnvironment(variables, pid: getpid()) else { return nil }
            if let problem = environment.watchdogProblem {
                logger.error("cannot send watchdog messages: \(problem)")
            }
            return try ServiceManager(environment, logger: logger)
        } catch {
            // Serving requests matters more than notifications. The manager detects missing messages itself.
            logger.error("cannot notify the service manager: \(error)")
            return nil
        }
    }

    package init(_ environment: NotifyEnvironment, logger: Logger) throws(NotifyError) {
        self.environment = environment
        self.logger = logger
        descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw NotifyError("no socket: \(String(cString: strerror(errno)))") }
        var time = timeval(tv_sec: Self.sendTimeout, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit {
        close(descriptor)
    }

    /// The environment variables with which a process that takes over finds the manager, as `NAME=value`.
    package var successorEnvironment: [String] { environment.variables }

    /// Queues a message.
    package func tell(_ message: NotifyMessage) {
        queue.async { self.send(message) }
    }

    /// Waits until all messages that were queued before are sent.
    package func flush() async {
        await withCheckedContinuation { done in queue.async { done.resume() } }
    }

    /// Queues a message that a reload begins. The manager compares its time with that of its reload request.
    package func notifyReloading() {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        tell(.reloading(at: UInt64(now.tv_sec) * 1_000_000 + UInt64(now.tv_nsec) / 1_000))
    }

    /// Sends watchdog messages at the manager's interval until the task is cancelled. Sends none if the manager
    /// requests none. Each message requires that every event loop responds, and also Swift's pool, which runs this
    /// function.
    ///
    /// - Parameter isAlive: an additional check before each message. The default always succeeds.
    package func keepWatchdog(isAlive: @Sendable () async -> Bool = { true }) async {
        guard let interval = environment.watchdogInterval else { return }
        let ticks = AsyncStream<Void> {
            do { try await Task.sleep(for: interval) } catch { return nil }
            return ()
        }
        await Watchdog.run(
            ticks,
            isAlive: {
                guard await isAlive() else { return false }
                return await Watchdog.eventLoopsTurn()
            }, ping: { tell(.watchdog) })
    }

    private func send(_ message: NotifyMessage) {
        let text = Array(message.text.utf8)
        let count = withAddress { address, length in
            sendto(descriptor, text, text.count, Int32(MSG_NOSIGNAL), address, length)
        }
        if count == text.count {
            isFailing.store(false, ordering: .relaxed)
        } else {
            let reason = systemMessage(errno)
            let wasFailing = isFailing.exchange(true, ordering: .relaxed)
            // Repeated failures of watchdog messages would fill the log.
            if wasFailing, message == .watchdog { return }
            let message = message.text.split(separator: "\n").joined(separator: " ")
            logger.warning(
                "cannot send '\(message)' to the service manager at NOTIFY_SOCKET=\(environment.address): \(reason)")
        }
    }

    private func withAddress<Value>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Value) -> Value {
        switch environment.address {
        case .path(let path): return withSocketAddress(path, body)
        case .abstract(let name):
            // A leading zero byte marks the name as abstract. The length of the address delimits the name.
            return withSocketAddress("\0" + name) { address, _ in
                body(address, socklen_t(MemoryLayout<sa_family_t>.size + 1 + name.utf8.count))
            }
        }
    }
}

/// Loop that reports liveness while checks succeed.
package enum Watchdog {
    /// Calls `ping` at each tick if `isAlive` returns `true`.
    package static func run(
        _ ticks: some AsyncSequence<Void, Never>, isAlive: () async -> Bool, ping: () -> Void
    ) async {
        for await _ in ticks where await isAlive() && !Task.isCancelled { ping() }
    }

    /// Waits until every event loop has run a task. Returns `false` if an event loop has shut down.
    package static func eventLoopsTurn() async -> Bool {
        do {
            for loop in MultiThreadedEventLoopGroup.singleton.makeIterator() { try await loop.submit {}.get() }
            return true
        } catch {
            return false
        }
    }
}
