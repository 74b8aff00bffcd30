internal import DequeModule

/// Where the dynamic linker looks for the libraries that a library needs (ld.so(8)), and which of them it will not find.
///
/// It is for the message's sake: the linker would refuse the plugin as well, but names one library a time, and the
/// private copy instead of the plugin. So in case of doubt a library counts as found, and the linker has the last word.
package struct LibrarySearch {
    /// What stands at a path.
    package enum Candidate {
        case nothing
        case library(ELFLibrary)
        /// A file the linker does not take, and why.
        case refused(String)
        /// A file that is too large to be looked at here, or one too many.
        case unread
    }

    /// What there is outside of the library: handed in, so that the rules can be tested without it.
    package struct Surroundings {
        /// Whether a library of this name is in memory: then the linker takes that one and looks no further.
        package var isLoaded: (_ name: String) -> Bool
        package var candidate: (_ path: String) -> Candidate
        /// `$LD_LIBRARY_PATH` of when the process began.
        package var libraryPath: [String] = []
        /// `nil` when it cannot be read.
        package var cache: LoaderCache? = LoaderCache()
        /// Of this machine, on any distribution.
        package var defaultFolders = LibrarySearch.defaultFolders

        package init(isLoaded: @escaping (String) -> Bool, candidate: @escaping (String) -> Candidate) {
            self.isLoaded = isLoaded
            self.candidate = candidate
        }
    }

    /// A library that is needed and not found.
    package struct Missing: Hashable {
        package var name: String
        /// The library that needs it; `nil` is the plugin itself.
        package var neededBy: String?
        /// Where it stands, but only as seen from the plugin's folder, which is not that of the private copy.
        package var besideThePlugin: String?
        /// Files of its name that are not taken, and why.
        package var refused: [String] = []
    }

    /// One library whose needs are looked at.
    private struct Needing {
        var needed: [String]
        var rPath: [String]
        var runPath: [String]
        /// `nil` is the plugin.
        var path: String?
        /// The DT_RPATHs of those through which it came, expanded, nearest first.
        var inheritedPath: [Place]

        /// What matters of the library, and not its bytes.
        init(_ library: ELFLibrary, path: String? = nil, inheritedPath: [Place] = []) {
            needed = library.dynamic.neededLibraries
            rPath = library.dynamic.rPath
            runPath = library.dynamic.runPath
            self.path = path
            self.inheritedPath = inheritedPath
        }
    }

    /// An entry of a search path.
    private enum Place: Hashable {
        case folder(String)
        /// Below the plugin's folder as far as the plugin can tell, below the private copy's in truth.
        case besideThePlugin(String)
        /// It has a token whose value only the linker knows.
        case unknown
    }

    private let surroundings: Surroundings
    /// The folder of the plugin, not of its copy.
    let origin: String
    package private(set) var missing: [Missing] = []
    private var seen: Set<String> = []
    /// So many files more are asked for: the libraries of a file that was made to keep somebody busy count as found.
    private var placesLeft = Self.maximumPlaces

    /// Large programs need some hundred libraries, each of which stands in one of some dozen places.
    package static let maximumPlaces = 50_000
    /// So many entries of a search path are looked at.
    private static let maximumEntries = 256

    /// Looks for what `plugin` needs, for what that needs, and so on.
    package init(for plugin: ELFLibrary, in folder: String, _ surroundings: Surroundings) {
        self.surroundings = surroundings
        origin = folder
        // First come, first looked at, as the linker does: the first that needs a library decides where it comes from.
        var waiting = Deque([Needing(plugin)])
        while let needing = waiting.popFirst(), placesLeft > 0 {
            // Those that every name is looked for in.
            let own = searchPath(needing.rPath, for: needing)
            let inherited = needing.runPath.isEmpty ? Self.bounded(own + needing.inheritedPath) : []
            let run = searchPath(needing.runPath, for: needing)
            for name in needing.needed where placesLeft > 0 && seen.insert(name).inserted {
                if surroundings.isLoaded(name) { continue }
                if let found = search(name, for: needing, inherited, run) { waiting.append(found) }
            }
        }
    }

    /// The entries of a search path, each once. Where there are too many the rest is not known.
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

    /// - Returns: what is found and can be looked at in turn.
    private mutating func search(
        _ name: String, for needing: Needing, _ inherited: [Place], _ run: [Place]
    ) -> Needing? {
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
                switch surroundings.candidate(path) {
                case .nothing:
                    break
                case .library(let library):
                    return Needing(library, path: path, inheritedPath: inherited)
                case .unread:
                    return nil
                case .refused(let why):
                    result.refused.append("\(path): \(why)")
                }
            }
        }
        // What the cache would have said is not known.
        if surroundings.cache != nil { missing.append(result) }
        return nil
    }

    /// The files the linker tries, in its order.
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

    /// An entry of a search path with `$ORIGIN` replaced: the folder of the library that says it.
    private func place(_ entry: String, for needing: Needing) -> [Place] {
        let entry = entry.isEmpty ? "." : entry
        guard entry.contains("$") else { return [.folder(entry)] }
        let folder = needing.path.map(Self.folder(of:)) ?? origin
        let expanded = entry.replacing("${ORIGIN}", with: folder).replacing("$ORIGIN", with: folder)
        // $LIB, $PLATFORM, or a folder that really has a dollar in its name.
        if expanded.contains("$") { return [.unknown] }
        return [needing.path == nil ? .besideThePlugin(expanded) : .folder(expanded)]
    }

    /// All but the last component; "." where there is only one.
    package static func folder(of path: String) -> String {
        PluginFile.split(path).folder
    }

    /// Below each folder of a search path, for processors that can do more than the least. Whether this one can only
    /// the linker knows.
    #if arch(x86_64)
        private static let variants = (2...4).map { "glibc-hwcaps/x86-64-v\($0)/" }
        package static let defaultFolders = folders(triplet: "x86_64-linux-gnu")
    #else
        private static let variants: [String] = []
        package static let defaultFolders = folders(triplet: "aarch64-linux-gnu")
    #endif

    private static func folders(triplet: String) -> [String] {
        ["/lib/\(triplet)", "/usr/lib/\(triplet)", "/lib64", "/usr/lib64", "/lib", "/usr/lib"]
    }
}
