import Foundation
import TestSupport
import Testing

extension EndToEnd {
    /// Libraries that crash or hang as soon as they are used. The preflight keeps them out of the host.
    @Suite(.serialized, .timeLimit(.minutes(2))) struct PreflightRefusal {
        private static let broken = BrokenPlugin.all([.abort, .null, .hang])
        private static let good = """
            node: {listen: 127.0.0.1:0}
            plugins:
              drill: {path: drill.so}
            routes:
              - {vaddr: drill, plugin: drill}
            """

        /// The good configuration and all broken plugins, with this isolation.
        private static func configuration(_ isolation: Isolation) -> String {
            let lines = broken.map { broken in
                let startup = broken.ruin == .hang ? ", startup: 2s" : ""
                return "  \(broken): {path: \(broken).so, isolation: \(isolation)\(startup)\(broken.config)}\n"
            }
            let routes = broken.map { "  - {vaddr: \($0), plugin: \($0)}\n" }
            return good.replacingOccurrences(of: "routes:\n", with: lines.joined() + "routes:\n" + routes.joined())
        }

        private static func write(_ folder: TestFolder) throws {
            for broken in broken { try broken.write(to: folder.file("\(broken).so")) }
        }

        /// Checks that `text` has a line for each broken plugin, with its location, its name and its failure.
        private func expectRefusals(in text: String) {
            for (index, broken) in Self.broken.enumerated() {
                let name = "\(broken)"
                let place = "chanserv.yaml:\(4 + index):\(name.count + 12): plugin '\(name)': "
                let line = text.split(separator: "\n").first { $0.contains(place) }
                let fate =
                    broken.ruin == .hang
                    ? "\(broken.place.name) did not return within 2s"
                    : "\(broken.ruin.fate)"
                #expect(line?.contains(fate) == true, "\(name): \(line ?? "nothing") of\n\(text)")
                #expect(line?.contains(broken.place.name) == true, "\(name): \(line ?? "nothing")")
            }
        }

        @Test(arguments: Isolation.allCases)
        func `check refuses a library that crashes or hangs`(isolation: Isolation) async throws {
            let folder = try TestFolder()
            try DrillPlugin.write(version: 0, to: folder.file("drill.so"))
            try Self.write(folder)
            try Data(Self.configuration(isolation).utf8).write(
                to: URL(fileURLWithPath: folder.file("chanserv.yaml")))
            let check = try await ChanservCommand.run("check", "--config", folder.file("chanserv.yaml"))
            #expect(check.code == 65)
            expectRefusals(in: check.errors)
        }

        @Test(arguments: Isolation.allCases)
        func `serve refuses a library that crashes or hangs`(isolation: Isolation) async throws {
            let folder = try TestFolder()
            try DrillPlugin.write(version: 0, to: folder.file("drill.so"))
            try Self.write(folder)
            try Data(Self.configuration(isolation).utf8).write(
                to: URL(fileURLWithPath: folder.file("chanserv.yaml")))
            let serve = try await ChanservCommand.run("serve", "--config", folder.file("chanserv.yaml"))
            #expect(serve.code == 65)
            #expect(!serve.errors.contains("ready"))
            expectRefusals(in: serve.errors)
        }

        @Test(arguments: Isolation.allCases)
        func `a reload refuses a library that crashes or hangs and the running routes continue`(
            isolation: Isolation
        ) async throws {
            try await ServedHost.serving(Self.good, prepare: Self.write) { host in
                try await host.withClient { client in
                    var held = try await client.begun("drill", "count 5000 2000")
                    try host.configure(Self.configuration(isolation))
                    #expect(try await host.reload().contains("reload refused"))
                    expectRefusals(in: host.process.errorsSoFar)
                    let report = try await client.report("drill", "stats")
                    #expect(report["created"] == 1 && report["destroyed"] == 0)
                    #expect(try version(of: await held[0].all(), count: 5000, size: 2000) == 0)
                    #expect(try ProcessFigures(host.process.pid).children.isEmpty)
                    // After the correction there is nothing to change.
                    try host.configure(Self.good)
                    #expect(try await host.reload().contains("nothing has changed"))
                }
            }
        }

        /// The configuration sets no startup timeout.
        @Test func `a library that hangs is refused after the default startup timeout`() async throws {
            let broken = BrokenPlugin(place: .create, ruin: .loop)
            let folder = try TestFolder()
            try broken.write(to: folder.file("broken.so"))
            let configuration = """
                plugins:
                  broken: {path: broken.so\(broken.config)}
                routes:
                  - {vaddr: broken, plugin: broken}
                """
            try Data(configuration.utf8).write(to: URL(fileURLWithPath: folder.file("chanserv.yaml")))
            let check = try await ChanservCommand.run("check", "--config", folder.file("chanserv.yaml"))
            #expect(check.code == 65)
            #expect(check.errors.contains("chanserv.yaml:2:18: plugin 'broken': "), "\(check.errors)")
            #expect(check.errors.contains("its create did not return within 10s (startup)"), "\(check.errors)")
        }

        /// The machine may only be busy, so the exit code tells the service manager to try again.
        @Test func `a start that exceeds the startup timeout ends with exit code 69`() async throws {
            let broken = BrokenPlugin(place: .create, ruin: .hang)
            let folder = try TestFolder()
            try broken.write(to: folder.file("broken.so"))
            let configuration = """
                plugins:
                  broken: {path: broken.so, startup: 1s\(broken.config)}
                routes:
                  - {vaddr: broken, plugin: broken}
                """
            try Data(configuration.utf8).write(to: URL(fileURLWithPath: folder.file("chanserv.yaml")))
            let serve = try await ChanservCommand.run("serve", "--config", folder.file("chanserv.yaml"))
            #expect(serve.code == 69)
            #expect(serve.errors.contains("its create did not return within 1s (startup)"), "\(serve.errors)")
        }

        /// With the two limits, different resources are the first that the host cannot get.
        @Test(arguments: [60, 30], Isolation.allCases)
        func `a start with too few descriptors ends with exit code 69`(limit: Int, isolation: Isolation) async throws {
            let folder = try TestFolder()
            try DrillPlugin.write(version: 0, to: folder.file("drill.so"))
            try Data(isolation.applied(to: Self.good).utf8).write(
                to: URL(fileURLWithPath: folder.file("chanserv.yaml")))
            let chanserv = ChanservCommand.buildFolder + "/chanserv"
            let serve = try await ChildProcess(
                "/bin/sh",
                [
                    "-c", "ulimit -n \(limit) && exec \"$0\" serve --config \"$1\"", chanserv,
                    folder.file("chanserv.yaml"),
                ]
            ).exit()
            #expect(serve.code == 69)
            #expect(serve.errors.contains("drill.so cannot be tested in a worker process: cannot "), "\(serve.errors)")
            #expect(
                serve.errors.contains("Too many open files; the limit of \(limit) is too low (LimitNOFILE="),
                "\(serve.errors)")
        }
    }
}
