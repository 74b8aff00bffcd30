@preconcurrency internal import Dispatch
internal import Glibc
internal import NIOConcurrencyHelpers

/// Handles the signals of a host process. SIGHUP reloads. The first SIGTERM or SIGINT stops gracefully, the second one
/// ends at once. SIGPIPE is ignored, because a broken connection is reported as an error of a write.
///
/// SIGUSR1 and SIGUSR2, which some services use for commands, end a process by default. They are passed to `onUser`, if
/// the caller sets it.
///
/// The callbacks run one at a time on a thread that is not an event loop, and must return at once. A process can have
/// one instance at a time. Releasing it, or ``cancel()``, ends the callbacks.
public final class SignalHandling: Sendable {
    /// The signals whose meaning the program chooses.
    public enum UserSignal: String, Sendable, CaseIterable {
        case user1 = "SIGUSR1"
        case user2 = "SIGUSR2"

        fileprivate var number: Int32 {
            switch self {
            case .user1: SIGUSR1
            case .user2: SIGUSR2
            }
        }
    }

    private let sources: [any DispatchSourceSignal]

    /// Installs the handlers. After it has returned, a handled signal does not end the process any more.
    ///
    /// - Parameters:
    ///   - onReload: called for SIGHUP. Several signals in short succession may be one call.
    ///   - onStop: called for the first SIGTERM or SIGINT. No `onReload` follows.
    ///   - onImmediateEnd: called for the second SIGTERM or SIGINT.
    ///   - onUser: called for SIGUSR1 and SIGUSR2. `nil`, the default, keeps their default action.
    public init(
        onReload: @escaping @Sendable () -> Void,
        onStop: @escaping @Sendable () -> Void,
        onImmediateEnd: @escaping @Sendable () -> Void,
        onUser: (@Sendable (UserSignal) -> Void)? = nil
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
                // The source combines signals that arrive before the handler runs, and counts them.
                let count = meaning == .terminate ? max(1, source.data) : 1
                for _ in 0..<count {
                    switch machine.withLockedValue({ $0.received(meaning) }) {
                    case .reload: onReload()
                    case .stop: onStop()
                    case .endNow: onImmediateEnd()
                    case .doNothing: break
                    }
                }
            }
            return source
        }
        if let onUser {
            for signal in UserSignal.allCases {
                let source = DispatchSource.makeSignalSource(signal: signal.number, queue: queue)
                source.setEventHandler { onUser(signal) }
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
