import ChanservHost
import Dispatch
import Glibc
import Logging

/// A host from its start to its end, steered by signals.
struct ServeSession {
    private enum Event {
        case reload
        case stop
    }

    /// How long the second signal leaves a host that ends by itself; a plugin that does not return must not hold it up.
    private static let endNowGrace = DispatchTimeInterval.seconds(2)

    private let host: Host
    private let logger: Logger
    private let log: LogWriter
    private let stopsWithInput: Bool

    /// - Parameters:
    ///   - logger: gets what signals give cause for.
    ///   - log: flushed where the process ends in here.
    ///   - stopsWithInput: for a host that is not to outlive the program that started it: to stop, as a signal
    ///     would, when standard input ends.
    init(_ host: Host, logger: Logger, log: LogWriter, stopsWithInput: Bool = false) {
        self.host = host
        self.logger = logger
        self.log = log
        self.stopsWithInput = stopsWithInput
    }

    /// Serves until a signal says to stop, also while it is starting, and returns when everything has ended.
    ///
    /// - Throws: ``HostError`` where the host could not start.
    func run() async throws(HostError) {
        // A stop is never lost, for nothing follows it; of the reloads that come together one is enough.
        let (events, told) = AsyncStream.makeStream(of: Event.self, bufferingPolicy: .bufferingNewest(2))
        let (endings, endNow) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let log = log
        let signals = await SignalHandling(
            onReload: { told.yield(.reload) },
            onStop: { told.yield(.stop) },
            onEndNow: {
                endNow.yield()
                DispatchQueue.global().asyncAfter(deadline: .now() + Self.endNowGrace) {
                    log.flush()
                    _exit(0)
                }
            },
            onOther: { [logger] name in
                logger.warning(
                    """
                    \(name) says nothing here and is ignored: SIGHUP or 'chanserv reload' reads the configuration again, \
                    'chanserv status' shows what is served, SIGTERM stops
                    """)
            })
        defer { signals.cancel() }
        if stopsWithInput {
            DispatchQueue(label: "chanserv.input").async {
                Self.awaitEndOfInput()
                told.yield(.stop)
            }
        }

        // Beside the events: a plugin's create may take long, or for ever, and must not hold up a stop.
        let start = Task { () -> Result<Void, HostError> in
            do throws(HostError) {
                try await host.start()
                return .success(())
            } catch {
                told.finish()
                return .failure(error)
            }
        }
        for await event in events {
            switch event {
            case .reload:
                // Not waited for: the host makes one of those that come together, and a stop must not queue behind it.
                // One that comes before the host is ready is done once it is.
                Task { if case .success = await start.value { await host.reload() } }
            case .stop:
                await shutDown(cancellingAt: endings)
                return
            }
        }
        try await start.value.get()
    }

    /// Blocks.
    private static func awaitEndOfInput() {
        var bytes = [UInt8](repeating: 0, count: 512)
        while true {
            let count = read(STDIN_FILENO, &bytes, bytes.count)
            if count == 0 || (count < 0 && errno != EINTR) { return }
        }
    }

    /// Drains; the first element of `endings` makes it the deadline.
    private func shutDown(cancellingAt endings: AsyncStream<Void>) async {
        let shutdown = Task { await host.shutdown() }
        let watch = Task {
            for await _ in endings {
                shutdown.cancel()
                return
            }
        }
        await shutdown.value
        watch.cancel()
    }
}
