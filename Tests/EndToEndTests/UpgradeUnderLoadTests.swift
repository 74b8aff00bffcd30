import AstraNet
import Chanserv
import Foundation
import NIOConcurrencyHelpers
import TestSupport
import Testing

extension EndToEnd {
    /// Clients stream, and others connect, while the process of the host is replaced again and again.
    ///
    /// For a longer run, set `CHANSERV_TEST_UPGRADES=100`.
    @Suite(.serialized, .timeLimit(.minutes(30))) struct UpgradeUnderLoad {
        static let clients = 50
        static let upgrades = ProcessInfo.processInfo.environment["CHANSERV_TEST_UPGRADES"].flatMap(Int.init) ?? 5
        /// The frames of a stream. They exceed windows and buffers, so that no stream is complete before it is read.
        static let frames = 50
        static let frameSize = 8_000

        @Test func `no connection is refused, no request fails and every stream is whole`() async throws {
            try await Replacements.serving { host, replacements in
                var clients: [TestClient] = []
                for _ in 0..<Self.clients {
                    clients.append(try await TestClient(port: host.port, keepsJoined: true))
                }
                let clock = ReloadClock()
                let processes = NIOLockedValueBox([host.process.pid])
                let began = ContinuousClock.now
                let (streams, connections) = try await withThrowingTaskGroup(
                    of: (streams: Int, connections: Int).self
                ) { group in
                    for (index, client) in clients.enumerated() {
                        group.addTask {
                            (try await stream(client, until: clock, heldAcrossUpgrades: index % 2 == 0), 0)
                        }
                    }
                    group.addTask { (0, try await connect(host, until: clock)) }
                    // The clients end even if this throws.
                    defer { clock.end() }
                    for number in 1...Self.upgrades {
                        try DrillPlugin.write(version: number, to: host.folder.file("drill.so"))
                        let pid = try await replacements.upgrade()
                        processes.withLockedValue { $0.append(pid) }
                        clock.advance(to: number)
                        // Each client gets a stream through before the next upgrade.
                        #expect(try await host.versionForNewClient() == number)
                    }
                    clock.end()
                    return try await group.reduce((0, 0)) { ($0.0 + $1.streams, $0.1 + $1.connections) }
                }
                for client in clients {
                    // A client that was idle for a moment has reached the newest process.
                    try await eventually { try await client.report("drill", "stats")["version"] == Self.upgrades }
                }
                let replaced = processes.withLockedValue { $0.dropLast() }
                try await eventually { replaced.allSatisfy { kill($0, 0) != 0 } }
                let links = try await replacements.status().listening
                #expect(links == ["127.0.0.1:\(host.port)"])
                print(
                    """
                    upgrade under load: \(Self.upgrades) upgrades, \(Self.clients) clients, \(streams) whole streams, \
                    \(connections) connections in \(began.duration(to: .now)); 0 refused, failed or torn
                    """)
                for client in clients { await client.close() }
                try await replacements.stop()
                let exit = try await host.process.exit()
                #expect(exit.code == 0)
                #expect(!exit.errors.contains("cancelled") && !exit.errors.contains(" error "), "\(exit.errors)")
            }
        }

        /// Posts and reads until the upgrades are over.
        ///
        /// - Parameter heldAcrossUpgrades: whether each stream pauses in its middle until the next upgrade is done.
        /// - Returns: the number of streams.
        private func stream(
            _ client: TestClient, until clock: ReloadClock, heldAcrossUpgrades: Bool
        ) async throws -> Int {
            var count = 0
            while !clock.hasEnded {
                let newest = clock.version
                for try await source in try await client.post("drill", "count \(Self.frames) \(Self.frameSize)") {
                    var frames: [ReceivedFrame] = []
                    for try await frame in source.frames {
                        frames.append(frame)
                        if heldAcrossUpgrades, frames.count == 5 { await clock.waitForVersion(after: newest) }
                    }
                    _ = try version(of: frames, count: Self.frames, size: Self.frameSize)
                    count += 1
                }
            }
            return count
        }

        /// Connects again and again, each time with a new node, and posts one request.
        ///
        /// - Returns: the number of connections.
        private func connect(_ host: ServedHost, until clock: ReloadClock) async throws -> Int {
            var count = 0
            while !clock.hasEnded {
                let client = try await TestClient(port: host.port, keepsJoined: true)
                try #require(try await client.frames("drill", "count 1 4").count == 1)
                await client.close()
                count += 1
            }
            return count
        }
    }
}
