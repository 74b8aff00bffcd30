import Chanserv
import Foundation
import TestSupport
import Testing

extension EndToEnd {
    /// Reloads with a mistake in the configuration or in a plugin.
    @Suite(.serialized, .timeLimit(.minutes(2))) struct ReloadRefused {
        /// A mistake, its effect on the files, and the text that the log must contain.
        struct Mistake: Sendable {
            var name: String
            var reason: String
            /// Makes the mistake in the folder of the host, starting from this configuration.
            var make: @Sendable (ServedHost, _ configuration: String) throws -> Void
        }

        static let configuration = """
            node: {listen: 127.0.0.1:0}
            plugins:
              drill: {path: drill.so}
              other: {path: other.so}
            routes:
              - {vaddr: drill, plugin: drill}
              - {vaddr: other, plugin: other}
            """

        static let mistakes = [
            Mistake(name: "a YAML error", reason: "chanserv.yaml:10:") { host, configuration in
                try host.configure(configuration + "\n  - {vaddr: [")
            },
            Mistake(name: "an unknown key", reason: "chanserv.yaml:9:35: ") { host, configuration in
                try host.configure(configuration + "\n  - {vaddr: third, plugin: drill, compresion: true}")
            },
            Mistake(name: "a missing file", reason: "missing.so") { host, configuration in
                try host.configure(
                    configuration.replacingOccurrences(of: "path: other.so", with: "path: missing.so"))
            },
            Mistake(name: "another ABI", reason: "major version 2") { host, _ in
                let library = try DrillPlugin.compile(options: ["-DDRILL_ABI_MAJOR=2"])
                try DrillPlugin.write(library, to: host.folder.file("other.so"))
            },
            Mistake(name: "a create that fails", reason: "told to fail by the test") { host, configuration in
                // The reload creates two new instances. One of them fails and the other one succeeds.
                try host.configure(
                    configuration.replacingOccurrences(
                        of: "path: other.so", with: #"path: other.so, config: {fail: "told to fail by the test"}"#
                    ).replacingOccurrences(of: "path: drill.so", with: "path: drill.so, config: {label: x}"))
            },
            Mistake(name: "no ELF file", reason: "is not a shared library") { host, _ in
                try DrillPlugin.write(Data("#!/bin/sh\necho hello\n".utf8), to: host.folder.file("other.so"))
            },
            Mistake(name: "half an ELF file", reason: "ends before the data that its headers describe") { host, _ in
                try DrillPlugin.write(
                    DrillPlugin.bytes(version: 2).prefix(9_000), to: host.folder.file("other.so"))
            },
            Mistake(name: "an entry that is hidden", reason: "chanserv.yaml:5:17: ") { host, _ in
                try CompiledPlugin.compile(
                    "int chanserv_plugin_v1(void) { return 0; }", to: host.folder.file("other.so"))
            },
            Mistake(name: "a library it needs", reason: "libnowhere.so") { host, _ in
                let needed = host.folder.file("libnowhere.so")
                try CompiledPlugin.compile("int x;", to: needed, options: ["-Wl,-soname,libnowhere.so"])
                try CompiledPlugin.compile(
                    #"__attribute__((visibility("default"))) int chanserv_plugin_v1(void) { return 0; }"#,
                    to: host.folder.file("other.so"), options: ["-Wl,--no-as-needed", needed])
            },
        ]

        @Test(arguments: Isolation.allCases)
        func `a refused reload keeps the running generation and logs the reason`(isolation: Isolation) async throws {
            let configuration = isolation.applied(to: Self.configuration)
            try await ServedHost.serving(
                configuration, prepare: { try DrillPlugin.write(version: 1, to: $0.file("other.so")) }
            ) { host in
                try await host.withClient { client in
                    let held = try await client.sources("other", "count 2000 1000")
                    for mistake in Self.mistakes {
                        try mistake.make(host, configuration)
                        host.process.kill(SIGHUP)
                        let reason = try await host.process.errorLine(with: "error chanserv: reload: ")
                        #expect(reason.contains(mistake.reason), "\(mistake.name): \(reason)")
                        _ = try await host.process.errorLine(with: "reload refused")
                        for (vAddr, version) in [("drill", 0), ("other", 1)] {
                            let report = try await client.report(vAddr, "stats")
                            #expect(report["version"] == version, "\(mistake.name)")
                            #expect(report["open_calls"] == (vAddr == "other" ? 1 : 0), "\(mistake.name)")
                        }
                        // After the correction there is nothing to change.
                        try host.configure(configuration)
                        try DrillPlugin.write(version: 1, to: host.folder.file("other.so"))
                        let line = try await host.reload()
                        #expect(line.contains("nothing has changed"), "\(mistake.name): \(line)")
                    }
                    #expect(try version(of: await held[0].frames.all(), count: 2000, size: 1000) == 1)
                    let other = try await client.report("other", "idle")
                    #expect(other["created"] == 1 && other["destroyed"] == 0)
                }
            }
        }
    }
}
