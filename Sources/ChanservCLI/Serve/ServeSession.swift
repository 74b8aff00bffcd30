import ChanservHost
import Dispatch
import Glibc
import Logging

/// Runs a host from start to shutdown, controlled by signals.
struct ServeSession {
    private enum Event {
        case reload
        case upgrade
        case stop
    }

    /// Time between the second stop signal and the forced exit. A plugin call that does not return must not delay the
    /// exit.
    private static let forcedExitDelay = DispatchTimeInterval.seconds(2)

    private let host: PluginHost
    private let inheritance: HostInheritance
    private let logger: Logger
    private let log: LogWriter
    private let stopsWithInput: Bool
    private let onReady: @Sendable () -> Void

    /// - Parameters:
    ///   - inheritance: what the process inherits from others.
    ///   - logger: logs ignored signals.
    ///   - log: is flushed before a forced exit.
    ///   - stopsWithInput: whether the end of standard input stops the host like SIGTERM. Set by a parent process that
    ///     the host must not outlive.
    ///   - onReady: called when the host has started. Does nothing by default.
    init(
        _ host: PluginHost, _ inheritance: HostInheritance = HostInheritance(), logger: Logger, log: LogWriter,
        stopsWithInput: Bool = false, onReady: @escaping @Sendable () -> Void = {}
    ) {
        self.host = host
        self.inheritance = inheritance
        self.logger = logger
        self.log = log
        self.stopsWithInput = stopsWithInput
        self.onReady = onReady
    }

    /// Serves until a stop signal arrives, also during the start, or another process has taken over. Returns after the
    /// shutdown.
    ///
    /// - Throws: ``HostError`` if the host could not start.
    func run() async throws(HostError) {
        // The stop event is the last one, so this policy never drops it. Other events start a task at once, so that the
        // queue has several of them only if signals arrive in a burst.
        let (events, eventContinuation) = AsyncStream.makeStream(of: Event.self, bufferingPolicy: .bufferingNewest(8))
        let (forcedExits, forcedExit) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let log = log
        let signals = await SignalHandling(
            onReload: { eventContinuation.yield(.reload) },
            onStop: { eventContinuation.yield(.stop) },
            onImmediateEnd: {
                forcedExit.yield()
                DispatchQueue.global().asyncAfter(deadline: .now() + Self.forcedExitDelay) {
                    log.flush()
                    _exit(0)
                }
            },
            onUser: { [logger] signal in
                switch signal {
                case .user1:
                    logger.warning(
                        """
                        ignored SIGUSR1: use SIGHUP or 'chanserv reload' to reload, 'chanserv status' to show the \
                        state, and SIGTERM to stop
                        """)
                case .user2: eventContinuation.yield(.upgrade)
                }
            })
        defer { signals.cancel() }
        let replaced = Task { [host] in
            await host.replacement.waitUntilReplaced()
            if !Task.isCancelled { eventContinuation.yield(.stop) }
        }
        defer { replaced.cancel() }
        if stopsWithInput {
            DispatchQueue(label: "chanserv.input").async {
                Self.awaitEndOfInput()
                eventContinuation.yield(.stop)
            }
        }

        // A separate task, because a plugin's `create` may never return and must not block the handling of a stop.
        let start = Task { () -> Result<Void, HostError> in
            do throws(HostError) {
                try await host.start(inheriting: inheritance)
                onReady()
                return .success(())
            } catch {
                eventContinuation.finish()
                return .failure(error)
            }
        }
        for await event in events {
            switch event {
            case .reload:
                // Not awaited, so that a stop is not queued behind a reload. The host coalesces concurrent reloads. A
                // reload that arrives during the start runs after it.
                Task { if case .success = await start.value { await host.reload() } }
            case .upgrade:
                Task { if case .success = await start.value { _ = await host.replacement.upgrade() } }
            case .stop:
                await shutDown(cancellingAt: forcedExits)
                return
            }
        }
        try await start.value.get()
    }

    /// Reads and discards standard input until it ends or fails. Blocks.
    private static func awaitEndOfInput() {
        var bytes = [UInt8](repeating: 0, count: 512)
        while true {
            let count = read(STDIN_FILENO, &bytes, bytes.count)
            if count < 0, errno == EAGAIN {
                waitUntilReady(STDIN_FILENO, POLLIN)
            } else if count == 0 || (count < 0 && errno != EINTR) {
                return
            }
        }
    }

    /// Drains the host. The first element of `forcedExits` cancels the drain.
    private func shutDown(cancellingAt forcedExits: AsyncStream<Void>) async {
        let shutdown = Task { await host.shutdown() }
        let watch = Task {
            for await _ in forcedExits {
                shutdown.cancel()
                return
            }
        }
        await shutdown.value
        watch.cancel()
    }
}
