import Foundation
import NIOConcurrencyHelpers
import TestSupport
import Testing

extension EndToEnd {
    /// The drop-in folder of a running host.
    ///
    /// `CHANSERV_TEST_DROP_IN_OPERATIONS=1000` sets the number of random operations.
    @Suite(.serialized, .timeLimit(.minutes(30))) struct DropIns {
        static let configuration = """
            node: {listen: 127.0.0.1:0, control: c.sock}
            drop_in: {folder: plugins.d, settle: 50ms, max_settle: 1s, rescan: none}
            plugins:
              drill: {path: drill.so}
            routes:
              - {vaddr: drill, plugin: drill}
            """

        private static func serving<T>(
            _ configuration: String = configuration, dropIns: [String: Int] = [:],
            prepare: (TestFolder) throws -> Void = { _ in }, _ body: (ServedHost) async throws -> T
        ) async throws -> T {
            try await ServedHost.serving(
                configuration,
                prepare: { folder in
                    try FileManager.default.createDirectory(
                        atPath: folder.file("plugins.d"), withIntermediateDirectories: false,
                        attributes: [.posixPermissions: 0o755])
                    for (name, version) in dropIns {
                        try DrillPlugin.write(version: version, to: folder.file("plugins.d/\(name).so"))
                    }
                    try prepare(folder)
                }, body)
        }

        /// Writes a file into the drop-in folder that only its owner can write.
        private static func write(_ text: String, to name: String, of host: ServedHost) throws {
            try DrillPlugin.write(Data(text.utf8), to: host.folder.file("plugins.d/\(name)"))
        }

        /// Returns the states of the drop-ins, by name.
        private static func states(_ host: ServedHost) async throws -> [String: String] {
            let exit = try await ChanservCommand.run("status", "--json", "--config", host.configurationFile)
            let answer = try JSONSerialization.jsonObject(with: exit.output) as? [String: Any]
            let dropIns = try #require(answer?["drop_ins"] as? [[String: Any]])
            return Dictionary(
                uniqueKeysWithValues: dropIns.map { ($0["name"] as? String ?? "?", $0["state"] as? String ?? "?") })
        }

        private static func reloadLine(_ host: ServedHost, with text: String) async throws {
            while true {
                let line = try await host.process.errorLine(with: "reload: ")
                if line.contains(text) { return }
            }
        }

        @Test func `a library that is copied into the folder is served under its name until it is removed`()
            async throws
        {
            try await Self.serving { host in
                try await host.withClient { client in
                    try DrillPlugin.write(version: 1, to: host.folder.file("plugins.d/quotes.so"))
                    try await Self.reloadLine(host, with: "added quotes")
                    #expect(try await client.report("quotes", "stats")["version"] == 1)

                    try DrillPlugin.write(version: 2, to: host.folder.file("plugins.d/quotes.so"))
                    try await Self.reloadLine(host, with: "repointed quotes")
                    #expect(try await client.report("quotes", "stats")["version"] == 2)

                    try FileManager.default.removeItem(atPath: host.folder.file("plugins.d/quotes.so"))
                    try await Self.reloadLine(host, with: "removed quotes")
                    #expect(try await client.report("drill", "stats")["version"] == 0)
                }
            }
        }

        @Test func `a change of the folder does not apply an unfinished change of the main file`() async throws {
            try await Self.serving(dropIns: ["quotes": 1]) { host in
                try host.configure("not: finished")
                try DrillPlugin.write(version: 2, to: host.folder.file("plugins.d/quotes.so"))
                try await Self.reloadLine(host, with: "repointed quotes")
                #expect(try await host.reload().contains("reload refused"))
            }
        }

        @Test func `a YAML file beside the library sets its options and routes`() async throws {
            try await Self.serving(dropIns: ["quotes": 1]) { host in
                try await host.withClient { client in
                    try Self.write(
                        "routes:\n  - vaddr: a\n  - {vaddr: b, compression: true}\n", to: "quotes.yaml", of: host)
                    try await Self.reloadLine(host, with: "added a, b; removed quotes")
                    #expect(try await client.report("a", "stats")["version"] == 1)
                    #expect(try await client.report("b", "stats")["version"] == 1)

                    try Self.write("enabled: false\n", to: "quotes.yaml", of: host)
                    try await Self.reloadLine(host, with: "removed a, b")
                }
            }
        }

        @Test func `of fifty drop-ins with one that is broken the others are served`() async throws {
            let names = (0..<50).map { "plugin\($0)" }
            try await Self.serving(
                dropIns: Dictionary(uniqueKeysWithValues: names.enumerated().map { ($1, $0) }),
                prepare: { folder in
                    try DrillPlugin.write(Data("not a library".utf8), to: folder.file("plugins.d/plugin7.so"))
                }
            ) { host in
                let lines = try await host.process.errorLines(with: "drop-in 'plugin7'", count: 2)
                #expect(lines[0].contains("plugins.d/plugin7.so"))
                try await host.withClient { client in
                    for (version, name) in names.enumerated() where version != 7 {
                        let report = try await client.report(name, "stats")
                        #expect(report["version"] == version)
                    }
                }
                let check = try await ChanservCommand.run("check", "--config", host.configurationFile)
                #expect(check.code == 65)
                #expect(check.errors.contains("plugin7"))
            }
        }

        @Test func `the version that runs goes on while the new file is wrong`() async throws {
            try await Self.serving(dropIns: ["quotes": 1, "other": 1]) { host in
                try await host.withClient { client in
                    let library = try DrillPlugin.bytes(version: 2)
                    try DrillPlugin.write(library.prefix(5_000), to: host.folder.file("plugins.d/quotes.so"))
                    _ = try await host.process.errorLine(with: "drop-in 'quotes' rejected; its last version goes on")
                    #expect(try await client.report("quotes", "stats")["version"] == 1)

                    // Another drop-in is applied meanwhile.
                    try DrillPlugin.write(version: 3, to: host.folder.file("plugins.d/other.so"))
                    try await Self.reloadLine(host, with: "repointed other")
                    #expect(try await client.report("other", "stats")["version"] == 3)

                    // An instance that cannot be created is the fault of its drop-in alone, too.
                    try Self.write("config: {fail: broken}\n", to: "other.yaml", of: host)
                    _ = try await host.process.errorLine(with: "drop-in 'other' rejected; its last version goes on")
                    #expect(try await client.report("other", "stats")["version"] == 3)

                    try DrillPlugin.write(library, to: host.folder.file("plugins.d/quotes.so"))
                    try await Self.reloadLine(host, with: "repointed quotes")
                    #expect(try await client.report("quotes", "stats")["version"] == 2)
                }
            }
        }

        @Test func `a reload that an operator asks for reports drop-ins that are wrong`() async throws {
            try await Self.serving(dropIns: ["quotes": 1]) { host in
                try Self.write("treads: 3\n", to: "quotes.yaml", of: host)
                _ = try await host.process.errorLine(with: "drop-in 'quotes' rejected; its last version goes on")
                let exit = try await ChanservCommand.run("reload", "--config", host.configurationFile)
                #expect(exit.code == 65)
                #expect(exit.errors.contains("unknown key 'treads'; did you mean 'threads'?"))
                let states = try await Self.states(host)
                #expect(states == ["quotes": "rejected"])
            }
        }

        @Test func `a removed drop-in is kept if the options say so`() async throws {
            let configuration = Self.configuration.replacing("rescan: none", with: "rescan: none, on_remove: keep")
            try await Self.serving(configuration, dropIns: ["quotes": 1, "off": 1]) { host in
                try Self.write("enabled: false\n", to: "off.yaml", of: host)
                try await Self.reloadLine(host, with: "removed off")
                for name in ["quotes.so", "off.so", "off.yaml"] {
                    try FileManager.default.removeItem(atPath: host.folder.file("plugins.d/\(name)"))
                }
                _ = try await host.process.errorLine(with: "drop-in 'quotes' was removed")
                let states = try await Self.states(host)
                #expect(states == ["quotes": "removed"])
                try await host.withClient { client in
                    let report = try await client.report("quotes", "stats")
                    #expect(report["version"] == 1)
                }
            }
        }

        @Test func `a plugin of the main file with the name of a drop-in is served, and the drop-in is rejected`()
            async throws
        {
            try await Self.serving(dropIns: ["quotes": 1]) { host in
                let plugins = "plugins:\n  quotes: {path: drill.so}\n"
                try host.configure(
                    Self.configuration.replacing("plugins:\n", with: plugins).replacing(
                        "- {vaddr: drill, plugin: drill}",
                        with: "- {vaddr: drill, plugin: drill}\n  - {vaddr: main, plugin: quotes}"))
                let line = try await host.reload()
                #expect(line.contains("added main; removed quotes"), "\(line)")
                let states = try await Self.states(host)
                #expect(states == ["quotes": "rejected"])
            }
        }

        @Test func `without watch a change waits for a reload`() async throws {
            let configuration = Self.configuration.replacing("rescan: none", with: "rescan: none, watch: false")
            try await Self.serving(configuration) { host in
                try DrillPlugin.write(version: 1, to: host.folder.file("plugins.d/quotes.so"))
                let states = try await Self.states(host)
                #expect(states == [:])
                #expect(try await host.reload().contains("added quotes"))
            }
        }

        @Test func `a host with strict does not start with a wrong drop-in, and require_yaml asks for the file`()
            async throws
        {
            let folder = try TestFolder()
            try FileManager.default.createDirectory(
                atPath: folder.file("plugins.d"), withIntermediateDirectories: false,
                attributes: [.posixPermissions: 0o755])
            try DrillPlugin.write(version: 0, to: folder.file("drill.so"))
            try DrillPlugin.write(version: 1, to: folder.file("plugins.d/quotes.so"))
            let options = "rescan: none, strict: true, require_yaml: true"
            let text = Self.configuration.replacing("rescan: none", with: options)
            try Data((text + "\n").utf8).write(to: URL(fileURLWithPath: folder.file("chanserv.yaml")))
            let exit = try await ChanservCommand.run("serve", "--config", folder.file("chanserv.yaml"))
            #expect(exit.code == 65)
            #expect(exit.errors.contains("quotes.yaml' is missing, which 'require_yaml' asks for"))
        }

        @Test func `a drop-in behind a link does not hide the others when the folder has two names`() async throws {
            let configuration = Self.configuration.replacing("plugins.d", with: "./plugins.d/")
            try await Self.serving(
                configuration,
                prepare: { folder in
                    try DrillPlugin.write(version: 1, to: folder.file("plugins.d/.linked"))
                    try FileManager.default.createSymbolicLink(
                        atPath: folder.file("plugins.d/linked.so"), withDestinationPath: ".linked")
                }
            ) { host in
                for version in 1...5 {
                    try DrillPlugin.write(version: version, to: host.folder.file("plugins.d/quotes.so"))
                    try await Self.reloadLine(host, with: version == 1 ? "added quotes" : "repointed quotes")
                }
            }
        }

        @Test func `an address that is taken is an error that names both places`() async throws {
            try await Self.serving(dropIns: ["quotes": 1]) { host in
                try Self.write("routes: [{vaddr: drill}]\n", to: "quotes.yaml", of: host)
                let line = try await host.process.errorLine(with: "duplicate vaddr 'drill'")
                #expect(line.contains("plugins.d/quotes.yaml:1:18"))
                #expect(line.contains("chanserv.yaml:6:"))
            }
        }

        @Test func `a folder that Kubernetes updates by renaming a link is followed`() async throws {
            try await Self.serving(prepare: { folder in
                try FileManager.default.createDirectory(
                    atPath: folder.file("plugins.d/..1"), withIntermediateDirectories: false,
                    attributes: [.posixPermissions: 0o755])
                try DrillPlugin.write(version: 1, to: folder.file("plugins.d/..1/quotes.so"))
                try FileManager.default.createSymbolicLink(
                    atPath: folder.file("plugins.d/..data"), withDestinationPath: "..1")
                try FileManager.default.createSymbolicLink(
                    atPath: folder.file("plugins.d/quotes.so"), withDestinationPath: "..data/quotes.so")
            }) { host in
                try await host.withClient { client in
                    #expect(try await client.report("quotes", "stats")["version"] == 1)
                    let file = host.folder.file
                    try FileManager.default.createDirectory(
                        atPath: file("plugins.d/..2"), withIntermediateDirectories: false,
                        attributes: [.posixPermissions: 0o755])
                    try DrillPlugin.write(version: 2, to: file("plugins.d/..2/quotes.so"))
                    try FileManager.default.createSymbolicLink(
                        atPath: file("plugins.d/..data_tmp"), withDestinationPath: "..2")
                    #expect(rename(file("plugins.d/..data_tmp"), file("plugins.d/..data")) == 0)
                    try await Self.reloadLine(host, with: "repointed quotes")
                    #expect(try await client.report("quotes", "stats")["version"] == 2)
                }
            }
        }

        @Test func `changes that overflow the queue of the kernel are found`() async throws {
            try await Self.serving(dropIns: ["quotes": 1, "other": 1]) { host in
                host.process.kill(SIGSTOP)
                // Two names in turn, because the kernel joins equal events that follow each other.
                for index in 0..<20_000 {
                    let name = host.folder.file("plugins.d/\(index % 2 == 0 ? "quotes" : "other").so")
                    #expect(chmod(name, 0o755) == 0)
                }
                try DrillPlugin.write(version: 2, to: host.folder.file("plugins.d/quotes.so"))
                host.process.kill(SIGCONT)
                try await Self.reloadLine(host, with: "repointed quotes")
            }
        }

        /// Programs replace files in these ways.
        private enum Operation: CaseIterable {
            case copy, slowCopy, move, truncate, editor, rsync, package, link, broken, remove
        }

        @Test func `random operations on the folder fail no request, and the end is the state of the folder`()
            async throws
        {
            let operations =
                ProcessInfo.processInfo.environment["CHANSERV_TEST_DROP_IN_OPERATIONS"].flatMap(Int.init) ?? 60
            let steady = ["a", "b", "c"]
            try await Self.serving(dropIns: ["a": 1, "b": 1, "c": 1]) { host in
                let hasEnded = NIOLockedValueBox(false)
                let versions = try await withThrowingTaskGroup(of: Int.self) { group in
                    for name in steady {
                        let client = try await host.connect()
                        group.addTask {
                            var count = 0
                            while !hasEnded.withLockedValue({ $0 }) {
                                _ = try await client.report(name, "stats")
                                count += 1
                            }
                            await client.close()
                            return count
                        }
                    }
                    defer { hasEnded.withLockedValue { $0 = true } }
                    let versions = try await operate(operations, on: host, steady: steady)
                    hasEnded.withLockedValue { $0 = true }
                    #expect(try await group.reduce(0, +) > 0)
                    return versions
                }
                try await host.withClient { client in
                    for (name, version) in versions {
                        try await eventually { try await client.report(name, "stats")["version"] == version }
                    }
                }
                let files = try FileManager.default.contentsOfDirectory(atPath: host.folder.file("plugins.d"))
                let present = Set(
                    files.filter { $0.hasSuffix(".so") && !$0.hasPrefix(".") }.map { String($0.dropLast(3)) })
                #expect(present == Set(versions.keys))
                try await eventually {
                    try await Self.states(host) == versions.mapValues { _ in "serving" }
                }
            }
        }

        /// A generator whose seed a failed test shows.
        private struct Generator: RandomNumberGenerator {
            let seed: UInt64
            private var state: UInt64

            init(seed: UInt64) {
                self.seed = seed
                state = seed
            }

            mutating func next() -> UInt64 {
                // SplitMix64.
                state &+= 0x9E37_79B9_7F4A_7C15
                var value = state
                value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
                value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
                return value ^ (value >> 31)
            }
        }

        /// Performs random operations.
        ///
        /// - Returns: the version that each file in the folder has at the end.
        private func operate(_ count: Int, on host: ServedHost, steady: [String]) async throws -> [String: Int] {
            var random = Generator(seed: UInt64.random(in: 0..<1 << 32))
            print("drop-ins: random operations of the seed \(random.seed)")
            let names = steady + ["d", "e", "f"]
            var versions = Dictionary(uniqueKeysWithValues: steady.map { ($0, 1) })
            for version in 2..<(count + 2) {
                let name = names.randomElement(using: &random)!
                var operation = Operation.allCases.randomElement(using: &random)!
                // The requests of the test are for files that are never removed.
                if operation == .remove, steady.contains(name) { operation = .move }
                let file = host.folder.file("plugins.d/\(name).so")
                let bytes = try DrillPlugin.bytes(version: version)
                switch operation {
                case .copy, .slowCopy:
                    let handle = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0o755)
                    try #require(handle >= 0)
                    let writer = FileHandle(fileDescriptor: handle, closeOnDealloc: true)
                    let parts = operation == .copy ? 1 : 4
                    for part in 0..<parts {
                        let from = bytes.count * part / parts
                        try writer.write(contentsOf: bytes[from..<(bytes.count * (part + 1) / parts)])
                        if operation == .slowCopy { try await Task.sleep(for: .milliseconds(20)) }
                    }
                    try writer.close()
                case .move, .package:
                    // dpkg unpacks to this name and renames.
                    try DrillPlugin.write(bytes, to: file + ".dpkg-new")
                    try #require(rename(file + ".dpkg-new", file) == 0)
                case .truncate:
                    try #require(truncate(file, 0) == 0 || !FileManager.default.fileExists(atPath: file))
                    try DrillPlugin.write(bytes, to: file)
                case .editor:
                    try DrillPlugin.write(bytes, to: file + "~")
                    if FileManager.default.fileExists(atPath: file) {
                        try #require(rename(file, file + ".bak") == 0)
                    }
                    try #require(rename(file + "~", file) == 0)
                case .rsync:
                    let hidden = host.folder.file("plugins.d/.\(name).so.Xy12")
                    try DrillPlugin.write(bytes, to: hidden)
                    try #require(rename(hidden, file) == 0)
                case .link:
                    let target = host.folder.file("plugins.d/.v\(version)")
                    try DrillPlugin.write(bytes, to: target)
                    let new = host.folder.file("plugins.d/.\(name).link")
                    try #require(symlink(target, new) == 0 && rename(new, file) == 0)
                case .broken:
                    // A wrong file, which the next step replaces.
                    try DrillPlugin.write(bytes.prefix(3_000), to: file)
                    try await Task.sleep(for: .milliseconds(Int.random(in: 0..<80, using: &random)))
                    try DrillPlugin.write(bytes, to: file)
                case .remove:
                    if versions.removeValue(forKey: name) != nil { try #require(unlink(file) == 0) }
                    continue
                }
                versions[name] = version
                try await Task.sleep(for: .milliseconds(Int.random(in: 0..<60, using: &random)))
            }
            return versions
        }
    }
}
