import Foundation
import PluginRuntime
import TestSupport
import Testing

/// Symbols, thread-local variables and needed libraries of plugins that are loaded beside the host and older versions.
@Suite("Linking plugins", .timeLimit(.minutes(1)))
struct PluginLinkageTests {
    let host: ProbeHost
    private var folder: TestFolder { host.folder }

    init() throws { host = try ProbeHost() }

    /// Compiles a plugin whose version is the text that its function `text` returns.
    private func compile(_ source: String, _ name: String = "plugin.so", _ options: String...) throws -> String {
        try CompiledPlugin.compile(textPluginSource + source, to: folder.file(name), options: options)
        return folder.file(name)
    }

    /// Compiles a needed library.
    ///
    /// - Parameter soname: its name for the linker, which must be new: the libraries of all tests stay in this process.
    private func compileNeeded(_ source: String, _ file: String, soname: String) throws {
        // Renamed, because writing to a file that is mapped changes the running code.
        try CompiledPlugin.compile(
            source, to: folder.file("new"), options: ["-Wl,-soname,\(soname)", "-fvisibility=default"])
        try #require(rename(folder.file("new"), folder.file(file)) == 0)
    }

    private func needing(_ file: String) -> [String] {
        ["-Wl,--no-as-needed", folder.file(file), "-Wl,-rpath,\(folder.path)"]
    }

    private func text(of path: String) async throws -> String {
        try await host.store.load(path).descriptor.version
    }

    private func refusal(of path: String) async -> PluginLoadError? {
        do throws(PluginLoadError) {
            _ = try await host.store.load(path)
            return nil
        } catch {
            return error
        }
    }

    /// A variable as g++ makes it for `inline int NAME = 0;`.
    private func unique(_ name: String) -> String {
        """
        __asm__(".pushsection .data\\n.globl \(name)\\n.type \(name), @gnu_unique_object\\n.size \(name), 4\\n"
                "\(name): .long 0\\n.popsection");
        extern int \(name);

        """
    }

    // MARK: Symbols of the plugin

    @Test func `two versions do not share a unique symbol`() async throws {
        for version in 1...3 {
            let source = unique("link_counter") + textFunction("version \(version) count %d", "++link_counter")
            #expect(try await text(of: compile(source)) == "version \(version) count 1")
        }
    }

    @Test func `a plugin's own functions and variables win over those of the host's libraries`() async throws {
        let source = """
            VISIBLE int LZ4_versionNumber(void) { return 42; }
            VISIBLE const char *yaml_get_version_string(void) { return "mine"; }
            VISIBLE char *optarg = (char *)"own variable";
            VISIBLE int (*volatile pointer)(void) = LZ4_versionNumber;

            """
        let values = "LZ4_versionNumber(), yaml_get_version_string(), optarg, pointer()"
        let path = try compile(source + textFunction("%d %s %s %d", values))
        #expect(try await text(of: path) == "42 mine own variable 42")
    }

    @Test func `a plugin that defines malloc uses the allocator of the process`() async throws {
        let source = """
            #include <stdlib.h>
            VISIBLE void *malloc(size_t size) { (void)size; return 0; }
            VISIBLE void free(void *memory) { (void)memory; }

            """
        let path = try compile(source + textFunction("%d", "malloc(1) != 0"), "plugin.so", "-fno-builtin")
        #expect(try await text(of: path) == "1")
    }

    // MARK: Needed libraries

    @Test func `a needed library's own functions win over those of the host's libraries`() async throws {
        try compileNeeded("int LZ4_versionNumber(void) { return 43; }", "liblink-own.so", soname: "liblink-own.so")
        let source = "int LZ4_versionNumber(void);\n" + textFunction("%d", "LZ4_versionNumber()")
        let path = folder.file("plugin.so")
        try CompiledPlugin.compile(textPluginSource + source, to: path, options: needing("liblink-own.so"))
        #expect(try await text(of: path) == "43")
    }

    @Test func `a needed library with the name of one of the host's libraries is refused`() async throws {
        try compileNeeded("int LZ4_versionNumber(void) { return 44; }", "liblz4.so.1", soname: "liblz4.so.1")
        let source = "int LZ4_versionNumber(void);\n" + textFunction("%d", "LZ4_versionNumber()")
        let path = folder.file("plugin.so")
        try CompiledPlugin.compile(textPluginSource + source, to: path, options: needing("liblz4.so.1"))
        let error = try #require(await refusal(of: path))
        #expect(error.code == .libraryConflict)
        #expect(error.message.contains("is loaded as liblz4.so.1, not \(folder.file("liblz4.so.1"))"))
        #expect(error.message.contains("another soname"))
    }

    @Test func `a needed library is part of the identity, and is not replaced in the host`() async throws {
        try compileNeeded("int helper(void) { return 1; }", "libhelper.so", soname: "liblink-helper.so")
        // The plugin names the file through a symbolic link.
        try FileManager.default.createDirectory(atPath: folder.file("v1"), withIntermediateDirectories: true)
        try #require(rename(folder.file("libhelper.so"), folder.file("v1/libhelper.so.1")) == 0)
        let link = folder.file("liblink-helper.so")
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: "v1/libhelper.so.1")
        let path = folder.file("plugin.so")
        let source = textPluginSource + "int helper(void);\n" + textFunction("helper %d", "helper()")
        try CompiledPlugin.compile(source, to: path, options: needing("liblink-helper.so"))
        let first = try await host.store.read(path)
        #expect(first.needed.map(\.path) == [link])
        #expect(try await text(of: path) == "helper 1")
        #expect(try await host.store.read(path).needed == first.needed)

        try compileNeeded("int helper(void) { return 2; }", "libhelper.so.2", soname: "liblink-helper.so")
        try FileManager.default.removeItem(atPath: link)
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: "libhelper.so.2")
        let second = try await host.store.read(path)
        #expect(second.digest == first.digest)
        #expect(second.needed != first.needed)
        let error = try #require(await refusal(of: path))
        #expect(error.code == .libraryConflict)
        #expect(error.message.contains("\(link) has changed since it was loaded"))
        #expect(error.message.contains("isolation: process"))

        // The old content is accepted again.
        try FileManager.default.removeItem(atPath: link)
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: "v1/libhelper.so.1")
        #expect(try await text(of: path) == "helper 1")
    }

    @Test func `a library that a needed library needs is part of the identity`() async throws {
        try compileNeeded("int leaf(void) { return 1; }", "libleaf.so", soname: "liblink-leaf.so")
        try #require(rename(folder.file("libleaf.so"), folder.file("liblink-leaf.so")) == 0)
        try CompiledPlugin.compile(
            "int leaf(void); int middle(void) { return leaf(); }", to: folder.file("libmiddle.so"),
            options: ["-Wl,-soname,libmiddle.so", folder.file("liblink-leaf.so"), "-Wl,-rpath,$ORIGIN"])
        let path = folder.file("plugin.so")
        try CompiledPlugin.compile(
            textPluginSource + textFunction("%d", "1"), to: path, options: needing("libmiddle.so"))
        let first = try await host.store.read(path).needed
        #expect(first.map(\.name) == ["libmiddle.so", "liblink-leaf.so"])
        try compileNeeded("int leaf(void) { return 2; }", "liblink-leaf.so", soname: "liblink-leaf.so")
        let second = try await host.store.read(path).needed
        #expect(second[0] == first[0] && second[1] != first[1])
    }

    @Test func `a new library that shares a unique symbol with an old one is refused`() async throws {
        for version in 1...2 {
            let name = "liblink-unique\(version).so"
            try compileNeeded(
                unique("link_shared") + "int next(void) { return ++link_shared; }", name, soname: name)
        }
        let source = textPluginSource + "int next(void);\n" + textFunction("%d", "next()")
        let (first, second) = (folder.file("1.so"), folder.file("2.so"))
        try CompiledPlugin.compile(source, to: first, options: needing("liblink-unique1.so"))
        try CompiledPlugin.compile(source, to: second, options: needing("liblink-unique2.so"))
        #expect(try await text(of: first) == "1")
        let error = try #require(await refusal(of: second))
        #expect(error.code == .libraryConflict)
        #expect(error.message.contains("would share link_shared (STB_GNU_UNIQUE) with"))
        #expect(error.message.contains("isolation: process") && error.message.contains("-fno-gnu-unique"))
    }

    @Test(arguments: ["strong", "weak", "unique"])
    func `a new version is refused if a loaded library uses variables of the old one`(kind: String) async throws {
        let name = "link_common_\(kind)"
        let definition =
            switch kind {
            case "strong": "VISIBLE int \(name);\n"
            case "weak": "__attribute__((weak)) VISIBLE int \(name);\n"
            default: unique(name)
            }
        let needed = kind == "strong" ? "extern int \(name);" : definition.replacing("VISIBLE", with: "")
        let soname = "liblink-common-\(kind).so"
        try compileNeeded(needed + "int next(void) { return ++\(name); }", soname, soname: soname)
        func source(_ version: Int) -> String {
            textPluginSource + definition + "int next(void);\n"
                + textFunction("version \(version) count %d own %d", "next(), \(name)")
        }
        let path = folder.file("plugin.so")
        try CompiledPlugin.compile(source(1), to: path, options: needing(soname))
        #expect(try await text(of: path) == "version 1 count 1 own 1")
        try CompiledPlugin.compile(source(2), to: path, options: needing(soname))
        let error = try #require(await refusal(of: path))
        #expect(error.code == .libraryConflict)
        #expect(error.message.contains("keeps using the \(name) that it found then"))
        #expect(error.message.contains("isolation: process") && error.message.contains("-fvisibility=hidden"))
    }

    // MARK: Thread-local variables

    @Test func `static TLS causes a warning, and its exhaustion an error with the remedy`() async throws {
        // More than the linker keeps for libraries that are loaded later.
        let source = """
            __attribute__((tls_model("initial-exec"))) static __thread char room[SIZE];

            """ + textFunction("%d", "room[0]++")
        let small = try compile(source, "small.so", "-DSIZE=8")
        #expect(try #require(await host.store.read(small).warning).contains("-ftls-model=global-dynamic"))
        let large = try compile(source, "large.so", "-DSIZE=1000000")
        let error = try #require(await refusal(of: large))
        #expect(error.code == .linkFailed)
        for part in ["static TLS", "initial-exec", "isolation: process", "-ftls-model=global-dynamic", "restart"] {
            #expect(error.message.contains(part), "\(error.message)")
        }
        let other = try compile(textFunction("%d", "1"))
        #expect(try await host.store.read(other).warning == nil)
    }
}
