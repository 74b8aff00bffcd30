import Chanserv
import Foundation
import TestSupport
import Testing

extension EndToEnd {
    /// Requests while workers are killed, restarted and replaced. Each request gets an answer or an error with the
    /// reason, and none hangs.
    @Suite(.serialized, .timeLimit(.minutes(5))) struct Storm {
        private static let configuration = """
            node: {listen: 127.0.0.1:0}
            defaults: {isolation: process, error_mass: {limit: 1000}}
            plugins:
              one: {path: one.so}
              two: {path: two.so, processes: 2}
            routes:
              - {vaddr: one, plugin: one}
              - {vaddr: two, plugin: two}
            """
        private static let requests = ["count 50 1000", "repeat 20 count 5 100", "stats", "count 500 2000"]
        private static let rounds = 12

        @Test func `each request during kills and reloads is answered or fails with the reason`() async throws {
            try await ServedHost.serving(Self.configuration, prepare: { try Self.install(0, in: $0) }) { host in
                let figures = ProcessFigures(host.process.pid)
                let isOver = ReloadClock()
                try await withThrowingTaskGroup(of: (whole: Int, failed: Int).self) { group in
                    // The clients end even if this throws.
                    defer { isOver.end() }
                    for index in 0..<12 {
                        let client = try await host.connect()
                        let vAddr = index.isMultiple(of: 2) ? "one" : "two"
                        group.addTask {
                            let tally = try await Self.post(client, vAddr, Self.requests[index / 2 % 4], until: isOver)
                            await client.close()
                            return tally
                        }
                    }
                    for round in 1...Self.rounds {
                        // The first kill hits open requests, the next ones a restart, a preflight, a create or a swap.
                        try Self.killAll(figures)
                        try Self.install(round, in: host.folder)
                        host.process.kill(SIGHUP)
                        if round.isMultiple(of: 2) { try Self.killAll(figures) }
                        if round.isMultiple(of: 3) {
                            _ = try await figures.child { _ in true }
                            try Self.killAll(figures)
                        }
                        let line = try await host.process.errorLine(
                            withOneOf: ["info chanserv: reload: ", "reload refused"])
                        if line.contains("reload refused") {
                            let reasons = host.process.errorsSoFar.split(separator: "\n").last {
                                $0.contains("error chanserv: reload: ")
                            }
                            try #require(reasons?.contains("was killed by SIGKILL") == true, "\(reasons ?? "")")
                        }
                    }
                    isOver.end()
                    var all = (whole: 0, failed: 0)
                    for try await tally in group { all = (all.whole + tally.whole, all.failed + tally.failed) }
                    print("storm: \(all)")
                    #expect(all.whole > 0 && all.failed > 0)
                }
                try await host.withClient { client in
                    for vAddr in ["one", "two"] { _ = try await Crash.process(thatServesAgain: vAddr, client) }
                }
            }
        }

        private static func install(_ version: Int, in folder: TestFolder) throws {
            for name in ["one", "two"] { try DrillPlugin.write(version: version, to: folder.file("\(name).so")) }
        }

        private static func killAll(_ figures: ProcessFigures) throws {
            for child in try figures.children where !child.isZombie { kill(child.pid, SIGKILL) }
        }

        private static func post(
            _ client: TestClient, _ vAddr: String, _ request: String, until isOver: ReloadClock
        ) async throws -> (whole: Int, failed: Int) {
            var tally = (whole: 0, failed: 0)
            while !isOver.hasEnded {
                do {
                    for frames in try await client.frames(vAddr, request) where request != "stats" {
                        try #require(frames.count == Int(request.split(separator: " ").dropLast().last ?? ""))
                    }
                    tally.whole += 1
                } catch let error as ChanservError {
                    try #require(error.code == .sourceFailed, "\(vAddr), \(request): \(error)")
                    try #require(error.message.contains("plugin \(vAddr) "), "\(request): \(error)")
                    tally.failed += 1
                }
            }
            return tally
        }
    }
}
