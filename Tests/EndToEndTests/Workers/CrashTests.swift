import Chanserv
import Foundation
import TestSupport
import Testing

extension EndToEnd {
    /// Plugins that ruin their worker process: only their own streams end, and the host restarts the worker.
    @Suite(.serialized, .timeLimit(.minutes(2))) struct Crash {
        /// The plugin that ruins its worker, a plugin in another worker, and a plugin in the host.
        static let configuration = """
            node: {listen: 127.0.0.1:0}
            plugins:
              ruined:
                {path: drill.so, isolation: process, kill_after: 1s, heartbeat_timeout: 4s, limits: {address_space: 1GiB}}
              neighbour: {path: drill.so, isolation: process}
              local: {path: drill.so}
            routes:
              - {vaddr: ruined, plugin: ruined}
              - {vaddr: neighbour, plugin: neighbour}
              - {vaddr: local, plugin: local}
            """
        static let others = ["neighbour", "local"]

        @Test(arguments: Ruin.allCases)
        func `a ruined worker ends only the streams of its plugin and is restarted`(ruin: Ruin) async throws {
            try await ServedHost.serving(Self.configuration) { host in
                let figures = ProcessFigures(host.process.pid)
                let before = try #require(await host.withClient { try await $0.report("ruined", "stats")["process"] })
                defer { StrayProcesses.end(of: host) }
                try await withThrowingTaskGroup(of: Void.self) { group in
                    let isOver = ReloadClock()
                    defer { isOver.end() }
                    for vAddr in Self.others {
                        // The stream exceeds windows and buffers, so that it is not complete before it is read.
                        let client = try await host.connect()
                        var held = try await client.begun(vAddr, "count 5000 2000")
                        group.addTask {
                            while !isOver.hasEnded {
                                let frames = try await client.frames(vAddr, "count 50 1000")
                                _ = try version(of: frames[0], count: 50, size: 1000)
                            }
                            _ = try version(of: await held[0].all(), count: 5000, size: 2000)
                            await client.close()
                        }
                    }
                    try await host.withClient { client in
                        var victims = try await client.begun("ruined", "forever 1000 a\ndeaf b")
                        let error = try await failure(of: { try await client.frames("ruined", "ruin \(ruin)") })
                        Self.expect(error, saysOf: ruin)
                        for index in victims.indices {
                            Self.expect(try await failure(of: { try await victims[index].all() }), saysOf: ruin)
                        }
                        let after = try await Self.process(thatServesAgain: "ruined", client)
                        #expect(after != before)
                    }
                }
                let said = try await host.process.errorLine(with: "restarting it")
                #expect(said.contains("plugin ruined: ") && said.contains(ruin.fate), "\(said)")
                // One worker for each of the two plugins. Nothing is left of the ruined one.
                let children = try figures.children
                #expect(children.count == 2 && children.allSatisfy { !$0.isZombie }, "\(children)")
                host.process.kill(SIGTERM)
                #expect(try await host.process.exit().code == 0)
            }
        }

        private static func expect(
            _ error: ChanservError, saysOf ruin: Ruin, sourceLocation: SourceLocation = #_sourceLocation
        ) {
            #expect(error.code == .sourceFailed, "\(error)", sourceLocation: sourceLocation)
            #expect(error.message.contains("plugin ruined ended: "), "\(error)", sourceLocation: sourceLocation)
            #expect(error.message.contains(ruin.fate), "\(error)", sourceLocation: sourceLocation)
        }

        /// Posts requests until one is answered. Each error must give the reason.
        ///
        /// - Returns: the process that answers.
        static func process(thatServesAgain vAddr: String, _ client: TestClient) async throws -> Int? {
            while true {
                do {
                    return try await client.report(vAddr, "stats")["process"]
                } catch let error as ChanservError {
                    try #require(error.message.contains("plugin \(vAddr) "), "\(error)")
                }
            }
        }
    }
}
