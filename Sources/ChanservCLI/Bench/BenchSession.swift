import AstraNet
import Chanserv
import ChanservAstraNet
import ChanservHost
import Glibc
import HostConfiguration
import Logging
import NIOConcurrencyHelpers

/// One benchmark: starts a host or joins nodes, runs the workload the requested number of times, and prints the report.
///
/// It stops the host that it started, also after a failure or a signal.
final class BenchSession: Sendable {
    private struct State {
        var isInterrupted = false
        var work: Task<Int32, Never>?
        var process: SpawnedProcess?
    }

    private static let interruptedCode: Int32 = 128 + SIGINT
    private static let joinTimeout = Duration.seconds(10)

    private let workload: any Workload
    private let options: BenchOptions
    private let tally = Tally()
    private let state = NIOLockedValueBox(State())

    init(_ workload: any Workload, _ options: BenchOptions) {
        self.workload = workload
        self.options = options
    }

    /// Runs the benchmark and returns the exit code of the command.
    func run() async -> Int32 {
        let signals = await SignalHandling(
            onReload: { self.interrupt() },  // SIGHUP: the terminal closed.
            onStop: { self.interrupt() },
            onImmediateEnd: {
                self.state.withLockedValue { $0.process }?.signal(SIGKILL)
                _exit(Self.interruptedCode)
            })
        defer { signals.cancel() }
        let work = Task { await self.work() }
        let isOver = state.withLockedValue { state in
            state.work = work
            return state.isInterrupted
        }
        if isOver { work.cancel() }
        let code = await work.value
        guard state.withLockedValue({ $0.isInterrupted }) else { return code }
        StandardError.write("chanserv: interrupted")
        return Self.interruptedCode
    }

    private func interrupt() {
        let work = state.withLockedValue { state in
            state.isInterrupted = true
            return state.work
        }
        work?.cancel()
    }

    private func work() async -> Int32 {
        do {
            try await measure()
            return 0
        } catch is CancellationError {
            return Self.interruptedCode
        } catch let error as SystemError where error.isClosedOutput {
            return CommandOutcome.outputClosed.exitCode
        } catch {
            let isInterrupted = state.withLockedValue { $0.isInterrupted }
            if !isInterrupted { StandardError.write("chanserv: \(error)") }
            return (error as? BenchError)?.exitCode ?? 1
        }
    }

    private func measure() async throws {
        guard options.join.isEmpty else {
            return try await measure(joining: try options.tls.targets(options.join), host: nil)
        }
        let plugin = try LoadPlugin.path(options.plugin)
        let host = try await BenchHost.start(
            plugin: plugin, isolation: options.isolation, threaded: options.threaded, showsWarnings: options.verbose
        ) { process in
            state.withLockedValue { $0.process = process }
        }
        do {
            try await measure(joining: JoinTargets(plain: host.address), host: host)
        } catch {
            // In a separate task, because this one may be cancelled.
            await Task { await host.stop() }.value
            throw error
        }
        await Task { await host.stop() }.value
    }

    private func measure(joining targets: JoinTargets, host: BenchHost?) async throws {
        var configuration = NodeConfiguration(environment: options.environment)
        configuration.role = .client
        // A benchmark may need more streams on one link than the default limit.
        configuration.maximumStreamsPerLink = 1 << 24
        configuration.maximumServicesPerLink = 1 << 24
        let node = Node(
            configuration: configuration,
            logger: Logger(label: "chanserv.bench") { LineLogHandler(label: $0, level: .error, format: .text) })
        do {
            try await measure(with: node, joining: targets, host: host)
        } catch {
            await Task { await node.shutdown(grace: .milliseconds(500)) }.value
            throw error
        }
        await Task { await node.shutdown(grace: .milliseconds(500)) }.value
    }

    private func measure(with node: Node, joining targets: JoinTargets, host: BenchHost?) async throws {
        let failures = await node.joinAll(targets, deadline: .now + Self.joinTimeout)
        try Task.checkCancellation()
        guard failures.isEmpty else { throw BenchError(.unavailable, failures.joined(separator: "; ")) }
        var configuration = Client.Configuration()
        configuration.acceptsPushedSources = !options.named
        let bench = BenchContext(
            client: Client(multiplexer: AstraNetMultiplexer(node), configuration: configuration),
            vAddr: host == nil ? options.vaddr : BenchHost.vAddr,
            compressedVAddr: host == nil ? options.compressedVaddr ?? options.vaddr : BenchHost.compressedVAddr,
            contents: options.verify ? contents() : nil, hostID: host?.id, tally: tally,
            executor: options.pool ? nil : node.executor)
        for vAddr in Set([bench.vAddr, bench.compressedVAddr]).sorted() { try await probe(vAddr, bench, node) }

        let progress = BenchProgress(workload.name, runs: options.runs, tally)
        defer { progress.end() }
        var report = BenchReport(
            workload: workload.name, summary: workload.summary + options.summary,
            parameters: workload.parameters.merging(options.parameters) { workloads, _ in workloads },
            isVerified: options.verify, ownHost: host != nil, runs: [])
        for run in 1...options.runs {
            progress.begin(run: run)
            report.runs.append(try await measureOnce(bench))
        }
        progress.end()
        try write(options.json ? report.json : report.text)
    }

    private func contents() -> [LoadKind: LoadContent] {
        let kinds = Set(workload.kinds + [LoadRequest.smallest.kind])
        return Dictionary(uniqueKeysWithValues: kinds.map { ($0, LoadContent($0, lends: workload.lends)) })
    }

    /// Posts one request, to report before the measurement that no host offers the address or that another plugin
    /// answers.
    private func probe(_ vAddr: String, _ bench: BenchContext, _ node: Node) async throws {
        do {
            try await AnswerReader(.smallest, at: vAddr, bench, tally: Tally()).readInTurn()
        } catch let error as BenchError {
            throw BenchError(.failed, "\(error) (does '\(vAddr)' lead to the Load plugin?)")
        } catch let error as ChanservError where [.notFound, .deadlineExceeded].contains(error.code) {
            let missing = MissingOffer(
                vAddr: vAddr, environment: options.environment, names: node.listing.services.map(\.offer.name))
            let message = missing?.message(waited: Client.Configuration().dialTimeout)
            throw BenchError(.unavailable, message ?? "\(vAddr): \(error)")
        } catch let error as ChanservError where Self.unavailable.contains(error.code) {
            throw BenchError(.unavailable, "\(vAddr): \(error)")
        } catch let error as ChanservError where error.code != .cancelled {
            throw BenchError(.failed, "\(vAddr): \(error) (does '\(vAddr)' lead to the Load plugin?)")
        }
    }

    private static let unavailable: Set<ChanservError.Code> = [
        .notFound, .refused, .connectionLost, .deadlineExceeded,
    ]

    private func measureOnce(_ bench: BenchContext) async throws -> [Figure] {
        let (ownBefore, hostBefore) = try usage(bench)
        let begin = ContinuousClock.now
        let workload = workload
        var figures = try await withDeadline(options.timeout) { try await workload.run(bench) }
        let seconds = (ContinuousClock.now - begin) / .seconds(1)
        let (own, host) = try usage(bench)
        figures += [
            Figure("seconds", seconds, "s"),
            Figure("client_processor", own.processorSeconds - ownBefore.processorSeconds, "s"),
            Figure("client_peak_memory", Double(own.peakMemory) / 1_048_576, "MiB"),
        ]
        if let host, let hostBefore {
            figures += [
                Figure("host_processor", host.processorSeconds - hostBefore.processorSeconds, "s"),
                Figure("host_peak_memory", Double(host.peakMemory) / 1_048_576, "MiB"),
            ]
        }
        return figures
    }

    private func usage(_ bench: BenchContext) throws -> (ProcessUsage, ProcessUsage?) {
        do throws(SystemError) {
            let own = try ProcessUsage(of: nil)
            guard let id = bench.hostID else { return (own, nil) }
            return (own, try ProcessUsage(of: id))
        } catch {
            throw BenchError(.failed, error.code == ENOENT ? "the host exited during the benchmark" : "\(error)")
        }
    }

    private func withDeadline<T: Sendable>(
        _ limit: Duration, _ body: @escaping @Sendable () async throws -> T
    ) async throws -> T {
        try await withThrowingTaskGroup(of: T?.self) { group in
            group.addTask { try await body() }
            group.addTask {
                try await Task.sleep(for: limit)
                return nil
            }
            defer { group.cancelAll() }
            guard case let value?? = try await group.next() else {
                throw BenchError(
                    .failed, "a run took longer than \(ValueGrammar.text(limit)): increase --timeout")
            }
            return value
        }
    }

    private func write(_ text: String) throws {
        try StandardOutput.write(text)
    }
}
