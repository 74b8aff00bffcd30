import Foundation
import PluginRuntime
import TestSupport
import Testing

@Suite("Loading plugins", .timeLimit(.minutes(1)))
struct PluginLoadingTests {
    private func failure(_ host: ProbeHost, _ path: String, pin: PluginDigest? = nil) async -> PluginLoadError? {
        do throws(PluginLoadError) {
            _ = try await host.store.load(path, pin: pin)
            return nil
        } catch {
            return error
        }
    }

    /// Loads a library whose valid descriptor is changed by `change`, a C statement on `descriptor`.
    ///
    /// - Returns: the error, or `accepted`.
    private func refusal(_ host: ProbeHost, _ change: String) async throws -> String {
        let source =
            stubFunctions + """
                #include <stdlib.h>
                static chanserv_plugin plugin = {
                    CHANSERV_PLUGIN_MAGIC, CHANSERV_ABI_MAJOR, CHANSERV_ABI_MINOR, sizeof(chanserv_plugin), 0, "name", "1",
                    STUB_FUNCTIONS,
                };
                CHANSERV_EXPORT const chanserv_plugin *CHANSERV_ENTRY(void) {
                    chanserv_plugin *descriptor = &plugin;
                    \(change);
                    return descriptor;
                }
                """
        let path = host.folder.file("refused.so")
        try CompiledPlugin.compile(source, to: path)
        let error = await failure(host, path)
        if let error { #expect(error.code == .badDescriptor) }
        return error.map { "\($0)" } ?? "accepted"
    }

    @Test func `a valid descriptor is accepted`() async throws {
        let host = try ProbeHost()
        #expect(try await refusal(host, "") == "accepted")
        // Fields that a newer header appends are ignored.
        #expect(try await refusal(host, "descriptor->struct_size += 64; descriptor->abi_minor = 9") == "accepted")
        #expect(try await refusal(host, "descriptor->flags = 3") == "accepted")
        // INLINE, alone and with SERIAL.
        #expect(try await refusal(host, "descriptor->flags = 4") == "accepted")
        #expect(try await refusal(host, "descriptor->flags = 5") == "accepted")
    }

    @Test func `every invalid descriptor is refused with the reason`() async throws {
        let host = try ProbeHost()
        let path = host.folder.file("refused.so")
        let cases = [
            ("descriptor = NULL", "returned NULL"),
            ("descriptor = (void *)((char *)descriptor + 1)", "returned a misaligned address"),
            ("descriptor->magic = 0x12345678", "begins with 0x12345678 instead of CHANSERV_PLUGIN_MAGIC"),
            ("descriptor->abi_major = 2", "major version 2 of the plugin ABI, this host supports 1"),
            ("descriptor->abi_major = 0", "major version 0"),
            ("descriptor->struct_size = 103", "struct_size 103, the minimum is 104"),
            ("descriptor->struct_size = 0", "struct_size 0"),
            ("descriptor->flags = 8", "flags that this host does not know (0x8)"),
            ("descriptor->flags = 6", "both CHANSERV_PLUGIN_BLOCKING (functions may block) and CHANSERV_PLUGIN_INLINE"),
            ("descriptor->flags = 7", "both CHANSERV_PLUGIN_BLOCKING"),
            ("descriptor->name = NULL", "name is NULL"),
            ("descriptor->name = \"\"", "name is empty"),
            ("descriptor->name = \"\\xff\"", "name is not UTF-8"),
            ("static char l[1000]; for (int i = 0; i < 999; i++) l[i] = 'x'; descriptor->name = l", "longer than 256"),
            ("descriptor->version = NULL", "version is NULL"),
        ]
        for (change, reason) in cases {
            let message = try await refusal(host, change)
            #expect(message.hasPrefix("\(path): is refused: "))
            #expect(message.contains(reason), "\(change): \(message)")
        }
        for function in [
            "create", "destroy", "open", "poll_sources", "cancel_call", "close_call", "poll_frames", "cancel_source",
            "close_source",
        ] {
            let message = try await refusal(host, "descriptor->\(function) = NULL")
            #expect(message.contains("function \(function) is NULL"))
        }
    }

    @Test func `a library without the entry function is refused`() async throws {
        let host = try ProbeHost()
        let path = host.folder.file("noentry.so")
        try CompiledPlugin.compile("int x;", to: path)
        let error = try #require(await failure(host, path))
        #expect(error.code == .noEntry)
        #expect("\(error)".contains("\(path): does not export chanserv_plugin_v1"))
    }

    @Test func `refused bytes are refused again without another copy`() async throws {
        let host = try ProbeHost()
        let first = try await refusal(host, "descriptor->abi_major = 2")
        let copies = host.store.statistics
        #expect(copies.copies == 1)
        #expect(try await refusal(host, "descriptor->abi_major = 2") == first)
        // The error names the path of the second attempt.
        let other = host.folder.file("other.so")
        try FileManager.default.copyItem(atPath: host.folder.file("refused.so"), toPath: other)
        #expect(await failure(host, other)?.path == other)
        #expect(host.store.statistics == copies)
        // Other bytes at the same path are examined.
        #expect(try await refusal(host, "") == "accepted")
    }

    @Test func `a library with an undefined function is refused when it is loaded`() async throws {
        let host = try ProbeHost()
        let path = host.folder.file("lacking.so")
        try CompiledPlugin.compile(
            "void nobody_has_this(void); void x(void) { nobody_has_this(); }" + ELFLibraryTests.exporting, to: path)
        let error = try #require(await failure(host, path))
        #expect(error.code == .linkFailed)
        #expect(error.message.contains("nobody_has_this"))
        #expect(error.message.contains(path))
        #expect(!error.message.contains("1-lacking.so"), "the private copy's name says nothing: \(error.message)")
    }

    @Test func `a missing needed library is reported with a remedy`() async throws {
        let host = try ProbeHost()
        try CompiledPlugin.compile("int x;", to: host.folder.file("libneeded.so"))
        let path = host.folder.file("needing.so")
        try CompiledPlugin.compile(
            "extern int x; int *y(void) { return &x; }" + ELFLibraryTests.exporting, to: path,
            options: ["-L\(host.folder.path)", "-Wl,--no-as-needed", "-lneeded", "-Wl,-rpath,$ORIGIN"])
        let error = try #require(await failure(host, path))
        #expect(error.code == .missingLibrary)
        #expect(error.message.contains("libneeded.so"))
        #expect(error.message.contains("$ORIGIN is not its folder"))
    }

    @Test func `a library with a wrong pin is not loaded`() async throws {
        let host = try ProbeHost()
        let path = try host.compile()
        let error = await failure(host, path, pin: PluginDigest(hex: String(repeating: "0", count: 64)))
        #expect(error?.code == .wrongDigest)
        #expect(host.store.statistics == PluginStore.Statistics())
        let digest = try host.store.examine(path)
        #expect(try await host.store.load(path, pin: digest).digest == digest)
    }

    @Test func `constructors run on a plugin thread`() async throws {
        let host = try ProbeHost()
        let path = host.folder.file("constructor.so")
        let source = """
            #define _GNU_SOURCE
            #include <pthread.h>
            static char name[16];
            __attribute__((constructor)) static void begin(void) { pthread_getname_np(pthread_self(), name, 16); }
            __attribute__((visibility("default"))) const char *chanserv_plugin_v1(void) {
                return name[0] == 's' && name[6] == '-' ? 0 : "not on a thread of the pool";
            }
            """
        try CompiledPlugin.compile(source, to: path)
        #expect(await failure(host, path)?.message.contains("returned NULL") == true)
    }

    @Test func `the same bytes are loaded once`() async throws {
        let host = try ProbeHost()
        let path = try host.compile()
        try FileManager.default.copyItem(atPath: path, toPath: host.folder.file("copy.so"))
        let first = try await host.store.load(path)
        #expect(try await host.store.load(path) === first)
        #expect(try await host.store.load(host.folder.file("copy.so")) === first)
        #expect(host.store.statistics == PluginStore.Statistics(copies: 1, bytes: first.size))
    }

    @Test func `new bytes at the same path are loaded as new code`() async throws {
        let host = try ProbeHost()
        let old = try await host.instance(of: host.compile(version: "old"))
        try host.compile(version: "new")
        let new = try await host.instance(of: host.folder.file("probe.so"))
        #expect(try await old.texts("version") == ["old"])
        #expect(try await new.texts("version") == ["new"])
        #expect(old.library.descriptor.version == "old")
        #expect(host.store.statistics.copies == 2)
        // Each loaded copy has its own variables.
        #expect(try await old.probeCounts()["opens"] == 2)
    }

    @Test func `overwriting, truncating and removing the file does not affect running code`() async throws {
        let host = try ProbeHost()
        let path = try host.compile()
        let instance = try await host.instance(of: path)
        let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
        let size = try handle.seekToEnd()
        try handle.seek(toOffset: 0)
        try handle.write(contentsOf: Data(repeating: 0xCC, count: Int(size)))
        #expect(try await instance.texts("onebyone 3") == ["0", "1", "2"])
        try handle.truncate(atOffset: 0)
        #expect(try await instance.texts("frames 3") == ["0", "1", "2"])
        try FileManager.default.removeItem(atPath: path)
        #expect(try await instance.texts("sources 1") == ["frame of 0"])
        #expect(await instance.retireNow() == .destroyed)
    }

    @Test func `the private copy is removed after loading unless copies are kept`() async throws {
        let folder = try TestFolder()
        let host = try ProbeHost()
        var configuration = PluginStore.Configuration()
        configuration.folders = [folder.path]
        let store = PluginStore(configuration: configuration, threads: host.threads, logger: host.log.logger)
        _ = try await store.load(host.compile())
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == [])
        configuration.keepsCopies = true
        let keeping = PluginStore(configuration: configuration, threads: host.threads, logger: host.log.logger)
        _ = try await keeping.load(host.folder.file("probe.so"))
        let kept = try FileManager.default.subpathsOfDirectory(atPath: folder.path)
        #expect(kept.count == 2)
        let copy = try #require(kept.first { $0.hasSuffix("/1-probe.so") })
        let mode = try FileManager.default.attributesOfItem(atPath: folder.file(copy))[.posixPermissions] as? Int
        #expect(mode == 0o500)
    }

    @Test func `if no folder allows execution, each folder is reported with its reason`() async throws {
        let host = try ProbeHost()
        var configuration = PluginStore.Configuration()
        // The test cannot mount a folder with noexec. /proc and a missing folder fail as well.
        configuration.folders = ["/proc", host.folder.file("none")]
        let store = PluginStore(configuration: configuration, threads: host.threads, logger: host.log.logger)
        do throws(PluginLoadError) {
            _ = try await store.load(host.compileOrFail())
            Issue.record("loaded without a folder")
        } catch {
            #expect(error.code == .noPrivateFolder)
            #expect(error.message.contains("/proc: "))
            #expect(error.message.contains("\(host.folder.file("none")): No such file or directory"))
            #expect(error.message.contains("set TMPDIR"))
        }
    }

    @Test func `a warning is logged when the number of loaded copies reaches its limit`() async throws {
        let host = try ProbeHost()
        var configuration = PluginStore.Configuration()
        configuration.warningCount = 2
        let store = PluginStore(configuration: configuration, threads: host.threads, logger: host.log.logger)
        _ = try await store.load(host.compile(version: "1"))
        #expect(host.log.count(of: "warning") == 0)
        _ = try await store.load(host.compile(version: "2"))
        #expect(host.log.count(of: "2 plugin libraries") == 1)
    }
}

extension ProbeHost {
    /// Compiles the probe and returns its path, or a path that fails to load.
    func compileOrFail() -> String {
        do {
            return try compile()
        } catch {
            Issue.record(error)
            return folder.file("not compiled")
        }
    }
}
