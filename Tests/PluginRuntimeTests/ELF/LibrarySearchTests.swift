import Foundation
import PluginRuntime
import TestSupport
import Testing

/// The search rules of ld.so(8), with compiled libraries and imaginary paths.
@Suite("The search for needed libraries") struct LibrarySearchTests {
    /// Compiles a library that needs others. The others are deleted after linking.
    private func library(needs: [String], _ options: String...) throws -> ELFLibrary {
        let folder = try TestFolder()
        for name in needs {
            try CompiledPlugin.compile("int x;", to: folder.file(name), options: ["-Wl,-soname,\(name)"])
        }
        try CompiledPlugin.compile(
            ELFLibraryTests.exporting, to: folder.file("plugin.so"),
            options: ["-Wl,--no-as-needed"] + needs.map { folder.file($0) } + options)
        return try ELFLibrary(Array(try Data(contentsOf: URL(fileURLWithPath: folder.file("plugin.so")))))
    }

    private let loaded: (String) -> LibrarySearch.Loaded? = { name in
        name.hasPrefix("libc.so") || name.hasPrefix("libpthread")
            ? LibrarySearch.Loaded(path: "\(LibrarySearch.defaultFolders[0])/\(name)") : nil
    }

    private func search(
        _ plugin: ELFLibrary, files: [String: LibrarySearch.Candidate] = [:],
        _ change: (inout LibrarySearch.Surroundings) -> Void = { _ in }
    ) -> LibrarySearch {
        var surroundings = LibrarySearch.Surroundings(loaded: loaded) { files[$0] ?? .nothing }
        change(&surroundings)
        return LibrarySearch(for: plugin, in: "/plugins", surroundings)
    }

    @Test func `all missing libraries are in one message`() throws {
        let plugin = try library(needs: ["liba.so", "libb.so.2"])
        let search = search(plugin)
        #expect(search.missing.map(\.name) == ["liba.so", "libb.so.2"])
        let problem = try #require(search.problem)
        #expect(problem.hasPrefix("needs 2 libraries that are not found: liba.so, libb.so.2; install the missing"))
    }

    @Test func `a needed library is found in each place where the linker looks`() throws {
        let leaf = try library(needs: [])
        let plain = try library(needs: ["liba.so"])
        #expect(search(plain, files: [LibrarySearch.defaultFolders[0] + "/liba.so": .library(leaf)]).problem == nil)
        #expect(search(plain, files: ["/env/liba.so": .library(leaf)]) { $0.libraryPath = ["/env"] }.problem == nil)
        let cache = LoaderCache(LoaderCacheTests.cache([("liba.so", "/cached/liba-1.so")]))
        #expect(search(plain, files: ["/cached/liba-1.so": .library(leaf)]) { $0.cache = cache }.problem == nil)
        // A file that the cache names may be missing.
        #expect(search(plain) { $0.cache = cache }.missing.map(\.name) == ["liba.so"])
        // If the cache cannot be read, the search reports no problem.
        #expect(search(plain) { $0.cache = nil }.problem == nil)
        for tags in ["-Wl,--enable-new-dtags", "-Wl,--disable-new-dtags"] {
            let plugin = try library(needs: ["liba.so"], "-Wl,-rpath,/there", tags)
            #expect(search(plugin, files: ["/there/liba.so": .library(leaf)]).problem == nil)
        }
        let unknown = try library(needs: ["liba.so"], "-Wl,-rpath,/usr/$LIB")
        #expect(search(unknown).problem == nil, "only the linker knows what $LIB is")
    }

    @Test(arguments: ["-Wl,--enable-new-dtags", "-Wl,--disable-new-dtags"])
    func `a search with too many places is left to the linker`(tags: String) throws {
        let rpath = (0..<8_000).map { "/\($0)" }.joined(separator: ":")
        let plugin = try library(needs: (0..<60).map { "lib\($0).so" }, "-Wl,-rpath,\(rpath)", tags)
        var asked = 0
        let surroundings = LibrarySearch.Surroundings(loaded: loaded) { _ in
            asked += 1
            return .nothing
        }
        #expect(LibrarySearch(for: plugin, in: "/plugins", surroundings).problem == nil)
        #expect(asked > 1_000 && asked <= LibrarySearch.maximumPlaces)
        // A folder that is repeated counts once.
        let repeated = try library(needs: ["liba.so"], "-Wl,-rpath,\(String(repeating: "/r:", count: 10_000))", tags)
        let search = search(repeated)
        #expect(search.missing.map(\.name) == ["liba.so"])
    }

    @Test func `files outside of the system folders are identified, with those that they need`() throws {
        let leaf = try library(needs: [])
        let middle = try library(needs: ["libleaf.so"], "-Wl,-rpath,$ORIGIN")
        let folder = LibrarySearch.defaultFolders[0]
        let files: [String: LibrarySearch.Candidate] = [
            "\(folder)/libsystem.so": .library(leaf), "\(folder)/own/libmiddle.so": .library(middle),
            "\(folder)/own/libleaf.so": .library(leaf), "/own/liblarge.so": .unread(content: "large"),
        ]
        let plugin = try library(
            needs: ["libsystem.so", "libmiddle.so", "liblarge.so"], "-Wl,-rpath,\(folder)/own:/own")
        let libraries = search(plugin, files: files).libraries.map(\.library)
        #expect(libraries.map(\.name) == ["libmiddle.so", "liblarge.so", "libleaf.so"])
        #expect(libraries.map(\.content) == [middle.digest.description, "large", leaf.digest.description])
    }

    @Test func `a file conflicts with a loaded library of the same name and other content`() throws {
        let (leaf, other) = (try library(needs: []), try library(needs: ["libb.so"]))
        let plugin = try library(needs: ["liba.so"], "-Wl,-rpath,/there")
        func conflicts(_ loaded: LibrarySearch.Loaded, stamp: String? = nil) -> [LibrarySearch.Conflict] {
            search(plugin, files: ["/there/liba.so": .library(leaf), "/host/liba.so": .library(other)]) {
                $0.loaded = { $0 == "liba.so" ? loaded : nil }
                $0.stamp = { _ in stamp }
            }.conflicts
        }
        #expect(conflicts(.init(path: "/there/liba.so", content: leaf.digest.description)) == [])
        #expect(conflicts(.init(path: "/elsewhere/liba.so", content: leaf.digest.description)) == [])
        #expect(conflicts(.init(path: "/there/liba.so", content: other.digest.description)).count == 1)
        // Libraries of the host itself: the same file, another one, and one that was replaced.
        #expect(conflicts(.init(path: "/there/liba.so", stamp: "1"), stamp: "1") == [])
        #expect(conflicts(.init(path: "/host/liba.so", stamp: "1"), stamp: "1").count == 1)
        #expect(conflicts(.init(path: "/there/liba.so", stamp: "1"), stamp: "2").count == 1)
    }

    @Test func `a needed file that is too large to read is left to the linker`() throws {
        let folder = try TestFolder()
        let descriptor = open(folder.file("liblarge.so"), O_CREAT | O_WRONLY | O_CLOEXEC, 0o600)
        defer { close(descriptor) }
        try #require(descriptor >= 0 && ftruncate(descriptor, 1 << 40) == 0)
        guard case .unread = LibrarySearch.Surroundings.system().candidate(folder.file("liblarge.so")) else {
            Issue.record("it was read")
            return
        }
    }

    @Test func `indirect needs are searched in the RPATH of the plugin but not in its RUNPATH`() throws {
        let leaf = try library(needs: [])
        let middle = try library(needs: ["libleaf.so"])
        let files: [String: LibrarySearch.Candidate] = [
            "/there/libmiddle.so": .library(middle), "/there/libleaf.so": .library(leaf),
        ]
        let rpath = try library(needs: ["libmiddle.so"], "-Wl,-rpath,/there", "-Wl,--disable-new-dtags")
        #expect(search(rpath, files: files).problem == nil)
        let runpath = try library(needs: ["libmiddle.so"], "-Wl,-rpath,/there", "-Wl,--enable-new-dtags")
        let missing = search(runpath, files: files).missing
        #expect(missing == [.init(name: "libleaf.so", neededBy: "/there/libmiddle.so")])
        // $ORIGIN of a needed library is the folder of that library.
        let own = try library(needs: ["libleaf.so"], "-Wl,-rpath,$ORIGIN/deep")
        let deep: [String: LibrarySearch.Candidate] = [
            "/there/libmiddle.so": .library(own), "/there/deep/libleaf.so": .library(leaf),
        ]
        #expect(search(runpath, files: deep).problem == nil)
    }

    @Test func `a file that the linker would refuse is named with the reason`() throws {
        let plugin = try library(needs: ["liba.so"], "-Wl,-rpath,/there")
        let problem = search(plugin, files: ["/there/liba.so": .refused("it is for RISC-V")]).problem
        #expect(problem?.contains("liba.so (not taken: /there/liba.so: it is for RISC-V)") == true)
    }

    @Test func `a library beside the plugin is not found and the message says why`() throws {
        let leaf = try library(needs: [])
        for path in ["$ORIGIN", "${ORIGIN}"] {
            let plugin = try library(needs: ["liba.so"], "-Wl,-rpath,\(path)/private")
            let search = search(plugin, files: ["/plugins/private/liba.so": .library(leaf)])
            #expect(search.missing.first?.besideThePlugin == "/plugins/private/liba.so")
            let problem = try #require(search.problem)
            #expect(problem.contains("liba.so (there is /plugins/private/liba.so)"))
            #expect(problem.contains("$ORIGIN is not its folder") && problem.contains("-Wl,-rpath,/plugins"))
        }
    }

    @Test func `a search path that leads out of the folder of the private copy is refused`() throws {
        let escaping = try library(needs: ["liba.so"], "-Wl,-rpath,/there:$ORIGIN/../lib")
        let problem = LibrarySearch.escape(of: escaping, loaded: loaded)
        #expect(problem?.hasPrefix("looks for liba.so in '$ORIGIN/../lib'; ") == true)
        // The linker does not search for a library that is loaded.
        #expect(LibrarySearch.escape(of: escaping) { LibrarySearch.Loaded(path: $0) } == nil)
        let inside = try library(needs: ["liba.so"], "-Wl,-rpath,/there/../lib:$ORIGIN/lib")
        #expect(LibrarySearch.escape(of: inside, loaded: loaded) == nil)
    }

    /// Compares the search with the real linker.
    @Test func `the search agrees with the real linker`() async throws {
        let host = try ProbeHost()
        let deep = host.folder.file("deep")
        mkdir(deep, 0o700)
        try CompiledPlugin.compile("int x;", to: "\(deep)/libleaf-of-test.so")
        try CompiledPlugin.compile(
            "int y;", to: "\(deep)/libmiddle-of-test.so",
            options: ["-Wl,--no-as-needed", "\(deep)/libleaf-of-test.so", "-Wl,-soname,libmiddle-of-test.so"])
        // The leaf was linked by its path and has no SONAME, so it is needed by that path.
        let plugin = host.folder.file("plugin.so")
        try CompiledPlugin.compile(
            ELFLibraryTests.exporting, to: plugin,
            options: ["-Wl,--no-as-needed", "\(deep)/libmiddle-of-test.so", "-Wl,-rpath,\(deep)"])
        #expect(await failure(host, plugin)?.code == .badDescriptor, "linked, and then the test's entry says NULL")
        unlink("\(deep)/libleaf-of-test.so")
        // The libraries above are loaded by now. These have names that are not.
        try CompiledPlugin.compile("int x;", to: "\(deep)/libgone-of-test.so")
        try CompiledPlugin.compile(
            ELFLibraryTests.exporting + "\nint z;", to: plugin,
            options: ["-Wl,--no-as-needed", "\(deep)/libgone-of-test.so", "-Wl,-rpath,\(deep)"])
        unlink("\(deep)/libgone-of-test.so")
        let error = try #require(await failure(host, plugin))
        #expect(error.code == .missingLibrary)
        #expect(error.message.contains("\(deep)/libgone-of-test.so"))
    }

    private func failure(_ host: ProbeHost, _ path: String) async -> PluginLoadError? {
        do throws(PluginLoadError) {
            _ = try await host.store.load(path)
            return nil
        } catch {
            return error
        }
    }
}
