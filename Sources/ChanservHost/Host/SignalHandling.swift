@preconcurrency internal import Dispatch
internal import Glibc
internal import NIOConcurrencyHelpers

/// The signals of a host process: SIGHUP reloads, SIGTERM and SIGINT stop gracefully, a second one of these ends at
/// once. SIGPIPE is ignored, since a broken connection is an error of a write here.
///
/// SIGUSR1 and SIGUSR2, which other services take for commands, are ignored where ``init(onReload:onStop:onEndNow:onOther:)``
/// is told what to say to them.
///
/// The callbacks come one at a time from a thread that is nobody's event loop, and must return at once. There can be one
/// at a time in a process; dropping it, or ``cancel()``, ends the callbacks.
public final class SignalHandling: Sendable {
    private let sources: [any DispatchSourceSignal]

    /// Begins to handle the signals; returns when they are handled, so that one sent from then on is not deadly.
    ///
    /// - Parameters:
    ///   - onReload: SIGHUP came. Several that come together may be one call.
    ///   - onStop: the first SIGTERM or SIGINT came; after it no `onReload` follows.
    ///   - onEndNow: the second one came.
    ///   - onOther: SIGUSR1 or SIGUSR2 came, whose name it gets; `nil`, the default, leaves them as they are.
    public init(
        onReload: @escaping @Sendable () -> Void,
        onStop: @escaping @Sendable () -> Void,
        onEndNow: @escaping @Sendable () -> Void,
        onOther: (@Sendable (String) -> Void)? = nil
    ) async {
        signal(SIGPIPE, SIG_IGN)
        let machine = NIOLockedValueBox(SignalMachine())
        let queue = DispatchQueue(label: "chanserv.signals")
        let signals: [(Int32, SignalMachine.Signal)] = [
            (SIGHUP, .hangUp), (SIGTERM, .terminate), (SIGINT, .terminate),
        ]
        var sources: [any DispatchSourceSignal] = signals.map { number, meaning in
            let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
            source.setEventHandler {
                // Two that came before the handler ran are one event with a count.
                let count = meaning == .terminate ? max(1, source.data) : 1
                for _ in 0..<count {
                    switch machine.withLockedValue({ $0.received(meaning) }) {
                    case .reload: onReload()
                    case .stop: onStop()
                    case .endNow: onEndNow()
                    case .doNothing: break
                    }
                }
            }
            return source
        }
        if let onOther {
            for (number, name) in [(SIGUSR1, "SIGUSR1"), (SIGUSR2, "SIGUSR2")] {
                let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
                source.setEventHandler { onOther(name) }
                sources.append(source)
            }
        }
        self.sources = sources
        for source in sources {
            await withCheckedContinuation { registered in
                source.setRegistrationHandler { registered.resume() }
                source.activate()
            }
        }
    }

    deinit {
        cancel()
    }

    /// Ends the callbacks.
    public func cancel() {
        for source in sources { source.cancel() }
    }
}
