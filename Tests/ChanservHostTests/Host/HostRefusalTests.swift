import Chanserv
import ChanservHost
import Foundation
import HostConfiguration
import Testing

/// Starts, reloads and checks with an invalid configuration or plugin.
@Suite(.timeLimit(.minutes(2))) struct HostRefusalTests {
    /// A mistake, and the text that the reason must contain.
    enum Mistake: String, CaseIterable {
        case yaml, unknownKey, missingFile, wrongVersion, failingCreate, badConfig, notELF, truncated, pin

        var reason: String {
            switch self {
            case .yaml: "chanserv.yaml:"
            case .unknownKey: "plugn"
            case .missingFile: "nowhere.so"
            case .wrongVersion: "ABI"
            case .failingCreate: "told to fail: on purpose"
            case .badConfig: "labl"
            case .notELF: "ELF"
            case .truncated: "a.so"
            case .pin: "SHA-256"
            }
        }

        func make(in fixture: HostFixture) throws {
            switch self {
            case .yaml: try fixture.write("chanserv.yaml", "routes: [")
            case .unknownKey: try fixture.configure(routes: "- {vaddr: stream, plugn: a}")
            case .missingFile: try fixture.configure(plugins: "a: {path: nowhere.so}")
            case .wrongVersion: try fixture.install("v2", options: ["-DMAJOR=7"])
            case .failingCreate: try fixture.configure(plugins: "a: {path: a.so, config: {fail: on purpose}}")
            case .badConfig: try fixture.configure(plugins: "a: {path: a.so, config: {labl: x}}")
            case .notELF: try fixture.write("a.so", "#!/bin/sh\n")
            case .truncated:
                try fixture.install("v2")
                try #require(truncate(fixture.folder.file("a.so"), 5000) == 0)
            case .pin:
                let digest = String(repeating: "0", count: 64)
                try fixture.configure(plugins: "a: {path: a.so, sha256: \"\(digest)\"}")
            }
        }
    }

    @Test func `the errors of many libraries are in the order of the file`() async throws {
        let fixture = try HostFixture()
        let names = (0..<20).map { "p\($0)" }
        for name in names { try fixture.write("\(name).so", "not a library") }
        try fixture.configure(
            plugins: names.map { "\($0): {path: \($0).so}" }.joined(separator: "\n"),
            routes: "- {vaddr: stream, plugin: p0}")
        let error = await #expect(throws: HostError.self) { try await fixture.host.start() }
        let problems = error?.problems ?? []
        #expect(problems.count == names.count)
        for (name, problem) in zip(names, problems) { #expect(problem.contains("plugin '\(name)'")) }
    }

    @Test func `a configuration that every user can write is refused and one of a group is a warning`() async throws {
        let fixture = try HostFixture()
        try fixture.install("v1")
        try fixture.configure()
        let file = fixture.folder.file("chanserv.yaml")
        try #require(chmod(file, 0o666) == 0)
        let error = await #expect(throws: HostError.self) { _ = try await fixture.check() }
        #expect(error?.code == .badConfiguration)
        #expect(error?.problems.count == 1)
        #expect(error?.problems.first?.hasPrefix("\(file): every user can write this file") == true)
        #expect(error?.problems.first?.hasSuffix("fix this with: chmod go-w '\(file)'") == true)
        try #require(chmod(file, 0o664) == 0)
        let warnings = try await fixture.check()
        #expect(warnings.count == 1 && warnings[0].hasSuffix("fix this with: chmod g-w '\(file)'"), "\(warnings)")
        try #require(chmod(file, 0o644) == 0)
        #expect(try await fixture.check() == [])
    }

    @Test(arguments: Mistake.allCases, Isolation.allCases)
    func `a refused reload keeps the running generation and reports the reason`(
        mistake: Mistake, isolation: Isolation
    ) async throws {
        let fixture = try HostFixture(isolation)
        try fixture.install("v1")
        try fixture.configure()
        try await fixture.serving { client in
            let count = 200_000
            let running = try await client.source("stream", "stream \(count)")
            try mistake.make(in: fixture)
            let outcome = await fixture.host.reload()
            #expect(outcome.result == .refused && outcome.generation == 1)
            #expect(outcome.reasons.contains { $0.contains(mistake.reason) }, "\(outcome.reasons)")
            #expect(outcome.reasons.contains { fixture.log.count(of: "error reload: \($0)") == 1 })
            #expect(try await client.version() == "v1")
            #expect(try await running.expectStream(from: 0, count: count) == "v1")
            await fixture.expectLogged("created", times: 1)
            await fixture.expectLogged("destroyed", times: 0)
            #expect(await fixture.host.status.reloads.refused == 1)

            // After the correction the new library is served.
            try fixture.install("v3")
            try fixture.configure()
            #expect(await fixture.host.reload().result == .changed)
            #expect(try await client.version() == "v3")
        }
    }

    @Test(arguments: Mistake.allCases, Isolation.allCases)
    func `a start with a mistake ends with exit code 65 and leaves no instance`(
        mistake: Mistake, isolation: Isolation
    ) async throws {
        let fixture = try HostFixture(isolation)
        try fixture.install("v1")
        try fixture.configure()
        try mistake.make(in: fixture)
        let error = await #expect(throws: HostError.self) { try await fixture.host.start() }
        #expect(error?.code.exitCode == 65)
        #expect(error?.problems.contains { $0.contains(mistake.reason) } == true)
        #expect(fixture.log.count(of: "created") == fixture.log.count(of: "destroyed"))
        #expect(fixture.log.count(of: "ready") == 0)
    }

    @Test(arguments: Mistake.allCases, Isolation.allCases)
    func `check reports each mistake that a start refuses`(mistake: Mistake, isolation: Isolation) async throws {
        let fixture = try HostFixture(isolation)
        try fixture.install("v1")
        try fixture.configure()
        try mistake.make(in: fixture)
        let error = await #expect(throws: HostError.self) {
            _ = try await fixture.check()
        }
        #expect(error?.code == .badConfiguration)
        #expect(error?.problems.contains { $0.contains(mistake.reason) } == true)
    }

    @Test func `a start reports the problems of all plugins at once`() async throws {
        let fixture = try HostFixture()
        try fixture.install("v1")
        try fixture.install("b1", as: "b.so")
        try fixture.write("c.so", "no library")
        try fixture.install("d1", as: "d.so", options: ["-DMAJOR=9"])
        try fixture.configure(
            plugins: "a: {path: a.so}\nb: {path: b.so, config: {fail: bee}}\nc: {path: c.so}\nd: {path: d.so}",
            routes: "- {vaddr: stream, plugin: a}\n- {vaddr: b, plugin: b}\n- {vaddr: c, plugin: c}")
        let error = await #expect(throws: HostError.self) { try await fixture.host.start() }
        let problems = try #require(error).problems
        #expect(problems.count == 3, "\(problems)")
        #expect(problems.allSatisfy { $0.contains("chanserv.yaml:") })
        await fixture.expectLogged("created v1", times: 1)
        await fixture.expectLogged("destroyed v1", times: 1)
    }

    @Test func `check accepts a valid file and does not disturb the host that serves it`() async throws {
        let fixture = try HostFixture()
        try fixture.install("v1")
        try fixture.configure(plugins: "a: {path: a.so}\nspare: {path: a.so}")
        try await fixture.serving { client in
            let held = try await client.source("stream", "hold")
            let port = try await fixture.port
            try fixture.configure(
                plugins: "a: {path: a.so}\nspare: {path: a.so}", top: "node: {listen: \"127.0.0.1:\(port)\"}")
            let warnings = try await fixture.check()
            #expect(warnings.count == 1 && warnings[0].contains("spare"))
            await fixture.expectLogged("created v1", times: 2)
            await fixture.expectLogged("destroyed v1", times: 1)
            #expect(try await client.version() == "v1")
            held.cancel()
        }
    }

    @Test func `an address in use ends the start with exit code 69 and leaves no instance`() async throws {
        let first = try HostFixture()
        try first.install("v1")
        try first.configure()
        try await first.serving { client in
            let port = try await first.port
            let second = try HostFixture()
            try second.install("v1")
            try second.configure(top: "node: {listen: \"127.0.0.1:\(port)\"}")
            let error = await #expect(throws: HostError.self) { try await second.host.start() }
            #expect(error?.code.exitCode == 69)
            // The first line begins with `node: {listen: "127.0.0.1:`.
            #expect(
                error?.problems == [
                    """
                    \(second.folder.file("chanserv.yaml")):1:16: cannot listen on 127.0.0.1:\(port): \
                    Address already in use: another process listens there: choose another address under node.listen or \
                    end it
                    """
                ])
            #expect(second.log.count(of: "destroyed v1") == 1)
            #expect(try await client.version() == "v1")
        }
    }

    @Test func `every address that the host cannot listen on is reported with its location`() async throws {
        let fixture = try HostFixture()
        try fixture.install("v1")
        // The last two are reserved for documentation, so no machine has them (RFC 5737, RFC 3849).
        let addresses = ["127.0.0.1:0", "192.0.2.1:5555", "\"[2001:db8::1]:1\""]
        try fixture.configure(top: "node:\n  listen:\n\(addresses.map { "    - \($0)" }.joined(separator: "\n"))")
        let error = await #expect(throws: HostError.self) { try await fixture.host.start() }
        #expect(error?.code == .unavailable)
        let problems = try #require(error).problems
        #expect(problems.count == 2, "\(problems)")
        let file = fixture.folder.file("chanserv.yaml")
        #expect(problems.first?.hasPrefix("\(file):4:7: cannot listen on 192.0.2.1:5555: ") == true)
        #expect(problems.first?.contains("choose another under node.listen") == true)
        #expect(problems.last?.hasPrefix("\(file):5:7: cannot listen on [2001:db8::1]:1: ") == true)
        await fixture.expectLogged("destroyed v1", times: 1)
    }
}
