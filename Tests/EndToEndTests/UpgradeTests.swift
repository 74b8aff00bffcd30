import AstraNet
import Chanserv
import Foundation
import TestSupport
import Testing

extension EndToEnd {
    /// `chanserv upgrade` and `chanserv serve --take-over`: another process takes the place of a host.
    @Suite(.serialized, .timeLimit(.minutes(5))) struct Upgrades {
        @Test func `an open stream goes on, and new requests reach the new process`() async throws {
            try await Replacements.serving { host, replacements in
                let client = try await TestClient(port: host.port, keepsJoined: true)
                var held = try await client.begun("drill", "count 2000 8000")
                let old = try ProcessEnds([host.process.pid])
                try DrillPlugin.write(version: 1, to: host.folder.file("drill.so"))

                let pid = try await replacements.upgrade()
                #expect(pid != host.process.pid)
                let status = try await replacements.status()
                #expect(status.pid == pid && status.listening == ["127.0.0.1:\(host.port)"])
                let other = try await replacements.status(of: host.process.pid)
                #expect(other.stopping?.successor == pid && other.stopping?.requestsOpen == 1)

                // A new client reaches the new process at once. That of the old process moves there, and no request of
                // it fails meanwhile.
                #expect(try await host.versionForNewClient() == 1)
                try await eventually { try await client.report("drill", "stats")["version"] == 1 }
                #expect(try await replacements.status(of: host.process.pid).stopping?.requestsOpen == 1)

                #expect(try version(of: try await held[0].all(), count: 2000, size: 8000) == 0)
                #expect(await old.left() == [])
                #expect(access(host.folder.file("c.sock.\(host.process.pid)"), F_OK) != 0)
                #expect(try await client.report("drill", "stats")["version"] == 1)
                await client.close()

                try await replacements.stop()
                #expect(access(host.folder.file("c.sock"), F_OK) != 0)
                let exit = try await host.process.exit()
                #expect(exit.code == 0)
                #expect(!exit.errors.contains("cancelled"), "\(exit.errors)")
            }
        }

        @Test func `the Unix socket of a listener stays, and is removed at the end`() async throws {
            let configuration = Replacements.configuration.replacingOccurrences(
                of: "listen: 127.0.0.1:0", with: "listen: [127.0.0.1:0, {address: \"unix:mesh.sock\", mode: 0660}]")
            try await Replacements.serving(configuration) { host, replacements in
                let socket = host.folder.file("mesh.sock")
                for _ in 0..<3 {
                    try await replacements.upgrade()
                    let post = try await ChanservCommand.run(
                        "post", "drill", "--join", "unix:\(socket)", "--body", "count 1 4")
                    #expect(post.code == 0, "\(post.errors)")
                }
                let mode = try FileManager.default.attributesOfItem(atPath: socket)[.posixPermissions] as? Int
                #expect(mode == 0o660)
                try await replacements.stop()
                #expect(access(socket, F_OK) != 0)
            }
        }

        @Test func `SIGUSR2 upgrades, and the new process can be upgraded again`() async throws {
            try await Replacements.serving { host, replacements in
                let client = try await TestClient(port: host.port, keepsJoined: true)
                host.process.kill(SIGUSR2)
                _ = try await host.process.errorLine(with: "took over from process \(host.process.pid)")
                replacements.add(try await replacements.status().pid)
                let second = replacements.current
                #expect(second != host.process.pid)
                #expect(try await replacements.upgrade() != second)
                #expect(try await client.frames("drill", "count 1 4")[0].map(\.string) == ["0000 0"])
                await client.close()
            }
        }

        @Test func `programs of plugins inherit no descriptor from an upgraded host`() async throws {
            try await Replacements.serving { host, replacements in
                try await replacements.upgrade()
                try await host.withClient { client in
                    let listing = try await client.frames(
                        "drill", "shell for f in /proc/self/fd/*; do readlink $f; done | grep -vE '^/proc/|^pipe:'")
                    let names = Set(listing[0][0].string.split(separator: "\n").map(String.init))
                    #expect(names.isSubset(of: ["/dev/null"]), "\(names)")
                }
                // Two event loops, logs and sockets: a leaked descriptor for each upgrade would be more.
                let before = try ProcessFigures(replacements.current).descriptors
                for _ in 0..<3 { try await replacements.upgrade() }
                #expect(try ProcessFigures(replacements.current).descriptors <= before)
            }
        }

        @Test func `the new process keeps matching addresses, and listens at new ones`() async throws {
            let configuration = Replacements.configuration.replacingOccurrences(
                of: "127.0.0.1:0", with: "[\"127.0.0.1:0\", \"[::1]:0\"]")
            try await Replacements.serving(configuration) { host, replacements in
                let before = try await replacements.status().listening
                try host.configure(
                    configuration.replacingOccurrences(of: "\"[::1]:0\"", with: "\"127.0.0.2:0\"")
                        .replacingOccurrences(of: "127.0.0.1:0", with: "localhost:\(host.port)"))
                try await replacements.upgrade()
                let after = try await replacements.status().listening
                #expect(after.first == "localhost:\(host.port)")
                #expect(after.last?.hasPrefix("127.0.0.2:") == true)
                #expect(try await host.versionForNewClient() == 0)
                let node = Node()
                let gone = try #require(before.last?.split(separator: ":").last.flatMap { Int($0) })
                let error = await #expect(throws: AstraNetError.self) {
                    try await node.join(host: "::1", port: gone, deadline: .now + .seconds(20))
                }
                #expect(error?.code == .connectionRefused)
                await node.shutdown()
            }
        }

        @Test func `streams through a router go on while it is replaced`()
            async throws
        {
            let routing = Replacements.configuration.replacingOccurrences(of: "listen:", with: "role: router, listen:")
            try await Replacements.serving(routing) { router, replacements in
                let behind = ServedHost.drill.replacingOccurrences(
                    of: ":0}", with: ":0, join: \"\(router.address)\"}"
                ).replacingOccurrences(of: "vaddr: drill", with: "vaddr: far")
                try await ServedHost.serving(behind) { _ in
                    let client = try await TestClient(port: router.port, keepsJoined: true, staysBehindRouter: true)
                    var held = try await client.begun("far", "count 2000 8000")
                    let old = try ProcessEnds([router.process.pid])
                    try await replacements.upgrade()
                    // The host and the client join the new router. A request then takes it.
                    var idleLinks = 0
                    while idleLinks == 0 {
                        let answer = try await client.frames("far", "count 1 4")
                        try #require(answer.count == 1)
                        idleLinks = client.node.linkList.count { $0.streams == 0 }
                    }
                    #expect(try version(of: try await held[0].all(), count: 2000, size: 8000) == 0)
                    #expect(await old.left() == [])
                    #expect(try await client.frames("far", "count 1 4").count == 1)
                    await client.close()
                }
            }
        }

        @Test func `a host that is replaced serves its streams through a router to the end`() async throws {
            let router = try ChanservCommand.start("router", "--listen", "127.0.0.1:0")
            defer { router.end() }
            let ready = try await router.errorLine(with: "ready: listening on")
            let port = try #require(ready.firstMatch(of: #/127\.0\.0\.1:(\d+)/#).flatMap { Int($0.1) })
            let joined = Replacements.configuration.replacingOccurrences(
                of: "control:", with: "join: \"127.0.0.1:\(port)\", control:")
            try await Replacements.serving(joined) { host, replacements in
                let client = try await TestClient(port: port, keepsJoined: true, staysBehindRouter: true)
                var held = try await client.begun("drill", "count 2000 8000")
                let old = try ProcessEnds([host.process.pid])
                try DrillPlugin.write(version: 1, to: host.folder.file("drill.so"))
                try await replacements.upgrade()
                try await eventually { try await client.report("drill", "stats")["version"] == 1 }
                // The old process has withdrawn its route and begun to stop.
                try await eventually { client.node.services.count { $0.name == "drill" } == 1 }
                #expect(try version(of: try await held[0].all(), count: 2000, size: 8000) == 0)
                #expect(await old.left() == [])
                #expect(try await client.report("drill", "stats")["version"] == 1)
                await client.close()
            }
        }

        @Test func `a process that an operator starts takes over`() async throws {
            try await Replacements.serving { host, replacements in
                let other = try ChanservCommand.start("serve", "--take-over", "--config", host.configurationFile)
                defer { other.end() }
                _ = try await other.errorLine(with: "took over from process \(host.process.pid)")
                #expect(try await other.errorLine(with: "ready: ").contains("127.0.0.1:\(host.port)"))
                #expect(try await host.process.exit().code == 0)
                #expect(try await host.versionForNewClient() == 0)
                other.kill(SIGTERM)
                #expect(try await other.exit().code == 0)
                // Without a host it starts like any other.
                let next = try ChanservCommand.start("serve", "--take-over", "--config", host.configurationFile)
                defer { next.end() }
                _ = try await next.errorLine(with: "nothing to take over")
                _ = try await next.errorLine(with: "ready: ")
            }
        }
    }
}
