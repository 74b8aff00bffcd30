@preconcurrency import Dispatch
import Glibc
import NIOConcurrencyHelpers

/// A progress line on standard error. It is drawn only on a terminal.
///
/// A Dispatch timer draws it instead of a task, because the benchmark may occupy all threads of Swift's cooperative
/// pool.
final class BenchProgress: Sendable {
    private struct State {
        var run = 0
        var timer: (any DispatchSourceTimer)?
    }

    private let name: String
    private let runs: Int
    private let tally: Tally
    private let state = NIOLockedValueBox(State())

    init(_ name: String, runs: Int, _ tally: Tally) {
        self.name = name
        self.runs = runs
        self.tally = tally
        guard isatty(STDERR_FILENO) == 1 else { return }
        let timer = DispatchSource.makeTimerSource(queue: DispatchQueue(label: "chanserv.bench.progress"))
        timer.setEventHandler { [weak self] in self?.draw() }
        timer.schedule(deadline: .now(), repeating: .milliseconds(200))
        state.withLockedValue { $0.timer = timer }
        timer.activate()
    }

    func begin(run: Int) {
        state.withLockedValue { $0.run = run }
    }

    /// Removes the line. Further calls do nothing.
    func end() {
        state.withLockedValue { state in
            guard let timer = state.timer else { return }
            timer.cancel()
            state.timer = nil
            StandardError.draw("\r\u{1B}[K")
        }
    }

    private func draw() {
        state.withLockedValue { state in
            guard state.timer != nil else { return }
            let line =
                "\(name): run \(state.run) of \(runs)  requests: \(tally.requests)  frames: \(tally.frames)"
                + "  bytes: \(ByteCount(tally.bytes))"
            // The last column stays free: some terminals wrap as soon as it is written.
            let width = (Terminal.width(of: STDERR_FILENO) ?? 80) - 1
            StandardError.draw("\r\(line.prefix(max(0, width)))\u{1B}[K")
        }
    }
}
