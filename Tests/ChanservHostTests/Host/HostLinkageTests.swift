import ChanservHost
import Foundation
import TestSupport
import Testing

/// Needed libraries, symbols and thread-local variables of plugins of a host.
@Suite(.timeLimit(.minutes(2))) struct HostLinkageTests {
    private func helper(_ fixture: HostFixture, returns value: Int, soname: String) throws {
        let new = fixture.folder.file("new-helper.so")
        try CompiledPlugin.compile(
            "__attribute__((visibility(\"default\"))) int helper(void) { return \(value); }", to: new,
            options: ["-Wl,-soname,\(soname)"])
        try #require(rename(new, fixture.folder.file(soname)) == 0)
    }

    private func plugin(_ fixture: HostFixture, _ source: String, _ options: [String] = []) throws {
        let new = fixture.folder.file("new.so")
        try CompiledPlugin.compile(textPluginSource + source, to: new, options: options)
        try #require(rename(new, fixture.folder.file("a.so")) == 0)
    }

    private func versions(_ fixture: HostFixture) async -> [String] {
        await fixture.host.status.plugins.filter { !$0.draining }.map(\.version)
    }

    @Test(arguments: Isolation.allCases)
    func `a needed library is replaced in a process and reported in the host`(isolation: Isolation) async throws {
        let fixture = try HostFixture(isolation)
        // The libraries of all tests stay in this process.
        let soname = "libreload-\(isolation.rawValue).so"
        try helper(fixture, returns: 1, soname: soname)
        let path = fixture.folder.file(soname)
        try plugin(
            fixture, "int helper(void);\n" + textFunction("helper %d", "helper()"),
            [path, "-Wl,-rpath,\(fixture.folder.path)"])
        try fixture.configure()
        try await fixture.serving { _ in
            #expect(await versions(fixture) == ["helper 1"])
            #expect(await fixture.host.reload().result == .unchanged)
            try helper(fixture, returns: 2, soname: soname)
            let outcome = await fixture.host.reload()
            switch isolation {
            case .process:
                #expect(outcome.result == .changed)
                #expect(outcome.changes.description.hasPrefix("repointed stream; restarted a@"))
                #expect(await versions(fixture) == ["helper 2"])
            case .host:
                #expect(outcome.result == .refused)
                let reason = try #require(outcome.reasons.first)
                #expect(reason.contains("chanserv.yaml:4:") && reason.contains("plugin 'a': "))
                #expect(reason.contains("\(path) has changed since it was loaded"))
                #expect(reason.contains("isolation: process") && reason.contains("another soname"))
                #expect(await versions(fixture) == ["helper 1"])
            }
        }
    }

    @Test func `a worker that starts again with a replaced library logs a warning`() async throws {
        let fixture = try HostFixture(.process)
        try helper(fixture, returns: 1, soname: "librestart.so")
        let path = fixture.folder.file("librestart.so")
        try plugin(
            fixture, "int helper(void);\n" + textFunction("helper %d", "helper()"),
            [path, "-Wl,-rpath,\(fixture.folder.path)"])
        try fixture.configure()
        try await fixture.serving { _ in
            let worker = try #require(await fixture.host.status.plugins.first?.workers.first?.pid)
            try helper(fixture, returns: 2, soname: "librestart.so")
            #expect(kill(worker, SIGKILL) == 0)
            await fixture.log.wait(for: "\(path) has changed since the host read it; run 'chanserv reload'")
        }
    }

    @Test(arguments: Isolation.allCases)
    func `a plugin uses its own copy of a library that the host has too`(isolation: Isolation) async throws {
        let fixture = try HostFixture(isolation)
        let source = """
            VISIBLE int LZ4_versionNumber(void) { return 42; }
            VISIBLE const char *yaml_get_version_string(void) { return "mine"; }

            """
        try plugin(fixture, source + textFunction("%d %s", "LZ4_versionNumber(), yaml_get_version_string()"))
        try fixture.configure()
        try await fixture.serving { _ in #expect(await versions(fixture) == ["42 mine"]) }
    }

    @Test(arguments: Isolation.allCases)
    func `a needed library with the name of one of the host's is refused`(isolation: Isolation) async throws {
        let fixture = try HostFixture(isolation)
        try helper(fixture, returns: 1, soname: "liblz4.so.1")
        let path = fixture.folder.file("liblz4.so.1")
        try plugin(
            fixture, "int helper(void);\n" + textFunction("%d", "helper()"),
            [path, "-Wl,-rpath,\(fixture.folder.path)"])
        try fixture.configure()
        let error = await #expect(throws: HostError.self) { try await fixture.check() }
        let problem = try #require(error?.problems.first)
        #expect(problem.contains("is loaded as liblz4.so.1, not \(path); give the library another soname"))
        #expect(!problem.contains("isolation: process"))
    }

    @Test(arguments: Isolation.allCases)
    func `check, start and reload warn about static TLS in the host`(isolation: Isolation) async throws {
        let fixture = try HostFixture(isolation)
        let warnings = isolation == .host ? 1 : 0
        func install(_ version: Int) throws {
            let source = "__attribute__((tls_model(\"initial-exec\"))) static __thread int used;\n"
            try plugin(fixture, source + textFunction("\(isolation) \(version) %d", "used++"))
        }
        try install(1)
        try fixture.configure()
        let checked = try await fixture.check().filter { $0.contains("static TLS") }
        #expect(checked.count == warnings)
        for warning in checked {
            #expect(warning.contains("plugin 'a': ") && warning.contains("a.so uses static TLS"))
            #expect(warning.contains("isolation: process") && warning.contains("-ftls-model=global-dynamic"))
        }
        try await fixture.serving { _ in
            #expect(fixture.log.count(of: "uses static TLS") == warnings)
            #expect(await fixture.host.reload().warnings == [])
            try install(2)
            let outcome = await fixture.host.reload()
            #expect(outcome.result == .changed)
            #expect(outcome.warnings.count(where: { $0.contains("uses static TLS") }) == warnings)
        }
    }
}
