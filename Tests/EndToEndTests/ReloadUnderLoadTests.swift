import Chanserv
import Foundation
import NIOConcurrencyHelpers
import TestSupport
import Testing

extension EndToEnd {
    /// Fifty clients stream while the file of the plugin is replaced two hundred times.
    ///
    /// For a longer run with either isolation, set `CHANSERV_TEST_RELOADS=1000`.
    @Suite(.serialized, .timeLimit(.minutes(30))) struct ReloadUnderLoad {
        static let clients = 50
        /// The number of reloads. There are fewer for `process`, because each of them starts processes.
        static func reloads(_ isolation: Isolation) -> Int {
            ProcessInfo.processInfo.environment["CHANSERV_TEST_RELOADS"].flatMap(Int.init)
                ?? (isolation == .host ? 200 : 20)
        }
        /// The frames of a stream. They exceed windows and buffers, so that no stream is complete before it is read.
        static let frames = 50
        static let frameSize = 8_000
        /// The version of the plugin that is not replaced.
        static let steadyVersion = 9_999

        static let configuration = """
            node: {listen: 127.0.0.1:0}
            plugins:
              moving: {path: moving.so}
              steady: {path: steady.so}
            routes:
              - {vaddr: moving, plugin: moving}
              - {vaddr: steady, plugin: steady}
            """

        /// The ways in which an operator may replace the file.
        enum Replacement: CaseIterable {
            case copy, move, truncate
        }

        @Test(arguments: Isolation.allCases)
        func `during reloads under load each stream is whole and of one version`(isolation: Isolation) async throws {
            let reloads = Self.reloads(isolation)
            try await ServedHost.serving(
                isolation.applied(to: Self.configuration),
                prepare: { folder in
                    try DrillPlugin.write(version: 0, to: folder.file("moving.so"))
                    try DrillPlugin.write(version: Self.steadyVersion, to: folder.file("steady.so"))
                }
            ) { host in
                var clients: [TestClient] = []
                for _ in 0..<Self.clients { clients.append(try await host.connect()) }
                let watcher = try await host.connect()
                let figures = ProcessFigures(host.process.pid)
                // After this warm-up the host needs no further descriptors and threads.
                for client in clients + [watcher] { _ = try await client.frames("moving", "count 10 1000") }
                let before = try (counts: figures.counts, memory: figures.memory)
                let held = try await watcher.sources("steady", "count 2000 1000")
                let clock = ReloadClock()
                var memory: [Int] = []
                let began = ContinuousClock.now

                let streams = try await withThrowingTaskGroup(of: Int.self) { group in
                    for (index, client) in clients.enumerated() {
                        group.addTask {
                            try await stream(client, until: clock, heldAcrossReloads: index % 2 == 0)
                        }
                    }
                    // The clients end even if this throws.
                    defer { clock.end() }
                    for version in 1...reloads {
                        try await reload(host, to: version, clock, watcher)
                        if version.isMultiple(of: max(1, reloads / 10)) { memory.append(try figures.memory) }
                    }
                    clock.end()
                    return try await group.reduce(0, +)
                }
                // Half of the clients had a stream open across each reload.
                #expect(streams >= reloads * Self.clients / 2)

                // The stream on the unchanged route ran during all reloads, in the same instance.
                let old = try await held[0].frames.all()
                #expect(try version(of: old, count: 2000, size: 1000) == Self.steadyVersion)
                let steady = try await watcher.report("steady", "idle")
                #expect(steady["created"] == 1 && steady["destroyed"] == 0)

                // All versions but the last one are destroyed, with their resources.
                _ = try await host.process.errorLines(with: "destroyed version", count: reloads)
                #expect(try await watcher.report("moving", "idle")["version"] == reloads)
                let after = try (counts: await figures.counts(backTo: before.counts), memory: figures.memory)
                #expect(after.counts.isWithin(before.counts), "\(before.counts) → \(after.counts)")
                print(
                    """
                    reload under load (\(isolation)): \(reloads) reloads, \(streams) streams in \(began.duration(to: .now)); \
                    \(before.counts) → \(after.counts), \
                    memory \(before.memory) → \(after.memory) KiB, on the way \(memory)
                    """)
                for client in clients + [watcher] { await client.close() }
            }
        }

        /// Posts and reads until the reloads are over.
        ///
        /// - Parameter heldAcrossReloads: whether each stream pauses in its middle until the next reload is done.
        /// - Returns: the number of streams.
        private func stream(
            _ client: TestClient, until clock: ReloadClock, heldAcrossReloads: Bool
        ) async throws -> Int {
            var count = 0
            while !clock.hasEnded {
                let newest = clock.version
                for try await source in try await client.post("moving", "count \(Self.frames) \(Self.frameSize)") {
                    var frames: [ReceivedFrame] = []
                    for try await frame in source.frames {
                        frames.append(frame)
                        if heldAcrossReloads, frames.count == 5 { await clock.waitForVersion(after: newest) }
                    }
                    let version = try version(of: frames, count: Self.frames, size: Self.frameSize)
                    try #require(version >= newest, "a request got a version older than the newest when it was posted")
                    count += 1
                }
            }
            return count
        }

        private func reload(
            _ host: ServedHost, to version: Int, _ clock: ReloadClock, _ client: TestClient
        ) async throws {
            let file = host.folder.file("moving.so")
            let new = host.folder.file("new.so")
            switch Replacement.allCases[version % Replacement.allCases.count] {
            case .copy:
                try DrillPlugin.write(version: version, to: new)
                let copy = try await ChildProcess("/bin/cp", [new, file]).exit()
                try #require(copy.code == 0)
            case .move:
                try DrillPlugin.write(version: version, to: new)
                let move = try await ChildProcess("/bin/mv", [new, file]).exit()
                try #require(move.code == 0)
            case .truncate:
                try #require(truncate(file, 0) == 0)
                // The running code is not mapped from that file.
                #expect(try await client.report("moving", "stats")["version"] == version - 1)
                let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: file))
                try handle.write(contentsOf: DrillPlugin.bytes(version: version))
                try handle.close()
            }
            let line = try await host.reload()
            try #require(line.contains("reload: repointed moving;") && line.contains("1 untouched"), "\(line)")
            clock.advance(to: version)
            try #require(try await client.report("moving", "stats")["version"] == version)
        }
    }
}
