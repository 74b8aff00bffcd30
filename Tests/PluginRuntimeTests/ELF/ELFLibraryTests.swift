import Foundation
import PluginRuntime
import TestSupport
import Testing

/// The examination of library files, which runs none of their code.
@Suite("ELF examination") struct ELFLibraryTests {
    static let exporting = """
        __attribute__((visibility("default"))) const void *chanserv_plugin_v1(void) { return 0; }
        """

    static func bytes(_ source: String, _ options: String...) throws -> [UInt8] {
        let folder = try TestFolder()
        try CompiledPlugin.compile(source, to: folder.file("lib.so"), options: options)
        return Array(try Data(contentsOf: URL(fileURLWithPath: folder.file("lib.so"))))
    }

    private func problem(_ source: String, _ options: String...) throws -> PluginLoadError? {
        let folder = try TestFolder()
        try CompiledPlugin.compile(source, to: folder.file("lib.so"), options: options)
        return problem(of: folder.file("lib.so"))
    }

    private func problem(of path: String) -> PluginLoadError? {
        do throws(PluginLoadError) {
            _ = try PluginFile(path: path)
            return nil
        } catch {
            return error
        }
    }

    @Test(arguments: ["-Wl,--hash-style=gnu", "-Wl,--hash-style=sysv", "-Wl,--hash-style=both"], ["-g", "-s"])
    func `the entry is found through either hash table, stripped or not`(style: String, strip: String) throws {
        // More functions, so that the buckets of the hash table have chains.
        let others = (0..<50).map { "__attribute__((visibility(\"default\"))) int other_\($0)(void) { return \($0); }" }
        let source = ([Self.exporting] + others).joined(separator: "\n")
        #expect(try ELFLibrary(Self.bytes(source, style, strip)).entry == .exported)
        #expect(try ELFLibrary(Self.bytes(others.joined(separator: "\n"), style, strip)).entry == .absent)
    }

    @Test func `a weak or protected entry counts as exported`() throws {
        for attributes in [#"visibility("default"), weak"#, #"visibility("protected")"#] {
            let source = "__attribute__((\(attributes))) const void *chanserv_plugin_v1(void) { return 0; }"
            #expect(try problem(source) == nil)
        }
    }

    @Test func `an entry that is not exported is refused with the reason`() throws {
        let hidden = "const void *chanserv_plugin_v1(void) { return 0; }"
        let local = "__attribute__((used)) static const void *chanserv_plugin_v1(void) { return 0; }"
        for (source, reason) in [
            ("int x;", "does not export chanserv_plugin_v1; define it with CHANSERV_EXPORT"),
            (hidden, "has chanserv_plugin_v1 but hides it"),
            (local, "has chanserv_plugin_v1 but hides it"),
            ("int chanserv_plugin_v1(void); int f(void) { return chanserv_plugin_v1(); }", "only uses it"),
            (#"__attribute__((visibility("default"))) int chanserv_plugin_v1 = 1;"#, "as a variable"),
            (
                #"""
                __attribute__((visibility("default"))) int f(void) __asm__("_Z18chanserv_plugin_v1v");
                int f(void) { return 0; }
                """#, "under a C++ name"
            ),
            (#"__attribute__((visibility("default"))) void chanserv_plugin_v2(void) {}"#, "exports chanserv_plugin_v2"),
        ] {
            let error = try #require(try problem(source), "\(source)")
            #expect(error.code == .noEntry)
            #expect(error.message.contains(reason), "\(source): \(error)")
            // The System V hash table gives the same result.
            #expect(try problem(source, "-Wl,--hash-style=sysv")?.message == error.message)
        }
        #expect(try problem(hidden, "-s")?.message.hasPrefix("does not export") == true)
    }

    @Test func `no code of a library without the entry runs`() async throws {
        let host = try ProbeHost()
        let trace = host.folder.file("trace")
        let path = host.folder.file("constructor.so")
        try CompiledPlugin.compile(
            #"""
            #include <stdio.h>
            __attribute__((constructor)) static void begin(void) { fclose(fopen(TRACE, "w")); }
            """#, to: path, options: ["-DTRACE=\"\(trace)\""])
        do throws(PluginLoadError) {
            _ = try await host.store.load(path)
            Issue.record("loaded")
        } catch {
            #expect(error.code == .noEntry)
        }
        #expect(!FileManager.default.fileExists(atPath: trace))
        #expect(host.store.statistics.copies == 0)
    }

    @Test func `a library that asks for an executable stack is refused`() throws {
        #expect(try problem(Self.exporting, "-Wl,-z,noexecstack") == nil)
        let error = try #require(try problem(Self.exporting, "-Wl,-z,execstack"))
        #expect(error.code == .executableStack)
        #expect(error.message.contains("requests an executable stack") && error.message.contains("-Wl,-z,noexecstack"))
    }

    @Test func `a library without a GNU_STACK header is refused`() throws {
        let folder = try TestFolder()
        var bytes = try Self.bytes(Self.exporting, "-Wl,-z,noexecstack")
        let marker: [UInt8] = [0x51, 0xE5, 0x74, 0x64]
        let header = try #require(
            stride(from: 64, to: 64 + 20 * 56, by: 56).first { bytes[$0..<$0 + 4].elementsEqual(marker) })
        for index in header..<header + 4 { bytes[index] = 0 }
        try Data(bytes).write(to: URL(fileURLWithPath: folder.file("lib.so")))
        chmod(folder.file("lib.so"), 0o755)
        #expect(problem(of: folder.file("lib.so"))?.code == .executableStack)
    }

    @Test func `a library with text relocations is refused`() throws {
        let source = "int x;\n__asm__(\".text\\n.quad x\\n\");\n" + Self.exporting
        let error = try #require(try problem(source, "-Wl,-z,notext"))
        #expect(error.code == .textRelocations)
        #expect(error.message.contains("-fPIC"))
    }

    @Test func `an executable is refused`() throws {
        let program = Array(try Data(contentsOf: URL(fileURLWithPath: "/proc/self/exe")))
        #expect(throws: ELFProblem.notALibrary("it is an executable; link it with -shared -fPIC")) {
            try ELFLibrary(program)
        }
    }

    @Test func `the needed libraries and the search paths are read`() throws {
        let folder = try TestFolder()
        try CompiledPlugin.compile("int x;", to: folder.file("libneeded.so"), options: ["-Wl,-soname,libneeded.so.7"])
        let options = ["-L\(folder.path)", "-Wl,--no-as-needed", "-lneeded", "-Wl,-rpath,$ORIGIN:/somewhere"]
        for (tags, isRunPath) in [("-Wl,--enable-new-dtags", true), ("-Wl,--disable-new-dtags", false)] {
            try CompiledPlugin.compile("int y;", to: folder.file("needing.so"), options: options + [tags])
            let bytes = Array(try Data(contentsOf: URL(fileURLWithPath: folder.file("needing.so"))))
            let dynamic = try ELFLibrary(bytes).dynamic
            #expect(dynamic.neededLibraries.contains("libneeded.so.7"))
            #expect(dynamic.runPath == (isRunPath ? ["$ORIGIN", "/somewhere"] : []))
            #expect(dynamic.rPath == (isRunPath ? [] : ["$ORIGIN", "/somewhere"]))
        }
        let needed = Array(try Data(contentsOf: URL(fileURLWithPath: folder.file("libneeded.so"))))
        #expect(try ELFLibrary(needed).dynamic.ownName == "libneeded.so.7")
    }
}
