import Chanserv
import Foundation
import TestSupport
import Testing

extension EndToEnd {
    /// A log that is not read must not block the host, and a log that is read is complete.
    @Suite(.serialized, .timeLimit(.minutes(3))) struct UnreadLog {
        /// More lines than the pipe and the host buffer.
        private static let lines = 20_000

        @Test(arguments: Isolation.allCases)
        func `a host whose log is not read serves requests and stops`(isolation: Isolation) async throws {
            let folder = try TestFolder()
            try DrillPlugin.write(version: 0, to: folder.file("drill.so"))
            let configuration = isolation.applied(to: ServedHost.drill)
                .replacingOccurrences(of: "127.0.0.1:0", with: "127.0.0.1:0, drain: 1s")
            try Data(configuration.utf8).write(to: URL(fileURLWithPath: folder.file("chanserv.yaml")))
            let log = Pipe()
            let process = try ChanservCommand.start(
                "serve", "--config", folder.file("chanserv.yaml"), errors: log.fileHandleForWriting)
            defer { process.end() }
            try log.fileHandleForWriting.close()
            // The test reads the log until the host is ready, and not after that.
            var read = ""
            while read.firstMatch(of: #/ready: .*\n/#) == nil {
                let data = log.fileHandleForReading.availableData
                try #require(!data.isEmpty, "\(read)")
                read += String(decoding: data, as: UTF8.self)
            }
            let port = try #require(read.firstMatch(of: #/127\.0\.0\.1:(\d+)/#).flatMap { Int($0.1) })

            let client = try await TestClient(port: port)
            let logged = try await client.frames("drill", "log \(Self.lines) 200")
            #expect(logged.first?.map(\.string) == ["logged"])
            // New requests show that all parts of the host still work.
            for _ in 0..<20 { #expect(try await client.frames("drill", "count 10 100").first?.count == 10) }
            process.kill(SIGTERM)
            #expect(try await process.exit().code == 0)
            await client.close()
            #expect(try log.fileHandleForReading.readToEnd()?.isEmpty == false)
        }

        @Test(arguments: Isolation.allCases)
        func `a log that is read has all lines in order`(isolation: Isolation) async throws {
            // More than a pipe holds, and the most that a worker may log in a second.
            let count = 900
            try await ServedHost.serving(isolation.applied(to: ServedHost.drill)) { host in
                try await host.withClient { client in
                    _ = try await client.frames("drill", "log \(count) 200")
                }
                // Log lines of a worker may arrive after its answer, and the host does not wait for them when it stops.
                if isolation == .process { _ = try await host.process.errorLine(with: "line \(count - 1) ") }
                host.process.kill(SIGTERM)
                let exit = try await host.process.exit()
                #expect(exit.code == 0)
                let numbers = exit.errors.matches(of: #/0000 line (\d+) /#).compactMap { Int($0.1) }
                #expect(numbers == Array(0..<count))
                #expect(exit.errors.split(separator: "\n").last?.hasSuffix("stopped") == true)
            }
        }
    }
}
