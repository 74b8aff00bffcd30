import Foundation
import TestSupport
import Testing

/// Runs `chanserv mesh` as a process, with hosts and routers.
@Suite struct MeshCommandTests {
    @Test func `the table shows a host and its services`() async throws {
        try await TestHost.serving { host in
            let exit = try await ChanservCommand.run("mesh", "--join", host.address)
            #expect(exit.code == 0)
            #expect(exit.errors == "")
            let rows = exit.lines.map { $0.split(separator: " ", omittingEmptySubsequences: true) }
            #expect(rows.first == ["HOST", "SERVICE", "PATH", "ADDRESS", "ROUND", "TRIP"])
            #expect(rows.dropFirst().map { $0[1] } == ["echo", "files", "ticker"])
            for row in rows.dropFirst() {
                #expect(row[0].count == 12)
                #expect(row[2...3] == ["direct", host.address[...]])
                #expect(Double(row[4]) != nil && row[5] == "ms")
            }
        }
    }

    @Test func `a service behind a router shows the router`() async throws {
        try await TestRouter.routing { router in
            try await TestHost.serving(TestHost.samples(joining: router.address)) { host in
                let mesh = try await picture(["--join", router.address])
                let through = try #require(mesh.hosts.first { $0.links.contains { $0.address == router.address } })
                #expect(through.services.isEmpty)
                let offers = try #require(mesh.hosts.first { !$0.services.isEmpty })
                #expect(offers.services.map(\.name) == ["echo", "files", "ticker"])
                #expect(offers.services.allSatisfy { $0.routers == [through.host] })
                // The host announced its address, so there is a direct link too.
                #expect(offers.services.map(\.direct) == [true, true, true])
                #expect(offers.links.map(\.address) == [host.address])
            }
        }
    }

    @Test func `the option --environment selects the names of that environment`() async throws {
        try await TestRouter.routing { router in
            let staging = TestHost.samples(joining: router.address).replacingOccurrences(
                of: "node:\n", with: "node:\n  environment: staging\n")
            try await TestHost.serving(staging) { host in
                try await TestHost.serving(TestHost.samples(joining: router.address)) { other in
                    // The hosts are joined too, because nodes do not create direct links across environments.
                    let joins = ["--join", router.address, host.address, other.address]
                    let names = try await picture(joins).hosts.flatMap { $0.services.map(\.name) }.sorted()
                    #expect(names == ["echo", "echo.staging", "files", "files.staging", "ticker", "ticker.staging"])
                    let inside = try await picture(joins + ["--environment", "staging"])
                    #expect(inside.hosts.flatMap { $0.services.map(\.name) } == ["echo", "files", "ticker"])
                    #expect(inside.hosts.count == 3)
                }
            }
        }
    }

    @Test func `a watch shows hosts that join and leave`() async throws {
        try await TestRouter.routing { router in
            let watch = try ChanservCommand.start("mesh", "--join", router.address, "--watch", "--output", "json")
            defer { watch.end() }
            let isAlone: @Sendable (String) -> Bool = { $0.components(separatedBy: #"{"host":"#).count == 2 }
            _ = try await watch.outputLines(count: 1, where: isAlone)
            try await TestHost.serving(TestHost.samples(joining: router.address)) { host in
                _ = try await watch.outputLines(with: #""name":"ticker""#, count: 1)
                host.process.kill(SIGTERM)
                _ = try await host.process.exit()
            }
            _ = try await watch.outputLines(count: 2, where: isAlone)
            watch.kill(SIGINT)
            let exit = try await watch.exit()
            #expect(exit.code == 0)
            #expect(exit.errors == "")
        }
    }

    @Test func `a watch redraws the table on a terminal`() async throws {
        let terminal = try PseudoTerminal()
        try await TestRouter.routing { router in
            let program = ChanservCommand.buildFolder + "/chanserv"
            let watch = try ChildProcess(
                "/bin/sh", ["-c", #"exec "$0" mesh --watch --join "$1" >&2"#, program, router.address],
                errors: terminal.device)
            defer { watch.end() }
            let page = "\u{1B}[H\u{1B}[2J"
            let first = try await terminal.read(until: router.address)
            #expect(first.hasPrefix(page + "HOST "))
            #expect(first.components(separatedBy: page).count == 2)
            try await TestHost.serving(TestHost.samples(joining: router.address)) { _ in
                _ = try await terminal.read(until: " ticker ")
            }
            watch.kill(SIGINT)
            #expect(try await watch.exit().code == 0)
        }
    }

    @Test func `nodes that cannot be joined are reported, and the others are shown`() async throws {
        let none = try await ChanservCommand.run("mesh", "--join", "127.0.0.1:1", "--timeout", "300ms")
        #expect(none.code == 69)
        #expect(none.text == "")
        #expect(none.errors == "chanserv: cannot join 127.0.0.1:1: Connection refused\n")
        try await TestHost.serving { host in
            let one = try await ChanservCommand.run("mesh", "--join", "127.0.0.1:1", host.address)
            #expect(one.code == 0)
            #expect(one.text.contains(" echo "))
            #expect(one.errors == "chanserv: cannot join 127.0.0.1:1: Connection refused\n")
        }
    }

    @Test(arguments: [
        ["mesh", "router-1:1"], ["mesh", "--join", "nowhere"], ["mesh", "--join", "127.0.0.1:0"],
        ["mesh", "--output", "raw"], ["mesh", "--timeout", "5"],
    ]) func `a wrong command line is an error that names the help page`(arguments: [String]) async throws {
        let exit = try await ChanservCommand.run(arguments)
        #expect(exit.code == 64)
        #expect(exit.errors.hasPrefix("chanserv: "))
        #expect(exit.errors.contains("\nsee 'chanserv mesh"))
        #expect(exit.errors.hasSuffix(" --help'\n"))
    }

    // MARK: -

    private struct Picture: Decodable {
        struct Link: Decodable {
            var address: String
            var round_trip_ms: Double?
        }

        struct Service: Decodable {
            var name: String
            var direct: Bool
            var routers: [String]
        }

        struct Host: Decodable {
            var host: String
            var links: [Link]
            var services: [Service]
        }

        var hosts: [Host]
    }

    private func picture(_ arguments: [String]) async throws -> Picture {
        let exit = try await ChanservCommand.run(["mesh", "--output", "json"] + arguments)
        #expect(exit.code == 0, "\(exit.errors)")
        #expect(exit.lines.count == 1)
        return try JSONDecoder().decode(Picture.self, from: exit.output)
    }
}
