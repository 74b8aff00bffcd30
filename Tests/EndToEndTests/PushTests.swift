import Foundation
import TestSupport
import Testing

extension EndToEnd {
    /// A plugin with blocking code that uses chanserv_push.h, served by the built command.
    @Suite(.serialized, .timeLimit(.minutes(2))) struct Push {
        private static let configuration = """
            node: {listen: 127.0.0.1:0}
            plugins:
              lines: {path: lines.so}
            routes:
              - {vaddr: lines, plugin: lines}
            """

        private func serving(_ body: (ServedHost) async throws -> Void) async throws {
            try await ServedHost.serving(
                Self.configuration,
                prepare: { try CompiledPlugin.compile(CompiledPlugin.pushSample(), to: $0.file("lines.so")) }, body)
        }

        @Test func `the sample serves a file and reports a file that it cannot open`() async throws {
            try await serving { host in
                let lines = (0..<200_000).map { "line \($0)\n" }
                let path = host.folder.file("text")
                try lines.joined().write(toFile: path, atomically: false, encoding: .utf8)
                try await host.withClient { client in
                    let sources = try await client.sources("lines", path)
                    #expect(try await sources[0].frames.all().map(\.string) == lines)
                    let error = await #expect(throws: (any Error).self) {
                        _ = try await client.sources("lines", host.folder.file("none"))
                    }
                    #expect(error.map { "\($0)" }?.contains("the file does not exist or is not readable") == true)
                }
            }
        }

        @Test func `a client that leaves ends the pushes, and the host stops`() async throws {
            try await serving { host in
                // A sparse file of 4 TiB without newlines: the plugin pushes until the client leaves.
                let path = host.folder.file("hole")
                try Data().write(to: URL(fileURLWithPath: path))
                try #require(truncate(path, 1 << 42) == 0)
                try await host.withClient { client in
                    var begun = try await client.begun("lines", path)
                    #expect(try await begun[0].rest.next() != nil)
                }
                // The host waits for the thread of the plugin, which only the cancelled push ends.
                host.process.kill(SIGTERM)
                #expect(try await host.process.exit().code == 0)
            }
        }
    }
}
