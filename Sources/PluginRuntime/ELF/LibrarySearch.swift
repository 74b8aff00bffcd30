internal import DequeModule

/// Simulation of the dynamic linker's search for the libraries that a library needs (ld.so(8)).
///
/// It has three results:
/// - ``missing``: the libraries that the linker will not find. The linker would reject the plugin as well, but its
///   message names one library at a time, and the private copy instead of the plugin. In case of doubt a library counts
///   as found, and the linker decides.
/// - ``libraries``: the files outside of the system folders. They are part of the plugin's identity.
/// - ``conflicts``: files that the linker will not use, because the process has another library of that name.
package struct LibrarySearch {
    /// File at a path.
    package enum Candidate {
        case nothing
        case library(ELFLibrary)
        /// A file that the linker rejects, and the reason.
        case refused(String)
        /// A file that is not read because of its size or because the search has read too many bytes. The text stands
        /// for its content.
        case unread(content: String)
    }

    /// Library that is loaded in this process.
    package struct Loaded: Hashable {
        /// Path under which the linker has loaded it.
        package var path: String
        /// Content of the file when it was loaded for a plugin; `nil` for a library of the host itself.
        package var content: String?
        /// Stamp of the file of a library of the host itself when it was first needed.
        package var stamp: String?

        package init(path: String, content: String? = nil, stamp: String? = nil) {
            self.path = path
            self.content = content
            self.stamp = stamp
        }
    }

    /// Environment of the search. Passed in so that tests can check the rules without a real system.
    package struct Surroundings {
        /// The loaded library of this name. The linker then uses that one and searches no further.
        package var loaded: (_ name: String) -> Loaded?
        package var candidate: (_ path: String) -> Candidate
        /// `$LD_LIBRARY_PATH` at the start of the process.
        package var libraryPath: [String] = []
        /// `nil` if it cannot be read.
        package var cache: LoaderCache? = LoaderCache()
        /// Default folders of this architecture, for all distributions.
        package var defaultFolders = LibrarySearch.defaultFolders
        /// Whether the file belongs to the system, whose libraries keep their interface when they are replaced.
        package var isSystemFile: (_ path: String) -> Bool = LibrarySearch.isInDefaultFolder
        package var isSameFile: (_ path: String, _ other: String) -> Bool = { $0 == $1 }
        /// Text that changes with the file, without reading it.
        package var stamp: (_ path: String) -> String? = { _ in nil }
        /// Whether the libraries with which the process was started define this name. They take precedence.
        package var isOverridden: (_ name: String) -> Bool = { _ in false }

        package init(loaded: @escaping (String) -> Loaded?, candidate: @escaping (String) -> Candidate) {
            self.loaded = loaded
            self.candidate = candidate
        }
    }

    /// Needed file outside of the system folders.
    package struct Found: Hashable {
        package var library: NeededLibrary
        /// Whether it was loaded before this search.
        package var isLoaded: Bool
        /// Names that the process has once (`STB_GNU_UNIQUE`).
        package var uniqueNames: [String] = []
        /// Names that libraries of the host define as well.
        package var overriddenNames: [String] = []
        /// Names whose definition in the plugin, or in the one for which it was loaded, it uses instead of its own.
        package var boundNames: [String] = []
    }

    /// Needed file that the linker will not use, because another library of that name is loaded.
    package struct Conflict: Hashable {
        package var name: String
        package var path: String
        package var loaded: Loaded
    }

    /// A needed library that is not found.
    package struct Missing: Hashable {
        package var name: String
        /// Path of the library that needs it; `nil` for the plugin itself.
        package var neededBy: String?
        /// Path that exists relative to the plugin's folder, but not relative to the folder of the private copy.
        package var besideThePlugin: String?
        /// Files of this name that the linker rejects, with the reasons.
        package var refused: [String] = []

        package init(name: String, neededBy: String? = nil, besideThePlugin: String? = nil, refused: [String] = []) {
            self.name = name
            self.neededBy = neededBy
            self.besideThePlugin = besideThePlugin
            self.refused = refused
        }
    }

    /// Library whose needed libraries are searched.
    private struct Needing {
        var needed: [String]
        var rPath: [String]
        var runPath: [String]
        /// `nil` for the plugin.
        var path: String?
        /// DT_RPATH entries of the libraries that led to this one, expanded, nearest first.
        var inheritedPath: [Place]

        /// Keeps the relevant fields of the library and not its bytes.
        init(_ library: ELFLibrary, path: String? = nil, inheritedPath: [Place] = []) {
            needed = library.dynamic.neededLibraries
            rPath = library.dynamic.rPath
            runPath = library.dynamic.runPath
            self.path = path
            self.inheritedPath = inheritedPath
        }
    }

    /// Entry of a search path.
    private enum Place: Hashable {
        case folder(String)
        /// Folder below the plugin's folder according to the plugin, but below the private copy's folder in fact.
        case besideThePlugin(String)
        /// The entry has a token whose value only the linker knows.
        case unknown
    }

    private let surroundings: Surroundings
    /// Folder of the plugin, not of its private copy.
    let origin: String
    package private(set) var missing: [Missing] = []
    package private(set) var libraries: [Found] = []
    package private(set) var conflicts: [Conflict] = []
    private var seen: Set<String> = []
    /// Number of files that the search may still look up. A file that was made to keep the host busy exceeds it; its
    /// libraries then count as found.
    private var placesLeft = Self.maximumPlaces

    /// Maximum number of files that one search looks up. Large programs need a few hundred libraries, each in one of a
    /// few dozen folders.
    package static let maximumPlaces = 50_000
    /// Maximum number of entries of a search path. Further entries count as unknown.
    private static let maximumEntries = 256

    /// Searches for the libraries that `plugin` needs, for those that they need, and so on.
    package init(for plugin: ELFLibrary, in folder: String, _ surroundings: Surroundings) {
        self.surroundings = surroundings
        origin = folder
        // Breadth first, as the linker does: the first library that needs a name decides where it is found.
        var waiting = Deque([Needing(plugin)])
        while let needing = waiting.popFirst(), placesLeft > 0 {
            // These entries apply to every name that this library needs.
            let own = searchPath(needing.rPath, for: needing)
            let inherited = needing.runPath.isEmpty ? Self.bounded(own + needing.inheritedPath) : []
            let run = searchPath(needing.runPath, for: needing)
            for name in needing.needed where placesLeft > 0 && seen.insert(name).inserted {
                if let found = search(name, for: needing, inherited, run) { waiting.append(found) }
            }
        }
    }

    /// Whether the plugin or one of the examined libraries needs a library of this name.
    package func needs(_ name: String) -> Bool { seen.contains(name) }

    /// Expands the entries of a search path without duplicates. Too many entries are cut and end in an unknown one.
    private func searchPath(_ entries: [String], for needing: Needing) -> [Place] {
        var places: [Place] = []
        var seen: Set<Place> = []
        for place in entries.lazy.flatMap({ self.place($0, for: needing) }) where seen.insert(place).inserted {
            places.append(place)
            if places.count > Self.maximumEntries { break }
        }
        return Self.bounded(places)
    }

    private static func bounded(_ places: [Place]) -> [Place] {
        places.count > maximumEntries ? places.prefix(maximumEntries) + [.unknown] : places
    }

    /// - Returns: the library that was found, if its own needed libraries must be searched.
    private mutating func search(
        _ name: String, for needing: Needing, _ inherited: [Place], _ run: [Place]
    ) -> Needing? {
        let loaded = surroundings.loaded(name)
        var result = Missing(name: name, neededBy: needing.path)
        for place in places(of: name, for: needing, inherited, run) {
            placesLeft -= 1
            guard placesLeft > 0 else { return nil }
            switch place {
            case .unknown:
                return nil
            case .besideThePlugin(let path):
                if result.besideThePlugin == nil, case .library = surroundings.candidate(path) {
                    result.besideThePlugin = path
                }
            case .folder(let path):
                if let loaded {
                    if surroundings.isSystemFile(loaded.path), surroundings.isSystemFile(path) { return nil }
                    if loaded.content == nil, surroundings.isSameFile(loaded.path, path) {
                        foundOfHost(name, at: path, loaded)
                        return nil
                    }
                }
                switch surroundings.candidate(path) {
                case .nothing:
                    break
                case .library(let library):
                    found(name, at: path, library, loaded) { library.digest.description }
                    return Needing(library, path: path, inheritedPath: inherited)
                case .unread(let content):
                    found(name, at: path, nil, loaded) { content }
                    return nil
                case .refused(let why):
                    result.refused.append("\(path): \(why)")
                }
            }
        }
        // Without the cache it is unknown whether the linker would find the library.
        if loaded == nil, surroundings.cache != nil { missing.append(result) }
        return nil
    }

    /// Records a file that was found.
    private mutating func found(
        _ name: String, at path: String, _ library: ELFLibrary?, _ loaded: Loaded?, content: () -> String
    ) {
        let isSystemFile = surroundings.isSystemFile(path)
        if isSystemFile, loaded == nil { return }
        let content = content()
        if let loaded, (loaded.content ?? self.content(of: loaded.path)) != content {
            conflicts.append(Conflict(name: name, path: path, loaded: loaded))
        }
        if isSystemFile { return }
        var found = Found(
            library: NeededLibrary(name: name, path: path, content: content), isLoaded: loaded != nil)
        library.flatMap { ELFSymbolTable($0.dynamic) }?.forEachVisible { symbol, name in
            let isDefined = symbol.isDefined
            if symbol.isUnique { found.uniqueNames.append(name) }
            // A weak function, virtual table or type description of C++ is the same in each library.
            let isShareable = !symbol.isStrong && name.hasPrefix("_Z")
            if isDefined, !isShareable, surroundings.isOverridden(name) { found.overriddenNames.append(name) }
            if !isDefined || !isShareable || symbol.isVariable && !name.hasPrefix("_ZT") {
                found.boundNames.append(name)
            }
        }
        libraries.append(found)
    }

    /// Records a library of the host itself. It is not read, because the runtime of Swift has more than 50 MB.
    private mutating func foundOfHost(_ name: String, at path: String, _ loaded: Loaded) {
        guard !surroundings.isSystemFile(path), let stamp = surroundings.stamp(path) else { return }
        if let before = loaded.stamp, before != stamp {
            conflicts.append(Conflict(name: name, path: loaded.path, loaded: loaded))
        }
        libraries.append(
            Found(library: NeededLibrary(name: name, path: path, content: stamp), isLoaded: true))
    }

    private func content(of path: String) -> String? {
        switch surroundings.candidate(path) {
        case .library(let library): library.digest.description
        case .unread(let content): content
        case .nothing, .refused: nil
        }
    }

    /// Returns the files that the linker tries, in its order.
    private func places(
        of name: String, for needing: Needing, _ inherited: [Place], _ run: [Place]
    ) -> [Place] {
        if name.contains("/") { return place(name, for: needing) }
        func files(_ folders: [Place]) -> [Place] {
            folders.flatMap { folder -> [Place] in
                switch folder {
                case .folder(let path): ([""] + Self.variants).map { .folder("\(path)/\($0)\(name)") }
                case .besideThePlugin(let path): [.besideThePlugin("\(path)/\(name)")]
                case .unknown: [.unknown]
                }
            }
        }
        return files(inherited)
            + files(surroundings.libraryPath.map { .folder($0.isEmpty ? "." : $0) })
            + files(run)
            + (surroundings.cache?.paths(of: name) ?? []).map { .folder($0) }
            + files(surroundings.defaultFolders.map { .folder($0) })
    }

    /// Expands `$ORIGIN` in an entry of a search path. It is the folder of the library that has the entry.
    private func place(_ entry: String, for needing: Needing) -> [Place] {
        let entry = entry.isEmpty ? "." : entry
        guard entry.contains("$") else { return [.folder(entry)] }
        let folder = needing.path.map(Self.folder(of:)) ?? origin
        let expanded = entry.replacing("${ORIGIN}", with: folder).replacing("$ORIGIN", with: folder)
        // $LIB, $PLATFORM, or a folder with a dollar sign in its name.
        if expanded.contains("$") { return [.unknown] }
        return [needing.path == nil ? .besideThePlugin(expanded) : .folder(expanded)]
    }

    /// Returns all but the last component of a path, or "." if there is only one.
    package static func folder(of path: String) -> String {
        PluginFile.split(path).folder
    }

    /// Subfolders of each folder of a search path, for newer processors. Only the linker knows whether they apply to
    /// this one.
    #if arch(x86_64)
        private static let variants = (2...4).map { "glibc-hwcaps/x86-64-v\($0)/" }
        package static let defaultFolders = folders(triplet: "x86_64-linux-gnu")
    #else
        private static let variants: [String] = []
        package static let defaultFolders = folders(triplet: "aarch64-linux-gnu")
    #endif

    /// Whether the file is directly in a default folder.
    package static func isInDefaultFolder(_ path: String) -> Bool {
        let folder = folder(of: path)
        return defaultFolders.contains { root in
            folder == root || variants.contains { "\(root)/\($0.dropLast())" == folder }
        }
    }

    private static func folders(triplet: String) -> [String] {
        ["/lib/\(triplet)", "/usr/lib/\(triplet)", "/lib64", "/usr/lib64", "/lib", "/usr/lib"]
    }
}
