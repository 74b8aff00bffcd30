internal import Glibc

/// Library that is prepared for the dynamic linker of this process.
///
/// Three rules of the linker would let versions of a plugin, or a plugin and the host, use each other's code and
/// variables in spite of `RTLD_LOCAL`:
/// - It looks up every symbol in the libraries of the host first. The private copy therefore marks its definitions of
///   such names as protected (`STV_PROTECTED`), so that its own uses find them. Names in a needed library, which is not
///   copied, need `RTLD_DEEPBIND`. That is used only then, because it also makes a plugin use the C library's allocator
///   instead of one from `LD_PRELOAD`.
/// - A symbol of C++ that is unique (`STB_GNU_UNIQUE`) exists once in the process. In the private copy such symbols
///   become ordinary ones. Those of the C++ runtime stay unique, because the runtime has to use the same ones.
/// - It never loads a second library of the same name. A plugin that needs another one is refused.
package struct PluginLinkage {
    /// Bytes to load instead of those of the file; `nil` if the file can be loaded as it is.
    package var changedBytes: [UInt8]?
    /// The needed files outside of the system folders.
    package var needed: [NeededLibrary] { libraries.map(\.library) }

    private let path: String
    private let digest: PluginDigest
    private let libraries: [LibrarySearch.Found]
    private var flags = RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE

    /// - Throws: ``PluginLoadError`` with code `libraryConflict`, or an error of the file.
    package init(_ bytes: [UInt8], digest: PluginDigest, path: String) throws(PluginLoadError) {
        let library = try PluginFile.library(bytes, path: path)
        let search = try Self.search(library, path: path)
        self.path = path
        self.digest = digest
        libraries = search.libraries
        let scope = GlobalScope(needs: search.needs)
        var changed = bytes
        var isChanged = false
        var ownNames: Set<String> = []
        ELFSymbolTable(library.dynamic)?.forEachVisible { symbol, name in
            guard symbol.isDefined, !scope.isOfCxxRuntime(name) else { return }
            if symbol.isUnique {
                symbol.makeGlobal(in: &changed)
                isChanged = true
            }
            if scope.overrides(name) {
                symbol.bindOwnUses(in: &changed)
                isChanged = true
            } else {
                ownNames.insert(name)
            }
        }
        if isChanged { changedBytes = changed }
        try checkLoadedLibraries(ownNames, scope)
        try checkUniqueNames(scope)
        let overridden = libraries.filter { !$0.overriddenNames.isEmpty }
        guard let first = overridden.first else { return }
        guard !scope.hasOwnAllocator else {
            throw PluginLoadError(
                .libraryConflict, path: path,
                "needs \(first.library.path), whose \(Self.list(first.overriddenNames)) would be replaced by those of "
                    + "libraries of the host; link that library statically, or start the host without an allocator in "
                    + "LD_PRELOAD")
        }
        flags |= Self.deepBind
    }

    /// Throws if the process has a library that cannot be replaced with the one that the plugin needs.
    static func checkConflicts(of file: PluginFile) throws(PluginLoadError) {
        _ = try search(try PluginFile.library(file.bytes, path: file.path), path: file.path)
    }

    private static func search(_ library: ELFLibrary, path: String) throws(PluginLoadError) -> LibrarySearch {
        var surroundings = LibrarySearch.Surroundings.system()
        surroundings.isOverridden = GlobalScope(needs: { _ in true }).overrides
        let search = LibrarySearch(for: library, in: PluginFile.split(path).folder, surroundings)
        if let problem = search.conflictProblem { throw PluginLoadError(.libraryConflict, path: path, problem) }
        return search
    }

    /// Checks that no needed library that is loaded already uses names of the plugin. The linker has bound them to the
    /// plugin for which it was loaded, for example to its previous version.
    private func checkLoadedLibraries(_ ownNames: Set<String>, _ scope: GlobalScope) throws(PluginLoadError) {
        for library in libraries where library.isLoaded {
            let names = library.boundNames.filter { ownNames.contains($0) && !scope.defines($0) }
            guard !names.isEmpty else { continue }
            throw PluginLoadError(
                .libraryConflict, path: path,
                "needs \(library.library.path), which was loaded earlier and keeps using the \(Self.list(names)) that "
                    + "it found then, not that of this version; set isolation: process for this plugin, or hide these "
                    + "names (-fvisibility=hidden, or a version script)")
        }
    }

    /// Checks that no library that is loaded now shares unique names with one that was loaded earlier.
    private func checkUniqueNames(_ scope: GlobalScope) throws(PluginLoadError) {
        for library in libraries where !library.isLoaded {
            for name in library.uniqueNames where !scope.isOfCxxRuntime(name) {
                guard let definer = LoadedLibraries.definer(ofUnique: name) else { continue }
                throw PluginLoadError(
                    .libraryConflict, path: path,
                    "needs \(library.library.path), which would share \(name) (STB_GNU_UNIQUE) with \(definer), which "
                        + "was loaded earlier; set isolation: process for this plugin, or compile that library with "
                        + "-fvisibility=hidden or -fno-gnu-unique")
            }
        }
    }

    /// Links a copy of the library, and runs its constructors.
    ///
    /// - Parameter copy: path of ``changedBytes``, or of the bytes of the file if there are none.
    /// - Throws: ``PluginLoadError`` with code `linkFailed`.
    package func open(_ copy: String) throws(PluginLoadError) -> UnsafeMutableRawPointer {
        guard let handle = dlopen(copy, flags) else { throw linkFailure(copy) }
        LoadedLibraries.record(copy, content: digest.description)
        for library in libraries where !library.isLoaded {
            // The linker has the last word on where the library was found.
            guard let loaded = LibrarySearch.Surroundings.loaded(library.library.name) else { continue }
            LoadedLibraries.record(
                loaded.path, content: library.library.content, uniqueNames: library.uniqueNames)
        }
        return handle
    }

    /// Returns the error for the dynamic linker's last failure. The message shows the path of the file instead of that
    /// of the private copy.
    private func linkFailure(_ copy: String) -> PluginLoadError {
        let reason = dlerror().map { String(cString: $0) } ?? "unknown error"
        var hint = ""
        if reason.contains("cannot open shared object file") {
            hint =
                "; a plugin is loaded from a private copy, so $ORIGIN is not its folder: "
                + "link that library statically, or set an absolute rpath"
        } else if reason.contains("static TLS") {
            hint =
                "; a process has little room for thread-local variables of this kind (initial-exec), and each loaded "
                + "version keeps its part: \(PluginFile.staticTLSRemedy), or restart the host"
        }
        return PluginLoadError(
            .linkFailed, path: path, "cannot be linked: \(reason.replacing(copy, with: path))\(hint)")
    }

    private static func list(_ names: [String]) -> String {
        names.prefix(5).joined(separator: ", ") + (names.count > 5 ? " …" : "")
    }

    /// `RTLD_DEEPBIND`, which glibc declares only with `_GNU_SOURCE`.
    private static let deepBind: Int32 = 8
}
