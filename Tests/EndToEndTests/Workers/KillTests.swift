import Chanserv
import Foundation
import NIOConcurrencyHelpers
import TestSupport
import Testing

extension EndToEnd {
    /// Workers that are killed again and again under load.
    ///
    /// For a longer run, set `CHANSERV_TEST_KILLS=1000`.
    @Suite(.serialized, .timeLimit(.minutes(60))) struct Kills {
        static let clients = 20
        static let kills = ProcessInfo.processInfo.environment["CHANSERV_TEST_KILLS"].flatMap(Int.init) ?? 30
        static let processes = kills > 100 ? 24 : 10
        /// The minimum age of a worker that is killed. The restart pause grows only for workers younger than 10 s.
        static let age = kills > 100 ? Duration.seconds(11) : .zero

        static let configuration = """
            node: {listen: 127.0.0.1:0}
            plugins:
              killed: {path: drill.so, isolation: process, processes: \(processes)}
              neighbour: {path: drill.so, isolation: process}
              local: {path: drill.so}
            routes:
              - {vaddr: killed, plugin: killed}
              - {vaddr: neighbour, plugin: neighbour}
              - {vaddr: local, plugin: local}
            """

        /// The results of requests.
        struct Tally {
            var whole = 0
            var failed = 0

            static func += (left: inout Tally, right: Tally) {
                left.whole += right.whole
                left.failed += right.failed
            }
        }

        @Test func `killing workers loses no frame of other plugins and leaks nothing`() async throws {
            try await ServedHost.serving(Self.configuration) { host in
                let figures = ProcessFigures(host.process.pid)
                var clients: [TestClient] = []
                for _ in 0..<Self.clients { clients.append(try await host.connect()) }
                for client in clients {
                    for vAddr in ["killed", "neighbour", "local"] {
                        _ = try await client.frames(vAddr, "count 10 1000")
                    }
                }
                let victims = try figures.children.filter { $0.arguments.contains("killed") }.map(\.pid)
                try #require(victims.count == Self.processes)
                #expect(try figures.sharedMemories == Self.processes + 1)
                let before = try (counts: figures.counts, memory: figures.memory)
                let began = ContinuousClock.now

                let isOver = ReloadClock()
                var memory: [Int] = []
                var tallies = [String: Tally]()
                try await withThrowingTaskGroup(of: (String, Tally).self) { group in
                    // The clients end even if this throws.
                    defer { isOver.end() }
                    for (index, client) in clients.enumerated() {
                        let vAddr = index.isMultiple(of: 2) ? "killed" : index % 4 == 1 ? "neighbour" : "local"
                        group.addTask { (vAddr, try await Self.stream(client, vAddr, until: isOver)) }
                    }
                    memory = try await Self.kill(victims, of: host)
                    isOver.end()
                    for try await (vAddr, tally) in group { tallies[vAddr, default: Tally()] += tally }
                }
                #expect(tallies["neighbour"]?.failed == 0 && tallies["local"]?.failed == 0)
                #expect(tallies["killed"].map { $0.whole > 0 } == true)
                for (vAddr, tally) in tallies { print("kills: \(vAddr): \(tally)") }

                let took = began.duration(to: .now)
                let after = try (counts: await figures.counts(backTo: before.counts), memory: figures.memory)
                #expect(after.counts.isWithin(before.counts), "\(before.counts) → \(after.counts)")
                print(
                    """
                    kills: \(Self.kills) in \(took); \(before.counts) → \(after.counts), \
                    memory \(before.memory) → \(after.memory) KiB, on the way \(memory)
                    """)
                for client in clients { await client.close() }
            }
        }

        /// Kills ``kills`` workers, the oldest first, and waits until all are restarted. At most half of the workers
        /// are missing at a time.
        ///
        /// - Returns: samples of the host's memory during the kills, in KiB.
        private static func kill(_ first: [pid_t], of host: ServedHost) async throws -> [Int] {
            let figures = ProcessFigures(host.process.pid)
            var memory: [Int] = []
            var pool = first.map { (process: $0, since: ContinuousClock.now) }
            var missing = 0
            for number in 0..<kills {
                if number.isMultiple(of: max(1, kills / 10)) { memory.append(try figures.memory) }
                if missing == processes / 2 {
                    pool.append((try await next(of: host), .now))
                    missing -= 1
                }
                let (process, since) = pool.removeFirst()
                try await Task.sleep(until: since + age)
                try #require(Foundation.kill(process, SIGKILL) == 0)
                missing += 1
            }
            while missing > 0 {
                _ = try await next(of: host)
                missing -= 1
            }
            return memory
        }

        /// Waits for the next worker that replaces another one.
        private static func next(of host: ServedHost) async throws -> pid_t {
            let line = try await host.process.errorLine(with: "plugin killed: serving again in process ")
            return try #require(
                line.split(separator: " ").lastIndex(of: "process").flatMap { index in
                    pid_t(line.split(separator: " ")[index + 1])
                })
        }

        /// Posts and reads until the test is over. Each error must give the reason. All other streams are whole.
        private static func stream(
            _ client: TestClient, _ vAddr: String, until isOver: ReloadClock
        ) async throws -> Tally {
            var tally = Tally()
            while !isOver.hasEnded {
                do {
                    let frames = try await client.frames(vAddr, "count 200 2000")
                    _ = try version(of: frames[0], count: 200, size: 2000)
                    tally.whole += 1
                } catch let error as ChanservError {
                    try #require(error.code == .sourceFailed, "\(vAddr): \(error)")
                    try #require(error.message.contains("plugin \(vAddr) "), "\(error)")
                    tally.failed += 1
                }
            }
            return tally
        }
    }
}
