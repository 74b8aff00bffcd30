import Foundation
import Synchronization

/// Runs seeds in one child process for each processor.
///
/// Each child gets a chunk of seeds. It writes the line `progress` after each seed and `done` with the figures at its
/// end. All other lines describe a failing seed. A child that outlives the pool ends at its next line, because nothing
/// reads its pipe.
struct WorkerPool {
    /// Seeds of one child. A simulated mesh that ends early leaves suspended tasks behind, about 200 KB of memory for
    /// each seed, so a child must not run too many.
    private static let chunk: UInt64 = 500

    private struct State {
        var next: UInt64
        var isStopped = false
        var finished = 0
        var figures = Figures()
        /// Lines about seeds that fail.
        var failures: [String] = []
    }

    private let options: Options
    private let end: UInt64
    private let began = ContinuousClock.now

    init(_ options: Options) {
        self.options = options
        end = options.first + options.seeds
    }

    /// - Returns: whether all seeds passed.
    func run() -> Bool {
        let state = Mutex(State(next: options.first))
        let processes = min(ProcessInfo.processInfo.activeProcessorCount, Int(clamping: options.seeds))
        emit("==> \(options.seeds) seeds from \(options.first) in \(processes) processes", to: STDERR_FILENO)
        DispatchQueue.concurrentPerform(iterations: processes) { _ in
            while let (first, count) = state.withLock({ takeChunk(&$0, processes: processes) }) {
                runChild(first: first, count: count, state)
            }
        }
        if isTerminal { FileHandle.standardError.write(Data("\r\u{1B}[K".utf8)) }
        return state.withLock { report($0) }
    }

    private func takeChunk(_ state: inout State, processes: Int) -> (first: UInt64, count: UInt64)? {
        guard !state.isStopped, state.next < end else { return nil }
        // Smaller chunks at the end keep all processors busy.
        let share = (end - state.next) / UInt64(2 * processes)
        let count = min(Self.chunk, max(50, share), end - state.next)
        defer { state.next += count }
        return (state.next, count)
    }

    /// Runs one child to its end and adds its figures to the totals.
    private func runChild(first: UInt64, count: UInt64, _ state: borrowing Mutex<State>) {
        let child = Process()
        let output = Pipe()
        child.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        child.arguments =
            ["--worker", "--from", "\(first)", "--seeds", "\(count)"] + (options.isBrief ? ["--brief"] : [])
            + (options.isGuarded ? ["--guarded"] : [])
        child.standardOutput = output
        do {
            try child.run()
        } catch {
            return state.withLock { state in
                state.isStopped = true
                state.failures.append("cannot start a worker process: \(error)")
            }
        }
        var isDone = false
        var rest: [UInt8] = []
        do {
            while let bytes = try output.fileHandleForReading.read(upToCount: 65_536), !bytes.isEmpty {
                rest += bytes
                while let lineEnd = rest.firstIndex(of: UInt8(ascii: "\n")) {
                    let line = String(decoding: rest[..<lineEnd], as: UTF8.self)
                    rest.removeFirst(lineEnd + 1)
                    state.withLock { state in
                        if line == "progress" {
                            state.finished += 1
                            showProgress(state)
                        } else if let figures = Figures(line: line) {
                            state.figures.add(figures)
                            isDone = true
                        } else {
                            state.failures.append(line)
                        }
                    }
                }
            }
        } catch {
            state.withLock { $0.failures.append("cannot read from a worker process: \(error)") }
            child.terminate()
        }
        child.waitUntilExit()
        if child.terminationStatus != 0 || !isDone {
            state.withLock { state in
                state.isStopped = true
                if state.failures.isEmpty {
                    state.failures = ["a worker process ended with \(child.terminationStatus)"]
                }
            }
        }
    }

    private var isTerminal: Bool { isatty(STDERR_FILENO) == 1 }

    private func showProgress(_ state: State) {
        guard isTerminal, state.finished % 20 == 0 else { return }
        let text = "\r    \(state.finished) of \(options.seeds) seeds, \(began.duration(to: .now).components.seconds) s"
        FileHandle.standardError.write(Data(text.utf8))
    }

    private func report(_ state: State) -> Bool {
        for line in state.failures { say(line) }
        guard !state.isStopped, state.failures.isEmpty, state.figures.seeds == options.seeds else {
            emit("error: a seed failed; the lines above name it and how to repeat it", to: STDERR_FILENO)
            return false
        }
        let figures = state.figures
        let virtual = figures.virtualTime / World.second
        let seconds = began.duration(to: .now).components.seconds
        say("\(figures.seeds) seeds passed in \(seconds) s, \(virtual) s of virtual time.")
        say(
            "\(figures.posts) streams, of which \(figures.failed) met a fault; "
                + "\(figures.requests) requests, of which \(figures.failedRequests) met one.")
        if figures.guarded > 0 {
            say(
                "\(figures.guarded) seeds were guarded: \(figures.hostileOps) ops of the adversary reached nodes of this "
                    + "library, which refused \(figures.refused) of them.")
        }
        say("The slowest mesh had converged \(figures.longest / World.second) s after its last fault.")
        return true
    }
}
