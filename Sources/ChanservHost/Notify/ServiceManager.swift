@preconcurrency internal import Dispatch
internal import Glibc
public import Logging
internal import NIOPosix
internal import Synchronization

/// The service manager that started this process, such as systemd, which is told when the host is ready, reloads and ends.
///
/// Messages are sent one after the other from a thread of their own, so that a manager that does not listen holds up
/// nobody.
public final class ServiceManager: Sendable {
    /// How long a message may wait for room in the manager's queue, in seconds.
    private static let patience = 5

    private let environment: NotifyEnvironment
    private let descriptor: Int32
    private let logger: Logger
    private let queue = DispatchQueue(label: "chanserv.notify")
    /// The last message could not be sent.
    private let isFailing = Atomic(false)

    /// Looks for the manager in the environment (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`), and takes these variables
    /// out of it. To be called first of all, before anything else looks at the environment.
    ///
    /// - Parameter logger: gets what cannot be told.
    /// - Returns: `nil` where there is none.
    public static func fromEnvironment(logger: Logger) -> ServiceManager? {
        let variables = NotifyEnvironment.take()
        do throws(NotifyError) {
            guard let environment = try NotifyEnvironment(variables, pid: getpid()) else { return nil }
            if let problem = environment.watchdogProblem {
                logger.error("the watchdog is not told anything: \(problem)")
            }
            return try ServiceManager(environment, logger: logger)
        } catch {
            // To serve is more than to be watched; the manager sees by itself that it is not told.
            logger.error("the service manager cannot be told how the host is: \(error)")
            return nil
        }
    }

    package init(_ environment: NotifyEnvironment, logger: Logger) throws(NotifyError) {
        self.environment = environment
        self.logger = logger
        descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw NotifyError("no socket: \(String(cString: strerror(errno)))") }
        var time = timeval(tv_sec: Self.patience, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit {
        close(descriptor)
    }

    /// Queues a message.
    package func tell(_ message: NotifyMessage) {
        queue.async { self.send(message) }
    }

    /// Returns when everything was sent that was queued before.
    package func flush() async {
        await withCheckedContinuation { done in queue.async { done.resume() } }
    }

    /// Says that a reload begins, which the manager compares with the time at which it asked for it.
    package func tellReloading() {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        tell(.reloading(at: UInt64(now.tv_sec) * 1_000_000 + UInt64(now.tv_nsec) / 1_000))
    }

    /// Says that the process is alive, as often as the manager wants, until the task is cancelled; never where it does not
    /// want it. Every event loop must turn for that, and Swift's pool, on which this runs.
    ///
    /// - Parameter isAlive: asks what else must answer, and returns when it has. Nothing by default.
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
            // The watchdog's pings would fill the log.
            if wasFailing, message == .watchdog { return }
            let message = message.text.split(separator: "\n").joined(separator: " ")
            logger.warning(
                "the service manager was not told '\(message)' at NOTIFY_SOCKET=\(environment.address): \(reason)")
        }
    }

    private func withAddress<Value>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Value) -> Value {
        switch environment.address {
        case .path(let path): return withSocketAddress(path, body)
        case .abstract(let name):
            // The zero byte in front marks it as abstract, and its length is that of the address.
            return withSocketAddress("\0" + name) { address, _ in
                body(address, socklen_t(MemoryLayout<sa_family_t>.size + 1 + name.utf8.count))
            }
        }
    }
}

/// Says that something is alive for as long as it is.
enum Watchdog {
    /// At each tick, asks whether it is alive and says so; what does not answer is not said to be.
    static func run(
        _ ticks: some AsyncSequence<Void, Never>, isAlive: () async -> Bool, ping: () -> Void
    ) async {
        for await _ in ticks where await isAlive() && !Task.isCancelled { ping() }
    }

    /// Whether all event loops turn: returns when they have.
    static func eventLoopsTurn() async -> Bool {
        do {
            for loop in MultiThreadedEventLoopGroup.singleton.makeIterator() { try await loop.submit {}.get() }
            return true
        } catch {
            return false
        }
    }
}
