import Foundation
import TestSupport
import Testing

/// Tests `chanserv links`, and `node.name` wherever a host shows it.
@Suite struct LinksCommandTests {
    private static func named(_ name: String, _ more: String = "") -> String {
        TestHost.controlled.replacingOccurrences(of: "node:\n", with: "node:\n  name: \(name)\n\(more)")
    }

    /// The links of a host as `chanserv links --json` prints them.
    private func links(_ host: TestHost) async throws -> [[String: Any]] {
        try #require(try await host.controlJSON("links")["links"] as? [[String: Any]])
    }

    @Test func `the links of two hosts show their names and directions`() async throws {
        try await TestHost.serving(Self.named("first")) { first in
            #expect(try await first.control("links").text == "no links\n")
            try await TestHost.serving(Self.named("second.eu", "  join: \(first.address)\n")) { second in
                for host in [first, second] { try await eventually { try await !links(host).isEmpty } }
                let accepted = try #require(try await links(first).first)
                #expect(accepted["name"] as? String == "second.eu")
                #expect(accepted["direction"] as? String == "accepted")
                #expect((accepted["address"] as? String)?.hasPrefix("127.0.0.1:") == true)
                #expect(accepted["streams"] as? Int == 0)
                #expect(accepted["buffered_bytes"] as? Int == 0)
                #expect(accepted["age_ms"] is Int)
                let dialled = try #require(try await links(second).first)
                #expect(dialled["name"] as? String == "first")
                #expect(dialled["direction"] as? String == "dialled")
                #expect(dialled["address"] as? String == first.address)
                let ids = try await [first, second].asyncMap { try await $0.controlJSON("status")["host"] as? String }
                #expect([dialled["peer"] as? String, accepted["peer"] as? String] == ids)
                #expect(try await first.controlJSON("links")["total"] as? Int == 1)
                let id = try #require(ids[1])
                let table = try await first.control("links").text
                #expect(table.contains("\n\(id)  second.eu  127.0.0.1:"), "\(table)")

                // The client, which the host shows with the streams of its request.
                let post = try ChanservCommand.start("post", "ticker", "--body", "2 10ms 0", "--join", second.address)
                defer { post.end() }
                _ = try await post.outputLines(with: "[1]", count: 1)
                let client = try await links(second).first { $0["direction"] as? String == "accepted" }
                // The two sources. The listing has ended.
                #expect(client?["streams"] as? Int == 2)
                #expect(client != nil && client?["name"] == nil)
            }
        }
    }

    @Test func `the name of a host is shown by mesh, status and each line of its log`() async throws {
        try await TestHost.serving(Self.named("host-7")) { host in
            let status = try await host.control("status")
            let id = try #require(try await host.controlJSON("status")["host"] as? String)
            #expect(status.text.contains("\nid on the mesh: \(id) (host-7)\n"), "\(status.text)")
            #expect(try await host.controlJSON("status")["name"] as? String == "host-7")
            let mesh = try await ChanservCommand.run("mesh", "--join", host.address)
            #expect(mesh.text.contains("\n\(id) (host-7)  echo "), "\(mesh.text)")
            try host.configure(Self.named("host-8"))
            let reload = try await host.control("reload")
            #expect(reload.errors.contains("node.name is now host-8 in the file, but changing it needs a restart"))
            host.process.kill(SIGTERM)
            let lines = try await host.process.exit().errors.split(separator: "\n")
            #expect(lines.count > 3 && lines.allSatisfy { $0.contains(" node=host-7") }, "\(lines)")
        }
    }

    @Test func `a watch on a pipe appends tables`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let watch = try ChanservCommand.start("links", "--watch", "--json", "--config", host.configurationFile)
            defer { watch.end() }
            _ = try await watch.outputLines(with: #"{"links":[],"total":0}"#, count: 2)
            watch.kill(SIGINT)
            #expect(try await watch.exit().code == 0)
        }
    }
}

extension Sequence {
    fileprivate func asyncMap<T>(_ transform: (Element) async throws -> T) async throws -> [T] {
        var result: [T] = []
        for element in self { result.append(try await transform(element)) }
        return result
    }
}
