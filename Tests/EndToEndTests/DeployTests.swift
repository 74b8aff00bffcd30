import Chanserv
import Foundation
import NIOConcurrencyHelpers
import TestSupport
import Testing

extension EndToEnd {
    /// Probation and rollback of new versions.
    ///
    /// `CHANSERV_TEST_DEPLOYS=1000` sets the number of versions that are judged under load.
    @Suite(.serialized, .timeLimit(.minutes(240))) struct Deploys {
        private static func configuration(probation: String = "4s") -> String {
            """
            node: {listen: 127.0.0.1:0, control: c.sock}
            defaults:
              error_mass: {limit: 40}
              deploy: {probation: \(probation), control: 30}
            drop_in: {folder: plugins.d, settle: 50ms, max_settle: 1s, rescan: none}
            """
        }

        /// Starts a host with version 1 of the plugin at the address `it`, in its own process.
        private static func serving(
            _ configuration: String = configuration(), _ body: (ServedHost) async throws -> Void
        ) async throws {
            try await ServedHost.serving(
                configuration,
                prepare: { folder in
                    try FileManager.default.createDirectory(
                        atPath: folder.file("plugins.d"), withIntermediateDirectories: false,
                        attributes: [.posixPermissions: 0o755])
                    try CandidatePlugin(version: 1).write(to: folder.file("plugins.d/it.so"))
                    try DrillPlugin.write(
                        Data("isolation: process\nthreads: 32\n".utf8), to: folder.file("plugins.d/it.yaml"))
                }, body)
        }

        private static func deploy(_ plugin: CandidatePlugin, on host: ServedHost) throws {
            try plugin.write(to: host.folder.file("plugins.d/it.so"))
        }

        private static func command(_ arguments: String..., on host: ServedHost) async throws -> ChildProcess.Exit {
            try await ChanservCommand.run(arguments + ["--config", host.configurationFile])
        }

        /// Returns the deployment of the route, as the status reports it.
        private static func deployment(_ host: ServedHost) async throws -> [String: Any]? {
            let exit = try await command("status", "--json", on: host)
            let answer = try JSONSerialization.jsonObject(with: exit.output) as? [String: Any]
            let routes = try #require(answer?["routes"] as? [[String: Any]])
            return routes.first?["deploy"] as? [String: Any]
        }

        private static func version(_ client: TestClient) async throws -> Int {
            let frames = try await client.client.lookupAndPost("it", body: "")
            var text = ""
            for try await source in frames {
                for try await frame in source.frames { text += frame.string }
            }
            return try #require(Int(text))
        }

        /// The results of requests by the version that answered, and the failed ones.
        private final class Load: Sendable {
            private let state = NIOLockedValueBox((answers: [Int: Int](), failures: 0, hasEnded: false))

            var failures: Int { state.withLockedValue { $0.failures } }
            var hasEnded: Bool { state.withLockedValue { $0.hasEnded } }
            func answers(of version: Int) -> Int { state.withLockedValue { $0.answers[version] ?? 0 } }

            func end() { state.withLockedValue { $0.hasEnded = true } }

            func run(_ client: TestClient) async {
                while !hasEnded {
                    do {
                        let version = try await Deploys.version(client)
                        state.withLockedValue { $0.answers[version, default: 0] += 1 }
                    } catch {
                        state.withLockedValue { $0.failures += 1 }
                    }
                }
                await client.close()
            }
        }

        /// Calls `body` while clients post requests.
        private static func underLoad(on host: ServedHost, _ body: (Load) async throws -> Void) async throws {
            let load = Load()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<8 {
                    let client = try await host.connect()
                    group.addTask { await load.run(client) }
                }
                defer { load.end() }
                try await body(load)
            }
        }

        @Test func `versions that fail, are slow or crash are rolled back under load, and good ones stay`()
            async throws
        {
            let count = ProcessInfo.processInfo.environment["CHANSERV_TEST_DEPLOYS"].flatMap(Int.init) ?? 6
            try await Self.serving { host in
                try await Self.underLoad(on: host) { load in
                    var good = 1
                    for version in 2..<(2 + count) {
                        var plugin = CandidatePlugin(version: version)
                        switch version % 6 {
                        case 2: plugin.fails = 20
                        case 4: plugin.milliseconds = 60
                        case 0: plugin.crashesAfter = 100
                        default: break
                        }
                        try Self.deploy(plugin, on: host)
                        if version.isMultiple(of: 2) {
                            let line = try await host.process.errorLine(withOneOf: ["rolled back from", "has passed"])
                            let expected =
                                switch version % 6 {
                                case 2: "the new version failed in"
                                case 4: "the median time until the first frame"
                                default: "the new version failed: "
                                }
                            #expect(line.contains("rolled back") && line.contains(expected), "\(version): \(line)")
                        } else {
                            let line = try await host.process.errorLine(withOneOf: ["rolled back from", "has passed"])
                            #expect(line.contains("has passed its probation"), "\(version): \(line)")
                            good = version
                        }
                        // The version that is good answers all requests that begin now.
                        let (failures, answers) = (load.failures, load.answers(of: good))
                        try await host.withClient { client in
                            for _ in 0..<20 {
                                let answered = try await Self.version(client)
                                #expect(answered == good)
                            }
                        }
                        try await eventually { load.answers(of: good) > answers + 100 }
                        // At most the requests that the bad version was serving.
                        #expect(load.failures <= failures + 8, "version \(version)")
                    }
                }
            }
        }

        @Test func `without requests a version is held until an operator decides`() async throws {
            try await Self.serving { host in
                try Self.deploy(CandidatePlugin(version: 2), on: host)
                let line = try await host.process.errorLine(with: "held on probation")
                #expect(line.contains("too few requests"))
                let held = try #require(try await Self.deployment(host))
                #expect(held["state"] as? String == "held")
                let exit = try await Self.command("promote", "it", on: host)
                #expect(exit.code == 0 && exit.text.hasPrefix("it stays at it@"), "\(exit.text)")
                #expect(try await Self.deployment(host) == nil)
                let again = try await Self.command("promote", "it", on: host)
                #expect(again.code == 1)
                #expect(again.errors.contains("route 'it' is not on probation"))
                let unknown = try await Self.command("rollback", "its", on: host)
                #expect(unknown.code == 64 && unknown.errors.contains("did you mean 'it'?"))
            }
        }

        @Test func `a version that an operator rolled back stays out until its file changes or a reload is forced`()
            async throws
        {
            try await Self.serving(Self.configuration(probation: "1h")) { host in
                try await host.withClient { client in
                    try Self.deploy(CandidatePlugin(version: 2), on: host)
                    _ = try await host.process.errorLine(with: "repointed it")
                    let back = try await Self.command("rollback", "it", on: host)
                    #expect(back.code == 0 && back.text.hasPrefix("it has returned to it@"), "\(back.text)")
                    #expect(try await Self.version(client) == 1)

                    // Neither another drop-in nor a reload brings it back.
                    try DrillPlugin.write(version: 1, to: host.folder.file("plugins.d/other.so"))
                    _ = try await host.process.errorLine(with: "added other")
                    #expect(try await Self.version(client) == 1)
                    let reload = try await Self.command("reload", on: host)
                    #expect(reload.code == 65)
                    #expect(reload.errors.contains("was rolled back (an operator asked for it)"), "\(reload.errors)")
                    let rejected = try #require(try await Self.deployment(host))
                    #expect(rejected["state"] as? String == "rolled_back")

                    let forced = try await Self.command("reload", "--force", on: host)
                    #expect(forced.code == 0 && forced.text.contains("repointed it"), "\(forced.text)")
                    _ = try await host.process.errorLine(with: "repointed it")
                    #expect(try await Self.deployment(host)?["state"] as? String == "probation")
                    let promoted = try await Self.command("promote", "it", on: host)
                    #expect(promoted.code == 0)
                    #expect(try await Self.command("reload", on: host).code == 0)
                    #expect(try await Self.deployment(host) == nil)

                    try Self.deploy(CandidatePlugin(version: 3), on: host)
                    _ = try await host.process.errorLine(with: "repointed it")
                    #expect(try await Self.deployment(host)?["state"] as? String == "probation")
                }
            }
        }

        @Test func `a version that replaces one on probation can return to the one before both`() async throws {
            try await Self.serving(Self.configuration(probation: "1h")) { host in
                try await host.withClient { client in
                    for version in 2...3 {
                        try Self.deploy(CandidatePlugin(version: version), on: host)
                        _ = try await host.process.errorLine(with: "repointed it")
                    }
                    // The first version is not created again: it was ready.
                    _ = try await Self.command("rollback", "it", on: host)
                    #expect(try await Self.version(client) == 1)
                }
            }
        }

        @Test func `the return of the old file ends the probation`() async throws {
            try await Self.serving(Self.configuration(probation: "1h")) { host in
                try Self.deploy(CandidatePlugin(version: 2), on: host)
                _ = try await host.process.errorLine(with: "repointed it")
                try Self.deploy(CandidatePlugin(version: 1), on: host)
                let line = try await host.process.errorLine(with: "repointed it")
                #expect(!line.contains("created"), "\(line)")
                #expect(try await Self.deployment(host) == nil)
                try await host.withClient { client in
                    let version = try await Self.version(client)
                    #expect(version == 1)
                }
            }
        }

        @Test func `reload waits for the verdict and reports it with its exit code`() async throws {
            let configuration = Self.configuration().replacing("rescan: none", with: "rescan: none, watch: false")
            try await Self.serving(configuration) { host in
                try Self.deploy(CandidatePlugin(version: 2), on: host)
                let held = try await Self.command("reload", "--wait", on: host)
                #expect(
                    held.code == 75 && held.errors.contains("is held on probation: too few requests"), "\(held.errors)")
                try await Self.underLoad(on: host) { load in
                    _ = try await host.process.errorLine(with: "has passed its probation")
                    try Self.deploy(CandidatePlugin(version: 3), on: host)
                    let good = try await Self.command("reload", "--wait", on: host)
                    #expect(good.code == 0 && good.errors.contains(" stays\n"), "\(good.errors)")
                    try Self.deploy(CandidatePlugin(version: 4, fails: 50), on: host)
                    let bad = try await Self.command("reload", "--wait", on: host)
                    #expect(bad.code == 65 && bad.errors.contains("was rolled back: "), "\(bad.errors)")
                }
            }
        }
    }
}
